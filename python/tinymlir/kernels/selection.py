"""Which of the candidates of each layer to take, by their prices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tinymlir.kernels.price import Price

Aim = Literal["balanced", "size", "speed"]

#: What bytes of flash are counted in: functions and constants begin at whole words.
_UNIT = 4
#: How many percent of flash one percent of speed may cost: within the room, beyond it, and where
#: beyond it is only if that is still too much.
_WITHIN, _BEYOND, _AT_LEAST = 5.0, 0.5, 0.25


def choose(
    layers: Sequence[Sequence[Price]], aim: Aim, max_flash: int | None = None, room: int = 0
) -> list[int]:
    """The candidate of each layer that serves the aim best, all together within ``max_flash``.

    ``speed`` is the fewest cycles and ``size`` the fewest bytes. ``balanced`` takes both in
    proportion to the fastest and to the smallest network: one percent of speed may cost five of
    flash within ``room``, and the best that fits is taken. The room is given up where even one
    percent of speed for a quarter of one of flash would not fit; then one percent may cost half a
    percent.

    It is the multiple-choice knapsack problem, solved exactly by dynamic programming over words
    of flash. Where nothing fits, the smallest candidates are chosen.

    Args:
        layers: for each layer the prices of its candidates, at least one.
        aim: what counts.
        max_flash: bytes that all candidates taken may have together, by their prices.
        room: bytes that they should have, where ``balanced`` is the aim.
    """
    problem = _Problem(layers)
    if aim == "balanced" and max_flash is None:
        best = problem.best(_WITHIN, 1)
        if problem.flash(best) <= room:
            return best
        fits = problem.flash(problem.best(_AT_LEAST, 1)) <= room
        return problem.best(_WITHIN, 1, room) if fits else problem.best(_BEYOND, 1)
    speed, size = {"speed": (1, 0), "size": (0, 1), "balanced": (_WITHIN, 1)}[aim]
    return problem.best(speed, size, max_flash)


class _Problem:
    """Cycles and words of flash of each layer's candidates."""

    def __init__(self, layers: Sequence[Sequence[Price]]) -> None:
        self.cycles = [np.array([p.cycles for p in prices], float) for prices in layers]
        self.sizes = [np.array([-(-p.flash_bytes // _UNIT) for p in prices]) for prices in layers]
        self.least_cycles = max(sum(c.min() for c in self.cycles), 1)
        self.least_size = max(sum(int(s.min()) for s in self.sizes), 1)

    def flash(self, chosen: list[int]) -> int:
        """Bytes of the candidates chosen."""
        return _UNIT * sum(int(s[i]) for s, i in zip(self.sizes, chosen, strict=True))

    def best(self, speed: float, size: float, max_flash: int | None = None) -> list[int]:
        """The least sum of shares of the least cycles and size, so often each."""
        costs = [
            speed * c / self.least_cycles + size * s / self.least_size + _tie(c, s)
            for c, s in zip(self.cycles, self.sizes, strict=True)
        ]
        best = [int(cost.argmin()) for cost in costs]
        if max_flash is None or self.flash(best) <= max_flash:
            return best
        spare = max_flash // _UNIT - self.least_size
        if spare < 0:
            return self.best(0, 1)
        return _knapsack(costs, [s - s.min() for s in self.sizes], spare)


def _tie(cycles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Less than any difference that counts: of equals, take the faster, then the smaller."""
    return 1e-9 * cycles / max(cycles.max(), 1) + 1e-12 * sizes / max(sizes.max(), 1)


def _knapsack(costs: list[np.ndarray], weights: list[np.ndarray], room: int) -> list[int]:
    """One of each list, of the least cost together, with weights of at most ``room``."""
    best = np.zeros(room + 1)
    taken = []
    for cost, weight in zip(costs, weights, strict=True):
        table = np.full((len(cost), room + 1), np.inf)
        for row, price, heavy in zip(table, cost, weight, strict=True):
            if heavy <= room:
                row[heavy:] = best[: room + 1 - heavy] + price
        taken.append(table.argmin(axis=0).astype(np.uint8))
        best = table.min(axis=0)
    chosen = []
    for choices, weight in zip(reversed(taken), reversed(weights), strict=True):
        chosen.append(int(choices[room]))
        room -= int(weight[chosen[-1]])
    return chosen[::-1]
