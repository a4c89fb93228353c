"""Layers of one row that add up the rows of their input as these come: in a stage, their input is
never there as a whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels.convolution import Convolution, find_convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.operand_sums import operand_sums
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.words import advance, advance_bytes, fetch, stream
from tinymlir.linalg_info import indexing_maps, yielded
from tinymlir.targets import Target


class RowSums(ABC):
    """How a layer adds up rows.

    ``result`` is the tensor, of one pixel, that the sums are when all rows are added: what the
    layer makes its own result of. ``label`` is what ``tiny.kernel`` calls it.
    """

    label: str | None = None

    def __init__(self, result: ir.Value) -> None:
        self.result = result

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all rows."""
        return 0

    @abstractmethod
    def emit(self, evaluator: Evaluator, source: Rows, sums: ir.Value, row: ir.Value) -> None:
        """Add a row of ``source`` to the ``sums``, which the first row starts anew."""


class PooledRows(RowSums):
    """Pooling over all rows, of unpadded windows."""

    def emit(self, evaluator: Evaluator, source: Rows, sums: ir.Value, row: ir.Value) -> None:
        emitter, op = evaluator.emitter, self.result.owner.operation
        first = arith.cmpi(arith.CmpIPredicate.eq, row, emitter.index(0))

        def channel(c: Index) -> None:
            element = [0, 0, 0, c]
            start = evaluator.at(op.operands[len(op.operands) - 1], element)
            total = arith.select(first, start, emitter.load(sums, [c]))
            result = evaluator.part(op, element, {_row_loop(op): row}, total)
            emitter.store(result, sums, [c])

        emitter.loop(0, sums.type.shape[0], 1, channel)


class DenseRows(RowSums):
    """A dense layer of an image: the products of a row, whose operands lie side by side."""

    label = "dense-rows"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv.result)
        _, self.rows, columns, channels = conv.source.type.shape
        self.conv, self.how = conv, operand_sums(core, columns * channels)

    @property
    def macs(self) -> int:
        return int(self.conv.weights.size)

    def emit(self, evaluator: Evaluator, source: Rows, sums: ir.Value, row: ir.Value) -> None:
        emitter, pool, width = evaluator.emitter, evaluator.pool, self.how.channels
        weights = self.conv.weights.reshape(self.conv.out_per_group, self.rows, -1)
        depth = weights.shape[2]
        packed = [self.how.pack(weights[:, r]) for r in range(self.rows)]
        begin = emitter.mul(row, len(packed[0]))
        products = advance_bytes(stream(pool.get(np.concatenate(packed), "weights")), begin)
        operands = advance_bytes(stream(source.buffer), source.origin(emitter, row))
        bias = stream(pool.get(self.conv.bias, "bias"))
        first = arith.cmpi(arith.CmpIPredicate.eq, row, emitter.index(0))
        before = arith.select(first, bias, stream(sums))

        def block(number: Index, count: int) -> None:
            channel = emitter.mul(number, width)
            start = [fetch(advance(before, channel), c) for c in range(count)]
            at = advance_bytes(products, emitter.mul(number, self.how.block_bytes(width, depth)))
            totals = self.how.emit(emitter, at, operands, start, depth)
            for c, total in enumerate(totals):
                emitter.store(total, sums, [emitter.add(channel, c)])

        whole, rest = divmod(self.conv.out_per_group, width)
        emitter.loop(0, whole, 1, lambda number: block(number, width))
        if rest:
            block(whole, rest)


def row_sums(layer: func.FuncOp, core: Target) -> RowSums | None:
    """How a layer adds up the rows of its one input, an unpadded image; None where it does not."""
    root = yielded(layer.body.blocks[0])
    pools = [o for o in layer.body.blocks[0].operations if "linalg.pooling" in o.operation.name]
    # A mean that looks closer near a tie reads its input twice.
    reads = len(list(layer.arguments[0].uses))
    if len(pools) == reads == 1 and root.type.shape[2] == 1:
        return PooledRows(pools[0].operation.results[0])
    conv = find_convolution(root, by_rows=True)
    return DenseRows(conv, core) if conv is not None and _saves(conv) else None


def _saves(conv: Convolution) -> bool:
    """Whether sums, of 4 bytes, and a row take less memory than the image that they are of."""
    _, rows, columns, channels = conv.source.type.shape
    return conv.is_dense and 4 * len(conv.bias) < (rows - 1) * columns * channels


def _row_loop(op: ir.Operation) -> int:
    """The loop of a pooling that goes through the rows of a window."""
    maps = indexing_maps(op)
    parallel = {e.position for e in maps[-1].results if isinstance(e, ir.AffineDimExpr)}
    return next(d for d in _loops(maps[0].results[1]) if d not in parallel)


def _loops(expr: ir.AffineExpr) -> list[int]:
    """The loops that an index follows."""
    if isinstance(expr, ir.AffineDimExpr):
        return [expr.position]
    if isinstance(expr, ir.AffineConstantExpr):
        return []
    return [*_loops(expr.lhs), *_loops(expr.rhs)]
