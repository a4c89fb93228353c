"""Elementwise layers as one loop over all elements, or a row's, some of them between branches."""

from __future__ import annotations

from math import prod
from typing import TypeAlias

from tinymlir.bindings import ir
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.rows import Rows
from tinymlir.linalg_info import indexing_maps, is_linalg

#: Elements between two branches, and bodies that are short enough for it.
_UNROLL = 8
_MOST_OPS = 16
#: A flat buffer, and where a run of elements begins in it.
_Run: TypeAlias = tuple[ir.Value, Index]


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
    sources = {value: (emitter.flat(evaluator.buffers[value]), 0) for value in _operands(root)}
    _emit(evaluator, root, sources, (emitter.flat(target), 0), prod(root.type.shape))


def emit_run(
    evaluator: Evaluator, root: ir.Value, out: Rows, start: tuple[Index, Index], count: int
) -> None:
    """Fill ``count`` neighbours of ``out`` from a row and column on; inputs are rows as well."""

    def run(rows: Rows | ir.Value) -> _Run:
        assert isinstance(rows, Rows)
        return rows.buffer, rows.position(evaluator.emitter, [0, *start, 0])

    sources = {value: run(evaluator.buffers[value]) for value in _operands(root)}
    _emit(evaluator, root, sources, run(out), count)


def _operands(root: ir.Value) -> list[ir.Value]:
    """The inputs of the layer that ``root`` reads."""
    return [v for v in root.owner.operation.operands if isinstance(v, ir.BlockArgument)]


def _emit(
    evaluator: Evaluator, root: ir.Value, sources: dict[ir.Value, _Run], result: _Run, count: int
) -> None:
    """Fill ``count`` elements from the place ``result`` on."""
    emitter = evaluator.emitter

    def element(position: Index) -> None:
        evaluator.registers = {
            value: emitter.load(buffer, [emitter.add(begin, position)])
            for value, (buffer, begin) in sources.items()
        }
        value = evaluator.at(root, [0] * root.type.rank)
        evaluator.registers = {}
        emitter.store(value, result[0], [emitter.add(result[1], position)])

    emitter.loop(0, count, 1, element, unroll=_UNROLL)
