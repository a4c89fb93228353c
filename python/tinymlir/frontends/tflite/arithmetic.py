"""The integer arithmetic of TFLite's reference kernels, on arrays.

Multipliers are ``(multiplier, exponent)`` pairs, for ``multiplier / 2**31 * 2**exponent``.
Every rule here was established against LiteRT's ``BUILTIN_REF`` kernels, which
test/python/test_tflite_operators.py holds it to. Where a kernel computes in float32,
the exponential functions are correctly rounded, as those of recent C libraries are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.frontends.canonical.tensors import Quantization
from tinymlir.numerics import IntArray, divide_by_power, high_product, round_away

Multiplier = tuple[int, int]
Float32 = npt.NDArray[np.float32]

#: Every int8 value, in the order of a look-up table.
LEVELS = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1, dtype=np.int64)

#: What the operators of this family limit their result to.
RELU_LIMITS = {
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU_0_TO_1": (0.0, 1.0),
}

_I16_MIN, _I16_MAX = -(2**15), 2**15 - 1


def quantize_multiplier(scale: float) -> Multiplier:
    """A real factor, not negative, as a 31-bit integer and an exponent.

    Raises:
        ValueError: the factor is too large for 32-bit arithmetic.
    """
    if not math.isfinite(scale):
        raise ValueError("the scales are too far apart")
    significand, exponent = math.frexp(scale)
    rounded = math.floor(significand * 2**31 + 0.5)
    if rounded == 2**31:
        rounded, exponent = rounded // 2, exponent + 1
    if exponent < -31:
        return 0, 0
    if exponent > 30:
        raise ValueError(f"the scale {scale:g} is too large")
    return rounded, exponent


def scaled(values: npt.ArrayLike, multiplier: Multiplier) -> IntArray:
    """``round(values * multiplier)``, rounded twice (gemmlowp ``fixedpoint.h``)."""
    significand, exponent = multiplier
    left = np.asarray(values, np.int64) << max(exponent, 0)
    return divide_by_power(high_product(wrapped(left), significand), max(-exponent, 0))


def wrapped(values: IntArray) -> IntArray:
    """``values`` modulo 2**32, as int32 arithmetic has them."""
    return ((values + 2**31) & 0xFFFFFFFF) - 2**31


def quantize(value: float, quantization: Quantization) -> int:
    """One real as an integer that need not fit int8, in float32."""
    steps = np.float32(value) / quantization.scale
    return int(round_away(steps)) + quantization.zero_point


def to_int8(values: npt.NDArray[np.generic], zero_point: int) -> npt.NDArray[np.int8]:
    return np.clip(values + zero_point, numerics.I8_MIN, numerics.I8_MAX).astype(np.int8)


def sum_factors(x: Quantization, y: Quantization, target: Quantization) -> tuple[float, ...]:
    """What ADD and SUB scale their operands and then the sum by, in fractions of 2**20."""
    scales = [float(q.scale) for q in (x, y, target)]
    double = 2 * max(scales[:2])
    return scales[0] / double, scales[1] / double, double / (2**20 * scales[2])


def sums(x: Quantization, y: Quantization, target: Quantization, *, subtract: bool) -> IntArray:
    """``x + y`` or ``x - y`` for all pairs, 256 for each value of ``x``; int8 values."""
    first, second, last = map(quantize_multiplier, sum_factors(x, y, target))
    p = scaled((LEVELS - x.zero_point) << 20, first)[:, None]
    q = scaled((LEVELS - y.zero_point) << 20, second)[None, :]
    total = p - q if subtract else p + q
    return to_int8(scaled(total, last), target.zero_point).astype(np.int64).reshape(-1)


# Tables: the result for each of `LEVELS`.


def rescaled(source: Quantization, target: Quantization) -> npt.NDArray[np.int8]:
    """QUANTIZE of integers."""
    multiplier = quantize_multiplier(float(source.scale) / float(target.scale))
    return to_int8(scaled(LEVELS - source.zero_point, multiplier), target.zero_point)


def dequantized(source: Quantization) -> Float32:
    """DEQUANTIZE."""
    return source.scale * (LEVELS - source.zero_point).astype(np.float32)


def relu(
    source: Quantization, target: Quantization, low: float, high: float
) -> npt.NDArray[np.int8]:
    """``min(max(x, low), high)``; ``high`` may be infinite."""
    multiplier = quantize_multiplier(float(source.scale / target.scale))
    values = scaled(LEVELS - source.zero_point, multiplier) + target.zero_point
    bounds = (
        max(quantize(low, target), numerics.I8_MIN),
        numerics.I8_MAX if math.isinf(high) else min(quantize(high, target), numerics.I8_MAX),
    )
    return np.minimum(np.maximum(values, bounds[0]), bounds[1]).astype(np.int8)


def leaky_relu(source: Quantization, target: Quantization, alpha: float) -> npt.NDArray[np.int8]:
    """``x``, or ``alpha * x`` where that is negative; a negative slope negates the result."""
    identity = quantize_multiplier(float(source.scale / target.scale))
    slope = float(source.scale * np.float32(alpha) / target.scale)
    x = LEVELS - source.zero_point
    negative = scaled(x, quantize_multiplier(abs(slope))) * (-1 if slope < 0 else 1)
    return to_int8(np.where(x >= 0, scaled(x, identity), negative), target.zero_point)


def from_float(
    source: Quantization, target: Quantization, function: Callable[[Float32], Float32]
) -> npt.NDArray[np.int8]:
    """A function of one variable that the kernel tabulates in float32 (TANH, LOGISTIC)."""
    x = dequantized(source)
    with np.errstate(over="ignore"):
        steps = round_away(function(x) * (np.float32(1) / target.scale))
    return to_int8(steps, target.zero_point)


def tanh(x: Float32) -> Float32:
    return np.tanh(x.astype(np.float64)).astype(np.float32)


def logistic(x: Float32) -> Float32:
    return np.float32(1) / (np.float32(1) + exponential(-x))


def exponential(x: Float32) -> Float32:
    return np.exp(x.astype(np.float64)).astype(np.float32)


def logarithm(x: Float32) -> Float32:
    """Of what has none, less than any."""
    positive = np.where(x > 0, x, 1).astype(np.float64)
    return np.where(x > 0, np.log(positive), -np.inf).astype(np.float32)


def gelu(x: Float32) -> Float32:
    gate = [math.erfc(-float(value) * math.sqrt(0.5)) for value in x]
    return np.float32(0.5) * x * np.array(gate, np.float32)


def approximate_gelu(x: Float32) -> Float32:
    cubic = x + np.float32(0.044715) * x * x * x
    return np.float32(0.5) * x * (1 + tanh(np.float32(math.sqrt(2 / math.pi)) * cubic))


#: Operators that the kernels tabulate in float32.
FUNCTIONS = {"EXP": exponential, "LOG": logarithm, "LOGISTIC": logistic, "TANH": tanh}


def absolute(source: Quantization, target: Quantization) -> npt.NDArray[np.int8]:
    multiplier = quantize_multiplier(float(source.scale / target.scale))
    values = np.abs(LEVELS - source.zero_point)
    values = values if source.scale == target.scale else scaled(values, multiplier)
    return to_int8(values, target.zero_point)


def hard_swish(source: Quantization, target: Quantization) -> npt.NDArray[np.int8]:
    """``x * relu6(x + 3) / 6`` in 16-bit fixed point.

    Raises:
        ValueError: the result's scale is finer than the kernel takes.
    """
    fine = np.float32(1 / 128) * source.scale
    output, output_exponent = quantize_multiplier(float(fine / target.scale))
    gate, gate_exponent = quantize_multiplier(float(fine / (np.float32(3) / np.float32(32768))))
    if output_exponent > 0:
        raise ValueError("the scale of the result is below a 128th of the input's")
    x = (LEVELS - source.zero_point) << 7
    product = _high_product16(x, _upper_half(output))
    gated = _saturated16(x << (gate_exponent - 1)) if gate_exponent > 0 else x
    gated = _high_product16(gated, _upper_half(gate))
    if gate_exponent > 0:
        gated = _saturated16(gated << 1)
    gated = divide_by_power(gated, max(-gate_exponent, 0))
    unit = (gated + (1 << 15)) >> 1
    # Truncated, where the other products round.
    whole = unit * product
    whole = np.where(whole >= 0, whole >> 15, -(-whole >> 15))
    return to_int8(divide_by_power(whole, -output_exponent), target.zero_point)


def _upper_half(multiplier: int) -> int:
    """A 31-bit multiplier as a 15-bit one."""
    return min((multiplier + (1 << 15)) >> 16, _I16_MAX)


def _saturated16(values: IntArray) -> IntArray:
    return np.clip(values, _I16_MIN, _I16_MAX)


def _high_product16(a: IntArray, b: int) -> IntArray:
    return (a * b + (1 << 14)) >> 15
