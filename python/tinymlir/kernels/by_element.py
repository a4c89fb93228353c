"""Layers without a kernel of their own: loops around the evaluation of an element."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinymlir.bindings import ir
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.rows import Rows


def emit_by_element(evaluator: Evaluator, root: ir.Value, out: ir.Value) -> None:
    """Fill ``out`` with ``root``, element by element in row-major order."""
    emitter = evaluator.emitter
    op = root.owner.operation
    if op.name == "tensor.concat" and root not in evaluator.buffers:
        _emit_concat(evaluator, op, out)
        return
    _nest(emitter, root.type.shape, lambda idx: emitter.store(evaluator.at(root, idx), out, idx))


def emit_row_by_element(
    evaluator: Evaluator, root: ir.Value, out: Rows, row: Index, columns: tuple[Index, Index]
) -> None:
    """Fill a part of one row of ``out`` with ``root``: a batch of one image, channels last."""
    emitter = evaluator.emitter
    op = root.owner.operation
    parts, start = [root], 0
    if op.name == "tensor.concat" and root not in evaluator.buffers:
        parts = list(op.operands)

    def element(part: ir.Value, start: int, column: Index, channel: Index) -> None:
        value = evaluator.at(part, [0, row, column, channel])
        where = out.position(emitter, [0, row, column, emitter.add(channel, start)])
        emitter.store(value, out.buffer, [where])

    for part in parts:
        depth = part.type.shape[-1]

        def pixel(
            column: Index, part: ir.Value = part, start: int = start, depth: int = depth
        ) -> None:
            emitter.loop(0, depth, 1, lambda channel: element(part, start, column, channel))

        emitter.loop(*columns, 1, pixel)
        start += depth


def _nest(emitter: Emitter, shape: Sequence[int], body: Callable[[list[Index]], None]) -> None:
    def level(indices: list[Index]) -> None:
        if len(indices) == len(shape):
            body(indices)
        else:
            emitter.loop(0, shape[len(indices)], 1, lambda iv: level([*indices, iv]))

    level([])


def _emit_concat(evaluator: Evaluator, op: ir.Operation, out: ir.Value) -> None:
    """One loop nest per part, so that no element asks which part it is in."""
    axis, start = op.attributes["dim"].value, 0
    emitter = evaluator.emitter
    for part in op.operands:

        def copy(indices: list[Index], part: ir.Value = part, start: int = start) -> None:
            target = list(indices)
            target[axis] = emitter.add(indices[axis], start)
            emitter.store(evaluator.at(part, indices), out, target)

        _nest(emitter, part.type.shape, copy)
        start += part.type.shape[axis]
