"""Depthwise convolution without SIMD instructions: two neighbouring pixels of a row in a word.

The rows under a window are held in scratch memory as in `depthwise`, of one channel at a time,
word c being x[c] + 2¹⁶·x[c + 1]; sums of two pixels are split as in `swar`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels.channel_tables import channel_tables, table_bytes
from tinymlir.kernels.chunks import Chunks, chunkings
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import Depthwise
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import ConstantReads, Mix, function, line, loop
from tinymlir.kernels.swar import Layout, pack, split, unpaired
from tinymlir.kernels.words import view
from tinymlir.targets import Target

#: Columns copied between two branches.
_UNROLL = 4
#: Output columns from which on an odd one, computed by itself, matters little.
_WIDE = 8
#: Registers of the loop over columns besides constants: slots, sums, operands.
_OTHERS = 8


class DepthwiseSwar(Depthwise):
    """All rows of a channel, then the next channel."""

    name = "depthwise-swar"
    steps_over = False

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        #: all channels as those of one group
        self.flat = replace(conv, weights=conv.weights.swapaxes(0, 1))
        self.chunks = _chunks(self.flat)
        #: words of a row, one less than the columns that they hold
        self.words = -(-conv.out_hw[1] // 2) * 2 - 2 + conv.kernel[1]

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """As `Depthwise`, where neighbours share columns, pair, and chunks need no excess."""
        width = conv.out_hw[1]
        paired = conv.stride[1] == 1 and (width % 2 == 0 or width >= _WIDE)
        if core.lanes > 1 or core.has("dsp") or not paired:
            return False
        return super().takes(conv, core) and cls(conv, core).chunks is not None

    def scratch_bytes(self) -> int:
        """The rows under a window, a word for each column."""
        return self.conv.kernel[0] * self.words * 4

    def constant_bytes(self) -> int:
        assert self.chunks is not None
        tables = channel_tables(self.conv, self.conv.root).values()
        sizes = tuple(table.itemsize for table in tables)
        layout = Layout(1, self.chunks.count * self.chunks.size, 0, sizes)
        return self.conv.groups * layout.size

    def constant_reads(self) -> ConstantReads:
        """Those of a channel, for each two of its pixels."""
        rows, columns = self.conv.out_hw
        size = self.constant_bytes()
        return ConstantReads(size, size / self.conv.groups, rows * -(-columns // 2))

    def mix(self) -> Mix:
        conv, chunks = self.conv, self.chunks
        assert chunks is not None
        column = line(load=1, alu=2, store=1)
        copy = function(loop(column, self.words, _UNROLL) + line(alu=12, store=4, load=4))
        copies = conv.kernel[0] + (conv.out_hw[0] - 1) * conv.stride[0]
        tables = table_bytes(conv) // (4 * conv.groups)
        operands = conv.weights[0, 0].size
        # Weights and all else that a channel has stay in registers, if there are enough.
        stay = operands + 3 + tables + _OTHERS <= self.core.registers
        products = line(load=1 if stay else 2, mac=1) * operands
        constants = line(load=3 + tables, alu=4)
        split = line(alu=2 if self.core.costs.mac is not None else 3)
        sums = products + split * chunks.count + (line(alu=2) if stay else constants)
        row = loop(sums + finish_mix(conv, 2) + line(alu=4), conv.out_hw[1] // 2)
        if conv.out_hw[1] % 2:
            row += sums + finish_mix(conv)
        row += constants + line(load=operands) if stay else Mix()
        rows = loop(row + line(alu=20, load=10, store=10), conv.out_hw[0])
        return function(loop(copy.times(copies) + rows, conv.groups))

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        Kernel.prepare(self, layer, scratch)
        assert scratch is not None
        self.ring = view(scratch, 32)
        self.symbol = self._emit_copy(scratch.type)
        self.tables = channel_tables(self.conv, layer.root)

    def whole(self) -> None:
        self.layer.emitter.loop(0, self.conv.groups, 1, self._channel)

    def _channel(self, channel: Index) -> None:
        conv, emitter = self.conv, self.layer.emitter

        def output_row(row: Index, slots: list[ir.Value]) -> None:
            last = conv.out_hw[1] // 2 * 2
            emitter.loop(0, last, 2, lambda column: self._pixels(channel, row, column, slots, 2))
            if last < conv.out_hw[1]:
                self._pixels(channel, row, last, slots, 1)

        self._roll(self.symbol, channel, self.words, output_row)

    def _pixels(
        self, channel: Index, row: Index, column: Index, slots: list[ir.Value], pixels: int
    ) -> None:
        """Two pixels from an even column on, or the first of them only."""
        conv, chunks, layer, emitter = self.conv, self.chunks, self.layer, self.layer.emitter
        assert chunks is not None
        tables = list(self.tables.values())
        sizes = tuple(t.itemsize for t in tables)
        layout = Layout(1, chunks.count * chunks.size, 0, sizes)
        constants = layer.pool.get(pack(self.flat, chunks, tables, 0, layout), "weights")

        def load(at: int, size: int = 4) -> ir.Value:
            start = emitter.mul(channel, layout.size // size)
            buffer = constants if size == 1 else view(constants, 8 * size)
            return emitter.load(buffer, [emitter.add(start, at)])

        rounding, total, high = load(0), load(2), load(3)
        sums = [total, high]
        taps = list(np.ndindex(conv.kernel))
        for k in range(chunks.count):
            started = rounding
            for number, (kh, kw) in enumerate(taps[k * chunks.size :][: chunks.size]):
                weight = emitter.widen(load(layout.weights + k * chunks.size + number, 1))
                at = emitter.add(emitter.add(slots[kh], column), kw)
                product = arith.muli(emitter.load(self.ring, [at]), weight)
                started = arith.addi(started, product)
            sums = split(emitter, sums, [started])
        elements = {
            value: load(layout.table(i) // table.itemsize, table.itemsize)
            for i, (value, table) in enumerate(self.tables.items())
        }
        site = Site(layer, row, column, (0, 0), (0, 0), border=False)
        for p, result in enumerate(unpaired(emitter, sums)[:pixels]):
            finish(conv, site, p, channel, result, elements)

    def _emit_copy(self, scratch_type: ir.Type) -> str:
        """``@layer<i>_row(input, scratch, row, slot, channel)``: a row of the ring.

        A row beside the image is all padding.
        """
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        symbol = f"{layer.function.name.value}_row"
        types = [layer.source.buffer.type, scratch_type, *[ir.IndexType.get()] * 3]
        with ir.InsertionPoint.after(layer.function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        width = conv.in_hw[1]
        left = min(conv.pad[1], self.words + 1)
        right = min(left + width, self.words + 1)
        with ir.InsertionPoint(helper.add_entry_block()):
            source, scratch, row, slot, channel = helper.arguments
            ring, padding = view(scratch, 32), emitter.integer(conv.pad_value)
            start = emitter.add(
                emitter.mul(emitter.mul(row, width), conv.groups),
                emitter.sub(channel, left * conv.groups),
            )

            def load(column: Index) -> ir.Value:
                at = emitter.add(start, emitter.mul(column, conv.groups))
                return emitter.widen(emitter.load(source, [at]))

            def put(column: Index, low: ir.Value, high: ir.Value) -> list[ir.Value]:
                """The word that ends with ``column``; what the next one begins with."""
                word = arith.addi(low, arith.shli(high, emitter.integer(16)))
                emitter.store(word, ring, [emitter.add(slot, emitter.sub(column, 1))])
                return [high]

            def pad(begin: int, end: int, before: list[ir.Value]) -> list[ir.Value]:
                def one(column: Index, low: ir.Value) -> list[ir.Value]:
                    return put(column, low, padding)

                return emitter.loop(begin, end, 1, one, before, unroll=_UNROLL)

            def image() -> None:
                before = pad(1, left, [padding if left else load(0)])
                inside = max(left, 1)
                before = emitter.loop(
                    inside, right, 1, lambda c, low: put(c, low, load(c)), before, unroll=_UNROLL
                )
                pad(max(right, inside), self.words + 1, before)

            emitter.either(self._in_image(row), image, lambda: pad(1, self.words + 1, [padding]))
            func.ReturnOp([])
        return symbol

    def _in_image(self, row: ir.Value) -> ir.Value:
        height = self.layer.emitter.index(self.conv.in_hw[0])
        return arith.cmpi(arith.CmpIPredicate.ult, row, height)


def _chunks(flat: Convolution) -> Chunks | None:
    """The cheapest chunks without excess."""
    weights = flat.weights[0].reshape(flat.out_per_group, -1)
    plain = [chunks for chunks in chunkings(weights) if not chunks.excess.size]
    return min(plain, key=lambda chunks: chunks.cost, default=None)
