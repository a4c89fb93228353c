"""Kernels that compute blocks of pixels from widened windows, leaving zero weights out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels import windows
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pairs import pair_words
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.window_copy import call_to_scratch
from tinymlir.targets import Target

#: Scratch memory beyond which a layer is better off without.
_SCRATCH_LIMIT = 16384


class Blocks(Kernel):
    """Block by block of ``pixels``: their windows to scratch memory, then all channels.

    A block that is not full computes its last pixel several times, to the same end.
    """

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether there is room for the windows."""
        room = cls(conv, core).scratch_bytes() <= _SCRATCH_LIMIT
        return core.has("dsp") and conv.groups == 1 and room

    def scratch_bytes(self) -> int:
        return windows.scratch_bytes(self.conv, self.pixels) + windows.staging_bytes(self.conv)

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """Two for each pair that is kept, padding included."""
        height, width = self.conv.out_hw
        pixels = len(rows or range(height)) * len(columns or range(width))
        blocks = -(-pixels // self.pixels)
        return 2 * int(np.count_nonzero(pair_words(self.conv))) * blocks * self.pixels

    def mix(self) -> Mix:
        turns = -(-self.conv.out_hw[0] * self.conv.out_hw[1] // self.pixels)
        border = windows.border_mix(self.conv).times(0)
        window = border + function(windows.copy_mix(self.conv)).times(self.pixels)
        block = window + self.channel_mix() + line(alu=12, store=3, call=1) * self.pixels
        return function(loop(block, turns))

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        assert scratch is not None
        self.copy = windows.emit_copy(self.conv, layer, scratch, windows.Places.beside(self.pixels))

    def whole(self) -> None:
        """All pixels as one row: a block may go on in the next row."""
        height, width = self.conv.out_hw
        flat = replace(self.conv, result_columns=self.conv.result_columns or width)
        emitter = self.layer.emitter

        def place(pixel: Index) -> tuple[Index, Index]:
            if height == 1:
                return 0, pixel
            number, columns = emitter.index(pixel), emitter.index(width)
            return arith.divui(number, columns), arith.remui(number, columns)

        def block(first: Index) -> None:
            last = height * width - 1
            self._copy([place(pixel) for pixel in self.places(first, last)])
            self.channel_sums(flat, 0, first, last)

        emitter.loop(0, height * width, self.pixels, block)

    def row(self, row: Index, columns: Columns) -> None:
        last = self.layer.emitter.sub(columns.last, 1)

        def block(first: Index) -> None:
            self._copy([(row, column) for column in self.places(first, last)])
            self.channel_sums(self.conv, row, first, last)

        self.layer.emitter.loop(columns.first, columns.last, self.pixels, block)

    def places(self, first: Index, last: Index) -> list[Index]:
        """The pixels of a block: those beyond ``last`` are that one again."""
        emitter = self.layer.emitter
        return [emitter.minimum(emitter.add(first, p), last) for p in range(self.pixels)]

    def _copy(self, places: list[tuple[Index, Index]]) -> None:
        assert self.scratch is not None
        for number, (row, column) in enumerate(places):
            call_to_scratch(self.layer, self.copy, self.scratch, (row, column, number))

    @abstractmethod
    def channel_mix(self) -> Mix:
        """What `channel_sums` emits for a block of pixels."""

    @abstractmethod
    def channel_sums(self, conv: Convolution, row: Index, first: Index, last: Index) -> None:
        """Emit all channels of the `places` from ``first`` on, whose windows are there.

        ``conv`` has a ``result_columns`` where pixels are numbered across rows.
        """
