"""Pooling and means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, ir
from tinymlir.frontends.canonical import pooling
from tinymlir.frontends.canonical.builder import Clamp, Scaling
from tinymlir.frontends.canonical.convolution import Window
from tinymlir.frontends.canonical.elementwise import clamp as clamped
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from . import arithmetic
from .operands import CONVERT_AGAIN, Operands
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
    y = pooling.quotient2d(imp.builder, node.name, x, (0, 0), imp.clamp(node, target), window)
    return Integer(Activation(y.value, y.layout.transposed(_TO_NHWC)), target)


@operator("MEAN", note="int8, over any constant axes")
def mean(imp: Operands, node: Node) -> Value:
    x, target, axes = _reduction(imp, node)
    count = math.prod(x.shape[d] for d in axes)
    if count * 255 >= 2**31:
        imp.fail(node, f"sums {count} elements", "take the mean of fewer elements")
    ratio = float(x.quantization.scale) / float(target.scale)
    scaling = _mean_scaling(ratio, count, target.zero_point)
    if axes == {1, 2} and x.shape[0] == 1 and len(x.shape) == 4:
        return _mean_of_pixels(imp, node, x, target, scaling)
    b, start = imp.builder, -count * x.quantization.zero_point

    def add(q: ir.Value, acc: ir.Value) -> ir.Value:
        return arith.AddIOp(acc, arith.ExtSIOp(b.i32, q).result).result

    def finish(shape: Sequence[int], fold: Fold) -> ir.Value:
        return b.requantize(fold(b.fill(shape, start, b.i32), add), scaling, ())

    return _reduced(imp, node, x, target, axes, finish)


def _mean_of_pixels(
    imp: Operands, node: Node, x: Integer, target: Quantization, scaling: Scaling
) -> Integer:
    """The mean over rows and columns, as a pooling of one window."""
    activation, size = x.activation, (x.shape[1], x.shape[2])
    activation = Activation(activation.value, activation.layout.transposed(_TO_NCHW))
    window = Window(size, (1, 1), (1, 1), (0, 0), (0, 0))
    y = pooling.scaled_sum2d(
        imp.builder, node.name, activation, x.quantization.zero_point, window, scaling
    )
    batch, rows, columns, channels = y.layout.transposed(_TO_NHWC).dims
    dims = (batch, rows, columns, channels) if node.options["KeepDims"] else (batch, channels)
    return Integer(Activation(y.value, Layout(dims, y.layout.order)), target)


@operator("REDUCE_MAX", "REDUCE_MIN", note="int8 of one scale, over any constant axes")
def extremum(imp: Operands, node: Node) -> Value:
    x, target, axes = _reduction(imp, node)
    if x.quantization != target:
        imp.fail(node, "operand and result differ in scale or zero point", CONVERT_AGAIN)
    greatest, b = node.op == "REDUCE_MAX", imp.builder
    pick = arith.MaxSIOp if greatest else arith.MinSIOp
    start = numerics.I8_MIN if greatest else numerics.I8_MAX

    def finish(shape: Sequence[int], fold: Fold) -> ir.Value:
        return b.finish(fold(b.fill(shape, start, b.i8), lambda q, best: pick(q, best).result))

    return _reduced(imp, node, x, target, axes, finish)


def _reduction(imp: Operands, node: Node) -> tuple[Integer, Quantization, set[int]]:
    """Operand, meaning of the result, and the dimensions that go."""
    x = imp.activation(node)
    axes = {imp.axis(node, axis, len(x.shape)) for axis in imp.integers(node, 1)}
    return x, imp.output(node), axes


def _mean_scaling(ratio: float, count: int, zero_point: int) -> Scaling:
    """The ratio of the scales with the division by ``count`` taken into its multiplier."""
    multiplier, exponent = arithmetic.quantize_multiplier(ratio)
    shift = max(min(count.bit_length() - 1, 31 + exponent), 0)
    pair = (multiplier << shift) // count, 31 - (exponent - shift)
    multipliers, shifts = (np.array(n, np.int32) for n in pair)
    return Scaling(multipliers, shifts, zero_point, Clamp(), "double")


#: Reduces the operand into a tensor of initial values, by a function of element and accumulator.
Fold = Callable[[ir.Value, Callable[[ir.Value, ir.Value], ir.Value]], ir.Value]


def _reduced(
    imp: Operands,
    node: Node,
    x: Integer,
    target: Quantization,
    axes: set[int],
    finish: Callable[[Sequence[int], Fold], ir.Value],
) -> Integer:
    """``x`` with some dimensions reduced.

    Args:
        finish: the layer's result, from the shape that is left and the reduction.
    """
    b, layout = imp.builder, x.activation.layout
    gone = {atom for d in axes for atom in layout.dims[d]}
    # One leading dimension of size one, so that a reduction of everything has a dimension.
    shape = (1, *(atom.size for atom in layout.order))
    reduced = [i + 1 for i, atom in enumerate(layout.order) if atom in gone]
    left = [n for i, n in enumerate(shape) if i not in reduced]
    with b.layer(node.name, node.op.lower().removeprefix("reduce_")):
        source = b.reshape(x.activation.value, shape)

        def fold(init: ir.Value, step: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
            return b.generic([(source, range(len(shape)))], init, step, reduced=reduced)

        value = finish(left, fold)
    dims = tuple(() if d in axes else atoms for d, atoms in enumerate(layout.dims))
    if not node.options["KeepDims"]:
        dims = tuple(atoms for d, atoms in enumerate(dims) if d not in axes)
    order = tuple(atom for atom in layout.order if atom not in gone)
    return Integer(Activation(value, Layout(dims, order)), target)
