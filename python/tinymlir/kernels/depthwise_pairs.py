"""Depthwise convolution two MACs at a time: neighbouring columns of a channel in a word.

A ring of rows in scratch memory, as in `Depthwise`, but channel by channel: each holds its columns
as halfwords, so that a word is two neighbours, and SMLAD multiplies them by two taps of a kernel
row. Between two words, taps are multiplied one by one. Some outputs of a row are computed together:
they share the taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import table_bytes
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import CHANNEL_BLOCK, Depthwise
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.short_offsets import element_of, short_tables
from tinymlir.kernels.words import (
    advance,
    extend,
    fetch,
    half,
    load_word,
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


class DepthwisePairs(Depthwise):
    """All rows of a block of channels, then the next block; in each row, channel by channel."""

    name = "depthwise-pairs"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.taps = Taps.of(conv.kernel[1], conv.stride[1])
        columns = (conv.out_hw[1] - 1) * conv.stride[1] + conv.kernel[1]
        #: words of a channel's row, of a row of the ring
        self.plane = -(-columns // 2)
        self.slot = self.plane * CHANNEL_BLOCK
        self.together = _PIXELS if conv.kernel[1] < _WIDE else _PIXELS_OF_WIDE
        if conv.kernel[1] < _WIDE and conv.out_hw[1] <= _MOST_PIXELS:
            self.together = conv.out_hw[1]

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        return core.has("dsp") and super().takes(conv, core)

    def scratch_bytes(self) -> int:
        """The rows under a window."""
        return self.conv.kernel[0] * self.slot * 4

    def constant_bytes(self) -> int:
        words = 1 + self.conv.kernel[0] * len(self.taps.first)
        return 4 * words * self.conv.groups + table_bytes(self.conv)

    def _block_mix(self, width: int) -> Mix:
        conv = self.conv
        rows, columns = conv.out_hw
        pair = line(load=2) + line(alu=8, store=width)
        copy = function(loop(pair, self.plane, _UNROLL) + line(alu=14, load=4, store=4))
        copy += loop(line(store=width), self.plane, _UNROLL).times(0) * 3
        blocks, rest = divmod(columns, self.together)
        channel = loop(self._output_mix(self.together), blocks)
        if rest:
            channel += self._output_mix(rest)
        row = loop(channel + line(alu=10, load=3, store=2), width)
        copies = copy.times(conv.kernel[0] + (rows - 1) * conv.stride[0])
        return copies + loop(row + line(alu=12, load=6, store=6), rows)

    def _output_mix(self, count: int) -> Mix:
        """``count`` outputs of a channel."""
        conv, (stride, width) = self.conv, (self.conv.stride[1], self.conv.kernel[1])
        words = ((count - 1) * stride + width + 1) // 2
        taps = [2 * word - p * stride for word in range(words) for p in range(count)]
        both = sum(0 <= tap < width - 1 for tap in taps)
        single = sum(tap in (-1, width - 1) for tap in taps)
        row = line(load=len(self.taps.first) + words)
        row += line(dual_mac=both, mac=single, alu=1)
        tables = line(load=1 + table_bytes(conv) // (4 * conv.groups))
        return row * conv.kernel[0] + tables + finish_mix(conv, count) + line(alu=4)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        Kernel.prepare(self, layer, scratch)
        groups = self.conv.groups
        self.blocks = -(-groups // CHANNEL_BLOCK)
        self.last = groups - (self.blocks - 1) * CHANNEL_BLOCK
        widths = sorted({CHANNEL_BLOCK if self.blocks > 1 else self.last, self.last})
        self.copies = {width: self._emit_copy(width) for width in widths}
        self.conv, self.tables = short_tables(self.conv, layer.root)
        self.constants = self._pack()

    def _pack(self) -> np.ndarray:
        """Constants of each channel, i32: bias, words of each kernel row, elements of tables."""
        weights = self.taps.pack(self.conv.weights[:, 0, :, :, 0])
        tables = [t.reshape(-1, 1).view("<i4") for t in self.tables.values()]
        return np.concatenate([self.conv.bias[:, None], weights, *tables], axis=1).astype("<i4")

    def _channel_block(self, block: Index, width: int) -> None:
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        first = emitter.mul(block, CHANNEL_BLOCK)
        size = self.constants.shape[1]
        constants = stream(layer.pool.get(self.constants.reshape(-1), "weights"))
        begin = advance(constants, emitter.mul(first, size))
        step = conv.stride[0]

        def copy(row: Index, slot: Index) -> None:
            where = [emitter.index(v) for v in (row, slot, first)]
            func.call([], self.copies[width], [layer.source.buffer, self.scratch, *where])

        def channel_of_row(row: Index, slots: tuple[ir.Value, ...], c: Index, w: ir.Value) -> None:
            planes = [emitter.add(slot, emitter.mul(c, self.plane)) for slot in slots]
            channel = emitter.add(first, c)

            def outputs(column: Index, count: int) -> None:
                self._outputs(row, column, count, channel, planes, w)

            whole = conv.out_hw[1] // self.together * self.together
            emitter.loop(0, whole, self.together, lambda x: outputs(x, self.together))
            if whole < conv.out_hw[1]:
                outputs(whole, conv.out_hw[1] - whole)

        def output_row(row: Index, *slots: ir.Value) -> list[ir.Value]:
            top = emitter.sub(emitter.mul(row, step), conv.pad[0])
            for kh in range(conv.kernel[0] - step, conv.kernel[0]):
                copy(emitter.add(top, kh), slots[kh])

            def channel(c: Index, w: ir.Value) -> list[ir.Value]:
                channel_of_row(row, slots, c, w)
                return [advance(w, size)]

            emitter.loop(0, width, 1, channel, [begin])
            return [*slots[step:], *slots[:step]]

        places = [kh * self.slot for kh in range(conv.kernel[0])]
        for kh in range(conv.kernel[0] - step):
            copy(kh - conv.pad[0], places[kh])
        emitter.loop(0, conv.out_hw[0], 1, output_row, [emitter.index(p) for p in places])

    def _outputs(
        self,
        row: Index,
        column: Index,
        count: int,
        channel: Index,
        planes: list[Index],
        w: ir.Value,
    ) -> None:
        """``count`` outputs of a channel from an even input column on; its constants at ``w``."""
        conv, emitter = self.conv, self.layer.emitter
        assert self.scratch is not None
        start = stream(self.scratch)
        stride = conv.stride[1]
        pair = emitter.half(emitter.mul(column, stride))
        sums = [fetch(w, 0)] * count
        w = advance(w, 1)
        for plane in planes:
            x = advance(start, emitter.add(plane, pair))
            sums = self._kernel_row(x, w, sums)
            w = advance(w, len(self.taps.first))
        place, known = 0, {}
        for value, table in self.tables.items():
            words = [fetch(w, place + i) for i in range(table.itemsize // 4)]
            known[value] = element_of(value, words)
            place += len(words)
        site = Site(self.layer, row, column, (0, 0), (0, 0), border=False)
        for p, total in enumerate(sums):
            finish(conv, site, p, channel, total, known)

    def _kernel_row(self, x: ir.Value, w: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """``sums`` plus the products of the columns at ``x`` with a kernel row, at ``w``."""
        stride, width = self.conv.stride[1], self.conv.kernel[1]
        weights = [fetch(w, i) for i in range(len(self.taps.first))]
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
        """``@layer<i>_row<width>(input, scratch, row, slot, channel)``: a row of the ring.

        The columns that windows reach, ``width`` channels of them; a row beside the image is
        all padding.
        """
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
                for c, word in enumerate(_neighbours(first, second)[:width]):
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

            inside = arith.cmpi(arith.CmpIPredicate.ult, row, emitter.index(conv.in_hw[0]))
            choice = scf.IfOp(inside, has_else=True)
            with ir.InsertionPoint(choice.then_block):
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
                scf.yield_([])
            with ir.InsertionPoint(choice.else_block):
                fill(0, self.plane)
                scf.yield_([])
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


def _neighbours(first: ir.Value, second: ir.Value) -> list[ir.Value]:
    """The bytes of two words as halfwords: each channel's two in a word."""
    i32 = first.type
    low, high = arith.constant(i32, 0xFFFF), arith.constant(i32, -(1 << 16))
    sixteen = arith.constant(i32, 16)
    halves = [(extend(first, odd), extend(second, odd)) for odd in (0, 1)]
    lows = [arith.ori(arith.andi(a, low), arith.shli(b, sixteen)) for a, b in halves]
    highs = [arith.ori(arith.shrui(a, sixteen), arith.andi(b, high)) for a, b in halves]
    return [*lows, *highs]
