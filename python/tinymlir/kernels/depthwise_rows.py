"""Depthwise convolution row by row, on rows where they lie: in whole tensors or in rings.

Neighbours of a row are computed together, channel after channel: they share a channel's weights,
and each column under their windows is loaded once. With SMLAD two rows of the kernel are
multiplied at once: an activation and the one below it make a word. At the ends of a row it is
known which columns lie beside the image; rows beside it are read from a constant row of padding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinymlir.bindings import arith, ir, scf
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import channel_tables, element_of, table_bytes
from tinymlir.kernels.columns import Columns, Span
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import MOST_TAPS
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.row_windows import Cut, cut_row, origins, pointers, present, readers
from tinymlir.kernels.words import (
    advance,
    advance_bytes,
    copy_bytes,
    fetch,
    fetch_byte,
    half,
    moved,
    stream,
)
from tinymlir.targets import Target

#: Neighbours computed together: the most there may be, and how many registers have room for.
_MOST_PIXELS, _ROOM = 6, 5
#: Registers that sums take beside their operands, pointers and a counter.
_SUM_REGISTERS = 12
#: Words copied between two branches.
_UNROLL = 8


class DepthwiseRows(Kernel):
    """Block by block of neighbouring pixels: all channels."""

    name = "depthwise-rows"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        # Columns in strips are cut in other places, into blocks of no more.
        self.pixels = min(_MOST_PIXELS, conv.out_hw[1])
        height, step = conv.kernel[0], 2 if core.has("dsp") else 1
        #: rows of the kernel that are multiplied together
        self.together = [range(kh, min(kh + step, height)) for kh in range(0, height, step)]

        #: rows that are held back, where the output may begin where the input does
        self.delay = self._delay()

    def _delay(self) -> int:
        """Rows of the output to hold back so that it may replace the input.

        None where the output is small, for then a distance between both costs less memory, or
        where a whole window of rows is not enough.
        """
        conv = self.conv
        rows = np.arange(conv.out_hw[0])
        read = np.maximum((rows + 1) * conv.stride[0] - conv.pad[0], 0) * conv.in_hw[1]
        # After the last row nothing is read.
        read[-1] = (rows[-1] + 1) * conv.out_hw[1]
        for delay in range(conv.kernel[0]):
            if ((rows + 1 - delay) * conv.out_hw[1] <= read).all():
                return delay
        return 0

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels go one to one, and windows are small enough to need no loop."""
        one_to_one = conv.in_per_group == conv.out_per_group == 1 and conv.groups > 1
        return one_to_one and conv.weights[0, 0].size <= MOST_TAPS

    def works_in_place(self) -> bool:
        return self.delay > 0

    def scratch_bytes(self) -> int:
        """The rows that `whole` holds back."""
        return (self.delay + 1) * self._row_bytes() if self.delay else 0

    def row_scratch_bytes(self, columns: int) -> int:
        return 0

    def _row_bytes(self) -> int:
        """Of a row of the output."""
        return self.conv.out_hw[1] * self.conv.groups

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        """Constants of channels, and a row of padding."""
        channel = 4 * (1 + self._weights().shape[1])
        spans = Columns.all(self.conv.out_hw[1]).spans
        padding = self._cut(spans).padding_bytes(self.conv, spans)
        return channel * self.conv.groups + table_bytes(self.conv) + padding

    def mix(self) -> Mix:
        conv = self.conv
        cut = self._cut(Columns.all(conv.out_hw[1]).spans)
        row = Mix()
        for count, turns in cut.blocks((0, conv.out_hw[1])):
            enter = line(alu=4, load=2) * conv.kernel[0] + line(alu=4)
            row += loop(enter + loop(self._channel_mix(count), conv.groups), turns)
        row += line(alu=8, load=2) * conv.kernel[0]
        if self.delay:
            row += loop(line(load=1, store=1), self._row_bytes() // 4, _UNROLL)
        return function(loop(row, conv.out_hw[0]))

    def _channel_mix(self, count: int) -> Mix:
        """A channel of ``count`` neighbours."""
        conv = self.conv
        columns = len(readers(conv, count))
        tables = 1 + table_bytes(conv) // (4 * conv.groups)
        mix = line(load=tables, alu=3) + finish_mix(conv, count)
        for rows in self.together:
            products = conv.kernel[1] * count
            if len(rows) == 2:
                mix += line(load=2, alu=1) * columns + line(dual_mac=products)
            else:
                mix += line(load=1) * columns + line(mac=products)
            # Where registers are few, sums are in memory.
            if self.core.registers < _SUM_REGISTERS:
                mix += line(load_word=products, store=products)
            halves = self.core.has("dsp") and len(rows) == 1
            mix += line(load=-(-conv.kernel[1] // 2) if halves else conv.kernel[1])
            # Where rows begin is not in registers.
            mix += line(load=1, alu=1) * len(rows)
        return mix

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.tables = channel_tables(self.conv, layer.root)
        tables = [table.reshape(-1, 1).view("<i4") for table in self.tables.values()]
        parts = [self.conv.bias[:, None], self._weights(), *tables]
        #: of each channel, i32, in the order in which they are read
        self.constants = np.concatenate(parts, axis=1).astype("<i4")

    def whole(self) -> None:
        """All rows; some are held back in scratch memory where the output replaces the input."""
        if not self.delay:
            super().whole()
            return
        layer, emitter, rows = self.layer, self.layer.emitter, self.conv.out_hw[0]
        size, everything = self._row_bytes(), Columns.all(self.conv.out_hw[1])
        begin, held = stream(layer.target.buffer), stream(self.scratch)

        def put(row: Index, place: Index) -> None:
            source = advance_bytes(held, place)
            target = advance_bytes(begin, emitter.mul(row, size))
            copy_bytes(emitter, source, target, size)

        def compute(row: Index, place: Index) -> None:
            own = moved(emitter, self.scratch, place)
            self.layer = replace(layer, target=replace(layer.target, buffer=own, slots=1))
            self.row(row, everything)

        def one(row: Index, *places: ir.Value) -> list[ir.Value]:
            """A row; that which has waited longest is after it."""
            compute(row, places[0])
            done = emitter.sub(row, self.delay)
            waited = arith.cmpi(arith.CmpIPredicate.sge, done, emitter.index(0))
            choice = scf.IfOp(waited)
            with ir.InsertionPoint(choice.then_block):
                put(done, places[1])
                scf.yield_([])
            return [*places[1:], places[0]]

        places = [emitter.index(slot * size) for slot in range(self.delay + 1)]
        places = emitter.loop(0, rows, 1, one, places)
        for late in range(self.delay):
            put(rows - self.delay + late, places[late + 1])
        self.layer = layer

    def row(self, row: Index, columns: Columns) -> None:
        conv, cut = self.conv, self._cut(columns.spans)
        rows = origins(self.layer, conv, row)
        padding = cut.padding_bytes(conv, columns.spans)

        def block(column: Index, count: int) -> None:
            own = pointers(self.layer, conv, rows, padding, column, count)
            self._block(own, row, column, count)

        cut.emit(self.layer.emitter, columns, block)

    def _cut(self, spans: tuple[Span, ...]) -> Cut:
        return cut_row(self.conv, spans, _MOST_PIXELS, _ROOM)

    def _block(self, rows: list[ir.Value], row: Index, column: Index, count: int) -> None:
        """``count`` neighbours from ``column`` on, of which windows begin at ``rows``."""
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        there = present(conv, column, count)

        def channel(number: Index, w: ir.Value, *own: ir.Value) -> list[ir.Value]:
            sums = [fetch(w, 0)] * count
            for group in self.together:
                sums = self._kernel_rows(group, [own[kh] for kh in group], w, sums, there)
            known, place = {}, 1 + self._weights().shape[1]
            for value, table in self.tables.items():
                words = [fetch(w, place + i) for i in range(table.itemsize // 4)]
                known[value] = element_of(words)
                place += len(words)
            site = Site(layer, row, column, (0, 0), (0, 0), border=False)
            for p, total in enumerate(sums):
                finish(conv, site, p, number, total, known)
            return [advance(w, self.constants.shape[1]), *(advance_bytes(p, 1) for p in own)]

        constants = stream(layer.pool.get(self.constants.reshape(-1), "weights"))
        emitter.loop(0, conv.groups, 1, channel, [constants, *rows])

    def _kernel_rows(
        self,
        group: range,
        rows: list[ir.Value],
        w: ir.Value,
        sums: list[ir.Value],
        there: range,
    ) -> list[ir.Value]:
        """``sums`` plus the products of one row of the kernel, or of two at once.

        Args:
            rows: where the rows of the image begin, under the first pixel's first tap.
            w: where the channel's constants begin.
            there: columns from there on that are the image's, and not padding.
        """
        conv, emitter, depth = self.conv, self.layer.emitter, self.layer.source.channels
        weights, sums = _Weights(self, w, group), list(sums)
        for x, users in readers(conv, len(sums)).items():
            if x in there:
                operands = [emitter.widen(fetch_byte(p, x * depth)) for p in rows]
            else:
                operands = [emitter.integer(conv.pad_value)] * len(group)
            if len(operands) == 2:
                low = arith.andi(operands[0], emitter.integer(0xFFFF))
                pair = arith.ori(low, arith.shli(operands[1], emitter.integer(16)))
                for p, kw in users:
                    sums[p] = tiny.DualMacOp(sums[p], pair, weights.at(kw)).res
            else:
                for p, kw in users:
                    product = arith.muli(operands[0], weights.at(kw))
                    sums[p] = arith.addi(sums[p], product)
        return sums

    def _weights(self) -> np.ndarray:
        """The words of weights of each channel, in the order in which they are read."""
        weights = self.conv.weights[:, 0, :, :, 0]
        parts = [weights[:, rows].swapaxes(1, 2) for rows in self.together]
        if self.core.has("dsp"):
            return np.concatenate([_words(part.astype("<i2")) for part in parts], axis=1)
        return _words(weights)


class _Weights:
    """The weights of one row of the kernel or two, loaded when they are first asked for."""

    def __init__(self, kernel: DepthwiseRows, w: ir.Value, group: range) -> None:
        self.emitter, self.pairs = kernel.layer.emitter, len(group) == 2
        self.halves = kernel.core.has("dsp") and not self.pairs
        taps = group.start * kernel.conv.kernel[1]
        # Behind the bias; two rows at once are an even number of halfwords.
        self.first = advance_bytes(w, 4 + (2 * taps if kernel.core.has("dsp") else taps))
        self.loaded: dict[int, ir.Value] = {}

    def at(self, tap: int) -> ir.Value:
        """A weight as an i32, or of two rows both weights in one."""
        place = tap // 2 if self.halves else tap
        if place not in self.loaded:
            words = self.pairs or self.halves
            byte = None if words else self.emitter.widen(fetch_byte(self.first, place))
            self.loaded[place] = fetch(self.first, place) if byte is None else byte
        return half(self.loaded[place], tap % 2) if self.halves else self.loaded[place]


def _words(weights: np.ndarray) -> np.ndarray:
    """``channels × …`` as ``channels × words``, the last one filled up with zeros."""
    flat = weights.reshape(len(weights), -1)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % (4 // flat.itemsize))))
    return np.ascontiguousarray(padded).view("<i4")
