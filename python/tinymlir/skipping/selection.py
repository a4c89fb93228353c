"""Which units go, and how many MACs that saves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymlir.skipping.units import Units, sum_by_unit


def least_significant(scores: npt.NDArray[np.float64], fraction: float) -> npt.NDArray[np.bool_]:
    """The ``fraction`` of units that score least; of equals the first."""
    order = np.argsort(scores, axis=None, kind="stable")
    gone = np.zeros(scores.size, bool)
    gone[order[: round(fraction * scores.size)]] = True
    return gone.reshape(scores.shape)


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
