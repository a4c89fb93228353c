"""Dot products of windows with blocks of output channels, two MACs an instruction.

Windows are pairs of halfwords in scratch memory. Weights stay bytes in flash: a word of them
holds a pair of operands of two channels, and widening it serves all pixels of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import channel_tables, element_of, table_bytes
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.forms import HALFWORDS, Form
from tinymlir.kernels.gather import Gather
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pairs import STEP, operand_pairs
from tinymlir.kernels.parking import (
    Cell,
    Held,
    held_loop,
    opaque,
    park,
    parked_loop,
)
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.words import advance, advance_bytes, extend, fetch, stream

#: The most steps between two branches, about 120 bytes of code each, of a pixel by itself, which
#: uses each weight once.
_STEPS_OF_ONE_PIXEL = 8
#: Steps between two branches that are too few to spill a pointer at each branch.
_SHORT_TURN = 18


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
        #: pairs of operands in a turn for which activations are loaded pixel by pixel
        self.alone: tuple[int, ...] = ()
        #: words of the tables of a channel
        self.table_words = sum(table.itemsize // 4 for table in self.tables.values())
        #: channels computed together, the first of them, and their constants block by block
        self.blocks: list[tuple[int, int, np.ndarray]] = []
        start = 0
        while start < conv.out_per_group:
            stop = start + (conv.out_per_group - start) // channels * channels
            if stop > start:
                packed = [self._pack(operands, c, channels) for c in range(start, stop, channels)]
                self.blocks.append((channels, start, np.stack(packed)))
            start, channels = stop, channels // 2

    def _pack(self, operands: np.ndarray, first: int, channels: int) -> np.ndarray:
        """Constants of a block of channels, i32, in the order in which they are read."""
        picked = slice(first, first + channels)
        columns = [table.reshape(-1, 1).view("<i4")[picked] for table in self.tables.values()]
        tables = np.concatenate([np.zeros((channels, 0), "<i4"), *columns], axis=1).reshape(-1)
        biases = self.conv.bias[picked if self.conv.has_biases else slice(0)]
        return np.concatenate([biases, self.pack(operands[picked]), tables])

    def emit(self, site: Site, pixels: int, scratch: ir.Value) -> None:
        """All channels of ``pixels`` neighbours, from ``site`` on."""
        emitter, target = self.layer.emitter, self.layer.target
        keep, loop = (park, parked_loop) if self.parks else (Held, held_loop)
        windows = keep(stream(scratch))
        first_pixel = target.position(emitter, [0, site.row, site.column, 0])
        place = keep(advance_bytes(stream(target.buffer), first_pixel))
        for channels, start, packed in self.blocks:

            def block(
                number: Callable[[], Index],
                constants: Cell,
                channels: int = channels,
                start: int = start,
            ) -> None:
                sums = self._block_sums(constants, windows.load(), pixels, channels)
                first = emitter.add(emitter.mul(number(), channels), start)
                there = replace(site, place=advance_bytes(place.load(), first))
                tables = advance(constants.load(), -channels * self.table_words)
                self._finish(there, first, channels, sums, tables)

            constants = self.layer.pool.get(packed.reshape(-1), "weights")
            loop(emitter, len(packed), block, stream(constants))

    def _block_sums(
        self, constants: Cell, windows: ir.Value, pixels: int, channels: int
    ) -> list[ir.Value]:
        """The dot products of a block, whose ``constants`` are then those of the next block."""
        w, biases = self._biases(constants.load(), channels)
        end, sums = self._sums(w, windows, biases * pixels, channels)
        constants.store(advance(end, channels * self.table_words))
        return sums

    def _biases(self, w: ir.Value, channels: int) -> tuple[ir.Value, list[ir.Value]]:
        """Where the weights begin, and what sums begin with, of a block whose constants are at
        ``w``."""
        if not self.conv.has_biases:
            return w, [self.layer.emitter.integer(0)] * channels
        return advance(w, channels), [fetch(w, b) for b in range(channels)]

    def _finish(
        self, site: Site, first: Index, channels: int, sums: list[ir.Value], tables: ir.Value
    ) -> None:
        """Store what becomes of the sums of ``channels`` from ``first`` on."""
        for b in range(channels):
            known = self._elements(tables, b)
            for p, total in enumerate(sums[b::channels]):
                finish(self.conv, site, p, first, total, known, lane=b)

    def _elements(self, tables: ir.Value, lane: int) -> dict[ir.Value, ir.Value]:
        """What the tables have of a channel of a block."""
        place, known = lane * self.table_words, {}
        for value, table in self.tables.items():
            words = [fetch(tables, place + word) for word in range(table.itemsize // 4)]
            known[value] = element_of(words)
            place += len(words)
        return known

    def _sums(
        self, weights: ir.Value, activations: ir.Value, biases: list[ir.Value], channels: int
    ) -> tuple[ir.Value, list[ir.Value]]:
        """Past the last of the weights, and the dot products ``[pixel · channels + channel]``."""
        emitter = self.layer.emitter

        def turn(steps: int, w: ir.Value, a: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            totals = list(sums)
            for step in range(steps):
                totals = self._step(step, w, a, totals, channels)
            w = advance(w, steps * channels * self.weight_words)
            return [w, advance(a, self.form.step_words * steps), *totals]

        size = turn_of(self.steps, len(biases) // channels, self.unroll)
        carried = [weights, activations, *biases]
        short = self.parks and size <= _SHORT_TURN

        def again(_: Index, *carried: ir.Value) -> list[ir.Value]:
            w, *others = turn(size, *carried)
            return [opaque(w) if short else w, *others]

        carried = emitter.loop(0, self.steps // size, 1, again, carried)
        end, _, *sums = turn(self.steps % size, *carried)
        return end, sums

    def _step(
        self, step: int, w: ir.Value, a: ir.Value, totals: list[ir.Value], channels: int
    ) -> list[ir.Value]:
        """``totals`` plus the products of four operands."""
        totals = list(totals)
        pixels = len(totals) // channels
        word = fetch(w, step) if channels == 1 else None
        for pair in (step * 2, step * 2 + 1):
            x: dict[int, ir.Value] = {}
            # Two channels at a time, of two pixels at a time: so accumulators find registers.
            for first in range(0, channels, 2):
                both = word or fetch(w, (pair * channels + first) // 2)
                weights: list[ir.Value] = []
                at_once = 1 if pair in self.alone else 2
                for begin in range(0, pixels, at_once):
                    together = range(begin, min(begin + at_once, pixels))
                    for p in together:
                        x[p] = x.get(p) or fetch(a, p * self.pitch + pair * self.apart)
                    if not weights:
                        halves = (pair % 2,) if channels == 1 else (0, 1)
                        weights = [extend(both, half) for half in halves]
                    for b, weight in enumerate(weights, first):
                        for p in together:
                            i = p * channels + b
                            totals[i] = tiny.DualMacOp(totals[i], x[p], weight).res
        return totals

    @classmethod
    def mix(cls, conv: Convolution, steps: int, pixels: int, channels: int, unroll: int) -> Mix:
        """All channels of ``pixels`` neighbours."""
        words = (conv.bias_bytes + table_bytes(conv)) // (4 * conv.out_per_group)
        turns, rest = divmod(steps, turn_of(steps, pixels, unroll))
        finish = finish_mix(conv, pixels)
        mix, left = Mix(), conv.out_per_group
        while left:
            step = cls.step_mix(pixels, channels)
            turn = step * (steps // turns)
            sums = loop(turn + cls.turn_mix(pixels, channels), turns) if turns > 1 else turn
            sums += step * rest
            parked = line(load=5, store=1) if cls.parks else Mix()
            block = line(load=words * channels, alu=4, store=1) + parked + sums + finish * channels
            mix += loop(block, left // channels)
            left, channels = left % channels, channels // 2
        return mix

    @staticmethod
    def step_mix(pixels: int, channels: int) -> Mix:
        """What `_step` emits."""
        # Half a step, and the loads of it: weights with two pixels, then two pixels more.
        loads = line(load=max(channels / 2, 0.5) + min(pixels, 2))
        loads += line(load=max(pixels - 2, 0))
        return (loads + line(alu=max(channels, 1), dual_mac=pixels * channels)) * 2

    @staticmethod
    def turn_mix(pixels: int, channels: int) -> Mix:
        """What LLVM adds at a branch: it moves accumulators and pointers about."""
        kept = pixels * channels
        return line(alu=0.75 * kept, load=kept / 2, store=kept / 2)

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
