"""Layers that only place elements: concatenation, padding and selection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymlir.bindings import arith, ir, linalg, tensor

from .builder import Builder
from .layout import Layout
from .tensors import Activation, arrange


def _by_dimensions(
    b: Builder, name: str, x: Activation, order: Sequence[int] | None = None
) -> tuple[Activation, Sequence[int]]:
    """``x`` as a value whose shape is its logical one permuted, and that permutation."""
    if order is None:
        order = x.layout.dim_order()
    if order is None:
        order = (0, 2, 3, 1) if x.layout.rank == 4 else range(x.layout.rank)
    x = arrange(b, name, x, tuple(atom for d in order for atom in x.layout.dims[d]))
    value = b.reshape(x.value, [x.layout.shape[d] for d in order])
    return Activation(value, x.layout), order


def concat(b: Builder, name: str, parts: Sequence[Activation], axis: int) -> Activation:
    """Tensors of one scale joined along a logical axis."""
    first, order = _by_dimensions(b, name, parts[0])
    others = [_by_dimensions(b, name, part, order)[0] for part in parts[1:]]
    shape = list(first.layout.shape)
    shape[axis] = sum(part.layout.shape[axis] for part in parts)
    type_ = b.tensor_type([shape[d] for d in order], b.i8)
    with b.layer(name, "concat"):
        values = [part.value for part in (first, *others)]
        value = b.finish(tensor.ConcatOp(type_, list(order).index(axis), values).result)
    return Activation(value, Layout.of(shape, order))


def pad(
    b: Builder, name: str, x: Activation, low: Sequence[int], high: Sequence[int], fill: int
) -> Activation:
    """``x`` with ``fill`` around it; ``low`` and ``high`` are per logical dimension."""
    x, order = _by_dimensions(b, name, x)
    shape = [n + before + after for n, before, after in zip(x.layout.shape, low, high, strict=True)]
    with b.layer(name, "pad"):
        value = b.pad(x.value, [low[d] for d in order], [high[d] for d in order], fill)
        if value is not x.value:
            b.finish(value)
    return Activation(value, Layout.of(shape, order))


def select(
    b: Builder, name: str, op: str, x: Activation, places: Sequence[Sequence[int]]
) -> Activation:
    """``x[numpy.ix_(*places)]``: slices, reversals, nearest-neighbour resizing.

    Args:
        op: the kind of layer.
        places: for each logical dimension, the index that each place of the result takes.
    """
    x, order = _by_dimensions(b, name, x)
    progressions = [_progression(places[d]) for d in order]
    shape = [len(places[d]) for d in order]
    with b.layer(name, op):
        if all(step is not None and step[1] > 0 for step in progressions):
            starts, steps = zip(*[step for step in progressions if step is not None], strict=True)
            type_ = b.tensor_type(shape, b.i8)
            value = tensor.ExtractSliceOp(type_, x.value, [], [], [], starts, shape, steps).result
        else:
            value = _gathered(b, x.value, [places[d] for d in order], progressions)
        value = b.finish(value)
    return Activation(value, Layout.of([len(p) for p in places], order))


def _progression(places: Sequence[int]) -> tuple[int, int] | None:
    """Start and step of an arithmetic progression; None if it is something else."""
    if isinstance(places, range):
        return places.start, places.step
    steps = set(np.diff(places).tolist()) or {1}
    return (places[0], steps.pop()) if len(steps) == 1 else None


def _gathered(
    b: Builder,
    value: ir.Value,
    places: Sequence[Sequence[int]],
    progressions: Sequence[tuple[int, int] | None],
) -> ir.Value:
    """Elements at computed indices: multiples of the place, or read from a table."""
    index = ir.IndexType.get(b.context)
    tables = [
        None if step is not None else b.constant(np.array(taken, np.int32))
        for taken, step in zip(places, progressions, strict=True)
    ]

    def body(_: ir.Value) -> ir.Value:
        at = []
        for d, (step, table) in enumerate(zip(progressions, tables, strict=True)):
            here = linalg.IndexOp(d).result
            if step is None:
                at.append(arith.IndexCastOp(index, tensor.ExtractOp(table, [here]).result).result)
            else:
                if step[1] != 1:
                    here = arith.MulIOp(here, b.scalar(step[1], index)).result
                if step[0]:
                    here = arith.AddIOp(here, b.scalar(step[0], index)).result
                at.append(here)
        return tensor.ExtractOp(value, at).result

    return b.generic([], b.empty([len(taken) for taken in places], b.i8), body)
