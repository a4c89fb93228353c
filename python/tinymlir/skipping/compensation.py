"""Weights and biases without what is skipped."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from tinymlir.kernels.convolution import Convolution
from tinymlir.numerics import I32_MAX, I32_MIN
from tinymlir.skipping.removal import damped, refitted
from tinymlir.skipping.statistics import Statistics, flat_weights

#: What makes up for what goes: the bias, the other weights as well, or those fitted in turn to
#: what the layers before give by then (`sequence.SequentialFit`).
Compensation = Literal["bias", "weights", "sequence"]
#: Of these, what takes the statistics of the exact network only.
Simple = Literal["bias", "weights"]


def without(
    conv: Convolution,
    statistics: Statistics,
    skipped: npt.NDArray[np.bool_],
    compensation: Simple,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """Weights, of the shape of ``conv.weights``, and biases (channels,) of an approximation.

    What is skipped gets weight zero; its mean goes into the bias. With ``weights`` the
    others of a channel are refitted by least squares first and rounded to int8 again.

    Args:
        skipped: (channels, K).
    """
    before = flat_weights(conv).astype(np.float64)
    gone = skipped.reshape(before.shape)
    after = np.where(gone, 0, before)
    if compensation == "weights":
        after = _refit(before, gone & (before != 0), statistics)
    moved = np.einsum("gok,gk->go", before - after, statistics.mean)
    bias = np.clip(conv.bias + np.rint(moved).reshape(-1), I32_MIN, I32_MAX)
    return after.reshape(conv.weights.shape).astype(np.int8), bias.astype(np.int32)


def _refit(
    before: npt.NDArray[np.float64], gone: npt.NDArray[np.bool_], statistics: Statistics
) -> npt.NDArray[np.float64]:
    after = before.copy()
    inverses = [np.linalg.inv(damped(c)).astype(np.float64) for c in statistics.covariance]

    def channel(where: tuple[int, int]) -> None:
        if gone[where].any():
            # What was zero before stays so: it costs nothing, and may be part of a unit.
            kept = ~gone[where] & (before[where] != 0)
            after[where] = np.rint(refitted(before[where], inverses[where[0]], kept))

    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(channel, np.ndindex(before.shape[:2])))
    return after
