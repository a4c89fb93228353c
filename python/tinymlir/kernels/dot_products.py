"""Dot products of windows with blocks of output channels, two MACs an instruction.

Windows are pairs of halfwords in scratch memory. Weights stay bytes in flash: a word of them
holds a pair of operands of two channels. As it is, it serves both; widened once more, one of them
(`channel_pairs`). Where weights do not allow that, it is widened for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_pairs import fit_halfwords, in_halfwords, joint_biases, separate
from tinymlir.kernels.channel_tables import channel_tables, channel_words, element_of, place_of
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.forms import HALFWORDS, Form
from tinymlir.kernels.gather import Gather
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.late_steps import late_mix, late_steps
from tinymlir.kernels.pairs import STEP, operand_pairs
from tinymlir.kernels.parking import (
    Cell,
    Held,
    held_loop,
    opaque,
    park,
    parked_loop,
    while_below,
)
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.words import advance, advance_bytes, extend, fetch, stream

#: The most steps between two branches, about 120 bytes of code each, of a pixel by itself, which
#: uses each weight once.
_STEPS_OF_ONE_PIXEL = 8


class DotProducts:
    """All output channels of some pixels, whose windows lie in scratch memory.

    A window takes ``steps`` of four operands, pairs of them ``apart`` words from one to the next;
    the next pixel's begins ``pitch`` words after it.
    ``channels`` are computed together, halves of them where fewer are left. With the pixels, these
    make accumulators, which share Thumb-2's registers with two activations, two weights and two
    pointers. ``unroll`` is the most steps between two branches.
    """

    #: how operands of windows lie in scratch memory
    form: ClassVar[Form] = HALFWORDS
    #: whether the sums and their operands take all registers
    parks: ClassVar[bool] = True
    #: words that hold a channel's weights of a step
    weight_words: ClassVar[int] = 1
    #: whether two channels are in a halfword, where they fit
    joins: ClassVar[bool] = True
    #: whether layers of any shape are the same code
    shared: ClassVar[bool] = False

    def __init__(
        self,
        conv: Convolution,
        layer: Layer,
        gather: Gather,
        channels: int,
        unroll: int,
    ) -> None:
        operands = gather.operands()
        self.layer, self.unroll = layer, unroll
        self.conv, self.tables = conv, channel_tables(conv, layer.root)
        self.steps, self.pitch = operands.shape[1] // STEP, gather.pitch
        self.apart = gather.apart
        self.joint = self.is_joint(conv)
        #: words of the tables of a channel
        self.table_words = sum(table.itemsize // 4 for table in self.tables.values())
        self.late = late_steps(conv, shared=self.shared)
        self._multipliers = None if self.late is None else self.late.multipliers
        #: channels computed together, the first of them, how many blocks, and all their constants
        self.blocks: list[tuple[int, int, int, np.ndarray]] = []
        start = 0
        while start < conv.out_per_group:
            stop = start + (conv.out_per_group - start) // channels * channels
            if stop > start:
                packed = [self._pack(operands, c, channels) for c in range(start, stop, channels)]
                constants = self._with_late(np.stack(packed), start, channels)
                self.blocks.append((channels, start, len(packed), constants))
            start, channels = stop, channels // 2

    def _pack(self, operands: np.ndarray, first: int, channels: int) -> np.ndarray:
        """Constants of a block of channels, i32, in the order in which they are read."""
        picked = slice(first, first + channels)
        columns = [table.reshape(-1, 1).view("<i4")[picked] for table in self.tables.values()]
        tables = np.concatenate([np.zeros((channels, 0), "<i4"), *columns], axis=1).reshape(-1)
        biases, weights = self.conv.bias[picked], operands[picked]
        if self.joint and channels > 1:
            biases, weights = joint_biases(biases), in_halfwords(weights)
        biases = biases[: channels * self.conv.has_biases]
        return np.concatenate([biases, self.pack(weights), tables])

    def _with_late(self, constants: np.ndarray, first: int, channels: int) -> np.ndarray:
        """Constants of blocks, and what says which sums are late behind them."""
        if self.late is None:
            return constants.reshape(-1)
        past = constants.shape[1]
        place = place_of(self.tables, self.late.multipliers) - channels * self.table_words
        return self.late.pack(constants, first, channels, past + place, past)

    @classmethod
    def is_joint(cls, conv: Convolution) -> bool:
        """Whether two channels are in a halfword."""
        return cls.joins and fit_halfwords(conv)

    def emit(self, site: Site, pixels: int, scratch: ir.Value) -> None:
        """All channels of ``pixels`` neighbours, from ``site`` on."""
        emitter, target = self.layer.emitter, self.layer.target
        keep, loop = (park, parked_loop) if self.parks else (Held, held_loop)
        first_window, size = stream(scratch), turn_of(self.steps, pixels, self.unroll)
        windows = end = keep(first_window)
        if size < self.steps:
            end = keep(advance(first_window, self.steps // size * size * self.step_words))
        first_pixel = target.position(emitter, [0, site.row, site.column, 0])
        place = keep(advance_bytes(stream(target.buffer), first_pixel))
        for channels, first_channel, count, packed in self.blocks:

            def block(
                number: Callable[[], Index],
                constants: Cell,
                channels: int = channels,
                start: int = first_channel,
            ) -> None:
                sums = self._block_sums(constants, windows.load(), end, pixels, channels)
                past = constants.load()
                sums, multiplier = self._stepped(sums, channels, past)
                first = emitter.add(emitter.mul(number(), channels), start)
                there = replace(site, place=advance_bytes(place.load(), first))
                self._finish(there, first, channels, sums, past, multiplier)

            constants = self.layer.pool.get(packed, "weights")
            loop(emitter, count, block, stream(constants))

    def _block_sums(
        self, constants: Cell, windows: ir.Value, end: Cell, pixels: int, channels: int
    ) -> list[ir.Value]:
        """The dot products of a block, whose ``constants`` are then those of the next block.

        Turns go on until activations ``end``.
        """
        w, biases = self._biases(constants.load(), channels)
        past, sums = self._sums([w, windows, *biases * pixels], channels, end)
        constants.store(advance(past, channels * self.table_words))
        return sums

    def _biases(self, w: ir.Value, channels: int) -> tuple[ir.Value, list[ir.Value]]:
        """Where the weights begin, and what sums begin with, of a block whose constants are at
        ``w``."""
        if not self.conv.has_biases:
            return w, [self.layer.emitter.integer(0)] * channels
        return advance(w, channels), [fetch(w, b) for b in range(channels)]

    def _finish(
        self,
        site: Site,
        first: Index,
        channels: int,
        sums: list[ir.Value],
        past: ir.Value,
        multiplier: ir.Value | None,
    ) -> None:
        """Store what becomes of the sums of ``channels`` from ``first`` on."""
        for b in range(channels):
            known = self._elements(past, channels, b, multiplier)
            for p, total in enumerate(sums[b::channels]):
                finish(self.conv, site, p, first, total, known, lane=b)

    def _stepped(
        self, sums: list[ir.Value], channels: int, past: ir.Value
    ) -> tuple[list[ir.Value], ir.Value | None]:
        """The sums of a block past late ones, and its first multiplier if that says which are."""
        if self.late is None:
            return sums, None
        place = place_of(self.tables, self.late.multipliers) - channels * self.table_words
        return self.late.emit(sums, channels, lambda: past, fetch(past, place))

    def _elements(
        self, past: ir.Value, channels: int, lane: int, multiplier: ir.Value | None
    ) -> dict[ir.Value, ir.Value]:
        """What the tables have of a channel of a block; the first one's ``multiplier`` is there."""
        place, known = (lane - channels) * self.table_words, {}
        for value, table in self.tables.items():
            size = table.itemsize // 4
            if lane == 0 and multiplier is not None and value == self._multipliers:
                known[value] = multiplier
            else:
                known[value] = element_of([fetch(past, place + word) for word in range(size)])
            place += size
        return known

    def _sums(
        self, carried: list[ir.Value], channels: int, end: Cell
    ) -> tuple[ir.Value, list[ir.Value]]:
        """Past the last of the weights, and the dot products ``[pixel · channels + channel]``.

        ``carried`` are the addresses of weights and activations, and what sums begin with.
        """
        size = turn_of(self.steps, (len(carried) - 2) // channels, self.unroll)
        turns = self.steps // size
        if turns > 1 and self.parks:
            carried = self._turns(size, end, channels, carried, first=True)
        else:
            carried = self.layer.emitter.loop(
                0, turns, 1, lambda _, *values: self._turn(size, channels, values), carried
            )
        past, _, *sums = self._turn(self.steps % size, channels, carried)
        return past, self._of_channels(sums, channels)

    def _turn(self, steps: int, channels: int, carried: Sequence[ir.Value]) -> list[ir.Value]:
        """Some steps without a branch."""
        w, a, *totals = carried
        for step in range(steps):
            totals = self._step(step, w, a, totals, channels)
        w = advance(w, steps * channels * self.weight_words)
        return [w, advance(a, steps * self.step_words), *totals]

    def _turns(
        self,
        steps: int,
        end: Cell,
        channels: int,
        carried: list[ir.Value],
        *,
        first: bool = False,
    ) -> list[ir.Value]:
        """Turns of so many steps until windows ``end``; ``first``: there is one at least.

        What is carried stays in its register: or else LLVM has several change places, through
        memory.
        """

        def turn(*carried: ir.Value) -> list[ir.Value]:
            return [opaque(value) for value in self._turn(steps, channels, carried)]

        return while_below(end, carried, turn, place=1, first=first)

    @property
    def step_words(self) -> int:
        """Words of all windows' operands of a step."""
        return self.form.step_words * self.apart

    def _of_channels(self, sums: list[ir.Value], channels: int) -> list[ir.Value]:
        """The sums of channels, from what products have been added to."""
        return separate(sums) if self.joint and channels > 1 else sums

    def _step(
        self, step: int, w: ir.Value, a: ir.Value, totals: list[ir.Value], channels: int
    ) -> list[ir.Value]:
        """``totals`` plus the products of four operands."""
        totals = list(totals)
        pixels, joint = len(totals) // channels, self.joint and channels > 1
        both = fetch(w, step) if channels == 1 else None
        for pair in (step * 2, step * 2 + 1):
            x: dict[int, ir.Value] = {}
            words: dict[int, ir.Value] = {}
            weights: dict[int, ir.Value] = {}

            for lanes, together in _parts(pixels, channels, joint):
                # Loads one after the other take less.
                for p in together:
                    x[p] = x.get(p) or fetch(a, p * self.pitch + pair * self.apart)
                for b in lanes[::2]:
                    words[b] = words.get(b) or both or fetch(w, (pair * channels + b) // 2)
                for b in lanes:
                    word = words[b // 2 * 2]
                    first = pair % 2 if channels == 1 else b % 2
                    weights[b] = weights.get(b) or (word if joint else extend(word, first))
                for b in (*lanes[1::2], *lanes[::2]):
                    for p in together:
                        i = p * channels + b
                        totals[i] = tiny.DualMacOp(totals[i], x[p], weights[b]).res
                    if joint and b % 2 and not together.start:
                        weights[b - 1] = extend(weights[b], 0)
        return totals

    @classmethod
    def mix(cls, conv: Convolution, steps: int, pixels: int, channels: int, unroll: int) -> Mix:
        """All channels of ``pixels`` neighbours."""
        words = channel_words(conv)
        turns, rest = divmod(steps, turn_of(steps, pixels, unroll))
        mix, left = Mix(), conv.out_per_group
        while left:
            step = cls.step_mix(conv, pixels, channels)
            turn = step * (steps // turns)
            sums = loop(turn + cls.turn_mix(pixels, channels), turns) if turns > 1 else turn
            sums += step * rest
            parked = line(load=5, store=1) if cls.parks else Mix()
            block = line(load=words * channels, alu=4, store=1) + parked + sums
            block += cls.results_mix(conv, pixels, channels)
            mix += loop(block, left // channels)
            left, channels = left % channels, channels // 2
        return mix

    @classmethod
    def results_mix(cls, conv: Convolution, pixels: int, channels: int) -> Mix:
        """What becomes of the sums of a block."""
        separated = pixels * channels if cls.is_joint(conv) and channels > 1 else 0
        late = late_mix(conv, channels, pixels, shared=cls.shared)
        return line(alu=separated) + late + finish_mix(conv, pixels) * channels

    @classmethod
    def step_mix(cls, conv: Convolution, pixels: int, channels: int) -> Mix:
        """What `_step` emits."""
        joint = cls.is_joint(conv) and channels > 1
        pair = line(alu=channels // 2 if joint else channels, dual_mac=pixels * channels)
        for lanes, together in _parts(pixels, channels, joint):
            x = 0 if lanes.start else len(together)
            words = 0 if together.start else len(lanes) / 2
            pair += line(load=x + words)
        return pair * 2

    @staticmethod
    def turn_mix(pixels: int, channels: int) -> Mix:
        """What a branch takes besides itself: both pointers move, and one is compared."""
        return line(alu=2, load=1)

    @staticmethod
    def pack(weights: np.ndarray) -> np.ndarray:
        """Weights ``[channel, operand]`` of one channel or an even number, i8, as words in order.

        Of one channel, a word is a step. Of more, it is a pair of operands of two channels: the
        first operand of both, then the second.
        """
        channels, operands = weights.shape
        if channels == 1:
            return np.ascontiguousarray(weights).reshape(-1).view("<i4")
        pairs = weights.reshape(channels // 2, 2, operands)[..., operand_pairs(operands)]
        return np.ascontiguousarray(pairs.transpose(2, 0, 3, 1)).reshape(-1).view("<i4")


def _parts(pixels: int, channels: int, joint: bool) -> list[tuple[range, range]]:
    """Channels and pixels whose products are computed together.

    Their operands share the registers with all accumulators and two pointers.
    """
    lanes = min(channels, 4 if joint and pixels <= 2 else 2)
    together = 2 if pixels == 4 else pixels
    return [
        (range(first, min(first + lanes, channels)), range(begin, begin + together))
        for first in range(0, channels, lanes)
        for begin in range(0, pixels, together)
    ]


def most_at_once(unroll: int) -> int:
    """Steps that have no branch between them where ``unroll`` may."""
    return unroll * 4 // 3


def turn_of(steps: int, pixels: int, unroll: int) -> int:
    """Steps between two branches: the most that divide all, if not too few do."""
    if pixels == 1:
        unroll = min(unroll, _STEPS_OF_ONE_PIXEL)
    elif steps <= most_at_once(unroll):
        return steps
    fair = range(-(-unroll // 2), most_at_once(unroll) + 1)
    return min(steps, max((n for n in fair if steps % n == 0), default=unroll))
