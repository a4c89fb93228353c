"""Windows of a convolution copied to scratch memory as bytes, padding included."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.kernels import vectors
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.rows import Rows

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


def emit_window_copy(
    conv: Convolution, layer: Layer, scratch: ir.Value, windows: Windows, pixels: int
) -> str:
    """``@layer<i>_window<pixels>(input, scratch, row, column, start, first)``: what they read.

    It goes to the scratch memory from byte ``start`` on; ``first`` is the first column that is
    in memory.
    """
    symbol = f"{layer.function.name.value}_window{pixels}"
    types = [layer.source.buffer.type, scratch.type, *[ir.IndexType.get()] * 4]
    with ir.InsertionPoint.after(layer.function.operation):
        helper = func.FuncOp(symbol, (types, []), visibility="private")
    with ir.InsertionPoint(helper.add_entry_block()):
        buffer, scratch, row, column, start, first = helper.arguments
        if isinstance(layer.source.first_column, int):
            first = layer.source.first_column
        source = replace(layer.source, buffer=buffer, first_column=first)
        columns = conv.kernel[1] + (pixels - 1) * conv.stride[1]
        _Window(conv, layer.emitter, source, scratch, row, column, start, windows, columns).emit()
        func.ReturnOp([])
    return symbol


class _Window:
    """The window of an output pixel, or of several, on its way to scratch memory."""

    def __init__(
        self,
        conv: Convolution,
        emitter: Emitter,
        source: Rows,
        scratch: ir.Value,
        row: Index,
        column: Index,
        start: Index,
        windows: Windows,
        columns: int,
    ) -> None:
        self.conv, self.emitter, self.source, self.scratch = conv, emitter, source, scratch
        #: (rows, columns) of the input under the window, if it is dense
        self.extent, self.size = (conv.kernel[0], columns), windows.size
        #: bytes of a row, which are neighbours in memory, and from one row to the next in scratch
        self.run = columns * conv.in_per_group
        self.line = windows.line if windows.copies == 1 and windows.runs > 1 else self.run
        self.start = start
        self.top = input_row(emitter, conv, row, 0)
        self.left = input_column(emitter, conv, column)

    def emit(self) -> None:
        inside = self._is_inside()
        if inside is None:
            self._put_inside()
            return
        choice = scf.IfOp(inside, has_else=True)
        with ir.InsertionPoint(choice.then_block):
            self._put_inside()
            scf.yield_([])
        with ir.InsertionPoint(choice.else_block):
            self._put_at_border()
            scf.yield_([])

    def _is_inside(self) -> ir.Value | None:
        """Whether no padding lies under the window; None if it never does."""
        conv, tests = self.conv, []
        for axis, start in enumerate((self.top, self.left)):
            reach = conv.dilation[axis] * (self.extent[axis] - 1)
            last = (conv.out_hw[axis] - 1) * conv.stride[axis] - conv.pad[axis]
            if conv.pad[axis] or last + reach >= conv.in_hw[axis]:
                tests.append(self._below(start, max(conv.in_hw[axis] - reach, 0)))
        if len(tests) == 2:
            return arith.andi(*tests)
        return tests[0] if tests else None

    def _below(self, position: Index, size: int) -> ir.Value:
        """Whether a position is on the input along an axis."""
        index = self.emitter.index
        return arith.cmpi(arith.CmpIPredicate.ult, index(position), index(size))

    def _origin(self, kernel_row: Index) -> Index:
        """Where the run of a kernel row begins in the input."""
        emitter = self.emitter
        row = emitter.add(self.top, emitter.mul(kernel_row, self.conv.dilation[0]))
        column = emitter.mul(self.left, self.conv.in_per_group)
        return emitter.add(self.source.origin(emitter, row), column)

    def _put_inside(self) -> None:
        """Copy, where there is no padding."""
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
