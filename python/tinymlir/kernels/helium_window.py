"""Windows of a convolution copied to scratch memory as bytes, padding included."""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.bindings import ir
from tinymlir.kernels import vectors
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.window_copy import Taps, Where, WindowCopy, emit_window_copy

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
    whole = run % vectors.BYTES == 0 and conv.in_per_group % vectors.WORDS == 0
    if not whole or stride > kernel_w or conv.dilation[1] > 1:
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

    def put_inside(self) -> None:
        emitter, (rows, columns) = self.emitter, self.extent
        if self.dilated:
            self._put_pixels((0, rows), (0, columns))
            return
        copies = -(-self.run // vectors.BYTES)
        unroll = max(1, _MOST_UNROLLED // copies)
        emitter.loop(0, rows, 1, lambda kh: self._put(kh, 0, self.run), unroll=unroll)

    def put_at_border(self) -> None:
        """Padding everywhere, and over it what there is, pixel by pixel."""
        filler = vectors.splat(self.conv.pad_value, vectors.BYTES, 8)

        def fill(at: Index) -> None:
            vectors.store(self.emitter, filler, self.scratch, self.emitter.add(self.start, at))

        self.emitter.loop(0, self.size, vectors.BYTES, fill)
        self._put_pixels(self._taps(0), self._taps(1))

    def _put_pixels(self, rows: Taps, columns: Taps) -> None:
        """What lies under some rows and columns of the kernel."""
        emitter, depth = self.emitter, self.conv.in_per_group
        emitter.loop(
            *rows, 1, lambda kh: emitter.loop(*columns, 1, lambda kw: self._put(kh, kw, depth))
        )

    def _put(self, kh: Index, kw: Index, count: int) -> None:
        """So many bytes from the place under a row and column of the kernel on."""
        emitter = self.emitter
        source = emitter.add(self._origin(kh), self._reach(kw))
        line = emitter.add(self.start, emitter.mul(kh, self.line))
        place = emitter.add(line, emitter.mul(kw, self.conv.in_per_group))
        vectors.copy(emitter, self.source.buffer, source, self.scratch, place, count)
