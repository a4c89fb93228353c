"""How much each unit of products matters to its output."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from tinymlir.skipping.removal import damped, removal_costs
from tinymlir.skipping.statistics import Statistics
from tinymlir.skipping.units import Granularity, Units, sum_by_unit, units

Score = Literal["expected-share", "rms-over-std", "residual", "impact"]
#: Scores of which there is one of whole channels (`tinymlir.skipping.channels`).
BY_CHANNEL: tuple[Score, ...] = ("residual", "impact")
Doubles = npt.NDArray[np.float64]


def significance(
    weights: npt.NDArray[np.int8],
    statistics: Statistics,
    score: Score,
    granularity: Granularity,
    influence: Doubles | None = None,
) -> Doubles:
    """The score of every unit, (G · O per group, U); 0 for units whose weights are zero.

    * ``expected-share``: mean of |x·w / Σ x·w| over samples and positions (ATAMAN, ICECS
      2024), summed over the unit. Positions where Σ is 0 do not count.
    * ``rms-over-std``: root mean square of the unit's contribution, over the standard
      deviation of the output.
    * ``residual``: root mean square of the error of the output, over its standard deviation,
      once this unit and all that score lower are gone and the rest is refitted
      (`removal_costs`).
    * ``impact``: that error, times the root of the channel's ``influence``: root mean square of
      what becomes of the network's scores.

    Args:
        weights: (G, O per group, K).
        influence: of each output channel, (O,) (`tinymlir.skipping.influence`).
    """
    table = units(weights.shape[-1], granularity)
    values = _SCORES[score](weights.astype(np.float64), statistics, table)
    dead = sum_by_unit((weights != 0).astype(np.float64), table) == 0
    values = np.where(dead, 0, values).reshape(-1, len(table))
    if score != "impact":
        return values
    assert influence is not None
    return values * np.sqrt(influence)[:, None]


def _expected_share(weights: Doubles, statistics: Statistics, table: Units) -> Doubles:
    return sum_by_unit(statistics.shares, table).reshape(*weights.shape[:2], -1)


def _rms_over_std(weights: Doubles, statistics: Statistics, table: Units) -> Doubles:
    offset = statistics.mean - statistics.zero_point
    second = statistics.covariance + offset[:, :, None] * offset[:, None, :]
    padded = np.where(table >= 0, table, 0)
    ours = np.where(table >= 0, weights[:, :, padded], 0)
    blocks = second[:, padded[:, :, None], padded[:, None, :]]
    square = np.einsum("goui,guij,gouj->gou", ours, blocks, ours)
    return _over_std(np.sqrt(np.maximum(square, 0)), weights, statistics)


def _residual(weights: Doubles, statistics: Statistics, table: Units) -> Doubles:
    inverses = [np.linalg.inv(damped(c)) for c in statistics.covariance]
    channels = list(np.ndindex(weights.shape[:2]))
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        costs = list(pool.map(lambda c: removal_costs(weights[c], inverses[c[0]], table), channels))
    square = np.stack(costs).reshape(*weights.shape[:2], -1)
    return _over_std(np.sqrt(np.maximum(square, 0)), weights, statistics)


def _over_std(values: Doubles, weights: Doubles, statistics: Statistics) -> Doubles:
    """Divided by the outputs' standard deviations; an output that is constant needs nothing."""
    std = np.sqrt(statistics.output_variance(weights)).reshape(*weights.shape[:2], 1)
    return np.divide(values, std, out=np.zeros_like(values), where=std > 0)


_SCORES: dict[Score, Callable[[Doubles, Statistics, Units], Doubles]] = {
    "expected-share": _expected_share,
    "rms-over-std": _rms_over_std,
    "residual": _residual,
    "impact": _residual,
}
