"""Depthwise convolution two MACs at a time: neighbouring columns of a channel as halfwords.

SMLAD multiplies a word by two taps of a kernel row. Between two words, taps are multiplied one by
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise_planes import DepthwisePlanes
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.row_copy import ring_columns
from tinymlir.kernels.words import (
    advance,
    fetch,
    half,
    load_word,
    neighbours,
    repeated,
    stream,
    view,
)
from tinymlir.targets import Target

#: Outputs of a row computed together, and the most that are without a loop; less with wide kernels.
_PIXELS, _MOST_PIXELS, _PIXELS_OF_WIDE = 4, 6, 2
_WIDE = 6
#: Pairs of columns copied between two branches.
_UNROLL = 2


class DepthwisePairs(DepthwisePlanes):
    """Planes of halfwords, two columns in a word; units are words."""

    name = "depthwise-pairs"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.taps = Taps.of(conv.kernel[1], conv.stride[1])
        self.row_words = len(self.taps.first)
        self.plane = -(-ring_columns(conv) // 2)
        self.together = _PIXELS if conv.kernel[1] < _WIDE else _PIXELS_OF_WIDE
        if conv.kernel[1] < _WIDE and conv.out_hw[1] <= _MOST_PIXELS:
            self.together = conv.out_hw[1]

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        return core.has("dsp") and super().takes(conv, core)

    def scratch_bytes(self) -> int:
        """The rows under a window."""
        return self.conv.kernel[0] * self.slot * 4

    def _copy_mix(self, width: int) -> Mix:
        pair = line(load=2) + line(alu=10, store=width)
        copy = function(loop(pair, self.plane, _UNROLL) + line(alu=14, load=4, store=4))
        return copy + loop(line(store=width), self.plane, _UNROLL).times(0) * 3

    def _kernel_row_mix(self, count: int) -> Mix:
        stride, width = self.conv.stride[1], self.conv.kernel[1]
        words = ((count - 1) * stride + width + 1) // 2
        taps = [2 * word - p * stride for word in range(words) for p in range(count)]
        both = sum(0 <= tap < width - 1 for tap in taps)
        single = sum(tap in (-1, width - 1) for tap in taps)
        # Products come between columns, which are loaded two at a time.
        columns = line(load=2) * (words // 2) + line(load=1) * (words % 2)
        products = line(dual_mac=both, mac=single, alu=1)
        return line(load=self.row_words) + columns + products

    def _pack_rows(self, weights: np.ndarray) -> np.ndarray:
        return self.taps.pack(weights)

    def _at(self, plane: Index, column: Index) -> ir.Value:
        assert self.scratch is not None
        emitter = self.layer.emitter
        pair = emitter.half(emitter.mul(column, self.conv.stride[1]))
        return advance(stream(self.scratch), emitter.add(plane, pair))

    def _kernel_row(self, x: ir.Value, w: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        stride, width = self.conv.stride[1], self.conv.kernel[1]
        weights = [fetch(w, i) for i in range(self.row_words)]
        sums = list(sums)
        words = ((len(sums) - 1) * stride + width + 1) // 2
        loaded: list[ir.Value] = []
        for number in range(words):
            if number == len(loaded):
                loaded += [fetch(x, i) for i in range(number, min(number + 2, words))]
            pair = loaded[number]
            for p in range(len(sums)):
                tap = 2 * number - p * stride
                low, high = 0 <= tap < width, 0 <= tap + 1 < width
                if low and high:
                    sums[p] = tiny.DualMacOp(sums[p], pair, weights[self.taps.first.index(tap)]).res
                elif low or high:
                    word, upper = self.taps.single(tap if low else tap + 1)
                    product = arith.muli(half(pair, int(high)), half(weights[word], upper))
                    sums[p] = arith.addi(sums[p], product)
        return sums

    def _emit_copy(self, width: int) -> str:
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        assert self.scratch is not None
        symbol = f"{layer.function.name.value}_row{width}"
        types = [layer.source.buffer.type, self.scratch.type, *[ir.IndexType.get()] * 3]
        with ir.InsertionPoint.after(layer.function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        left = min(conv.pad[1], 2 * self.plane)
        right = min(left + conv.in_hw[1], 2 * self.plane)
        with ir.InsertionPoint(helper.add_entry_block()):
            source, scratch, row, slot, channel = helper.arguments
            words = view(scratch, 32)
            filler = emitter.integer(repeated(conv.pad_value, 8))

            def store(pair: Index, first: ir.Value, second: ir.Value) -> None:
                at = emitter.add(slot, pair)
                for c, word in enumerate(neighbours(first, second)[:width]):
                    emitter.store(word, words, [emitter.add(at, c * self.plane)])

            def load(column: Index) -> ir.Value:
                pixel = emitter.add(emitter.mul(row, conv.in_hw[1]), emitter.sub(column, left))
                at = emitter.add(emitter.mul(pixel, conv.groups), channel)
                return load_word(emitter, source, [emitter.add(at, c) for c in range(width)])

            def fill(begin: int, end: int) -> None:
                emitter.loop(begin, end, 1, lambda j: store(j, filler, filler), unroll=_UNROLL)

            def copy(begin: int, end: int) -> None:
                def pair(j: Index) -> None:
                    store(j, load(emitter.mul(j, 2)), load(emitter.add(emitter.mul(j, 2), 1)))

                emitter.loop(begin, end, 1, pair, unroll=_UNROLL)

            def mixed(j: int) -> None:
                """A pair of which one column is padding, or both are."""
                sides = [
                    load(column) if left <= column < right else filler
                    for column in (2 * j, 2 * j + 1)
                ]
                store(j, *sides)

            def image() -> None:
                begin, end = -(-left // 2), max(right // 2, -(-left // 2))
                fill(0, left // 2)
                if left // 2 < begin:
                    mixed(left // 2)
                copy(begin, end)
                rest = end
                if rest < self.plane and 2 * rest < right:
                    mixed(rest)
                    rest += 1
                fill(rest, self.plane)

            inside = arith.cmpi(arith.CmpIPredicate.ult, row, emitter.index(conv.in_hw[0]))
            emitter.either(inside, image, lambda: fill(0, self.plane))
            func.ReturnOp([])
        return symbol


@dataclass(frozen=True)
class Taps:
    """The words of a kernel row: neighbouring taps, from those in ``first`` on."""

    first: tuple[int, ...]
    width: int

    @staticmethod
    def of(width: int, stride: int) -> Taps:
        """The words that outputs need: a window may begin at an odd column only at odd strides."""
        step = 2 if stride % 2 == 0 else 1
        pairs = list(range(0, width - 1, step))
        # What no pair holds is a word's low half.
        alone = width - 1 not in pairs and width - 2 not in pairs
        return Taps((*pairs, width - 1) if alone else tuple(pairs), width)

    def single(self, tap: int) -> tuple[int, int]:
        """The word that holds a tap, and whether high."""
        if tap in self.first:
            return self.first.index(tap), 0
        return self.first.index(tap - 1), 1

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """``[channel, row, column]`` i8 as ``[channel, row and word]`` i32."""
        padded = np.pad(weights, ((0, 0), (0, 0), (0, 1))).astype("<i2")
        columns = np.array([[tap, tap + 1] for tap in self.first])
        words = np.ascontiguousarray(padded[:, :, columns]).view("<i4")
        return words.reshape(len(weights), -1)
