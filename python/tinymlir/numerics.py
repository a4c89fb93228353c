"""Integer arithmetic of quantised layers: from real scales to multipliers, and the reference.

The compiled code, the frontends and the tests share these definitions;
docs/quantization.md derives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    scaled = _scaled(acc, multiplier, shift, rounding)
    return np.clip(scaled + zero_point, minimum, maximum).astype(np.int8)


def _scaled(
    acc: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, rounding: str
) -> IntArray:
    """``round(acc * multiplier / 2**shift)``, not clamped."""
    acc64, m, s = (np.asarray(a).astype(np.int64) for a in (acc, multiplier, shift))
    if rounding == "double":
        return _double_rounding(acc64, m, s)
    if rounding == "float32":
        scale = np.ldexp(m.astype(np.float64), -s).astype(np.float32)
        return np.rint(acc64.astype(np.float32) * scale).astype(np.int64)
    if rounding not in ("nearest_even", "nearest_up"):
        raise ValueError(f"unknown rounding '{rounding}'")
    product = acc64 * m
    half = (np.int64(1) << s) >> 1
    if rounding == "nearest_up":
        return (product + half) >> s
    floor = product >> s
    rest = product - (floor << s)
    tie = (rest == half) & (s > 0)
    return floor + ((rest > half) | (tie & (floor % 2 == 1)))


def _nearest(product: IntArray, shift: IntArray, rounding: str) -> IntArray:
    """``product / 2**shift`` to the nearest integer."""
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


@dataclass(frozen=True)
class Fit:
    """Integer scales that stand in for a float32 computation.

    Attributes:
        multipliers, shifts: one for each channel.
        rounding: a mode of ``tiny.requantize`` for all of them.
        exact: per channel, whether every reachable accumulator gives the
            reference's result.
    """

    multipliers: npt.NDArray[np.int32]
    shifts: npt.NDArray[np.int32]
    rounding: str
    exact: npt.NDArray[np.bool_]


#: Results this many steps further from zero are taken to be half as likely, where not all
#: accumulators can be made to agree.
_HALVING = 16
#: Rounding boundaries to look at on the way to a better multiplier.
_NEIGHBOURS = 12

Reference = Callable[[IntArray], npt.NDArray[np.floating]]


def float32_product(scales: npt.NDArray[np.float32]) -> Reference:
    """``round_half_even(float32(acc) * scale)`` in float32: ONNX Runtime's requantisation.

    Args:
        scales: one for each channel; accumulators are channels x anything.
    """
    return lambda acc: np.rint(acc.astype(np.float32) * scales[:, None])


def fit(
    scales: npt.ArrayLike,
    reference: Reference,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    first: int,
    last: int,
) -> Fit:
    """Multipliers for which exact integer arithmetic gives what float32 rounds to.

    A float32 product is off by up to half a unit in its last place, so it can
    fall on the other side of a rounding boundary than the exact product. The
    reference is a monotone staircase: for each boundary between the results
    ``k`` and ``k + 1`` there is one least accumulator ``T`` that reaches
    ``k + 1``. The integer form agrees everywhere if and only if it agrees at
    each ``T`` and each ``T - 1``, and these are linear inequalities on the
    multiplier: for ``nearest_up`` and ``T > 1``

        ``(k + 1/2) / T <= multiplier / 2**shift < (k + 1/2) / (T - 1)``.

    The multiplier has seven more bits than a float32 mantissa, so where the
    nearest one fails, another one in the intersection of those intervals
    nearly always exists. The choice is checked exactly at every boundary.

    ``nearest_up`` costs least and is taken unless ``nearest_even`` fits more
    channels, as it does where true ties occur (scales such as powers of two).

    Args:
        scales: real scales, one for each channel.
        reference: from accumulators (channels x boundaries) to rounded results.
        low, high: reachable accumulators, for each channel or for all.
        first, last: the results that the clamp lets through.
    """
    real = np.asarray(scales, np.float64).reshape(-1)
    least, greatest = (
        np.broadcast_to(np.asarray(a, np.int64), real.shape)[:, None] for a in (low, high)
    )
    pairs = [quantize_multiplier(scale) for scale in real]
    nominal, shifts = (np.array(column, np.int64)[:, None] for column in zip(*pairs, strict=True))
    steps = np.arange(first, last, dtype=np.int64)[None, :]
    thresholds = _thresholds(real, reference, least, greatest, steps)

    # Where the result must have reached k + 1, and where it must not yet.
    points = np.stack([thresholds, thresholds - 1])
    valid = np.stack([thresholds <= greatest, thresholds > least])
    candidates = _candidates(real, nominal, shifts, steps, points, valid)
    likely = np.exp2(-np.abs(steps) / _HALVING)
    best: Fit | None = None
    best_cost = np.inf
    for rounding in ("nearest_up", "nearest_even"):
        chosen, cost = nominal, np.full(nominal.shape, np.inf)
        for candidate in candidates:
            over = _nearest(points * candidate, shifts, rounding) > steps
            wrong = ((over[0] != valid[0]) & valid[0]) | (over[1] & valid[1])
            new = (wrong * likely).sum(axis=1, keepdims=True)
            chosen = np.where(new < cost, candidate, chosen)
            cost = np.minimum(new, cost)
        if cost.sum() < best_cost:
            best_cost = cost.sum()
            columns = (chosen.astype(np.int32)[:, 0], shifts.astype(np.int32)[:, 0])
            best = Fit(*columns, rounding, cost[:, 0] == 0)
        if best_cost == 0:
            break
    assert best is not None
    return best


def _thresholds(
    scales: npt.NDArray[np.float64],
    reference: Reference,
    low: IntArray,
    high: IntArray,
    steps: IntArray,
) -> IntArray:
    """The least accumulator in ``low..high`` whose result is above each step; else ``high + 1``."""
    with np.errstate(divide="ignore", over="ignore"):
        centre = np.clip((steps + 0.5) / scales[:, None], -(2.0**40), 2.0**40)
    slack = 2 + np.abs(centre) * 2.0**-20
    for margin in (slack, np.float64(2.0**41)):
        left = np.clip(np.floor(centre - margin), low - 1, high).astype(np.int64)
        right = np.clip(np.ceil(centre + margin), low, high + 1).astype(np.int64)
        below = (left < low) | (reference(np.maximum(left, low)) <= steps)
        above = (right > high) | (reference(np.minimum(right, high)) > steps)
        if below.all() and above.all():
            break
    while (right - left > 1).any():
        middle = (left + right) >> 1
        over = reference(middle) > steps
        open_ = right - left > 1
        right = np.where(open_ & over, middle, right)
        left = np.where(open_ & ~over, middle, left)
    return right


def _candidates(
    scales: npt.NDArray[np.float64],
    nominal: IntArray,
    shifts: IntArray,
    steps: IntArray,
    points: IntArray,
    valid: npt.NDArray[np.bool_],
) -> list[IntArray]:
    """Multipliers to try: the nearest, then both sides of the boundaries next to it."""
    with np.errstate(divide="ignore"):
        bounds = np.where(valid & (points != 0), (steps + 0.5) / points, np.inf)
    # Only boundaries within float32's rounding of the scale can be on the wrong side.
    distance = np.abs(bounds / scales[:, None] - 1)
    distance = distance.transpose(1, 0, 2).reshape(len(scales), -1)
    flat = bounds.transpose(1, 0, 2).reshape(len(scales), -1)
    count = min(_NEIGHBOURS, flat.shape[1])
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :count]
    limit = 2.0**MULTIPLIER_BITS - 1
    candidates = [nominal]
    for column in nearest.T:
        close = distance[np.arange(len(scales)), column] < 2.0**-22
        bound = np.where(close, flat[np.arange(len(scales)), column], 0)[:, None]
        scaled = np.clip(np.ldexp(bound, shifts), 0, limit)
        for side in (np.floor(scaled) - 1, np.ceil(scaled) + 1):
            inside = (side > 0) & (side <= limit) & close[:, None]
            candidates.append(np.where(inside, side, nominal).astype(np.int64))
    return candidates


#: ``255 * (ma + mb) < 2**31``: both 9-bit differences at their extremes.
ADD_WEIGHT_LIMIT = 2**23


@dataclass(frozen=True)
class Sum:
    """Integer arithmetic for ``scale_a * p + scale_b * q`` at the scale of the result.

    ``clamp(round((ma * p + mb * q + offset) * multiplier / 2**shift) + zero_point)``

    Attributes:
        weights: ``ma`` and ``mb``, both positive, ``ma + mb < 2**23``.
        offset: added to the accumulator.
        zero_point: added to the result.
        mismatches: of the 65536 pairs of operands, how many round otherwise
            than the float32 reference.
    """

    weights: tuple[int, int]
    offset: int
    zero_point: int
    multiplier: int
    shift: int
    rounding: str
    mismatches: int


def fit_sum(
    scales: tuple[float, float], scale: float, zero_points: tuple[int, int, int], sign: int = 1
) -> Sum:
    """Integer weights for the sum of two int8 tensors of different scales.

    The reference is ``rint(ra * p + rb * q + zp)`` in float32 with
    ``ra = scale_a / scale_y``: ONNX Runtime's QLinearAdd. The first candidate is
    the best rational approximation of ``scale_a : scale_b`` under the bound on
    the weights (a truncated continued fraction). Its result can differ from the
    reference only for the few pairs that lie close to a rounding boundary;
    further candidates are tried until those agree too.

    Args:
        scales: of the operands ``a`` and ``b``.
        scale: of the result.
        zero_points: of ``a``, ``b`` and the result.
        sign: minus one for the difference.
    """
    numbers = np.arange(I8_MIN, I8_MAX + 1, dtype=np.int64)
    p = np.repeat(numbers - zero_points[0], 256)
    q = np.tile(numbers - zero_points[1], 256) * sign
    single = [np.float32(s) / np.float32(scale) for s in scales]
    total = p.astype(np.float32) * single[0] + q.astype(np.float32) * single[1]
    wanted = np.rint(total + np.float32(zero_points[2]))
    wanted = np.clip(wanted, I8_MIN, I8_MAX)
    real = (p * float(scales[0]) + q * float(scales[1])) / float(scale)
    # No candidate is off by as much as this, so all other pairs are safe.
    close = np.abs(real - np.floor(real) - 0.5) < 2.0**-9
    best: Sum | None = None
    for ma, mb, offset, multiplier, shift in _sum_candidates(*scales, scale, zero_points[2]):
        zero_point = zero_points[2] - (1 if offset else 0)
        for rounding in ("nearest_up", "nearest_even"):
            acc = ma * p[close] + mb * q[close] + offset
            got = requantize(acc, multiplier, shift, zero_point, rounding=rounding)
            mismatches = int((got != wanted[close]).sum())
            if best is None or mismatches < best.mismatches:
                best = Sum((ma, mb), offset, zero_point, multiplier, shift, rounding, mismatches)
        if best is not None and best.mismatches == 0:
            break
    assert best is not None
    return best


def _sum_candidates(
    scale_a: float, scale_b: float, scale: float, zero_point: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """Weights, offset, multiplier and shift: the best approximation, then others close to it.

    The reference rounds ties to even after adding the zero point. With an odd
    one that is ``round_half_even(v + 1) + zero_point - 1``, for which an offset
    of one output step is tried where that is a whole number.
    """
    a, b = Fraction(float(scale_a)), Fraction(float(scale_b))
    small, large = min(a, b), max(a, b)
    limit = ADD_WEIGHT_LIMIT // 2 - 1
    # Beyond this ratio the smaller term is lost against the larger, or that one saturates.
    ratio = max(small / large, Fraction(1, limit))
    approximation = ratio.limit_denominator(limit)
    pairs = [(approximation.numerator, approximation.denominator)]
    pairs += [(max(1, round(ratio * n)), n) for n in range(limit, limit - 200 * 997, -997)]
    for m_small, m_large in pairs:
        unit = large / m_large / Fraction(float(scale))
        multiplier, shift = quantize_multiplier(unit)
        weights = (m_small, m_large) if a <= b else (m_large, m_small)
        step = 1 / unit
        if zero_point % 2 and step.denominator == 1 and step.numerator < ADD_WEIGHT_LIMIT:
            yield (*weights, step.numerator, multiplier, shift)
        yield (*weights, 0, multiplier, shift)
