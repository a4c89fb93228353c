"""Integer forms of the ways in which the reference scales its accumulators."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.frontends.canonical.builder import Clamp, Scaling, Special
from tinymlir.numerics import IntArray

from . import arithmetic

#: Accumulators whose results may be given one by one.
_MOST_EXCEPTIONS = 256


def double_rounding(scales: npt.ArrayLike, zero_point: int, clamp: Clamp) -> Scaling:
    """Multiplication by one real factor, or one for each channel, rounded twice."""
    real = np.asarray(scales, np.float64)
    if (real == real.flat[0]).all():
        real = real.flat[0].reshape(())
    pairs = np.array([arithmetic.quantize_multiplier(float(s)) for s in real.reshape(-1)])
    multipliers = pairs[:, 0].astype(np.int32).reshape(real.shape)
    shifts = (31 - pairs[:, 1]).astype(np.int32).reshape(real.shape)
    return Scaling(multipliers, shifts, zero_point, clamp, "double")


def single_rounding(
    scales: npt.NDArray[np.float64], zero_point: int, clamp: Clamp, low: IntArray, high: IntArray
) -> Scaling:
    """Multiplication in double precision, rounded once, ties away from zero.

    A multiplier for ``nearest_up`` gives the same if it puts every boundary between
    two results between the same two accumulators. Those are inequalities on it, which
    31 bits almost always leave a solution; where they do not, the few accumulators that
    it gets wrong become exceptions.

    Args:
        scales: one for each channel, or one for all.
        low, high: the accumulators that can occur, of the same shape.

    Raises:
        NotImplementedError: there are too many exceptions.
    """
    multipliers, shifts = np.empty(len(scales), np.int32), np.empty(len(scales), np.int32)
    exceptions: list[dict[int, int]] = []
    for channel, scale in enumerate(scales):
        stairs = _Staircase(float(scale), zero_point, clamp, int(low[channel]), int(high[channel]))
        multipliers[channel], shifts[channel] = multiplier, shift = stairs.multiplier()
        exceptions.append(stairs.exceptions(multiplier, shift))
    shape = () if len(scales) == 1 else scales.shape
    most = max(map(len, exceptions))
    if most > _MOST_EXCEPTIONS:
        raise NotImplementedError("the accumulator is too large for the scale of the result")
    columns = []
    for i in range(most):
        # A channel without as many has one that its results agree with.
        pairs = [list(e.items())[i] if i < len(e) else (0, zero_point) for e in exceptions]
        at, result = (np.array(n).reshape(shape) for n in zip(*pairs, strict=True))
        result = np.clip(result, clamp.low, clamp.high)
        columns.append(Special(at.astype(np.int32), result.astype(np.int8)))
    return Scaling(
        multipliers.reshape(shape),
        shifts.reshape(shape),
        zero_point,
        clamp,
        "nearest_up",
        tuple(columns),
    )


class _Staircase:
    """The results of one channel, and where one turns into the next.

    ``thresholds`` has for each of ``steps`` the least accumulator whose result exceeds
    it; beyond the accumulators that occur, their end stands for it.
    """

    def __init__(self, scale: float, zero_point: int, clamp: Clamp, low: int, high: int) -> None:
        self.scale, self.zero_point, self.low, self.high = scale, zero_point, low, high
        ends = self.result(np.array([low, high]))
        first = max(clamp.low - zero_point, int(ends[0]) - 1)
        last = min(clamp.high - zero_point, int(ends[1]) + 1)
        self.steps = np.arange(first, last)
        self.thresholds = self._thresholds()

    def result(self, accumulators: IntArray) -> npt.NDArray[np.float64]:
        """Before the zero point is added."""
        return numerics.round_away(accumulators * self.scale)

    def _thresholds(self) -> IntArray:
        left = np.full(len(self.steps), self.low - 1, np.int64)
        right = np.full(len(self.steps), self.high + 1, np.int64)
        while (right - left > 1).any():
            middle = (left + right) >> 1
            above = self.result(middle) > self.steps
            right, left = np.where(above, middle, right), np.where(above, left, middle)
        return right

    def multiplier(self) -> tuple[int, int]:
        """The multiplier next to the scale that meets the inequalities, if any does.

        With ``c = (2 * step + 1) * 2**(shift - 1)`` a threshold T asks for
        ``T * multiplier >= c`` and ``(T - 1) * multiplier < c``.
        """
        nominal, shift = numerics.quantize_multiplier(self.scale)
        least, most = min(nominal, 2**30), 2**31 - 1
        for step, threshold in zip(self.steps.tolist(), self.thresholds.tolist(), strict=True):
            c = (2 * step + 1) << shift >> 1
            if threshold <= self.high:
                if threshold > 0:
                    least = max(least, -(-c // threshold))
                elif threshold < 0:
                    most = min(most, c // threshold)
            if (below := threshold - 1) >= self.low:
                if below > 0:
                    most = min(most, -(-c // below) - 1)
                elif below < 0:
                    least = max(least, c // below + 1)
        return (min(max(nominal, least), most) if least <= most else nominal), shift

    def exceptions(self, multiplier: int, shift: int) -> dict[int, int]:
        """Accumulators whose results the integer form gets wrong, with the right results."""
        wrong: dict[int, int] = {}
        if multiplier == 0:
            return wrong
        for step, threshold in zip(self.steps.tolist(), self.thresholds.tolist(), strict=True):
            other = -(-((2 * step + 1) << shift >> 1) // multiplier)
            first = max(min(threshold, other), self.low)
            last = min(max(threshold, other), self.high + 1)
            if last - first > _MOST_EXCEPTIONS:
                raise NotImplementedError(
                    "the accumulator is too large for the scale of the result"
                )
            for accumulator in range(first, last):
                right = int(self.result(np.array(accumulator)))
                wrong[accumulator] = right + self.zero_point
        return wrong
