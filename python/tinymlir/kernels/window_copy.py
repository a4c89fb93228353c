"""What copies of windows to scratch memory share: the function around them, and two ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.rows import Rows


@dataclass(frozen=True)
class Where:
    """Which window goes from where to where: that of an output pixel, to ``place``."""

    conv: Convolution
    emitter: Emitter
    source: Rows
    scratch: ir.Value
    row: Index
    column: Index
    place: Index


def has_whole_rows(conv: Convolution) -> bool:
    """Whether the operands of a kernel row are neighbours in memory."""
    return conv.dilation[1] == 1 and not conv.is_part


def emit_to_scratch(
    layer: Layer,
    scratch: ir.Value,
    suffix: str,
    body: Callable[[Rows, ir.Value, ir.Value, ir.Value, ir.Value], None],
) -> str:
    """``@layer<i>_<suffix>(input, scratch, a, b, c, first)``, which goes from input to scratch.

    ``body(rows of the input, scratch, a, b, c)`` emits what it does; ``first`` is the first
    column that is in memory.
    """
    symbol = f"{layer.function.name.value}_{suffix}"
    types = [layer.source.buffer.type, scratch.type, *[ir.IndexType.get()] * 4]
    with ir.InsertionPoint.after(layer.function.operation):
        helper = func.FuncOp(symbol, (types, []), visibility="private")
    with ir.InsertionPoint(helper.add_entry_block()):
        buffer, scratch, *numbers, first = helper.arguments
        if isinstance(layer.source.first_column, int):
            first = layer.source.first_column
        body(replace(layer.source, buffer=buffer, first_column=first), scratch, *numbers)
        func.ReturnOp([])
    return symbol


def emit_window_copy(
    conv: Convolution,
    layer: Layer,
    scratch: ir.Value,
    suffix: str,
    make: Callable[[Where], WindowCopy],
) -> str:
    """``@layer<i>_<suffix>(input, scratch, row, column, place, first)``: one window's copy."""
    return emit_to_scratch(
        layer, scratch, suffix, lambda *to: make(Where(conv, layer.emitter, *to)).emit()
    )


def call_to_scratch(
    layer: Layer, symbol: str, scratch: ir.Value, where: tuple[Index, Index, Index]
) -> None:
    """Call a function that `emit_to_scratch` made; a window's place is its row, column, place."""
    operands = [layer.emitter.index(v) for v in (*where, layer.source.first_column)]
    func.call([], symbol, [layer.source.buffer, scratch, *operands])


#: From one to before another, of rows or columns of the kernel.
Taps: TypeAlias = tuple[Index, Index]


class WindowCopy(ABC):
    """A window of so many ``columns`` of the input, copied one way where it has no padding."""

    def __init__(self, where: Where, columns: int) -> None:
        self.conv, self.emitter, self.source = where.conv, where.emitter, where.source
        self.scratch = where.scratch
        #: whether the operands of a kernel row are no neighbours
        self.dilated = not has_whole_rows(where.conv)
        #: (rows, columns) of the input under the window, if it is dense
        self.extent = (where.conv.kernel[0], columns)
        self.top = input_row(where.emitter, where.conv, where.row, 0)
        self.left = input_column(where.emitter, where.conv, where.column)

    @abstractmethod
    def put_inside(self) -> None:
        """Copy, where there is no padding."""

    @abstractmethod
    def put_at_border(self) -> None:
        """Copy what there is, and padding where there is none."""

    def emit(self) -> None:
        inside = self.is_inside()
        if inside is None:
            self.put_inside()
            return
        self.emitter.either(inside, self.put_inside, self.put_at_border)

    def is_inside(self) -> ir.Value | None:
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

    def _taps(self, axis: int) -> Taps:
        """Rows or columns of the kernel that lie on the input."""
        emitter, conv = self.emitter, self.conv
        start, size, taps = (self.top, self.left)[axis], conv.in_hw[axis], self.extent[axis]
        before = emitter.maximum(emitter.sub(0, start), 0)
        room = emitter.maximum(emitter.sub(size, start), 0)
        first, last = (emitter.ceildiv(n, conv.dilation[axis]) for n in (before, room))
        first = emitter.minimum(first, taps)
        # A window wholly beside the input has none on it.
        return first, emitter.maximum(emitter.minimum(last, taps), first)

    def _reach(self, kernel_column: Index) -> Index:
        """From the origin of a kernel row to what lies under one of its columns."""
        return self.emitter.mul(kernel_column, self.conv.dilation[1] * self.source.channels)

    def _origin(self, kernel_row: Index) -> Index:
        """Where the run of a kernel row begins in the input."""
        emitter = self.emitter
        row = emitter.add(self.top, emitter.mul(kernel_row, self.conv.dilation[0]))
        return self.source.position(emitter, [0, row, self.left, self.conv.first_input])
