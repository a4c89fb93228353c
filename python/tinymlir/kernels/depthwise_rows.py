"""Depthwise convolution row by row, on rows where they lie: in whole tensors or in rings.

Neighbours of a row are computed together, channel after channel (`channel_sums`). At the ends of
a row it is known which columns lie beside the image; rows beside it are read from a row of padding:
in scratch memory, or a constant in a stage.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tinymlir.bindings import arith, ir, llvm
from tinymlir.kernels.channel_sums import ChannelSums
from tinymlir.kernels.channel_tables import channel_tables
from tinymlir.kernels.columns import Columns, Span
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import MOST_TAPS
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.row_windows import (
    Cut,
    constant_padding,
    cut_row,
    origins,
    pointers,
    present,
)
from tinymlir.kernels.words import advance, advance_bytes, copy_bytes, moved, repeated, stream
from tinymlir.targets import Target

#: Words copied between two branches.
_UNROLL = 8


class DepthwiseRows(Kernel):
    """Block by block of neighbouring pixels: all channels."""

    name = "depthwise-rows"
    steps_over = True

    def __init__(self, conv: Convolution, core: Target, bytes: int = 0) -> None:
        super().__init__(conv, core, **({"bytes": bytes} if bytes else {}))
        self.sums = ChannelSums(self.conv, core, wide=not bytes)
        # Columns in strips are cut in other places, into blocks of no more.
        self.pixels = min(self.sums.most, conv.out_hw[1])
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

    @classmethod
    def variants(cls, conv: Convolution, core: Target) -> list[Kernel]:
        """Weights as halfwords, where that makes a difference, or as bytes."""
        return [cls(conv, core), *([cls(conv, core, bytes=1)] if core.has("dsp") else [])]

    def works_in_place(self) -> bool:
        return self.delay > 0

    def scratch_bytes(self) -> int:
        """A row of padding, and the rows that `whole` holds back."""
        held = (self.delay + 1) * self._row_bytes() if self.delay else 0
        return self._padding_bytes() + held

    def _padding_bytes(self) -> int:
        """Of a row of padding, whole words."""
        spans = Columns.all(self.conv.out_hw[1]).spans
        return -(-self._cut(spans).padding_bytes(self.conv, spans) // 4) * 4

    def row_scratch_bytes(self, columns: int) -> int:
        return 0

    def _row_bytes(self) -> int:
        """Of a row of the output."""
        return self.conv.out_hw[1] * self.conv.groups

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        return self.sums.constant_bytes()

    def mix(self) -> Mix:
        conv = self.conv
        cut = self._cut(Columns.all(conv.out_hw[1]).spans)
        row = Mix()
        for count, turns in cut.blocks((0, conv.out_hw[1])):
            enter = line(alu=4, load=2) * conv.kernel[0] + line(alu=4)
            row += loop(enter + loop(self.sums.mix(count), conv.groups), turns)
        row += line(alu=8, load=2) * conv.kernel[0]
        if self.delay:
            row += loop(line(load=1, store=1), self._row_bytes() // 4, _UNROLL)
        padding = loop(line(store=1), self._padding_bytes() // 4, _UNROLL)
        return function(loop(row, conv.out_hw[0]) + padding)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.tables = channel_tables(self.conv, layer.root)
        self.constants = self.sums.pack(self.tables)
        #: gives a row of padding in scratch memory
        self.padding: Callable[[], ir.Value] | None = None

    def whole(self) -> None:
        """All rows; some are held back in scratch memory where the output replaces the input."""
        self._fill_padding()
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
            self.layer = layer

        def there(row: Index) -> ir.Value:
            ends = emitter.index(row), emitter.index(rows)
            return arith.cmpi(arith.CmpIPredicate.ult, *ends)

        def one(row: Index, *places: ir.Value) -> list[ir.Value]:
            """A row, until all are there; that which has waited longest is put after it."""
            done = emitter.sub(row, self.delay)
            emitter.when(there(row), lambda: compute(row, places[0]))
            emitter.when(there(done), lambda: put(done, places[1]))
            return [*places[1:], places[0]]

        first = self._padding_bytes()
        places = [emitter.index(first + slot * size) for slot in range(self.delay + 1)]
        emitter.loop(0, rows + self.delay, 1, one, places)

    def _fill_padding(self) -> None:
        emitter, words = self.layer.emitter, self._padding_bytes() // 4
        filler = emitter.integer(repeated(self.conv.pad_value, 8))

        def fill(count: int, at: ir.Value) -> list[ir.Value]:
            for word in range(count):
                llvm.store(filler, advance(at, word), alignment=4)
            return [advance(at, count)]

        if words:
            emitter.turns(words, _UNROLL, fill, [stream(self.scratch)])
            self.padding = lambda: stream(self.scratch)

    def row(self, row: Index, columns: Columns) -> None:
        conv, cut = self.conv, self._cut(columns.spans)
        rows = origins(self.layer, conv, row)
        size = cut.padding_bytes(conv, columns.spans)
        padding = self.padding or functools.partial(constant_padding, self.layer, conv, size)

        def block(column: Index, count: int) -> None:
            own = pointers(self.layer, conv, rows, padding, column, count)
            self._block(own, row, column, count)

        cut.emit(self.layer.emitter, columns, block)

    def _cut(self, spans: tuple[Span, ...]) -> Cut:
        return cut_row(self.conv, spans, self.sums.most, self.sums.room())

    def _block(self, rows: list[ir.Value], row: Index, column: Index, count: int) -> None:
        """``count`` neighbours from ``column`` on, of which windows begin at ``rows``."""
        conv, layer = self.conv, self.layer
        site = Site(layer, row, column, (0, 0), (0, 0), border=False)
        there, depth = present(conv, column, count), layer.source.channels

        def channel(number: Index, w: ir.Value, *own: ir.Value) -> list[ir.Value]:
            rows = [lambda p=p: p for p in own]
            self.sums.emit(site, number, self.tables, w, rows, depth, count, there)
            return [advance(w, self.sums.words), *(advance_bytes(p, 1) for p in own)]

        constants = stream(layer.pool.get(self.constants, "weights"))
        layer.emitter.loop(0, conv.groups, 1, channel, [constants, *rows])
