"""Elementwise layers as one loop over all elements, or a row's, some of them between branches."""

from __future__ import annotations

from math import prod

from tinymlir.bindings import ir
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.rows import Rows
from tinymlir.linalg_info import indexing_maps, is_linalg

#: Elements between two branches, and bodies that are short enough for it.
_UNROLL = 8
_MOST_OPS = 16


def takes(root: ir.Value) -> bool:
    """Whether an element of ``root`` is a short function of those of inputs at its place."""
    op = root.owner.operation
    if not is_linalg(op) or len(op.results) != 1:
        return False
    body = [nested.operation.name for nested in op.regions[0].blocks[0].operations]
    inputs = [v for v in list(op.operands)[:-1] if isinstance(v.type, ir.RankedTensorType)]
    identity = ir.AffineMap.get_identity(root.type.rank)
    return (
        all(isinstance(v, ir.BlockArgument) and v.type.shape == root.type.shape for v in inputs)
        and all(m == identity or not m.n_dims or not m.results for m in indexing_maps(op))
        and sum(name != "arith.constant" for name in body) <= _MOST_OPS
        and "linalg.index" not in body
        and prod(root.type.shape) >= 2 * _UNROLL
    )


def emit(evaluator: Evaluator, root: ir.Value, target: ir.Value) -> None:
    """Fill ``target`` with ``root``."""
    emitter = evaluator.emitter
    inputs = [v for v in root.owner.operation.operands if isinstance(v, ir.BlockArgument)]
    sources = {value: emitter.flat(evaluator.buffers[value]) for value in inputs}
    result = emitter.flat(target)

    def element(position: Index) -> None:
        evaluator.registers = {v: emitter.load(s, [position]) for v, s in sources.items()}
        value = evaluator.at(root, [0] * root.type.rank)
        evaluator.registers = {}
        emitter.store(value, result, [position])

    emitter.loop(0, prod(root.type.shape), 1, element, unroll=_UNROLL)


def emit_run(
    evaluator: Evaluator, root: ir.Value, out: Rows, start: tuple[Index, Index], count: int
) -> None:
    """Fill ``count`` neighbours of ``out`` from a row and column on; inputs are rows as well."""
    emitter = evaluator.emitter
    inputs = [v for v in root.owner.operation.operands if isinstance(v, ir.BlockArgument)]
    places = {value: rows_of(evaluator, value) for value in inputs}
    begins = {value: rows.position(emitter, [0, *start, 0]) for value, rows in places.items()}
    result = out.position(emitter, [0, *start, 0])

    def element(position: Index) -> None:
        evaluator.registers = {
            value: emitter.load(rows.buffer, [emitter.add(begins[value], position)])
            for value, rows in places.items()
        }
        value = evaluator.at(root, [0] * root.type.rank)
        evaluator.registers = {}
        emitter.store(value, out.buffer, [emitter.add(result, position)])

    emitter.loop(0, count, 1, element, unroll=_UNROLL)


def rows_of(evaluator: Evaluator, value: ir.Value) -> Rows:
    """The rows of an input of a layer that runs row by row."""
    rows = evaluator.buffers[value]
    assert isinstance(rows, Rows)
    return rows
