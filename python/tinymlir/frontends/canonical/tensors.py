"""Activations: IR values with their layouts, and how layers want to see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir, linalg

from .builder import Builder
from .layout import Atom, Atoms, Layout

#: Tensors above this are no microcontroller's; it also bounds what a bad file can make us allocate.
MAX_TENSOR_BYTES = 2**26
MAX_DIMENSION = 2**20
#: Likewise networks of so many operators.
MAX_OPERATORS = 10_000


def is_absurd(shape: Sequence[int]) -> bool:
    """Whether no microcontroller has such a tensor."""
    return math.prod(shape) > MAX_TENSOR_BYTES or max(shape, default=0) > MAX_DIMENSION


@dataclass(frozen=True)
class Quantization:
    """``real = scale * (q - zero_point)``; both ``q`` and the zero point are int8."""

    scale: np.float32
    zero_point: int


@dataclass(frozen=True)
class Activation:
    """An i8 tensor: a value whose row-major elements lie as ``layout`` says."""

    value: ir.Value
    layout: Layout


@dataclass(frozen=True)
class Dequantized:
    """The reals that an i8 tensor stands for."""

    activation: Activation
    quantization: Quantization

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape."""
        return self.activation.layout.shape


def arrange(b: Builder, name: str, x: Activation, order: Atoms) -> Activation:
    """``x`` with its atoms nested in another order; a transposing layer where they are not."""
    if x.layout.order == order:
        return x
    source = b.reshape(x.value, x.layout.atom_shape)
    permutation = [x.layout.order.index(atom) for atom in order]
    with b.layer(f"{name}_transpose", "transpose"):
        init = b.empty([atom.size for atom in order], b.i8)
        op = linalg.transpose(source, outs=[init], permutation=permutation)
        value = b.finish(op.results[0])
    return Activation(value, Layout(x.layout.dims, order))


def constant(b: Builder, array: npt.NDArray[np.int8], like: Layout | None = None) -> Activation:
    """A constant i8 tensor.

    Args:
        like: the layout of what it is combined with, whose order it takes.
    """
    layout = Layout.of(array.shape)
    missing = 0 if like is None else like.rank - array.ndim
    if like is not None and missing >= 0:
        dims = like.dims[missing:]
        sizes = [math.prod(atom.size for atom in dim) for dim in dims]
        if all(n in (1, size) for n, size in zip(array.shape, sizes, strict=True)):
            dims = tuple(d if n > 1 else () for n, d in zip(array.shape, dims, strict=True))
            atoms = [atom for d in dims for atom in d]
            layout = Layout(dims, tuple(atom for atom in like.order if atom in set(atoms)))
            whole = array.reshape([atom.size for atom in atoms])
            array = whole.transpose([atoms.index(atom) for atom in layout.order])
    return Activation(b.constant(array.reshape(array.shape or (1,))), layout)


def row_major(b: Builder, name: str, x: Activation) -> Activation:
    """``x`` with its logical shape as its physical one."""
    x = arrange(b, name, x, tuple(atom for atoms in x.layout.dims for atom in atoms))
    return Activation(x.value, Layout.of(x.layout.shape))


def channels_last(b: Builder, name: str, x: Activation) -> Activation:
    """``x``, of logical shape N×C×H×W, as a value of shape N×H×W×C.

    The channels may stay in another order than the logical one: constants follow it.
    """
    _, channels, rows, columns = x.layout.dims
    inner = x.layout.within([1])
    if x.layout.order != rows + columns + inner:
        x = arrange(b, name, x, rows + columns + channels)
    n, c, h, w = x.layout.shape
    return Activation(b.reshape(x.value, (n, h, w, c)), x.layout)


def channels_last_layout(channels: Atoms, inner: Atoms, height: int, width: int) -> Layout:
    """Logical 1×C×H×W over physical 1×H×W×C, the channels nested as ``inner``."""
    rows, columns = atoms(height), atoms(width)
    return Layout(((), channels, rows, columns), rows + columns + inner)


def atoms(size: int) -> Atoms:
    """A new dimension in one piece."""
    return (Atom(size),) if size != 1 else ()


def natural_shape(layout: Layout) -> tuple[int, ...]:
    """The physical shape by which a tensor is best known: permuted dimensions, else atoms."""
    order = layout.dim_order()
    if order is not None:
        return tuple(layout.shape[d] for d in order) or (1,)
    return layout.atom_shape


def element_count(layout: Layout) -> int:
    return math.prod(layout.shape)


def reshaped(b: Builder, name: str, x: Activation, shape: Sequence[int]) -> Activation:
    """``x`` under another logical shape: a view, unless its elements lie in another order."""
    layout = x.layout.reshaped(shape)
    if layout is None:
        x = row_major(b, name, x)
        layout = x.layout.reshaped(shape)
        assert layout is not None
    return Activation(x.value, layout)
