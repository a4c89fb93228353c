"""Which of the candidates of each layer to take, by their prices."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from tinymlir.kernels.price import Price

Aim = Literal["balanced", "size", "speed"]

#: What bytes of flash are counted in: functions and constants begin at whole words.
_UNIT = 4
#: How many percent of flash one percent of speed may cost: within the room, beyond it, and where
#: beyond it is only if that is still too much.
_WITHIN, _BEYOND, _AT_LEAST = 10.0, 1.0, 0.25
#: Prices of flash between which functions are looked for that leave room, and steps of the search.
_CHEAPEST, _DEAREST, _HALVINGS = 1e-3, 1e3, 8
#: Powers of a function's callers that its price is divided by, for sets to begin a search with.
_SHARES = (1.0, 0.5, 0.0)
#: A difference that rounding may make.
_TINY = 1e-12


def choose(
    layers: Sequence[Sequence[Price]], aim: Aim, max_flash: int | None = None, room: int = 0
) -> list[int]:
    """The candidate of each layer that serves the aim best, all together within ``max_flash``.

    ``speed`` is the fewest cycles and ``size`` the fewest bytes. ``balanced`` takes both in
    proportion to the fastest and to the smallest network: one percent of speed may cost five of
    flash within ``room``, and the best that fits is taken. The room is given up where even one
    percent of speed for a quarter of one of flash would not fit; then one percent may cost one
    percent.

    It is the multiple-choice knapsack problem, solved exactly by dynamic programming over words
    of flash for given functions that layers have in common (`Price.shared`), which are paid for
    once. Which of these there are is a local search from several beginnings, in steps that have
    some of them come, go or take the place of others. Where nothing fits, the smallest candidates
    are chosen.

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
    """Cycles and words of flash of all candidates, layer by layer, and the functions they call.

    Functions that only one layer's candidates call are part of the size of these.
    """

    def __init__(self, layers: Sequence[Sequence[Price]]) -> None:
        prices = [price for known in layers for price in known]
        ends = np.cumsum([len(known) for known in layers])
        self.layers = [
            slice(end - len(known), end) for end, known in zip(ends, layers, strict=True)
        ]
        callers = Counter(name for known in layers for name in {n for p in known for n in p.shared})
        names = sorted(name for name, count in callers.items() if count > 1)
        sizes = {name: size for price in prices for name, size in price.shared.items()}
        self.functions = np.array([_words(sizes[name]) for name in names], int)
        #: [candidate, function]: whether it is called
        self.calls = np.array([[name in p.shared for name in names] for p in prices], bool)
        self.calls = self.calls.reshape(len(prices), len(names))
        #: the same, a bit for each function
        self.masks = [sum(1 << int(f) for f in np.flatnonzero(row)) for row in self.calls]
        own = [p.flash_bytes - sum(p.shared.get(name, 0) for name in names) for p in prices]
        self.sizes = np.array([_words(size) for size in own], int)
        self.cycles = np.array([p.cycles for p in prices], float)
        self.least_cycles = max(sum(self.cycles[layer].min() for layer in self.layers), 1)
        self.least_size = 1
        self.smallest = self._search(0, 1)
        self.least_size = max(self._flash(self.smallest), 1)

    def flash(self, chosen: list[int]) -> int:
        """Bytes of the candidates chosen."""
        picked = [layer.start + i for layer, i in zip(self.layers, chosen, strict=True)]
        return _UNIT * self._flash(picked)

    def best(self, speed: float, size: float, max_flash: int | None = None) -> list[int]:
        """The least sum of shares of the least cycles and size, so often each."""
        best = self._best(speed, size, None if max_flash is None else max_flash // _UNIT)
        return [i - layer.start for layer, i in zip(self.layers, best, strict=True)]

    def _best(self, speed: float, size: float, room: int | None) -> list[int]:
        best = self._search(speed, size)
        if room is None or self._flash(best) <= room:
            return best
        if self._flash(self.smallest) > room:
            return self.smallest
        # Functions are those that are best for some price of flash, near that at which all fits.
        tried = [best, self.smallest]
        low, high = _CHEAPEST, _DEAREST
        for _ in range(_HALVINGS if len(self.functions) else 0):
            middle = (low * high) ** 0.5
            tried.append(self._search(speed, size + middle))
            low, high = (low, middle) if self._flash(tried[-1]) <= room else (middle, high)
        sets = np.unique([self.calls[picked].any(axis=0) for picked in tried], axis=0)
        found = [self._fitted(self._costs(speed, size), there, room) for there in sets]
        return min((f for f in found if f is not None), key=lambda f: f[0])[1]

    def _fitted(
        self, costs: np.ndarray, there: np.ndarray, room: int
    ) -> tuple[float, list[int]] | None:
        """The cost, and the best candidates within so many words for which these functions do."""
        costs = np.where(self._able(there), costs, np.inf)
        weights, spare = [], room - int(self.functions[there].sum())
        for layer in self.layers:
            able = np.isfinite(costs[layer])
            if not able.any():
                return None
            least = int(self.sizes[layer][able].min())
            weights.append(np.where(able, self.sizes[layer] - least, room + 1))
            spare -= least
        if spare < 0:
            return None
        chosen = _knapsack([costs[layer] for layer in self.layers], weights, spare)
        picked = [layer.start + i for layer, i in zip(self.layers, chosen, strict=True)]
        return float(costs[picked].sum()), picked

    def _flash(self, picked: list[int]) -> int:
        """Words of these candidates, one for each layer."""
        called = self.calls[picked].any(axis=0)
        return int(self.sizes[picked].sum() + self.functions[called].sum())

    def _able(self, there: np.ndarray) -> np.ndarray:
        """The candidates for which these functions do."""
        return np.array(~self.calls[:, ~there].any(axis=1))

    def _costs(self, speed: float, size: float) -> np.ndarray:
        """What candidates cost, functions apart."""
        costs = speed * self.cycles / self.least_cycles + size * self.sizes / self.least_size
        for layer in self.layers:
            costs[layer] += _tie(self.cycles[layer], self.sizes[layer])
        return costs

    def _search(self, speed: float, size: float) -> list[int]:
        """The best by local search from several sets of functions.

        A step has the functions of a candidate come or go, or those of another one in their place.
        """
        costs = self._costs(speed, size).tolist()
        prices = (size * self.functions / self.least_size).tolist()
        ranked = [self._ranked(layer, costs) for layer in self.layers]

        @functools.cache
        def price(called: int) -> float:
            return sum(cost for f, cost in enumerate(prices) if called >> f & 1)

        @functools.cache
        def solve(there: int) -> tuple[float, int, list[int]]:
            """The best candidates for which these functions do: their cost, and what they call."""
            total, called, picked = 0.0, 0, list[int]()
            for known in ranked:
                cost, calls, i = _first(known, there)
                picked.append(i)
                total, called = total + cost, called | calls
            return total + price(called), called, picked

        sets = sorted(
            {calls for known in ranked for _, calls, _ in known}
            | {1 << f for f in range(len(prices))}
        )
        found = []
        for there in self._starts(costs, prices):
            (least, called, best), before = solve(there), math.inf
            while least < before:
                before = least
                for part in sets:
                    gone = sorted({self.masks[i] for i in best}) if part & ~called else []
                    others = [there | part if part & ~there else there & ~part]
                    for other in (*others, *(called & ~out | part for out in gone)):
                        step = solve(other)
                        if step[0] < least - _TINY:
                            (least, called, best), there = step, other
            found.append((least, best))
        return min(found, key=lambda f: f[0])[1]

    def _starts(self, costs: list[float], prices: list[float]) -> list[int]:
        """Functions to begin a search with: all of them, and those of candidates that are best
        where each function is paid for by all layers that could call it, or by some of them.
        """
        able = sum(self.calls[layer].any(axis=0).astype(int) for layer in self.layers)
        starts = [(1 << len(prices)) - 1]
        for power in _SHARES if prices else ():
            shared = costs + self.calls @ (np.array(prices) / able**power)
            picked = [layer.start + int(shared[layer].argmin()) for layer in self.layers]
            starts.append(functools.reduce(operator.or_, (self.masks[i] for i in picked)))
        return starts

    def _ranked(self, layer: slice, costs: list[float]) -> list[_Ranked]:
        """Candidates of a layer, the cheapest first, without those that call all that one before
        them calls.
        """
        kept: list[_Ranked] = []
        for i in sorted(range(layer.start, layer.stop), key=costs.__getitem__):
            if all(calls & ~self.masks[i] for _, calls, _ in kept):
                kept.append((costs[i], self.masks[i], i))
        return kept


#: What a candidate costs, the functions that it calls, and its number.
_Ranked: TypeAlias = tuple[float, int, int]


def _first(ranked: list[_Ranked], there: int) -> _Ranked:
    """The first candidate for which these functions do."""
    for candidate in ranked:
        if not candidate[1] & ~there:
            return candidate
    return math.inf, 0, -1


def _words(size: int) -> int:
    return -(-size // _UNIT)


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
