"""Monotone roundings as staircases, and the lines that pass between their steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinymlir.numerics import MULTIPLIER_BITS, IntArray

#: Multipliers differ by less than this share from the reference's scale.
_RELATIVE = 2.0**-12
_FAR = np.int64(1) << 61


@dataclass(frozen=True)
class Stairs:
    """Steps of all channels (channels x steps), as points that a line must separate.

    The line must reach ``heights`` at ``thresholds`` where ``reached``, and must not at the
    accumulators ``before`` where ``kept``.
    """

    thresholds: IntArray
    heights: IntArray
    reached: np.ndarray
    kept: np.ndarray
    before: IntArray

    def of(self, channels: IntArray) -> Stairs:
        """Those of some channels."""
        fields = self.thresholds, self.heights, self.reached, self.kept, self.before
        return Stairs(*(f if f.ndim == 1 else f[channels] for f in fields))

    def last(self, multipliers: IntArray) -> IntArray:
        """The step that a line with each multiplier reaches last: that of the least offset."""
        up = self.heights - multipliers[:, None] * self.thresholds
        return np.where(self.reached, up, -_FAR).argmax(axis=1)

    def offsets(self, multipliers: IntArray) -> tuple[IntArray, IntArray]:
        """Least and greatest offset for each multiplier; there is none if they cross."""
        factors = multipliers[:, None]
        up = self.heights - factors * self.thresholds
        lower = np.where(self.reached, up, -_FAR).max(axis=1)
        below = self.heights - factors * self.before - 1
        upper = np.where(self.kept, below, _FAR).min(axis=1)
        return lower, upper

    def multipliers(self, offsets: IntArray, nominal: IntArray) -> IntArray | None:
        """Multipliers next to ``nominal`` for these offsets; None if a channel has none."""
        least, most = np.zeros_like(nominal), np.full_like(nominal, (1 << MULTIPLIER_BITS) - 1)
        rise = self.heights - offsets[:, None]
        # Reached: T·m >= rise. Kept: (T - 1)·m <= rise - 1. Both turn around where T < 0.
        for points, bound, asked in (
            (-self.thresholds, -rise, self.reached),
            (self.before, rise - 1, self.kept),
        ):
            if (asked & (points == 0) & (bound < 0)).any():
                return None
            quotient = bound // np.where(points == 0, 1, points)
            ceiling = -(-bound // np.where(points == 0, 1, points))
            most = np.minimum(most, np.where(asked & (points > 0), quotient, most[:, None]).min(1))
            least = np.maximum(
                least, np.where(asked & (points < 0), ceiling, least[:, None]).max(1)
            )
        return np.clip(nominal, least, most) if (least <= most).all() else None

    def widest(self, nominal: IntArray) -> IntArray:
        """The multipliers near ``nominal`` that leave the offset the most room."""

        def room(multipliers: IntArray) -> IntArray:
            lower, upper = self.offsets(multipliers)
            return upper - lower

        reach = np.maximum((nominal * _RELATIVE).astype(np.int64), 2)
        left = np.maximum(nominal - reach, 0)
        right = np.minimum(nominal + reach, (1 << MULTIPLIER_BITS) - 1)
        while (right - left > 2).any():
            third = (right - left) // 3
            rises = room(left + third) < room(right - third)
            left, right = np.where(rises, left + third, left), np.where(rises, right, right - third)
        around = [np.minimum(left + d, right) for d in range(3)]
        best = np.argmax([room(m) for m in around], axis=0)
        return np.choose(best, around)


def stairs_of(
    reference: Callable[[IntArray], IntArray],
    ends: tuple[IntArray, IntArray],
    limits: tuple[int, int],
    shift: int,
) -> Stairs:
    """The steps of a reference, from accumulators (channels x any) to results within ``limits``.

    Accumulators of each channel lie between its ``ends``.
    """
    least, most = ends
    steps = np.arange(limits[0] + 1, limits[1] + 1, dtype=np.int64)
    thresholds = _thresholds(reference, least, most, steps)
    reached, kept = thresholds <= most[:, None], thresholds > least[:, None]
    return Stairs(thresholds, steps << shift, reached, kept, thresholds - 1)


def spread(low: IntArray, high: IntArray, channels: np.ndarray) -> tuple[IntArray, IntArray]:
    """The least and the greatest accumulator of each of ``channels``."""
    least, most = (np.broadcast_to(a, channels.shape).astype(np.int64) for a in (low, high))
    return least, most


def _thresholds(
    reference: Callable[[IntArray], IntArray], low: IntArray, high: IntArray, steps: IntArray
) -> IntArray:
    """The least accumulator whose result is at each step or above; ``high + 1`` if none is."""
    shape = (len(low), len(steps))
    left = np.broadcast_to(low[:, None] - 1, shape)
    right = np.broadcast_to(high[:, None] + 1, shape)
    while (right - left > 1).any():
        middle = (left + right) >> 1
        above = reference(middle) >= steps
        apart = right - left > 1
        left, right = np.where(apart & ~above, middle, left), np.where(apart & above, middle, right)
    return right
