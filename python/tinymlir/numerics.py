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
    acc64, m, s = (np.asarray(a).astype(np.int64) for a in (acc, multiplier, shift))
    if rounding == "double":
        scaled = _double_rounding(acc64, m, s)
    elif rounding in ("nearest_even", "nearest_up"):
        product = acc64 * m
        half = (np.int64(1) << s) >> 1
        if rounding == "nearest_up":
            scaled = (product + half) >> s
        else:
            floor = product >> s
            rest = product - (floor << s)
            tie = (rest == half) & (s > 0)
            scaled = floor + ((rest > half) | (tie & (floor % 2 == 1)))
    else:
        raise ValueError(f"unknown rounding '{rounding}'")
    return np.clip(scaled + zero_point, minimum, maximum).astype(np.int8)


def _double_rounding(acc: IntArray, multiplier: IntArray, shift: IntArray) -> IntArray:
    """Two roundings, as in gemmlowp's ``fixedpoint.h``.

    A doubling high multiply that sends ties away from zero, then a division by
    a power of two that does the same. Shifts below 31 scale up first.
    """
    left, right = np.maximum(31 - shift, 0), np.maximum(shift - 31, 0)
    product = (acc << left) * multiplier
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    total = product + nudge
    high = np.where(total >= 0, total >> 31, -(-total >> 31))
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + ((high & mask) > threshold)


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


def ties_matter(multiplier: int, shift: int, bound: int) -> bool:
    """Whether the two ``nearest`` modes can differ for some ``|acc| <= bound``.

    They differ only on ties, ``acc * multiplier = 2**(shift-1) (mod 2**shift)``.
    Write ``multiplier = odd * 2**t``. A tie needs ``acc * odd`` to be an odd
    multiple of ``2**(shift-1-t)``; ``odd`` has no factor two, so ``acc`` itself
    is one, ``acc = k * 2**(shift-1-t)`` with ``k`` odd. Hence

    - there is no tie if ``bound < 2**(shift-1-t)``, or if ``shift <= t``, where
      every quotient is whole;
    - at a tie the quotient is ``k * odd / 2``. If ``odd >= 511`` its magnitude
      is at least 255.5, both neighbours are at least 255 away from zero, and
      with an 8-bit zero point and clamp both saturate to the same value.

    Multipliers that come from measured scales have large odd parts, so ties
    matter in practice only for scales with a few significant bits, such as
    powers of two.
    """
    if multiplier == 0:
        return False
    trailing = (multiplier & -multiplier).bit_length() - 1
    if multiplier >> trailing >= 511 or shift <= trailing:
        return False
    return bound >= 1 << (shift - 1 - trailing)


def choose_rounding(
    multipliers: npt.ArrayLike, shifts: npt.ArrayLike, bounds: npt.ArrayLike
) -> str:
    """``nearest_even``, or the far cheaper ``nearest_up`` where no result can tell them apart.

    Args:
        multipliers, shifts, bounds: scalars or one per channel, see `ties_matter`.
    """
    triples = np.broadcast(*(np.atleast_1d(np.asarray(a)) for a in (multipliers, shifts, bounds)))
    if any(ties_matter(int(m), int(s), int(b)) for m, s, b in triples):
        return "nearest_even"
    return "nearest_up"


#: ``255 * (ma + mb) < 2**31``: both 9-bit differences at their extremes.
ADD_WEIGHT_LIMIT = 2**23


def add_weights(scale_a: float, scale_b: float) -> tuple[int, int, Fraction]:
    """Integer weights for a sum of two tensors of different scales.

    ``scale_a * p + scale_b * q`` is close to ``unit * (ma * p + mb * q)`` with
    ``ma, mb >= 1`` and ``ma + mb < 2**23``, so that the sum of two 9-bit
    differences fits i32. The ratio is the best rational approximation under
    that bound (a truncated continued fraction), so its relative error is below
    ``2**-22`` for any ratio within ``2**22`` of one; beyond that the smaller
    term is less than ``2**-14`` of a step, or the larger one saturates.

    Returns:
        ``(ma, mb, unit)``; scale the accumulator by ``unit / scale_y``.
    """
    a, b = Fraction(scale_a), Fraction(scale_b)
    small, large = min(a, b), max(a, b)
    ratio = max(small / large, Fraction(1, ADD_WEIGHT_LIMIT // 2))
    ratio = ratio.limit_denominator(ADD_WEIGHT_LIMIT // 2 - 1)
    if ratio == 0:
        ratio = Fraction(1, ADD_WEIGHT_LIMIT // 2 - 1)
    m_small, m_large = ratio.numerator, ratio.denominator
    unit = large / m_large
    return (m_small, m_large, unit) if a <= b else (m_large, m_small, unit)
