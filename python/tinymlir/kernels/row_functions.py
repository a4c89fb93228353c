"""Functions that compute one row, or a part of one, of a layer's result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinymlir.bindings import func, ir
from tinymlir.kernels.by_element import emit_row_by_element
from tinymlir.kernels.columns import Columns, Span
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.row_elements import emit_row
from tinymlir.kernels.row_sums import RowSums
from tinymlir.kernels.rows import Rows
from tinymlir.linalg_info import yielded
from tinymlir.targets import Target


@dataclass(frozen=True)
class Part:
    """How the rows of a tensor lie in the buffer that a row function is given.

    ``slots`` rows of ``columns`` columns: a ring, or all rows where None. In a ``strip`` the
    first of the columns is another with each call.
    """

    columns: int
    channels: int
    slots: int | None = None
    strip: bool = False

    def rows(self, buffer: ir.Value, first: Index = 0) -> Rows:
        """The rows in ``buffer``, in a strip from column ``first`` on."""
        return Rows(buffer, self.columns, self.channels, self.slots, first)


@dataclass(frozen=True)
class RowFunction:
    """``function(buffers…, [scratch], row, [first column, last column, firsts…])``.

    The buffers are those of the layer's inputs and of its result. The columns are those to
    compute, the last one excluded; a first column in memory follows for each part that is a strip.
    """

    layer: func.FuncOp
    parts: tuple[Part, ...]
    #: the columns that each strip computes
    spans: tuple[Span, ...]

    def emit(
        self,
        symbol: str,
        buffers: Sequence[ir.Type],
        scratch: ir.Type | None,
        kernel: Kernel | None,
        pool: ConstantPool,
        core: Target,
    ) -> func.FuncOp:
        """The function beside the layer: one row of ``kernel``, or of elements as ``core`` can."""
        layer, index = self.layer, ir.IndexType.get()
        moving = sum(part.strip for part in self.parts)
        types = [*buffers, *([scratch] if scratch else []), index]
        types += [index] * (2 + moving) if len(self.spans) > 1 else []
        function = self._new(symbol, types)
        entry, emitter = function.body.blocks[0], Emitter()
        with layer.location, ir.InsertionPoint(entry):
            bound = self._bind(function, emitter, pool, kernel)
            after = len(buffers)
            work = entry.arguments[after] if scratch else None
            row = entry.arguments[after + bool(scratch)]
            columns = self._columns(function, after + bool(scratch) + 1)
            if kernel is not None:
                kernel.prepare(bound, work)
                kernel.row(row, columns)
            else:
                ends = columns.first, columns.last
                emit_row(bound.evaluator, bound.root, bound.target, row, ends, core)
            func.ReturnOp([])
        return function

    def emit_sums(
        self, symbol: str, buffers: Sequence[ir.Type], how: RowSums, pool: ConstantPool
    ) -> func.FuncOp:
        """``function(input, sums, row)``: add a row to the ``sums``.

        Columns need not be told: those of the result are one.
        """
        function = self._new(symbol, [*buffers, ir.IndexType.get()])
        source, sums, row = function.arguments
        with ir.InsertionPoint(function.body.blocks[0]), self.layer.location:
            rows = self.parts[0].rows(source)
            evaluator = Evaluator(Emitter(), pool, {self.layer.arguments[0]: rows})
            how.emit(evaluator, rows, sums, row)
            func.ReturnOp([])
        return function

    def emit_result(
        self, symbol: str, buffers: Sequence[ir.Type], how: RowSums, pool: ConstantPool
    ) -> func.FuncOp:
        """``function(sums, result, row)``: the one row that the sums give."""
        function = self._new(symbol, [*buffers, ir.IndexType.get()])
        sums, result, row = function.arguments
        part = self.parts[-1]
        with ir.InsertionPoint(function.body.blocks[0]), self.layer.location:
            evaluator = Evaluator(Emitter(), pool, {how.result: Rows(sums, 1, part.channels)})
            root = yielded(self.layer.body.blocks[0])
            emit_row_by_element(evaluator, root, part.rows(result), row, (0, 1))
            func.ReturnOp([])
        return function

    def _new(self, symbol: str, types: list[ir.Type]) -> func.FuncOp:
        with ir.InsertionPoint(self.layer.operation), self.layer.location:
            function = func.FuncOp(symbol, (types, []), visibility="private")
            function.add_entry_block()
        return function

    def _columns(self, function: func.FuncOp, at: int) -> Columns:
        if len(self.spans) > 1:
            return Columns(function.arguments[at], function.arguments[at + 1], self.spans)
        return Columns(*self.spans[0], self.spans)

    def _bind(
        self, function: func.FuncOp, emitter: Emitter, pool: ConstantPool, kernel: Kernel | None
    ) -> Layer:
        """The layer's buffers as the arguments of ``function``, which begin as these here do."""
        arguments = list(self.layer.arguments)
        root = yielded(self.layer.body.blocks[0])
        # Firsts come last, but a helper function adds arguments of its own.
        firsts = iter(list(function.arguments)[self._first_of_firsts(function) :])
        rows = [
            part.rows(function.arguments[number], next(firsts) if part.strip else 0)
            for number, part in enumerate(self.parts)
        ]
        buffers: dict[ir.Value, ir.Value | Rows] = dict(zip(arguments, rows, strict=False))
        source = arguments.index(kernel.conv.source) if kernel is not None else 0
        return Layer(
            function,
            root,
            Evaluator(emitter, pool, buffers),
            rows[source],
            rows[-1],
            lambda helper: self._bind(helper, emitter, pool, kernel),
        )

    def _first_of_firsts(self, function: func.FuncOp) -> int:
        place = len(self.parts)
        place += isinstance(function.arguments[place].type, ir.MemRefType)
        return place + 3
