"""Maximum and average pooling."""

from __future__ import annotations

import math

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, ir, linalg
from tinymlir.numerics import IntArray

from .builder import Builder, Clamp, Scaling
from .convolution import Window
from .float_average import FloatMean, SumOrder, float_sums, requantize_mean
from .tap_weights import TapWeights
from .tensors import (
    Activation,
    Dequantized,
    Quantization,
    channels_last,
    channels_last_layout,
)


def max_pool2d(b: Builder, name: str, x: Activation, window: Window) -> Activation:
    """The greatest int8 value under the window; padding never wins."""
    x = channels_last(b, name, x)
    with b.layer(name, "max_pool2d"):
        source = window.pad(b, x.value, numerics.I8_MIN)
        init = b.fill(_pooled_shape(x.value, window), numerics.I8_MIN, b.i8)
        shape = b.empty(window.kernel, b.i8)
        pool = b.structured(
            linalg.PoolingNhwcMaxOp, [source, shape], init, window.strides, window.dilations
        )
        value = b.finish(pool)
    return _pooled(value, x)


def scaled_sum2d(
    b: Builder,
    name: str,
    x: Activation,
    zero_point: int,
    window: Window,
    scaling: Scaling,
) -> Activation:
    """The sum under the window of ``x`` less its zero point, requantized by one scale."""
    x = channels_last(b, name, x)
    with b.layer(name, "average_pool2d"):
        value = b.requantize(_window_sum(b, x.value, window, zero_point), scaling, ())
    return _pooled(value, x)


def quotient2d(
    b: Builder,
    name: str,
    x: Activation,
    zero_points: tuple[int, int],
    clamp: Clamp,
    window: Window,
) -> Activation:
    """The mean under the window, padding left out, ties away from zero.

    Args:
        zero_points: taken off the operand, and added to the mean.
    """
    x = channels_last(b, name, x)
    size = x.value.type.shape[1:3]
    weights = TapWeights.of(window.covered(0, size[0]), window.covered(1, size[1]))
    with b.layer(name, "average_pool2d"):
        acc = _window_sum(b, x.value, window, zero_points[0])
        if 255 * weights.count > numerics.I32_MAX:
            counts = np.maximum(window.counts(size), 1)
            value = b.requantize(acc, _reciprocals(counts, zero_points[1], clamp), (1, 2))
        else:
            scaling = _reciprocals(np.array(weights.count), zero_points[1], clamp)
            value = b.finish(_requantized(b, acc, weights, scaling))
    return _pooled(value, x)


def _reciprocals(counts: IntArray, zero_point: int, clamp: Clamp) -> Scaling:
    """Division by ``counts``, ties away from zero.

    The multiplier is the least one above the exact reciprocal. That moves a product
    away from zero by less than ``2**-22``, so that ties fall as they should, and as
    other quotients lie ``1 / (2 * count)`` from a tie, nothing else changes.
    """
    shifts = 30 + np.ceil(np.log2(counts)).astype(np.int64)
    multipliers = ((np.int64(1) << shifts) // counts + 1).astype(np.int32)
    return Scaling(multipliers, shifts.astype(np.int32), zero_point, clamp, "nearest_up")


def _requantized(b: Builder, acc: ir.Value, weights: TapWeights, scaling: Scaling) -> ir.Value:
    multiplier, shift = (int(n) for n in (scaling.multipliers, scaling.shifts))

    def body(total: ir.Value, *rest: ir.Value) -> ir.Value:
        weight = weights.of_body(b, rest[:-1])
        total = total if weight is None else arith.muli(total, weight)
        constants = b.scalar(multiplier, b.i32), b.scalar(shift, b.i32)
        return b.requantize_op(total, *constants, scaling)

    inputs = [(acc, (0, 1, 2, 3)), *weights.inputs(b)]
    return b.generic(inputs, b.empty(acc.type.shape, b.i8), body)


def _window_sum(b: Builder, x: ir.Value, window: Window, zero_point: int) -> ir.Value:
    """i32 sums under the window of ``x`` (N×H×W×C) less its zero point, which padding has."""
    pixels = window.pad(b, x, zero_point)
    shape = _pooled_shape(x, window)
    init = b.fill(shape, -math.prod(window.kernel) * zero_point, b.i32)
    kernel = b.empty(window.kernel, b.i8)
    return b.structured(
        linalg.PoolingNhwcSumOp, [pixels, kernel], init, window.strides, window.dilations
    )


def _pooled_shape(x: ir.Value, window: Window) -> list[int]:
    _, height, width, channels = x.type.shape
    return [1, window.output(0, height), window.output(1, width), channels]


def _pooled(value: ir.Value, x: Activation) -> Activation:
    """The result of a pooling of ``x``, whose channels stay as they are."""
    _, rows, columns, _ = value.type.shape
    layout = channels_last_layout(x.layout.dims[1], x.layout.within([1]), rows, columns)
    return Activation(value, layout)


def average_pool2d(
    b: Builder,
    name: str,
    operand: Dequantized,
    target: Quantization,
    clamp: Clamp,
    window: Window,
    *,
    counted_padding: tuple[tuple[int, int], tuple[int, int]] | None = None,
    order: SumOrder | None = None,
    rounded_with: int = 0,
) -> Activation:
    """The mean under the window.

    Args:
        counted_padding: how much of the padding counts as zeros in the mean
            ((top, left), (bottom, right)); none of it if absent. What does not
            count makes the divisor differ from position to position.
        order: in which the reference adds in float32, if it does; results are then its,
            unless the divisors' common multiple is too large.
        rounded_with: what such a reference adds to the mean while it rounds.
    """
    source = operand.quantization
    x = channels_last(b, name, operand.activation)
    size = x.value.type.shape[1:3]
    low, high = counted_padding or ((0, 0), (0, 0))
    counts = [window.covered(axis, size[axis], low[axis], high[axis]) for axis in (0, 1)]
    weights = TapWeights.of(counts[0], counts[1])
    valid = window.counts(size)
    mean = None
    if order is not None:
        mean = FloatMean.fit(source, target, clamp, weights, valid, rounded_with)
    with b.layer(name, "average_pool2d"):
        acc = _window_sum(b, x.value, window, source.zero_point)
        if mean is not None and order is not None:
            pixels = window.pad(b, x.value, source.zero_point)
            sums = float_sums(b, pixels, acc.type.shape, window, mean, source.zero_point, order)
            value = b.finish(requantize_mean(b, acc, sums, mean, weights, clamp))
        else:
            taps = np.maximum(window.counts(size, low, high), 1)
            # In float32, as ONNX Runtime's QLinearGlobalAveragePool computes it.
            scales = source.scale / (target.scale * taps.astype(np.float32))
            bound = 255 * int(valid.max())
            scaling = Scaling.of(scales, target.zero_point, clamp, -bound, bound)
            value = b.requantize(acc, scaling, (1, 2))
    return _pooled(value, x)
