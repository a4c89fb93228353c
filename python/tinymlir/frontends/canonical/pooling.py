"""Maximum and average pooling."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import ir, linalg
from tinymlir.numerics import IntArray

from .builder import Builder, Clamp, Scaling
from .convolution import Window
from .float_average import requantize_mean
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
    _, height, width, channels = x.value.type.shape
    rows, columns = window.output(0, height), window.output(1, width)
    with b.layer(name, "max_pool2d"):
        source = window.pad(b, x.value, numerics.I8_MIN)
        init = b.fill((1, rows, columns, channels), numerics.I8_MIN, b.i8)
        shape = b.empty(window.kernel, b.i8)
        pool = b.structured(
            linalg.PoolingNhwcMaxOp, [source, shape], init, window.strides, window.dilations
        )
        value = b.finish(pool)
    layout = channels_last_layout(x.layout.dims[1], x.layout.within([1]), rows, columns)
    return Activation(value, layout)


def scaled_sum2d(
    b: Builder,
    name: str,
    x: Activation,
    zero_point: int,
    window: Window,
    scaling: Scaling,
) -> Activation:
    """The sum under the window of ``x`` less its zero point, padding left out, requantized.

    Args:
        scaling: one, or one for each position (rows by columns).
    """
    x = channels_last(b, name, x)
    _, height, width, _ = x.value.type.shape
    rows, columns = window.output(0, height), window.output(1, width)
    counts = np.broadcast_to(window.counts((height, width)), (rows, columns))
    with b.layer(name, "average_pool2d"):
        acc = _window_sum(b, x.value, window, -counts * zero_point)
        value = b.requantize(acc, scaling, (1, 2))
    layout = channels_last_layout(x.layout.dims[1], x.layout.within([1]), rows, columns)
    return Activation(value, layout)


def _window_sum(b: Builder, x: ir.Value, window: Window, offsets: IntArray) -> ir.Value:
    """i32 sums under the window of ``x`` (N×H×W×C), each from its offset (rows by columns)."""
    rows, columns = offsets.shape
    shape = (1, rows, columns, x.type.shape[3])
    # Raw zeros pad the sum, so only what the window covers carries a zero point.
    pixels = window.pad(b, x, 0)
    if (offsets == offsets.flat[0]).all():
        init = b.fill(shape, int(offsets.flat[0]), b.i32)
    else:
        init = b.broadcast(b.constant(offsets.astype(np.int32)), shape, (0, 3))
    kernel = b.empty(window.kernel, b.i8)
    return b.structured(
        linalg.PoolingNhwcSumOp, [pixels, kernel], init, window.strides, window.dilations
    )


def average_pool2d(
    b: Builder,
    name: str,
    operand: Dequantized,
    target: Quantization,
    clamp: Clamp,
    window: Window,
    *,
    counted_padding: tuple[tuple[int, int], tuple[int, int]] | None = None,
    float_sum: bool = False,
    rounded_with: int = 0,
) -> Activation:
    """The mean under the window, as a sum and one scale.

    Args:
        counted_padding: how much of the padding counts as zeros in the mean
            ((top, left), (bottom, right)); none of it if absent. What does not
            count makes the divisor differ from position to position.
        float_sum: whether the reference adds in float32; ties then fall as there,
            unless the window is padded.
        rounded_with: what such a reference adds to the mean while it rounds.
    """
    source = operand.quantization
    x = channels_last(b, name, operand.activation)
    _, height, width, _ = x.value.type.shape
    rows, columns = window.output(0, height), window.output(1, width)
    valid = np.broadcast_to(window.counts((height, width)), (rows, columns))
    counts: npt.NDArray[Any] = window.counts((height, width), *(counted_padding or ()))
    bound = 255 * int(valid.max())
    # In float32, as ONNX Runtime's QLinearGlobalAveragePool computes it.
    scales = source.scale / (target.scale * counts.astype(np.float32))
    padded = any((*window.pad_low, *window.pad_high))
    looks_closer = float_sum and not padded and counts.ndim == 0
    # What one step of the result is in the sum.
    step = counts * Fraction(float(target.scale)) / Fraction(float(source.scale))
    whole = all(Fraction(s).denominator == 1 for s in np.reshape(step, -1))
    parity = int(rounded_with % 2 and whole and not looks_closer)
    scaling = Scaling.of(scales, target.zero_point - parity, clamp, -bound, bound)
    offsets = -valid * source.zero_point
    if parity:
        # Ties to even after adding an odd number: round one step more, and take it off.
        offsets += np.broadcast_to(step, valid.shape).astype(np.int64)
    with b.layer(name, "average_pool2d"):
        acc = _window_sum(b, x.value, window, offsets)
        if looks_closer:
            value = requantize_mean(
                b, acc, x.value, source, target, clamp, window, scaling, rounded_with
            )
            b.finish(value)
        else:
            value = b.requantize(acc, scaling, (1, 2))
    layout = channels_last_layout(x.layout.dims[1], x.layout.within([1]), rows, columns)
    return Activation(value, layout)
