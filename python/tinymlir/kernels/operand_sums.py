"""Sums of products of operands that lie one after another, for a block of output channels.

An operand is loaded once for all channels of the block; nothing is copied first. Cores differ in
how many products an instruction makes, and in what registers hold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from tinymlir.bindings import arith, ir, llvm, vector
from tinymlir.dialects import tiny
from tinymlir.kernels import vectors
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.words import advance, advance_bytes, extend, fetch, fetch_byte, halves
from tinymlir.targets import Target

#: Steps between two branches.
_UNROLL = 4
#: Registers under which weights are loaded as words, and taken apart.
_FEW_REGISTERS = 12
#: What weights of a block begin at.
_ALIGNMENT = 4


class OperandSums(ABC):
    """How a core multiplies operands by the weights of ``channels`` neighbours, or of fewer."""

    channels: ClassVar[int]

    def operands(self, width: int) -> int:
        """Operands of a step, whose weights for ``width`` channels lie together."""
        return 1

    def stored(self, width: int, depth: int) -> int:
        """Operands of each channel of a block that have weights in memory, zeros included."""
        return depth

    def block_bytes(self, width: int, depth: int) -> int:
        """Bytes from a block of ``width`` channels of ``depth`` operands to the next one."""
        return -(-width * self.stored(width, depth) // _ALIGNMENT) * _ALIGNMENT

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """Weights ``[channel, operand]`` as they are read, i8: a block of channels after another,
        the last one as narrow as it is.
        """
        parts = []
        for first in range(0, len(weights), self.channels):
            block = weights[first : first + self.channels]
            width, depth = block.shape
            order = self._order(self._filled(block)).reshape(-1)
            parts.append(np.pad(order, (0, self.block_bytes(width, depth) - len(order))))
        return np.concatenate(parts)

    def _filled(self, block: np.ndarray) -> np.ndarray:
        """The weights of a block with zeros where none are."""
        depth = block.shape[1]
        return np.pad(block, ((0, 0), (0, self.stored(len(block), depth) - depth)))

    def _order(self, block: np.ndarray) -> np.ndarray:
        """The weights of a block, as they are read: operand after operand, of all channels."""
        return block.T

    @abstractmethod
    def emit(
        self,
        emitter: Emitter,
        weights: ir.Value,
        activations: ir.Value,
        sums: list[ir.Value],
        depth: int,
    ) -> list[ir.Value]:
        """``sums`` of a block of channels plus the products of ``depth`` operands.

        Args:
            weights: pointer to those of the block, in the order of `pack`.
            activations: pointer to the first operand, wherever it lies.
        """

    def mix(self, width: int, depth: int) -> Mix:
        """What `emit` emits, and what LLVM adds to make room for it."""
        steps = -(-depth // self.operands(width))
        turns, rest = divmod(steps, _UNROLL)
        step = self._step_mix(width)
        return loop(step * _UNROLL + self._turn_mix(), turns) + step * rest + line(alu=2)

    @abstractmethod
    def _step_mix(self, width: int) -> Mix:
        """What a step emits."""

    def _turn_mix(self) -> Mix:
        """What LLVM adds at a branch."""
        return Mix()


class SteppedSums(OperandSums):
    """Sums that each have a register: a step is all products of the next operands."""

    def emit(
        self,
        emitter: Emitter,
        weights: ir.Value,
        activations: ir.Value,
        sums: list[ir.Value],
        depth: int,
    ) -> list[ir.Value]:
        width, size = len(sums), self.operands(len(sums))

        def steps(count: int, w: ir.Value, x: ir.Value, *totals: ir.Value) -> list[ir.Value]:
            values = list(totals)
            for k in range(count):
                values = self._step(emitter, w, x, k, values)
            return [advance_bytes(w, count * size * width), advance_bytes(x, count * size), *values]

        carried = [weights, activations, *sums]
        w, x, *totals = emitter.turns(depth // size, _UNROLL, steps, carried)
        return self._end(emitter, w, x, depth % size, totals)

    @abstractmethod
    def _step(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, k: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """``sums`` plus the products of step ``k`` from the pointers on."""

    def _end(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, left: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """``sums`` plus the products of the ``left`` operands that are no whole step."""
        return sums


class SingleOperands(SteppedSums):
    """Weights byte by byte, a product an instruction."""

    channels = 6
    #: weights loaded before any of them is used
    _loaded = 3

    def _step(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, k: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        activation = emitter.widen(fetch_byte(x, k))
        totals: list[ir.Value] = []
        for first in range(0, len(sums), self._loaded):
            places = range(first, min(first + self._loaded, len(sums)))
            loaded = [emitter.widen(fetch_byte(w, k * len(sums) + place)) for place in places]
            for place, weight in zip(places, loaded, strict=True):
                totals.append(arith.addi(sums[place], arith.muli(activation, weight)))
        return totals

    def _step_mix(self, width: int) -> Mix:
        return line(load=1 + width, mac=width)


class WordsOfTwo(SingleOperands):
    """Weights as words, two channels and two operands each, which are taken apart.

    ARMv6-M loads signed bytes from sums of registers alone, and there are eight to choose from.
    """

    channels = 2

    def operands(self, width: int) -> int:
        return 2 if width == self.channels else 1

    def _step(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, k: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        if len(sums) < self.channels:
            return super()._step(emitter, w, x, k, sums)
        word, totals = fetch(w, k), list(sums)
        i8 = ir.IntegerType.get_signless(8)
        for operand in range(2):
            activation = emitter.widen(fetch_byte(x, 2 * k + operand))
            for channel in range(self.channels):
                place = 2 * operand + channel
                if place == 3:
                    weight = arith.shrsi(word, emitter.integer(24))
                else:
                    down = arith.shrui(word, emitter.integer(8 * place)) if place else word
                    weight = emitter.widen(arith.trunci(i8, down))
                totals[channel] = arith.addi(totals[channel], arith.muli(weight, activation))
        return totals

    def _end(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, left: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        return super()._step(emitter, w, x, 0, sums) if left else sums

    def _step_mix(self, width: int) -> Mix:
        if width < self.channels:
            return line(load=1 + width, alu=1, mac=width)
        return (line(load=1, alu=1) + line(load=0.5, alu=3, mac=width)) * 2


class PairedOperands(SteppedSums):
    """Two products an instruction (SMLAD): a word of operands and one of each channel's weights,
    both widened on the way. Weights beyond the last operand are zero.
    """

    channels = 4

    def operands(self, width: int) -> int:
        return 4

    def stored(self, width: int, depth: int) -> int:
        return -(-depth // 4) * 4

    def _order(self, block: np.ndarray) -> np.ndarray:
        width, depth = block.shape
        return block.reshape(width, depth // 4, 4).swapaxes(0, 1)

    def _step(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, k: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        word = fetch(x, k, alignment=1)
        return self._products(emitter, advance(w, k * len(sums)), word, sums)

    def _products(
        self, emitter: Emitter, w: ir.Value, word: ir.Value, sums: list[ir.Value]
    ) -> list[ir.Value]:
        activations = [extend(word, half) for half in (0, 1)]
        totals = list(sums)
        for first in range(0, len(sums), 2):
            pair = len(sums) - first > 1
            weights = _fetch_pair(emitter, w, first) if pair else [fetch(w, first)]
            for channel, weight in enumerate(weights, first):
                for half, activation in enumerate(activations):
                    wide = extend(weight, half)
                    totals[channel] = tiny.DualMacOp(totals[channel], activation, wide).res
        return totals

    def _end(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, left: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        return self._products(emitter, w, _bytes_as_word(emitter, x, left), sums) if left else sums

    def mix(self, width: int, depth: int) -> Mix:
        # What ends a channel finds no registers.
        return super().mix(width, depth) + line(load=2, store=1, alu=5) * width

    def _turn_mix(self) -> Mix:
        return line(load=2, store=1)

    def _step_mix(self, width: int) -> Mix:
        pairs = line(load_pair=width // 2, load=width % 2)
        return line(load=1, alu=2) + pairs + line(alu=2 * width, dual_mac=2 * width)


class DottedOperands(SteppedSums):
    """16 products an instruction (VMLADAVA): a vector of operands and one of each channel's.

    The last vector ends with the last operand; what of it another one has is multiplied by zero.
    """

    channels = 4

    def operands(self, width: int) -> int:
        return vectors.BYTES

    def stored(self, width: int, depth: int) -> int:
        return -(-depth // vectors.BYTES) * vectors.BYTES

    def _filled(self, block: np.ndarray) -> np.ndarray:
        whole = block.shape[1] // vectors.BYTES * vectors.BYTES
        missing = self.stored(*block.shape) - block.shape[1]
        return np.insert(block, [whole] * missing, 0, axis=1)

    def _order(self, block: np.ndarray) -> np.ndarray:
        return block.reshape(len(block), -1, vectors.BYTES).swapaxes(0, 1)

    def _step(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, k: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        operands = llvm.load(
            vectors.integers(vectors.BYTES, 8), advance_bytes(x, k * vectors.BYTES), alignment=1
        )
        words, totals = vectors.integers(vectors.WORDS, 32), []
        for channel, total in enumerate(sums):
            at = advance(w, (k * len(sums) + channel) * vectors.WORDS)
            weights = vectors.as_bytes(llvm.load(words, at, alignment=4))
            totals.append(tiny.DotOp(total, operands, weights).res)
        return totals

    def _end(
        self, emitter: Emitter, w: ir.Value, x: ir.Value, left: int, sums: list[ir.Value]
    ) -> list[ir.Value]:
        last = advance_bytes(x, left - vectors.BYTES)
        return self._step(emitter, w, last, 0, sums) if left else sums

    def _step_mix(self, width: int) -> Mix:
        return line(vector=1 + 2 * width)


class LaneOperands(OperandSums):
    """Channels in the lanes of a vector: an operand times the weights of all of them."""

    channels = 8

    def emit(
        self,
        emitter: Emitter,
        weights: ir.Value,
        activations: ir.Value,
        sums: list[ir.Value],
        depth: int,
    ) -> list[ir.Value]:
        width = len(sums)
        wide, bytes_ = (vectors.integers(width, bits) for bits in (32, 8))

        def operand(_: Index, w: ir.Value, x: ir.Value, total: ir.Value) -> list[ir.Value]:
            activation = vector.broadcast(wide, emitter.widen(fetch_byte(x, 0)))
            lanes = arith.extsi(wide, llvm.load(bytes_, w, alignment=1))
            total = arith.addi(total, arith.muli(lanes, activation))
            return [advance_bytes(w, width), advance_bytes(x, 1), total]

        carried = [weights, activations, vector.from_elements(wide, sums)]
        *_, total = emitter.loop(0, depth, 1, operand, carried, unroll=_UNROLL)
        return [vectors.element(total, lane) for lane in range(width)]

    def _step_mix(self, width: int) -> Mix:
        return line(load=1, vector=3)


def _fetch_pair(emitter: Emitter, pointer: ir.Value, word: int) -> list[ir.Value]:
    """Two words that lie together, loaded at once."""
    i64 = ir.IntegerType.get_signless(64)
    return halves(emitter, llvm.load(i64, advance(pointer, word), volatile_=True, alignment=4))


def _bytes_as_word(emitter: Emitter, x: ir.Value, count: int) -> ir.Value:
    """So many bytes as a word, the first one lowest, and zeros above them."""
    i32 = ir.IntegerType.get_signless(32)
    word = arith.extui(i32, fetch_byte(x, 0))
    for place in range(1, count):
        byte = arith.extui(i32, fetch_byte(x, place))
        word = arith.ori(word, arith.shli(byte, emitter.integer(8 * place)))
    return word


def operand_sums(core: Target, depth: int) -> OperandSums:
    """What ``core`` does best with so many operands."""
    if core.has("mve") and depth >= vectors.BYTES:
        return DottedOperands()
    if core.has("zve32x"):
        return LaneOperands()
    if core.has("dsp"):
        return PairedOperands()
    return WordsOfTwo() if core.registers < _FEW_REGISTERS else SingleOperands()
