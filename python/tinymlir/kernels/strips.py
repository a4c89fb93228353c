"""Input rows under neighbouring pixels, copied to scratch memory with the padding around them.

Vectors copy many bytes at once, so that a strip costs a few instructions a row; kernels that
read it need no code for the border, nor for rings of rows.
"""

from __future__ import annotations

from collections.abc import Callable

from tinymlir.bindings import arith, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.lanes import load_lanes, spread, store_lanes
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.window_copy import call_to_scratch, emit_to_scratch


def _columns(conv: Convolution, pixels: int) -> int:
    """Input columns under neighbouring pixels."""
    return (pixels - 1) * conv.stride[1] + (conv.kernel[1] - 1) * conv.dilation[1] + 1


def strip_bytes(conv: Convolution, pixels: int) -> int:
    """Bytes of the strip under ``pixels`` neighbours: a row for each kernel row."""
    return conv.kernel[0] * _columns(conv, pixels) * conv.groups * conv.in_per_group


class Strips:
    """The strip of a layer, ``start`` bytes into its scratch memory; one at a time.

    Args:
        pixels: most neighbours under which a strip is copied.
        most: bytes of the longest vector.
    """

    def __init__(
        self,
        layer: Layer,
        conv: Convolution,
        scratch: ir.Value,
        start: int,
        pixels: int,
        most: int,
    ) -> None:
        self.layer, self.conv, self.scratch = layer, conv, scratch
        self.start, self.pixels, self.most = start, pixels, most
        self.columns = _columns(conv, pixels)
        self.symbols: dict[bool, str] = {}

    def row(self, kh: Index) -> Index:
        """Where the row under kernel row ``kh`` begins in scratch memory."""
        emitter, pitch = self.layer.emitter, self.columns * self.layer.source.channels
        return emitter.add(self.start, emitter.mul(kh, pitch))

    def copy(self, row: Index, column: Index, pixels: int) -> None:
        """Copy the strip under ``pixels`` neighbours of an output row, from ``column`` on."""
        whole = column == 0 and pixels == self.conv.out_hw[1]
        if whole not in self.symbols:
            self.symbols[whole] = self._emit_function(whole)
        where = (row, column, _columns(self.conv, pixels))
        call_to_scratch(self.layer, self.symbols[whole], self.scratch, where)

    def _emit_function(self, whole: bool) -> str:
        """``@layer<i>_strip(input, scratch, row, column, columns, first)``.

        The function for all pixels of a row (``_rows``) knows the columns beforehand.
        """

        def fill(
            source: Rows, scratch: ir.Value, row: Index, column: Index, columns: Index
        ) -> None:
            if whole:
                column, columns = 0, self.columns
            self._fill(source, scratch, row, column, columns)

        return emit_to_scratch(self.layer, self.scratch, "rows" if whole else "strip", fill)

    def _fill(
        self, source: Rows, scratch: ir.Value, row: Index, column: Index, columns: Index
    ) -> None:
        conv, emitter, depth = self.conv, self.layer.emitter, source.channels
        left = input_column(emitter, conv, column)
        # The columns of the strip that lie on the image.
        low = emitter.minimum(emitter.maximum(emitter.sub(0, left), 0), columns)
        high = emitter.minimum(emitter.sub(conv.in_hw[1], left), columns)
        high = emitter.maximum(high, low)

        def kernel_row(kh: Index) -> None:
            number, to = input_row(emitter, conv, row, kh), self.row(kh)
            start = emitter.add(source.origin(emitter, number), emitter.mul(left, depth))

            def copy(at: Index, lanes: int) -> None:
                values = load_lanes(emitter, source.buffer, emitter.add(start, at), lanes)
                store_lanes(emitter, values, scratch, emitter.add(to, at))

            def pad(at: Index, lanes: int) -> None:
                values = spread(emitter.integer(conv.pad_value, 8), lanes)
                store_lanes(emitter, values, scratch, emitter.add(to, at))

            inside = arith.cmpi(
                arith.CmpIPredicate.ult, emitter.index(number), emitter.index(conv.in_hw[0])
            )

            def image() -> None:
                self._in_parts(0, low, pad)
                self._in_parts(low, high, copy)
                self._in_parts(high, columns, pad)

            emitter.either(inside, image, lambda: self._in_parts(0, columns, pad))

        emitter.loop(0, conv.kernel[0], 1, kernel_row)

    def _in_parts(self, first: Index, last: Index, part: Callable[[Index, int], None]) -> None:
        """Call ``part`` with place and bytes of the vectors that make up columns of a row."""
        emitter, depth = self.layer.emitter, self.layer.source.channels

        def run(begin: Index, size: int) -> None:
            whole = size // self.most * self.most
            emitter.loop(0, whole, self.most, lambda at: part(emitter.add(begin, at), self.most))
            if whole < size:
                part(emitter.add(begin, whole), size - whole)

        if isinstance(first, int) and isinstance(last, int):
            run(first * depth, (last - first) * depth)
        else:
            emitter.loop(first, last, 1, lambda c: run(emitter.mul(c, depth), depth))
