"""Depthwise convolution row by row, 16 channels at a time, on rows where they lie.

The arithmetic is that of `HeliumDepthwise`; windows are those of `row_windows`, a pixel at a time.
"""

from __future__ import annotations

import functools

import numpy as np

from tinymlir.bindings import ir, llvm
from tinymlir.kernels import vectors
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import MOST_TAPS
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.helium_depthwise import BLOCK, HeliumDepthwise
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.row_windows import constant_padding, cut_row, origins, pointers, present
from tinymlir.kernels.words import advance_bytes
from tinymlir.targets import Target


class HeliumDepthwiseRows(HeliumDepthwise):
    """Pixel by pixel: all blocks of channels. The last block repeats some of the one before."""

    name = "helium-depthwise-rows"
    by_rows = True

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels fill a vector."""
        one_to_one = conv.in_per_group == conv.out_per_group == 1
        small = conv.weights[0, 0].size <= MOST_TAPS
        return core.has("mve") and one_to_one and small and conv.groups >= BLOCK

    def scratch_bytes(self) -> int:
        return 0

    def works_in_place(self) -> bool:
        return False

    def constant_bytes(self) -> int:
        """Constants of channels, and a row of padding."""
        spans = Columns.all(self.conv.out_hw[1]).spans
        return super().constant_bytes() + cut_row(self.conv, spans, 1, 1).padding_bytes(
            self.conv, spans
        )

    def mix(self) -> Mix:
        conv, (rows, columns) = self.conv, self.conv.out_hw
        taps = line(vector=6, alu=1) * conv.weights[0, 0].size
        blocks = loop(taps + self._finish_mix(), -(-conv.groups // BLOCK))
        pixel = blocks + line(alu=4, load=2) * conv.kernel[0]
        ends = [present(conv, column, 1) for column in range(columns)]
        code = sum(len(there) < max(map(len, ends)) for there in ends)
        # Each pixel at an end of the row has code of its own.
        return function(loop(loop(pixel, columns) + pixel.times(0) * code, rows))

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        Kernel.prepare(self, layer, scratch)
        channels = self.conv.groups
        self._pack(np.minimum(np.arange(0, channels, BLOCK), channels - BLOCK))

    def whole(self) -> None:
        Kernel.whole(self)

    def row(self, row: Index, columns: Columns) -> None:
        conv, cut = self.conv, cut_row(self.conv, columns.spans, 1, 1)
        rows = origins(self.layer, conv, row)
        padding = cut.padding_bytes(conv, columns.spans)

        def pixel(column: Index, _: int) -> None:
            beside = functools.partial(constant_padding, self.layer, conv, padding)
            own = pointers(self.layer, conv, rows, beside, column, 1)
            self._blocks(own, row, column)

        cut.emit(self.layer.emitter, columns, pixel)

    def _blocks(self, rows: list[ir.Value], row: Index, column: Index) -> None:
        """All channels of the pixel whose window begins at ``rows``."""
        conv, emitter, depth = self.conv, self.layer.emitter, self.layer.source.channels
        there = present(conv, column, 1)
        site = Site(self.layer, row, column, (0, 0), (0, 0), border=False)
        kind = vectors.integers(BLOCK, 8)

        def block(number: Index) -> None:
            first = emitter.minimum(emitter.mul(number, BLOCK), depth - BLOCK)
            begins = [advance_bytes(pointer, first) for pointer in rows]

            def window(kh: int, kw: int) -> ir.Value:
                x = kw * conv.dilation[1]
                if x not in there:
                    return vectors.splat(conv.pad_value, BLOCK, 8)
                return llvm.load(kind, advance_bytes(begins[kh], x * depth), alignment=1)

            self._pixel(site, window, number, first, BLOCK)

        emitter.loop(0, len(self.constants), 1, block)
