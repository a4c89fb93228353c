"""Integer scales that give what ONNX Runtime's float32 arithmetic gives.

Both searches keep the run-time form (one multiplication and a shift) and only
choose its constants well; docs/quantization.md explains why that works.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.line_fit import short_shift
from tinymlir.numerics import IntArray

#: From accumulators (channels x any) to rounded results.
Reference = Callable[[IntArray], npt.NDArray[np.floating]]

#: Results this many steps further from zero are taken to be half as likely.
_HALVING = 16
#: Rounding boundaries to look at on the way to a better multiplier.
_NEIGHBOURS = 12
#: Expected share of results that may differ before the dearer exact mode is taken. Layers
#: have some ten thousand results, and each difference makes several in the layers after it.
_TOLERANCE = 1e-9


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


def fit(
    scales: npt.ArrayLike,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    first: int,
    last: int,
    reference: Reference | None = None,
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
    mostly exists. The choice is checked exactly at every boundary. Where the
    intersection is empty, the boundaries that results reach most often win.

    ``nearest_up`` costs least. ``nearest_even`` is taken where it fits better,
    as it does where true ties occur (scales such as powers of two), and
    ``float32``, some three instructions dearer, where neither fits nearly
    everywhere and the reference is a plain product.

    Args:
        scales: real scales, one for each channel.
        low, high: reachable accumulators, for each channel or for all.
        first, last: the results that the clamp lets through.
        reference: what to agree with; if absent, ONNX Runtime's
            ``round_half_even(float32(acc) * float32(scale))``.
    """
    real = np.asarray(scales, np.float64).reshape(-1)
    product = real.astype(np.float32)[:, None]
    target = reference or (lambda acc: np.rint(acc.astype(np.float32) * product))
    least, most = (
        np.broadcast_to(np.asarray(a, np.int64), real.shape)[:, None] for a in (low, high)
    )
    pairs = [numerics.quantize_multiplier(scale) for scale in real]
    nominal, shifts = (np.array(column, np.int64)[:, None] for column in zip(*pairs, strict=True))
    steps = np.arange(first, last, dtype=np.int64)[None, :]
    thresholds = _thresholds(real, target, least, most, steps)
    # Where the result must have reached k + 1, and where it must not yet.
    points = np.stack([thresholds, thresholds - 1])
    valid = np.stack([thresholds <= most, thresholds > least])
    # The chance to meet one particular accumulator, for results around zero.
    chance = real[:, None] * np.exp2(-np.abs(steps) / _HALVING) / (2 * _HALVING)
    staircase = _Staircase(real, shifts, steps, points, valid, np.minimum(chance, 1.0))

    best: Fit | None = None
    best_risk = np.inf
    for rounding in ("nearest_up", "nearest_even"):
        chosen, risk = staircase.improve(nominal, rounding)
        if risk.mean() < best_risk:
            best_risk = float(risk.mean())
            columns = (chosen.astype(np.int32)[:, 0], shifts.astype(np.int32)[:, 0])
            best = Fit(*columns, rounding, risk[:, 0] == 0)
        if best_risk < _TOLERANCE:
            break
    if reference is None and best_risk >= _TOLERANCE:
        pairs = [numerics.quantize_multiplier(float(scale)) for scale in product[:, 0]]
        multipliers, exponents = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
        best = Fit(multipliers, exponents, "float32", np.ones(real.shape, bool))
    assert best is not None
    return best


@dataclass(frozen=True)
class _Staircase:
    """The boundaries of the reference; arrays are channels x boundaries."""

    scales: npt.NDArray[np.float64]
    shifts: IntArray
    steps: IntArray
    #: the accumulators on both sides of each boundary: at or above it, below it
    points: IntArray
    valid: npt.NDArray[np.bool_]
    chance: npt.NDArray[np.float64]

    def risk(self, multipliers: IntArray, rounding: str) -> npt.NDArray[np.float64]:
        """Expected share of results that differ from the reference, for each channel."""
        over = numerics.nearest(self.points * multipliers, self.shifts, rounding) > self.steps
        wrong = (~over[0] & self.valid[0]) * self.chance + (over[1] & self.valid[1]) * self.chance
        return wrong.sum(axis=1, keepdims=True)

    def improve(self, nominal: IntArray, rounding: str) -> tuple[IntArray, npt.NDArray[np.float64]]:
        """The best multipliers near ``nominal`` and their risk."""
        chosen, risk = nominal.copy(), self.risk(nominal, rounding)
        rows = np.flatnonzero(risk[:, 0])
        if not len(rows):
            return chosen, risk
        part = _Staircase(
            self.scales[rows],
            self.shifts[rows],
            self.steps,
            self.points[:, rows],
            self.valid[:, rows],
            self.chance[rows],
        )
        for candidate in part.candidates(nominal[rows]):
            new = part.risk(candidate, rounding)
            better = new < risk[rows]
            chosen[rows] = np.where(better, candidate, chosen[rows])
            risk[rows] = np.where(better, new, risk[rows])
        return chosen, risk

    def candidates(self, nominal: IntArray) -> Iterator[IntArray]:
        """Multipliers on both sides of the boundaries next to the scale."""
        with np.errstate(divide="ignore"):
            bounds = np.where(
                self.valid & (self.points != 0), (self.steps + 0.5) / self.points, np.inf
            )
        bounds = bounds.transpose(1, 0, 2).reshape(len(self.scales), -1)
        distance = np.abs(bounds / self.scales[:, None] - 1)
        count = min(_NEIGHBOURS, bounds.shape[1])
        nearest = np.argsort(distance, axis=1, kind="stable")[:, :count]
        rows = np.arange(len(self.scales))
        limit = 2.0**numerics.MULTIPLIER_BITS - 1
        for column in nearest.T:
            # Only within float32's rounding can a boundary be on the wrong side.
            close = (distance[rows, column] < 2.0**-22)[:, None]
            scaled = np.ldexp(np.where(close, bounds[rows, column][:, None], 0), self.shifts)
            for side in (np.floor(scaled) - 1, np.ceil(scaled) + 1):
                usable = close & (side > 0) & (side <= limit)
                yield np.where(usable, side, nominal).astype(np.int64)


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


#: ``255 * (ma + mb) < 2**31``: both 9-bit differences at their extremes.
ADD_WEIGHT_LIMIT = 2**23


#: Accumulators of a sum whose results may be given one by one.
_MOST_EXCEPTIONS = 8
#: Changes to the multiplier of a sum, within float32's rounding of the scales.
_NUDGES = (0, 24, -24, 64, -64)


@dataclass(frozen=True)
class Sum:
    """Integer arithmetic for ``scale_a * p + scale_b * q`` at the scale of the result.

    ``clamp(round((ma * p + mb * q + offset) * multiplier / 2**shift) + zero_point)``

    Attributes:
        weights: ``ma`` and ``mb``, both positive. All that is shifted down fits 32 bits.
        offset: added to the accumulator.
        zero_point: added to the result.
        mismatches: of the 65536 pairs of operands, how many round otherwise
            than the float32 reference.
        exceptions: accumulators with the results that they shall have, where few of them
            make all pairs agree; else none.
    """

    weights: tuple[int, int]
    offset: int
    zero_point: int
    multiplier: int
    shift: int
    rounding: str
    mismatches: int
    exceptions: tuple[tuple[int, int], ...] = ()


def fit_sum(
    scales: tuple[float, float],
    scale: float,
    zero_points: tuple[int, int, int],
    sign: int,
    wanted: IntArray,
) -> Sum:
    """Integer weights for the sum of two int8 tensors of different scales.

    Weights that hold the scale of the result already (`_short_sum`) are best. The next
    candidate is the best rational approximation of ``scale_a : scale_b``
    under the bound on the weights (a truncated continued fraction). Its result can
    differ from a float32 reference's only for the few pairs that lie close to a
    rounding boundary; further candidates are tried until those agree too.

    Args:
        scales: of the operands ``a`` and ``b``.
        scale: of the result.
        zero_points: of ``a``, ``b`` and the result.
        sign: minus one for the difference.
        wanted: the results to agree with, 256 for each value of ``a``.
    """
    numbers = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1, dtype=np.int64)
    p = np.repeat(numbers - zero_points[0], 256)
    q = np.tile(numbers - zero_points[1], 256) * sign
    real = (p * float(scales[0]) + q * float(scales[1])) / float(scale)
    short = _short_sum((scales[0] / scale, scales[1] / scale), zero_points[2], (p, q), wanted)
    if short is not None:
        return short
    # No candidate is off by as much as this, so all other pairs are safe.
    close = np.abs(real - np.floor(real) - 0.5) < 2.0**-9
    p, q, wanted = p[close], q[close], wanted[close]
    likely = np.exp2(-(np.abs(p) + np.abs(q)) / _HALVING)
    best: Sum | None = None
    best_risk = np.inf
    for ma, mb, offset, multiplier, shift in _sum_candidates(*scales, scale, zero_points[2]):
        zero_point = zero_points[2] - (1 if offset else 0)
        acc = ma * p + mb * q + offset
        for rounding in ("nearest_up", "nearest_even"):
            got = numerics.requantize(acc, multiplier, shift, zero_point, rounding=rounding)
            wrong = got != wanted
            risk = float(likely[wrong].sum())
            if risk < best_risk:
                count, best_risk = int(wrong.sum()), risk
                best = Sum((ma, mb), offset, zero_point, multiplier, shift, rounding, count)
        if best_risk == 0:
            break
    assert best is not None
    return dataclasses.replace(best, exceptions=_exceptions(best, p, q, wanted))


def _short_sum(
    slopes: tuple[float, float], zero_point: int, terms: tuple[IntArray, IntArray], wanted: IntArray
) -> Sum | None:
    """The sum whose multiplier is one; None where weights next to the slopes do not agree.

    For given weights each pair bounds the offset: the sum must reach its result, and must not
    reach the next one.
    """
    p, q = terms
    reach = float(np.abs(p).max() * slopes[0] + np.abs(q).max() * slopes[1])
    shift = short_shift(reach, zero_point)
    if shift < 1:
        return None
    weights = tuple(round(slope * 2**shift) for slope in slopes)
    total = weights[0] * p + weights[1] * q - (wanted << shift)
    low = -total[wanted > numerics.I8_MIN].min(initial=1 << 40)
    high = (1 << shift) - 1 - total[wanted < numerics.I8_MAX].max(initial=-(1 << 40))
    if low > high or min(weights) <= 0:
        return None
    nearest = (zero_point << shift) + (1 << (shift - 1))
    offset = min(max(nearest, int(low)), int(high)) - nearest
    return Sum((weights[0], weights[1]), offset, zero_point, 1, shift, "nearest_up", 0)


def _exceptions(
    total: Sum, p: IntArray, q: IntArray, wanted: IntArray
) -> tuple[tuple[int, int], ...]:
    """The accumulators that make ``total`` agree on the pairs ``p``, ``q``; none if too many."""
    if not 0 < total.mismatches <= _MOST_EXCEPTIONS:
        return ()
    acc = total.weights[0] * p + total.weights[1] * q + total.offset
    pair = (total.multiplier, total.shift, total.zero_point)
    wrong = acc[numerics.requantize(acc, *pair, rounding=total.rounding) != wanted]
    known = [(int(a), set(wanted[acc == a].tolist())) for a in np.unique(wrong)]
    if any(len(results) > 1 for _, results in known):
        return ()
    return tuple((a, results.pop()) for a, results in known)


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
        multiplier, shift = numerics.quantize_multiplier(unit)
        weights = (m_small, m_large) if a <= b else (m_large, m_small)
        step = 1 / unit
        if zero_point % 2 and step.denominator == 1 and step.numerator < ADD_WEIGHT_LIMIT:
            yield (*weights, step.numerator, multiplier, shift)
        for nudge in _NUDGES:
            yield (*weights, 0, multiplier + nudge, shift)
