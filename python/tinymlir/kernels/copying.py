"""Layers that only move bytes: runs of neighbours, as many at a time as the core can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tinymlir.bindings import ir
from tinymlir.kernels import vectors
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.words import load_any, repeated, store_any
from tinymlir.linalg_info import constant_scalar, pad_value
from tinymlir.targets import Target

#: Pieces of a run without a loop between them.
_MOST_PIECES = 8
_WORD = 4


@dataclass(frozen=True)
class _Part:
    """A box of a layer's input, ``shape`` from ``start`` on, that goes to ``target``."""

    source: ir.Value
    start: tuple[int, ...]
    target: tuple[int, ...]
    shape: tuple[int, ...]

    def run(self, result: Sequence[int]) -> tuple[int, int]:
        """How many dimensions do not lie in one piece both here and there, and bytes that do."""
        outer = len(self.shape)
        while outer and all(
            self.shape[outer:] == tuple(whole[outer:]) for whole in (self.source.type.shape, result)
        ):
            outer -= 1
        return outer, prod(self.shape[outer:])


def emit(evaluator: Evaluator, root: ir.Value, target: ir.Value, core: Target) -> bool:
    """Fill ``target`` with ``root``; False, and nothing emitted, where that is not only copies."""
    parts, filler = _read(root.owner.operation)
    if not parts or not all(isinstance(part.source, ir.BlockArgument) for part in parts):
        return False
    emitter, result = evaluator.emitter, list(root.type.shape)
    flat = emitter.flat(target)
    if filler is not None:
        _fill(emitter, flat, prod(result), filler, core)
    for part in parts:
        _copy(emitter, part, emitter.flat(evaluator.buffers[part.source]), flat, result, core)
    return True


def emit_row(
    evaluator: Evaluator,
    root: ir.Value,
    out: Rows,
    row: Index,
    columns: tuple[Index, Index],
    core: Target,
) -> bool:
    """Fill these columns of a row of ``out`` with joined channels of rows; False for all else."""
    op, emitter = root.owner.operation, evaluator.emitter
    parts = [evaluator.buffers.get(value) for value in op.operands]
    if op.name != "tensor.concat" or root in evaluator.buffers or None in parts:
        return False

    def pixel(column: Index) -> None:
        at = 0
        for part in parts:
            assert isinstance(part, Rows)
            source = part.position(emitter, [0, row, column, 0])
            target = out.position(emitter, [0, row, column, at])
            copy_run(emitter, part.buffer, source, out.buffer, target, part.channels, core)
            at += part.channels

    emitter.loop(*columns, 1, pixel)
    return True


def _read(op: ir.Operation) -> tuple[list[_Part], int | None]:
    """The boxes that the result of ``op`` is made of, and what fills the rest of it.

    No boxes where it is made of anything else.
    """
    shape = tuple(op.results[0].type.shape)
    zeros = (0,) * len(shape)
    if str(op.results[0].type.element_type) != "i8":
        return [], None
    if op.name == "tensor.concat":
        axis, at, parts = op.attributes["dim"].value, 0, []
        for source in op.operands:
            place = tuple(at if d == axis else 0 for d in range(len(shape)))
            parts.append(_Part(source, zeros, place, tuple(source.type.shape)))
            at += source.type.shape[axis]
        return parts, None
    if op.name == "tensor.pad" and len(op.operands) == 1:
        low, high = (tuple(op.attributes[f"static_{end}"]) for end in ("low", "high"))
        filler = constant_scalar(pad_value(op))
        if filler is not None and min(*low, *high) >= 0:
            return [_Part(op.operands[0], zeros, low, tuple(op.operands[0].type.shape))], filler
    if op.name == "tensor.extract_slice" and len(op.operands) == 1:
        start, steps = (tuple(op.attributes[f"static_{n}"]) for n in ("offsets", "strides"))
        if len(start) == len(shape) and set(steps) == {1}:
            return [_Part(op.operands[0], start, zeros, shape)], None
    return [], None


def _copy(
    emitter: Emitter,
    part: _Part,
    source: ir.Value,
    target: ir.Value,
    result: Sequence[int],
    core: Target,
) -> None:
    outer, size = part.run(result)
    inner = [0] * (len(result) - outer)

    def nest(indices: list[Index]) -> None:
        if len(indices) < outer:
            emitter.loop(0, part.shape[len(indices)], 1, lambda i: nest([*indices, i]))
            return
        ends = [
            emitter.linear(
                [emitter.add(i, o) for i, o in zip([*indices, *inner], start, strict=True)], shape
            )
            for start, shape in (
                (part.start, part.source.type.shape),
                (part.target, result),
            )
        ]
        copy_run(emitter, source, ends[0], target, ends[1], size, core)

    nest([])


def copy_run(
    emitter: Emitter,
    source: ir.Value,
    at: Index,
    target: ir.Value,
    to: Index,
    size: int,
    core: Target,
) -> None:
    """Copy ``size`` neighbours between flat buffers that have nothing in common."""

    def piece(offset: Index, width: int) -> None:
        here, there = emitter.add(at, offset), emitter.add(to, offset)
        if width == 1:
            emitter.store(emitter.load(source, [here]), target, [there])
        elif width == _WORD:
            store_any(emitter, load_any(emitter, source, here), target, there)
        else:
            value = vectors.load(emitter, source, here, width, 8)
            vectors.store(emitter, value, target, there)

    done = 0
    for width in _widths(core):
        end = done + (size - done) // width * width
        emitter.loop(done, end, width, lambda i, w=width: piece(i, w), unroll=_MOST_PIECES)
        done = end


def _fill(emitter: Emitter, target: ir.Value, size: int, value: int, core: Target) -> None:
    done = 0
    for width in _widths(core):
        filler: ir.Value = vectors.splat(value, width, 8)
        if width == 1:
            filler = emitter.integer(value, 8)
        elif width == _WORD:
            filler = emitter.integer(repeated(value, 8))

        def piece(at: Index, width: int = width, filler: ir.Value = filler) -> None:
            if width == 1:
                emitter.store(filler, target, [at])
            elif width == _WORD:
                store_any(emitter, filler, target, at)
            else:
                vectors.store(emitter, filler, target, at)

        end = done + (size - done) // width * width
        emitter.loop(done, end, width, piece, unroll=_MOST_PIECES)
        done = end


def _widths(core: Target) -> list[int]:
    """Bytes that the core moves at a time, the most first."""
    widths = [vectors.BYTES] if core.has_vectors else []
    return [*widths, *([_WORD] if core.has("unaligned") else []), 1]
