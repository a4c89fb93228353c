"""Integer arithmetic of quantised layers: from real scales to multipliers, and the reference.

The compiled code, the frontends and the tests share these definitions;
docs/quantization.md derives them.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

I8_MIN, I8_MAX = -128, 127
I32_MIN, I32_MAX = -(2**31), 2**31 - 1
MULTIPLIER_BITS = 31
MAX_SHIFT = 62
#: Shifts with which ``float32`` is a line but near ties: a product's high word keeps enough bits
#: below the result to tell them, and has room for the zero point above.
NEAR_LINE_SHIFTS = range(36, 55)

IntArray = npt.NDArray[np.int64]


def quantize_multiplier(scale: float | Fraction) -> tuple[int, int]:
    """Write a real scale as ``multiplier / 2**shift``.

    The multiplier has 31 significant bits, so every float32 scale in
    ``[2**-32, 2**31)`` is represented exactly. Smaller scales keep the shift at
    62 and lose low bits, which scales an i32 accumulator to less than one
    quarter; zero gives ``(0, 62)``.

    Args:
        scale: non-negative and below ``2**31``.

    Returns:
        ``(multiplier, shift)`` with ``2**30 <= multiplier < 2**31`` unless the
        scale is below ``2**-32``, and ``0 <= shift <= 62``.

    Raises:
        ValueError: the scale is negative, not finite, or too large.
    """
    if isinstance(scale, float | np.floating) and not math.isfinite(scale):
        raise ValueError(f"scale {scale} is not finite")
    exact = Fraction(scale)
    if exact < 0:
        raise ValueError(f"scale {float(exact):g} is negative")
    if exact == 0:
        return 0, MAX_SHIFT
    # floor(log2(exact)) is one of two neighbours; the comparison picks it.
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if exact < Fraction(2) ** exponent:
        exponent -= 1
    shift = min(MULTIPLIER_BITS - 1 - exponent, MAX_SHIFT)
    if shift < 0:
        raise ValueError(f"scale {float(exact):g} is too large for an 8-bit result")
    multiplier = round(exact * 2**shift)
    if multiplier == 2**MULTIPLIER_BITS:
        multiplier, shift = multiplier // 2, shift - 1
    if shift < 0:
        raise ValueError(f"scale {float(exact):g} is too large for an 8-bit result")
    return multiplier, shift


def requantize(
    acc: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: int,
    minimum: int = I8_MIN,
    maximum: int = I8_MAX,
    rounding: str = "nearest_even",
) -> npt.NDArray[np.int8]:
    """What ``tiny.requantize`` computes, on arrays (operands broadcast).

    ``clamp(round(acc * multiplier / 2**shift) + zero_point, minimum, maximum)``;
    the product of an i32 and a 31-bit multiplier is exact in i64.

    Raises:
        ValueError: the rounding mode is unknown.
    """
    quotient = scaled(acc, multiplier, shift, rounding)
    return np.clip(quotient + zero_point, minimum, maximum).astype(np.int8)


def scaled(
    acc: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, rounding: str
) -> IntArray:
    """``round(acc * multiplier / 2**shift)``, not clamped."""
    acc64, m, s = (np.asarray(a).astype(np.int64) for a in (acc, multiplier, shift))
    if rounding == "double":
        return _double_rounding(acc64, m, s)
    if rounding == "float32":
        scale = np.ldexp(m.astype(np.float64), -s).astype(np.float32)
        return np.rint(acc64.astype(np.float32) * scale).astype(np.int64)
    return nearest(acc64 * m, s, rounding)


def nearest(product: IntArray, shift: IntArray, rounding: str) -> IntArray:
    """``product / 2**shift`` to the nearest integer, by one of the ``nearest`` modes.

    Raises:
        ValueError: the rounding mode is unknown.
    """
    half = (np.int64(1) << shift) >> 1
    if rounding == "nearest_up":
        return (product + half) >> shift
    if rounding != "nearest_even":
        raise ValueError(f"unknown rounding '{rounding}'")
    floor = product >> shift
    rest = product - (floor << shift)
    tie = (rest == half) & (shift > 0)
    return floor + ((rest > half) | (tie & (floor % 2 == 1)))


def _double_rounding(acc: IntArray, multiplier: IntArray, shift: IntArray) -> IntArray:
    """Two roundings, as in gemmlowp's ``fixedpoint.h``; shifts below 31 scale up first."""
    left, right = np.maximum(31 - shift, 0), np.maximum(shift - 31, 0)
    return divide_by_power(high_product(acc << left, multiplier), right)


def high_product(a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
    """``a * b / 2**31`` to the nearest integer, ties up.

    gemmlowp's SaturatingRoundingDoublingHighMul, but for ``a = b = -2**31``.
    """
    return (np.asarray(a, np.int64) * np.asarray(b, np.int64) + (1 << 30)) >> 31


def divide_by_power(values: IntArray, exponent: npt.ArrayLike) -> IntArray:
    """``values / 2**exponent`` to the nearest integer, ties away from zero.

    gemmlowp's RoundingDivideByPOT.
    """
    power = np.asarray(exponent, np.int64)
    half = (np.int64(1) << power) >> 1
    return (values + half - ((values < 0) & (power > 0))) >> power


def accumulator_range(weights: npt.ArrayLike, bias: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Least and greatest ``bias + sum(w * x)`` per output, over all int8 inputs.

    Args:
        weights: ``O x ...``, integers.
        bias: ``O``, the folded bias.
    """
    w = np.asarray(weights).astype(np.int64)
    w = w.reshape(w.shape[0], -1)
    b = np.asarray(bias).astype(np.int64)
    positive = np.where(w > 0, w, 0).sum(axis=1)
    negative = np.where(w < 0, w, 0).sum(axis=1)
    low = b + positive * I8_MIN + negative * I8_MAX
    high = b + positive * I8_MAX + negative * I8_MIN
    return low, high


def round_away(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """To the nearest integer, ties away from zero (``std::round``)."""
    real = np.asarray(values, np.float64)
    return np.copysign(np.floor(np.abs(real) + 0.5), real)


def quantize_float32(
    values: npt.NDArray[np.float32], scale: np.float32, zero_point: int, rounding: str
) -> npt.NDArray[np.int8]:
    """``clamp(round(values / scale) + zero_point)``, the quotient in float32.

    Args:
        rounding: what ties do: ``nearest_even`` (ONNX) or ``nearest_away`` (TFLite).

    Returns:
        int8; the least value for what is not a number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        steps = values / np.float32(scale)
    rounded = np.rint(steps) if rounding == "nearest_even" else round_away(steps)
    limited = np.clip(rounded + zero_point, I8_MIN, I8_MAX)
    return np.where(np.isnan(limited), I8_MIN, limited).astype(np.int8)
