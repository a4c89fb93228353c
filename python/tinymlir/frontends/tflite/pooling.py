"""Pooling and means."""

from __future__ import annotations

import math

import numpy as np

from tinymlir.bindings import arith
from tinymlir.frontends.canonical import pooling
from tinymlir.frontends.canonical.builder import Builder, Clamp, Scaling
from tinymlir.frontends.canonical.convolution import Window
from tinymlir.frontends.canonical.elementwise import clamp as clamped
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation

from . import arithmetic
from .operands import Operands
from .registry import operator
from .schema import Node
from .values import Integer, Value
from .windows import window_of

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def _input(imp: Operands, node: Node) -> tuple[Activation, Window]:
    """The operand as logical N×C×H×W, and the window on it."""
    x = imp.activation(node).activation
    if x.layout.rank != 4 or x.layout.shape[0] != 1:
        imp.fail(
            node,
            f"the input has the shape {list(x.layout.shape)}",
            "convert the network for one sample (batch 1), with rows, columns and channels",
        )
    kernel = (node.options["FilterHeight"], node.options["FilterWidth"])
    window = window_of(imp, node, x.layout.shape[1:3], kernel)
    return Activation(x.value, x.layout.transposed(_TO_NCHW)), window


@operator("MAX_POOL_2D")
def max_pool_2d(imp: Operands, node: Node) -> Value:
    x, window = _input(imp, node)
    target = imp.output(node)
    limits = imp.clamp(node, target)
    y = pooling.max_pool2d(imp.builder, node.name, x, window)
    if not limits.trivial:
        y = clamped(imp.builder, f"{node.name}_clamp", y, limits)
    return Integer(Activation(y.value, y.layout.transposed(_TO_NHWC)), target)


@operator("AVERAGE_POOL_2D")
def average_pool_2d(imp: Operands, node: Node) -> Value:
    x, window = _input(imp, node)
    target = imp.output(node)
    # Means of the stored integers; padding does not count.
    scaling = _reciprocals(window.counts(x.layout.shape[2:]), imp.clamp(node, target))
    y = pooling.scaled_sum2d(imp.builder, node.name, x, 0, window, scaling)
    return Integer(Activation(y.value, y.layout.transposed(_TO_NHWC)), target)


def _reciprocals(counts: arithmetic.IntArray, clamp: Clamp) -> Scaling:
    """Division by ``counts``, ties away from zero.

    The multiplier is the least one above the exact reciprocal. That moves a product
    away from zero by less than ``2**-22``, so that ties fall as they should, and as
    other quotients lie ``1 / (2 * count)`` from a tie, nothing else changes.
    """
    shifts = 30 + np.ceil(np.log2(counts)).astype(np.int64)
    multipliers = (np.int64(1) << shifts) // counts + 1
    return Scaling(multipliers.astype(np.int32), shifts.astype(np.int32), 0, clamp, "nearest_up")


@operator("MEAN", note="int8, over any constant axes")
def mean(imp: Operands, node: Node) -> Value:
    x, target = imp.activation(node), imp.output(node)
    shape = x.shape
    axes = {imp.axis(node, axis, len(shape)) for axis in imp.integers(node, 1)}
    count = math.prod(shape[d] for d in axes)
    if count * 255 >= 2**31:
        imp.fail(node, f"sums {count} elements", "take the mean of fewer elements")
    ratio = float(x.quantization.scale) / float(target.scale)
    scaling = _mean_scaling(ratio, count, target.zero_point)
    y = _reduced(imp.builder, node.name, x, axes, scaling)
    if node.options["KeepDims"]:
        return Integer(y, target)
    kept = tuple(d for i, d in enumerate(y.layout.dims) if i not in axes)
    return Integer(Activation(y.value, Layout(kept, y.layout.order)), target)


def _mean_scaling(ratio: float, count: int, zero_point: int) -> Scaling:
    """The ratio of the scales with the division by ``count`` taken into its multiplier."""
    multiplier, exponent = arithmetic.quantize_multiplier(ratio)
    shift = max(min(count.bit_length() - 1, 31 + exponent), 0)
    pair = (multiplier << shift) // count, 31 - (exponent - shift)
    multipliers, shifts = (np.array(n, np.int32) for n in pair)
    return Scaling(multipliers, shifts, zero_point, Clamp(), "double")


def _reduced(b: Builder, name: str, x: Integer, axes: set[int], scaling: Scaling) -> Activation:
    """Sums of ``x`` less its zero point over some dimensions, scaled; those become one."""
    layout = x.activation.layout
    gone = {atom for d in axes for atom in layout.dims[d]}
    # One leading dimension of size one, so that a sum over everything has a dimension.
    shape = (1, *(atom.size for atom in layout.order))
    reduced = [i + 1 for i, atom in enumerate(layout.order) if atom in gone]
    kept = [i for i in range(len(shape)) if i not in reduced]
    count = math.prod(shape[i] for i in reduced)
    with b.layer(name, "mean"):
        source = b.reshape(x.activation.value, shape)
        init = b.fill([shape[i] for i in kept], -count * x.quantization.zero_point, b.i32)
        acc = b.generic(
            [(source, range(len(shape)))],
            init,
            lambda q, acc: arith.AddIOp(acc, arith.ExtSIOp(b.i32, q).result).result,
            reduced=reduced,
        )
        value = b.requantize(acc, scaling, ())
    dims = tuple(() if d in axes else atoms for d, atoms in enumerate(layout.dims))
    order = tuple(atom for atom in layout.order if atom not in gone)
    return Activation(value, Layout(dims, order))
