"""What a number of samples says of an accuracy."""

from __future__ import annotations

from math import ceil, exp, log, sqrt

import numpy as np
import numpy.typing as npt

#: Standard deviations to either side that hold 95 % of a normal distribution.
_DEVIATIONS = 1.959964
#: Standard deviations that 95 % of a normal distribution stay below.
_ONE_SIDED = 1.644854
#: What chance brings about so rarely is no chance, with 95 % confidence.
UNLIKELY = 0.05


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson, 1927)."""
    share, square = correct / samples, _DEVIATIONS**2
    middle = (share + square / (2 * samples)) / (1 + square / samples)
    spread = share * (1 - share) / samples + square / (4 * samples**2)
    half = _DEVIATIONS * sqrt(spread) / (1 + square / samples)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_drop(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]
) -> tuple[float, float, float]:
    """How much less often ``after`` is right on the same samples, and its 95 % interval.

    Only samples on which the two differ count for the spread (Agresti and Min, 2005, with half
    a sample added to each cell), so it is much narrower than the intervals of both.
    """
    lost = float((before & ~after).sum()) + 0.5
    won = float((~before & after).sum()) + 0.5
    samples = len(before) + 2
    spread = _DEVIATIONS * sqrt(max(lost + won - (lost - won) ** 2 / samples, 0)) / samples
    middle = (lost - won) / samples
    drop = float(before.mean() - after.mean())
    return drop, middle - spread, middle + spread


def share_interval(right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """95 % confidence interval of the share that is right, of (N,) or (N, positions).

    `wilson`; of positions, by the normal distribution of what samples have in the mean.
    """
    if right.ndim == 1:
        return wilson(int(right.sum()), len(right))
    low, high = _mean_interval(right.mean(1))
    return max(0.0, low), min(1.0, high)


def drop_interval(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]
) -> tuple[float, float, float]:
    """`paired_drop` of (N,) or, as `share_interval`, of (N, positions)."""
    if before.ndim == 1:
        return paired_drop(before, after)
    gone = before.mean(1) - after.mean(1)
    return float(gone.mean()), *_mean_interval(gone)


def _mean_interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    mean, half = values.mean(), _DEVIATIONS * values.std(ddof=1) / sqrt(len(values))
    return float(mean - half), float(mean + half)


def most_drop(lost: float, won: float, samples: int) -> float:
    """What a network loses at most, with 95 % confidence: the limit of `paired_drop` to one side.

    Args:
        lost: samples on which only the network before is right.
        won: samples on which only the network after is right.
    """
    lost, won, samples = lost + 0.5, won + 0.5, samples + 2
    spread = sqrt(max(lost + won - (lost - won) ** 2 / samples, 0)) / samples
    return (lost - won) / samples + _ONE_SIDED * spread


def most_mean(values: npt.NDArray[np.float64]) -> float:
    """What a mean is at most, with 95 % confidence, by the normal distribution."""
    return float(values.mean() + _ONE_SIDED * values.std(ddof=1) / sqrt(len(values)))


def shows_share(missed: int, samples: int, share: float) -> bool:
    """Whether all but ``missed`` samples show a share above ``share``, with 95 % confidence.

    The exact binomial test (Clopper and Pearson, 1934): were it just the share, 0 < share < 1, so
    few would be missed by chance in 5 % of cases at most.
    """
    term, chance = samples * log(share), 0.0
    for count in range(missed + 1):
        chance += exp(term)
        if count < samples:
            term += log((samples - count) / (count + 1) * (1 - share) / share)
    return chance <= UNLIKELY


def samples_for(drop: float) -> int:
    """Samples below which even perfect agreement does not show that a loss is under ``drop``.

    The rule of three: after n samples without an event, its rate is under 3 / n with 95 %
    confidence.
    """
    return ceil(3 / drop)
