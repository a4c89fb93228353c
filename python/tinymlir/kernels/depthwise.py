"""Depthwise convolution, a block of channels at a time, over a ring of input rows.

The rows under a window are copied to scratch memory, padding included, each of them once;
so the border needs no code of its own, and since nothing of these channels is read again,
the output may replace the input in place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from tinymlir.bindings import func, ir
from tinymlir.kernels.channel_sums import ChannelSums
from tinymlir.kernels.channel_tables import channel_tables
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.parking import Cell, Held, park
from tinymlir.kernels.pixels import Site
from tinymlir.kernels.price import ConstantReads, Mix, function, line, loop
from tinymlir.kernels.row_copy import (
    CHANNEL_BLOCK,
    WordRing,
    copy_mix,
    emit_row_copy,
    ring_columns,
)
from tinymlir.kernels.words import advance, advance_bytes, settled, stream
from tinymlir.targets import Target

#: Taps of a window, all without a loop between them.
MOST_TAPS = 49
#: What a block costs, in outputs; one for which there is no room, besides; the code of one.
_BLOCK_COST, _SPILL_COST, _CODE_COST = 2, 1.3, 0.5


class Depthwise(Kernel):
    """All rows of a block of channels, then the next block."""

    name = "depthwise"
    by_rows = False
    steps_over = True

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels go one to one, and the ring advances by rows that follow one another."""
        return (
            conv.in_per_group == conv.out_per_group == 1
            and conv.groups > 1
            and conv.weights[0, 0].size <= MOST_TAPS
            and conv.dilation == (1, 1)
            and conv.stride[0] <= conv.kernel[0]
            and conv.stride[1] <= conv.kernel[1]
        )

    def scratch_bytes(self) -> int:
        """The rows under a window."""
        return self.conv.kernel[0] * ring_columns(self.conv) * CHANNEL_BLOCK

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        return self._channel_sums().constant_bytes()

    def _channel_sums(self) -> ChannelSums:
        """How its channels are computed; weights are bytes, as flash is what it is small in."""
        return ChannelSums(self.conv, self.core, wide=False)

    def constant_reads(self) -> ConstantReads:
        """Those of a block of channels, for each of its pixels."""
        rows, columns = self.conv.out_hw
        size = self.constant_bytes()
        return ConstantReads(size, size / -(-self.conv.groups // CHANNEL_BLOCK), rows * columns)

    def mix(self) -> Mix:
        conv = self.conv
        blocks, last = divmod(conv.groups, CHANNEL_BLOCK)
        mix = loop(self._block_mix(CHANNEL_BLOCK), blocks)
        return function(mix + self._block_mix(last) if last else mix)

    def _block_mix(self, width: int) -> Mix:
        """All rows of ``width`` channels."""
        conv = self.conv
        copy = copy_mix(conv, self.core, 1 if self.core.has("unaligned") else width, width)
        copies = conv.kernel[0] + (conv.out_hw[0] - 1) * conv.stride[0]
        sums, channel = self._channel_sums(), Mix()
        for count, turns in _blocks(sums, conv.out_hw[1]):
            # Places in the ring are sums of two distances.
            channel += loop(sums.mix(count) + line(alu=2 + conv.kernel[0]), turns)
        row = loop(channel + line(alu=3), width)
        return copy.times(copies) + loop(row + line(alu=12, load=6, store=6), conv.out_hw[0])

    def works_in_place(self) -> bool:
        """Whether each output row lies where the input has been copied from already."""
        conv = self.conv
        rows = np.arange(conv.out_hw[0])
        copied = np.minimum(rows * conv.stride[0] - conv.pad[0] + conv.kernel[0], conv.in_hw[0])
        return bool(((rows + 1) * conv.out_hw[1] <= copied * conv.in_hw[1]).all())

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        assert scratch is not None
        conv = self.conv
        ring = WordRing(layer.emitter)
        self.blocks = -(-conv.groups // CHANNEL_BLOCK)
        self.last = conv.groups - (self.blocks - 1) * CHANNEL_BLOCK
        widths = sorted({CHANNEL_BLOCK if self.blocks > 1 else self.last, self.last})
        self.copies = {
            width: emit_row_copy(conv, layer, self.core, scratch.type, ring, width)
            for width in widths
        }
        self.tables = channel_tables(conv, layer.root)
        self.channel_sums = self._channel_sums()
        self.constants = self.channel_sums.pack(self.tables)

    def whole(self) -> None:
        whole = self.conv.groups // CHANNEL_BLOCK
        self.layer.emitter.loop(
            0, whole, 1, lambda block: self._channel_block(block, CHANNEL_BLOCK)
        )
        if whole < self.blocks:
            self._channel_block(whole, self.last)

    def row(self, row: Index, columns: Columns) -> None:
        raise NotImplementedError("goes through all rows of some channels first")

    def _channel_block(self, block: Index, width: int) -> None:
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        first, size = emitter.mul(block, CHANNEL_BLOCK), self.channel_sums.words
        constants = stream(layer.pool.get(self.constants, "weights"))
        begin, x = advance(constants, emitter.mul(first, size)), stream(self.scratch)
        step, there = conv.stride[1] * CHANNEL_BLOCK, range(ring_columns(conv))
        blocks = _blocks(self.channel_sums, conv.out_hw[1])

        def output_row(row: Index, slots: list[ir.Value]) -> None:
            places = [advance(x, slot) for slot in slots]
            rows: list[Cell] = [Held(p) if self.channel_sums.many else park(p) for p in places]

            def channel(lane: Index, w: ir.Value) -> list[ir.Value]:
                number = emitter.add(first, lane)

                def outputs(column: Index, count: int) -> None:
                    at = emitter.add(lane, emitter.mul(column, step))
                    own = [functools.partial(_place, cell, at) for cell in rows]
                    site = Site(layer, row, column, (0, 0), (0, 0), border=False)
                    self.channel_sums.emit(
                        site, number, self.tables, w, own, CHANNEL_BLOCK, count, there
                    )

                done = 0
                for count, turns in blocks:
                    end = done + count * turns
                    emitter.loop(done, end, count, lambda c, count=count: outputs(c, count))
                    done = end
                return [advance(w, size)]

            emitter.loop(0, width, 1, channel, [begin])

        self._roll(self.copies[width], first, ring_columns(conv), output_row)

    def _roll(
        self,
        symbol: str,
        first: Index,
        line: int,
        output_row: Callable[[Index, list[ir.Value]], None],
    ) -> None:
        """Compute all rows of the channels from ``first`` on, with those under each in the ring.

        Args:
            symbol: ``@symbol(input, scratch, row, slot, first)`` copies a row to the ring.
            line: from one of its slots to the next.
            output_row: computes a row of the result, from the slots of the rows under it.
        """
        conv, emitter = self.conv, self.layer.emitter
        rows, step = conv.kernel[0], conv.stride[0]
        places = [kh * line for kh in range(rows)]

        def copy(row: Index, slot: Index) -> None:
            where = [emitter.index(v) for v in (row, slot, first)]
            func.call([], symbol, [self.layer.source.buffer, self.scratch, *where])

        for kh in range(rows - step):
            copy(kh - conv.pad[0], places[kh])

        def turn(row: Index, *slots: ir.Value) -> list[ir.Value]:
            top = emitter.sub(emitter.mul(row, step), conv.pad[0])
            for kh in range(rows - step, rows):
                copy(emitter.add(top, kh), slots[kh])
            output_row(row, list(slots))
            return [*slots[step:], *slots[:step]]

        emitter.loop(0, conv.out_hw[0], 1, turn, [emitter.index(p) for p in places])


def _place(row: Cell, at: Index) -> ir.Value:
    """A pointer so far into a row."""
    place = advance_bytes(row.load(), at)
    # Or else LLVM keeps what it is the sum of as well.
    return place if isinstance(row, Held) else settled(place)


def _blocks(sums: ChannelSums, columns: int) -> list[tuple[int, int]]:
    """Sizes of the blocks of a row's outputs, and how many there are of each."""

    def cut(count: int) -> list[tuple[int, int]]:
        whole, rest = divmod(columns, count)
        return [(count, whole), (rest, 1)] if rest else [(count, whole)]

    def cost(blocks: list[tuple[int, int]]) -> float:
        return sum(one(count) * (turns + _CODE_COST) for count, turns in blocks)

    def one(count: int) -> float:
        return _BLOCK_COST + count + _SPILL_COST * max(0, count - sums.room())

    return min((cut(count) for count in range(1, min(sums.most, columns) + 1)), key=cost)
