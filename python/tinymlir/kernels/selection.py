"""Which of the candidates of each layer to take, by their prices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tinymlir.kernels.price import Price

Aim = Literal["balanced", "size", "speed"]

#: What bytes of flash are counted in: functions and constants begin at whole words.
_UNIT = 4


def choose(layers: Sequence[Sequence[Price]], aim: Aim, max_flash: int | None = None) -> list[int]:
    """The candidate of each layer that serves the aim best, all together within ``max_flash``.

    ``speed`` is the fewest cycles and ``size`` the fewest bytes. ``balanced`` takes both in
    proportion to the network's, of which cycles count twice: one percent of speed may cost two of
    flash. That is the least sum in units of the fastest and of the smallest network.

    It is the multiple-choice knapsack problem, solved exactly by dynamic programming over words
    of flash. Where nothing fits, the smallest candidates are chosen.

    Args:
        layers: for each layer the prices of its candidates, at least one.
        aim: what counts.
        max_flash: bytes that all candidates taken may have together, by their prices.
    """
    cycles = [np.array([p.cycles for p in prices], float) for prices in layers]
    sizes = [np.array([-(-p.flash_bytes // _UNIT) for p in prices]) for prices in layers]
    least_cycles = max(sum(c.min() for c in cycles), 1)
    least_size = max(sum(int(s.min()) for s in sizes), 1)
    speed, size = {"speed": (1, 0), "size": (0, 1), "balanced": (2, 1)}[aim]
    costs = [
        speed * c / least_cycles + size * s / least_size + _tie(c, s)
        for c, s in zip(cycles, sizes, strict=True)
    ]
    best = [int(cost.argmin()) for cost in costs]
    room = None if max_flash is None else max_flash // _UNIT - least_size
    if room is None or sum(int(s[i] - s.min()) for s, i in zip(sizes, best, strict=True)) <= room:
        return best
    if room < 0:
        return choose(layers, "size")
    return _knapsack(costs, [s - s.min() for s in sizes], room)


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
