"""The hot loop of depthwise kernels: neighbouring outputs of one channel, computed together.

They share the channel's weights, and each column under their windows is loaded once. With SMLAD
two rows of the kernel are multiplied at once: an activation and the one below it make a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import channel_words, element_of, place_of, table_bytes
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.late_steps import late_bytes, late_mix, late_steps
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, line
from tinymlir.kernels.row_windows import readers
from tinymlir.kernels.words import extend, fetch, fetch_byte, half, repeated, settled
from tinymlir.targets import Target

#: Outputs computed together at most: where registers are few, and where they are many.
_MOST, _MOST_OF_MANY = 6, 8
_MANY_REGISTERS = 20
#: Kernel rows of which as many registers hold what is multiplied by padding.
_FEW_ROWS = 3
#: Outputs that there is room for even where some of their sums are in memory.
_LEAST_ROOM = 4
#: Registers that sums take beside their operands, pointers and a counter.
_SUM_REGISTERS = 12


class ChannelSums:
    """How a channel of ``conv`` is computed on a core.

    ``wide``: with SMLAD, weights are halfwords in flash, two rows of the kernel side by side;
    otherwise bytes, which take an instruction more each, and half the flash.
    """

    def __init__(self, conv: Convolution, core: Target, wide: bool) -> None:
        self.conv, self.core = conv, core
        height, self.dsp = conv.kernel[0], core.has("dsp")
        self.wide, self.many = wide and self.dsp, core.registers >= _MANY_REGISTERS
        step = 2 if self.dsp else 1
        #: rows of the kernel that are multiplied together
        self.together = [range(kh, min(kh + step, height)) for kh in range(0, height, step)]
        #: outputs computed together at most
        self.most = _MOST_OF_MANY if self.many else _MOST
        weights = self._weights()
        #: words of a channel's constants before its weights, and before the elements of tables
        self.first_weight = int(conv.has_biases)
        self.first_table = self.first_weight + weights.shape[1]
        #: words of all constants of a channel, where these are packed
        self.words = self.first_table
        self.late = late_steps(conv)
        biases = conv.bias[:, None][:, : self.first_weight]
        self._packed = np.concatenate([biases, weights], axis=1)

    def room(self) -> int:
        """Outputs for which there are registers: for their sums, and for weights under way.

        A weight is wanted from the column that is its own of the first output to that of the last.
        """
        conv = self.conv
        # A column, the pointer to it or both of them, that to constants, and a counter.
        free = self.core.registers - (5 if self.dsp else 4)

        def taken(count: int) -> int:
            return count + min((count - 1) * conv.stride[1] + 1, conv.kernel[1])

        fits = (count for count in range(_LEAST_ROOM, self.most + 1) if taken(count) <= free)
        return max(fits, default=_LEAST_ROOM)

    def constant_bytes(self) -> int:
        """Of all channels."""
        tables = table_bytes(self.conv) + late_bytes(self.conv)
        return 4 * self.first_table * self.conv.groups + tables

    def pack(self, tables: Mapping[ir.Value, np.ndarray]) -> np.ndarray:
        """Of each channel `words`: bias, weights, elements of tables, in the order of use."""
        words = [table.reshape(-1, 1).view("<i4") for table in tables.values()]
        constants = np.concatenate([self._packed, *words], axis=1).astype("<i4")
        self.words = constants.shape[1]
        if self.late is None:
            return constants.reshape(-1)
        place = self.first_table + place_of(tables, self.late.multipliers)
        return self.late.pack(constants, 0, 1, place, 0)

    def mix(self, count: int) -> Mix:
        """What `emit` emits for ``count`` outputs."""
        conv = self.conv
        columns = len(readers(conv, count))
        tables = channel_words(conv)
        mix = line(load=tables, alu=3) + late_mix(conv, 1, count) + finish_mix(conv, count)
        few, spilled = self.core.registers < _SUM_REGISTERS, max(0, count - self.room())
        for rows in self.together:
            products, pairs = conv.kernel[1] * count, len(rows) == 2
            mix += line(load=2, alu=1) * columns if pairs else line(load=1) * columns
            mix += line(dual_mac=products) if pairs else line(mac=products)
            # Where registers are few, all sums are in memory.
            waits = products if few else spilled
            mix += line(load_word=waits, store=waits)
            words = self.dsp and self.wide != pairs
            mix += line(load=-(-conv.kernel[1] // 2) if words else conv.kernel[1])
            # To widen bytes takes a register more for a while.
            mix += line(alu=conv.kernel[1] + 1 if pairs and not self.wide else 0)
            # Where rows begin is not in registers.
            mix += line(load=1, alu=1) * len(rows)
        return mix

    def emit(
        self,
        site: Site,
        channel: Index,
        tables: Mapping[ir.Value, np.ndarray],
        w: ir.Value,
        rows: Sequence[Callable[[], ir.Value]],
        depth: int,
        count: int,
        there: range,
    ) -> None:
        """Emit ``count`` outputs of ``channel`` from ``site`` on.

        Args:
            w: where the channel's constants begin.
            rows: load where the rows of the image begin, under the first output's first tap.
            depth: bytes from one of their columns to the next.
            there: columns from there on that are the image's, and not padding.
        """
        constants = _Constants(self, site.layer.emitter, w)
        bias = constants.word(0) if self.first_weight else site.layer.emitter.integer(0)
        sums = [bias] * count
        for group in self.together:
            own = [rows[kh]() for kh in group]
            sums = self._kernel_rows(group, own, depth, constants, sums, there)
        known, place = {}, self.first_table
        for value, table in tables.items():
            words = [constants.word(place + i) for i in range(table.itemsize // 4)]
            known[value] = element_of(words)
            place += len(words)
        if self.late is not None:
            held = known[self.late.multipliers]
            sums, known[self.late.multipliers] = self.late.emit(sums, 1, lambda: w, held)
        for p, total in enumerate(sums):
            finish(self.conv, site, p, channel, total, known)

    def _kernel_rows(
        self,
        group: range,
        rows: list[ir.Value],
        depth: int,
        constants: _Constants,
        sums: list[ir.Value],
        there: range,
    ) -> list[ir.Value]:
        """``sums`` plus the products of one row of the kernel, or of two at once."""
        conv, sums = self.conv, list(sums)
        for x, users in readers(conv, len(sums)).items():
            if x in there:
                operand = _column(constants.emitter, rows, x * depth)
            else:
                operand = self._beside(constants.emitter, len(group))
            for p, kw in users:
                weight = constants.weight(group, kw)
                if len(group) == 2:
                    sums[p] = tiny.DualMacOp(sums[p], operand, weight).res
                else:
                    sums[p] = arith.addi(sums[p], arith.muli(operand, weight))
        return (
            [settled(total) for total in sums] if self.many and conv.kernel[0] > _FEW_ROWS else sums
        )

    def _beside(self, emitter: Emitter, rows: int) -> ir.Value:
        """The padding, in one row or in two.

        What LLVM knows it multiplies by the sum of the weights of all rows; so all columns wait.
        That saves instructions only where there are registers for them.
        """
        value = self.conv.pad_value
        if rows == 2 or self.many:
            return emitter.integer(repeated(value, 16) if rows == 2 else value)
        padding = settled(emitter.integer(value))
        return half(padding, 0) if self.dsp else padding

    def _weights(self) -> np.ndarray:
        """The words of weights of each channel, in the order in which they are read."""
        weights = self.conv.weights[:, 0, :, :, 0]
        if not self.dsp:
            return _words(weights)
        # Two rows tap by tap.
        parts = [weights[:, rows].swapaxes(1, 2) for rows in self.together]
        if self.wide:
            return np.concatenate([_words(part.astype("<i2")) for part in parts], axis=1)
        pairs = [part for part in parts if part.shape[2] == 2]
        none = np.zeros((len(weights), 0, 2), np.int8)
        flat = np.concatenate([none, *pairs], axis=1)
        padded = np.pad(flat, ((0, 0), (0, flat.shape[1] % 2), (0, 0)))
        # A word has two taps, the first row's before the second row's: so they are extended.
        fours = padded.reshape(len(flat), -1, 2, 2).swapaxes(2, 3)
        return np.concatenate(
            [_words(fours), *(_words(p) for p in parts if p.shape[2] == 1)], axis=1
        )


class _Constants:
    """A channel's constants, each loaded when it is first asked for."""

    def __init__(self, sums: ChannelSums, emitter: Emitter, w: ir.Value) -> None:
        self.sums, self.emitter, self.w = sums, emitter, w
        self.words: dict[int, ir.Value] = {}
        self.weights: dict[tuple[range, int], ir.Value] = {}

    def word(self, place: int) -> ir.Value:
        if place not in self.words:
            self.words[place] = fetch(self.w, place)
        return self.words[place]

    def weight(self, group: range, tap: int) -> ir.Value:
        """Of one row of the kernel, as an i32; or of two rows both weights in one."""
        key = group, tap
        if key not in self.weights:
            self.weights[key] = self._weight(group, tap)
        return self.weights[key]

    def _weight(self, group: range, tap: int) -> ir.Value:
        sums, width = self.sums, self.sums.conv.kernel[1]
        if sums.wide:
            # Two rows at once are a word for each tap.
            first = sums.first_weight + group.start * width // 2
            return (
                self.word(first + tap)
                if len(group) == 2
                else half(self.word(first + tap // 2), tap % 2)
            )
        pair = group.start // 2 * width + tap
        if len(group) == 2:
            return extend(self.word(sums.first_weight + pair // 2), pair % 2)
        before = 4 * -(-(group.start // 2 * width) // 2) if sums.dsp else group.start * width
        return self.emitter.widen(fetch_byte(self.w, 4 * sums.first_weight + before + tap))


def _column(emitter: Emitter, rows: list[ir.Value], place: int) -> ir.Value:
    """What lies at a place in one row; of two rows, the second one's high."""
    operands = [emitter.widen(fetch_byte(p, place)) for p in rows]
    if len(operands) == 1:
        return operands[0]
    low = arith.andi(operands[0], emitter.integer(0xFFFF))
    return arith.ori(low, arith.shli(operands[1], emitter.integer(16)))


def _words(weights: np.ndarray) -> np.ndarray:
    """``channels × …`` as ``channels × words``, the last one filled up with zeros."""
    flat = weights.reshape(len(weights), -1)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % (4 // flat.itemsize))))
    return np.ascontiguousarray(padded).view("<i4")
