"""Layers that only place elements: concatenation and padding."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import tensor

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
