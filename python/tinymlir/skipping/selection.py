"""Which units go, and how many MACs that saves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymlir.skipping.units import Units, sum_by_unit

#: Channels that go together: kernels take them by words.
_WORD = 4


def least_significant(
    scores: npt.NDArray[np.float64], fraction: float, lost: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """The ``fraction`` of units not ``lost`` already that score least; of equals the first."""
    there = np.ones(scores.size, bool) if lost is None else ~lost.reshape(-1)
    order = np.argsort(np.where(there, scores.reshape(-1), np.inf), kind="stable")
    gone = np.zeros(scores.size, bool)
    gone[order[: round(fraction * there.sum())]] = True
    return gone.reshape(scores.shape)


def least_channels(scores: npt.NDArray[np.float64], fraction: float) -> npt.NDArray[np.bool_]:
    """The ``fraction`` of channels that score least, not all: words, where that leaves words."""
    word = _WORD if scores.size % _WORD == 0 else 1
    count = min(word * round(fraction * scores.size / word), scores.size - word)
    return least_significant(scores, count / scores.size)


def skipped_macs(weights: npt.NDArray[np.int8], table: Units, macs: int) -> int:
    """MACs of units whose weights are all zero.

    Args:
        weights: (G, O per group, KH, KW, I).
        table: operands by unit.
        macs: of the layer, padding included.
    """
    flat = weights.reshape(weights.shape[0] * weights.shape[1], -1)
    used = sum_by_unit((flat != 0).astype(np.float64), table) > 0
    sizes = (table >= 0).sum(-1)
    return int((~used * sizes).sum()) * (macs // flat.size)
