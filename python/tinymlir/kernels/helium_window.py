"""Windows of a convolution copied to scratch memory as bytes, padding included."""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.bindings import ir, scf
from tinymlir.kernels import vectors
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.window_copy import Where, WindowCopy, emit_window_copy

#: Vectors copied without a loop over kernel rows.
_MOST_UNROLLED = 16


@dataclass(frozen=True)
class Windows:
    """How the windows of neighbouring pixels lie in scratch memory.

    A window is ``runs`` pieces, ``line`` bytes apart, of ``steps`` vectors each; that of the next
    pixel begins ``pixel`` bytes further on. All of them take ``copies`` copies of ``size`` bytes.
    """

    runs: int
    steps: int
    line: int
    pixel: int
    copies: int
    size: int

    @property
    def bytes(self) -> int:
        return self.copies * self.size


def windows_of(conv: Convolution, pixels: int) -> Windows:
    """Windows one by one, or together where kernel rows are whole vectors: then they overlap."""
    kernel_h, kernel_w = conv.kernel
    run, stride = kernel_w * conv.in_per_group, conv.stride[1]
    # Vectors in scratch memory are loaded as words, which must lie at words.
    if run % vectors.BYTES or conv.in_per_group % vectors.WORDS or stride > kernel_w:
        size = _whole_vectors(kernel_h * run)
        return Windows(1, size // vectors.BYTES, size, size, pixels, size)
    pixel = stride * conv.in_per_group
    line = run + (pixels - 1) * pixel
    steps = run // vectors.BYTES
    return Windows(kernel_h, steps, line, pixel, 1, _whole_vectors(kernel_h * line))


def _whole_vectors(count: int) -> int:
    """``count`` bytes, filled up to whole vectors."""
    return -(-count // vectors.BYTES) * vectors.BYTES


def emit_copy(
    conv: Convolution, layer: Layer, scratch: ir.Value, windows: Windows, pixels: int
) -> str:
    """The function that copies what ``pixels`` neighbours read to scratch memory, by bytes."""
    return emit_window_copy(
        conv,
        layer,
        scratch,
        f"window{pixels}",
        lambda where: _Copy(where, windows, conv.kernel[1] + (pixels - 1) * conv.stride[1]),
    )


class _Copy(WindowCopy):
    """The window of an output pixel, or of several, as vectors."""

    def __init__(self, where: Where, windows: Windows, columns: int) -> None:
        super().__init__(where, columns)
        self.start, self.size = where.place, windows.size
        #: bytes of a row, which are neighbours in memory, and from one row to the next in scratch
        self.run = columns * where.conv.in_per_group
        self.line = windows.line if windows.copies == 1 and windows.runs > 1 else self.run

    def _put_inside(self) -> None:
        emitter, run = self.emitter, self.run
        copies = -(-run // vectors.BYTES)

        def kernel_row(kh: Index) -> None:
            place = emitter.add(self.start, emitter.mul(kh, self.line))
            vectors.copy(emitter, self.source.buffer, self._origin(kh), self.scratch, place, run)

        emitter.loop(0, self.conv.kernel[0], 1, kernel_row, unroll=max(1, _MOST_UNROLLED // copies))

    def _put_at_border(self) -> None:
        """Padding everywhere, and over it what there is, pixel by pixel."""
        emitter, conv = self.emitter, self.conv
        depth = conv.in_per_group
        filler = vectors.splat(conv.pad_value, vectors.BYTES, 8)

        def fill(at: Index) -> None:
            vectors.store(emitter, filler, self.scratch, emitter.add(self.start, at))

        emitter.loop(0, self.size, vectors.BYTES, fill)
        begin = emitter.maximum(emitter.sub(0, self.left), 0)
        end = emitter.minimum(emitter.sub(conv.in_hw[1], self.left), self.extent[1])

        def kernel_row(kh: Index) -> None:
            row = emitter.add(self.top, emitter.mul(kh, conv.dilation[0]))
            origin, place = self._origin(kh), emitter.add(self.start, emitter.mul(kh, self.line))

            def pixel(kw: Index) -> None:
                at = emitter.mul(kw, depth)
                ends = emitter.add(origin, at), emitter.add(place, at)
                vectors.copy(emitter, self.source.buffer, ends[0], self.scratch, ends[1], depth)

            inside = scf.IfOp(self._below(row, conv.in_hw[0]))
            with ir.InsertionPoint(inside.then_block):
                # Nothing where the window lies beside the image: the end comes first.
                emitter.loop(begin, end, 1, pixel)
                scf.yield_([])

        emitter.loop(0, conv.kernel[0], 1, kernel_row)
