"""Layers without a kernel on vectors of 128 bits: four elements, or 16 bytes, at a time."""

from __future__ import annotations

from math import prod

import numpy as np

from tinymlir.bindings import ir, vector
from tinymlir.kernels import vectors
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.helium_rescale import rescale_alike
from tinymlir.kernels.lanes import Lanes, LanesEvaluator, has_lanes, is_one_run
from tinymlir.linalg_info import is_linalg
from tinymlir.targets import Target

_RESCALES = ("tiny.requantize", "tiny.rescale")


class HeliumLanes(LanesEvaluator):
    """Evaluates ``lanes`` elements at once, requantizations among them."""

    def __init__(self, scalars: Evaluator, lanes: int, has_float: bool) -> None:
        super().__init__(scalars.emitter, scalars.pool, scalars.buffers, lanes)
        self.has_float = has_float

    def _clone(self, op: ir.Operation, operands: list[ir.Value]) -> list[ir.Value]:
        if op.name not in _RESCALES or not isinstance(operands[0].type, ir.VectorType):
            return super()._clone(op, operands)
        sums, *others = operands
        result = rescale_alike(op, sums, others, self.has_float)
        if result is not None:
            return [result]
        single = [
            super(HeliumLanes, self)._clone(op, [vectors.element(sums, i), *others])
            for i in range(self.lanes)
        ]
        kind = ir.VectorType.get([self.lanes], op.results[0].type)
        return [vector.from_elements(kind, [results[0] for results in single])]


def takes(root: ir.Value, core: Target) -> bool:
    """Whether ``root`` can be computed on vectors, tables of requantizations aside."""
    return core.has("mve") and has_lanes(root, ops=_RESCALES)


def emit(scalars: Evaluator, root: ir.Value, out: ir.Value, core: Target) -> None:
    """Fill ``out`` with ``root`` in row-major order; what fills no vector one by one."""
    emitter, shape = scalars.emitter, list(root.type.shape)
    one_run = is_one_run(root)
    rows, length = ([], prod(shape)) if one_run else (shape[:-1], shape[-1])
    flat = emitter.flat(out)

    def neighbours(indices: list[Index], first: Index, count: int) -> None:
        evaluator = HeliumLanes(scalars, count, core.has("mve-float"))
        value = evaluator.at(root, [*indices, Lanes(first)])
        vectors.store(emitter, value, flat, emitter.linear([*indices, first], shape))

    def single(indices: list[Index], at: int) -> None:
        where = list(map(int, np.unravel_index(at, shape))) if one_run else [*indices, at]
        emitter.store(scalars.at(root, where), flat, [emitter.linear(where, shape)])

    def row(indices: list[Index]) -> None:
        if len(indices) < len(rows):
            emitter.loop(0, rows[len(indices)], 1, lambda i: row([*indices, i]))
            return
        done, starts = 0, [0] * (len(shape) - 1) if one_run else indices
        for count in sizes(root):
            end = done + (length - done) // count * count
            emitter.loop(done, end, count, lambda first, n=count: neighbours(starts, first, n))
            done = end
        for at in range(done, length):
            single(indices, at)

    row([])


def sizes(root: ir.Value) -> tuple[int, ...]:
    """Elements computed together, the most first."""
    return (vectors.BYTES, vectors.WORDS) if _is_of_bytes(root) else (vectors.WORDS,)


def _is_of_bytes(root: ir.Value) -> bool:
    """Whether nothing that ``root`` is computed of is wider than a byte."""
    if root.type.element_type.width > 8 or isinstance(root, ir.BlockArgument):
        return bool(root.type.element_type.width <= 8)
    op = root.owner.operation
    if is_linalg(op):
        inner = [r.type for nested in op.regions[0].blocks[0].operations for r in nested.results]
        if any(not isinstance(kind, ir.IntegerType) or kind.width > 8 for kind in inner):
            return False
    tensors = [v for v in op.operands if isinstance(v.type, ir.RankedTensorType)]
    return all(_is_of_bytes(value) for value in tensors)
