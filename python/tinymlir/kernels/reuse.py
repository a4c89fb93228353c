"""What a layer would compute over and over, stored instead."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from tinymlir.bindings import ir
from tinymlir.kernels.by_element import emit_by_element
from tinymlir.kernels.emitter import buffer_type
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.linalg_info import is_linalg, iteration_space

#: Bodies of more ops than this cost more than a store and a load.
_CHEAP_OPS = 16


def materialize_reused(
    evaluator: Evaluator, root: ir.Value, allocate: Callable[[ir.Type], ir.Value]
) -> None:
    """Store what ``root`` would otherwise compute again and again (`reused_results`).

    ``allocate(type)`` gives the buffer for one.
    """
    for result in reused_results(root):
        buffer = allocate(buffer_type(result.type))
        emit_by_element(evaluator, result, buffer)
        evaluator.buffers[result] = buffer


def reused_results(root: ir.Value) -> list[ir.Value]:
    """What ``root`` would otherwise compute again and again, in the order of computation.

    That is the result of a reduction, or of a long body, whose consumers visit it more
    often than it has elements (softmax: a row's maximum, sum and reciprocal).
    """
    visits: dict[ir.Operation, int] = {}
    reused: list[ir.Operation] = []
    ops = _operations_below(root)
    for op in reversed(ops):
        size = prod(op.results[0].type.shape)
        count = visits.get(op, size)
        per_element = 1
        if is_linalg(op):
            per_element = prod(iteration_space(op)) // size
            worthwhile = per_element > 1 or _body_length(op) > _CHEAP_OPS
            if count > size and worthwhile and op.results[0] != root:
                reused.append(op)
                count = size
        for operand in _tensors_read(op):
            if not isinstance(operand, ir.BlockArgument):
                producer = operand.owner.operation
                visits[producer] = visits.get(producer, 0) + count * per_element
    return [op.results[0] for op in reversed(reused)]


def _operations_below(root: ir.Value) -> list[ir.Operation]:
    """What computes ``root``, each op after those that it reads; constants aside."""
    found: list[ir.Operation] = []

    def visit(value: ir.Value) -> None:
        if isinstance(value, ir.BlockArgument):
            return
        op = value.owner.operation
        if op.name == "arith.constant" or op in found:
            return
        for operand in _tensors_read(op):
            visit(operand)
        found.append(op)

    visit(root)
    return found


def _tensors_read(op: ir.Operation) -> list[ir.Value]:
    values = [*op.operands, *(_extracted_tensors(op) if is_linalg(op) else ())]
    return [value for value in values if isinstance(value.type, ir.RankedTensorType)]


def _body_length(op: ir.Operation) -> int:
    return len(list(op.regions[0].blocks[0].operations))


def _extracted_tensors(op: ir.Operation) -> list[ir.Value]:
    return [
        nested.operation.operands[0]
        for nested in op.regions[0].blocks[0].operations
        if nested.operation.name == "tensor.extract"
    ]
