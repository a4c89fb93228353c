"""The accumulators of a convolution on this machine, whatever its weights: a product of matrices.

A search asks for a layer with ever other weights. A BLAS library takes them as they come, where the
layer itself, whose kernels look at its weights, would be compiled each time.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from tinymlir.kernels.convolution import Convolution
from tinymlir.skipping.statistics import Bytes, views

Floats = npt.NDArray[np.floating]

#: Products of two int8 of which float32 holds the sum, whatever the order: 2²⁴ / 2¹⁴.
EXACT = 1 << 10
#: Elements of the windows, or of a tap of them, at a time: those that a cache holds.
_BLOCK = 1 << 18


def accumulate(
    conv: Convolution,
    weights: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32],
    samples: Bytes,
) -> npt.NDArray[np.int32]:
    """What ``conv`` with other ``weights`` and ``bias`` adds up, (N, pixels, channels), exactly.

    Args:
        weights: of the shape of ``conv.weights``.
        samples: (N, ...), inputs in NHWC.
    """
    by_tap = conv.in_per_group == conv.out_per_group == 1
    one = _depthwise if by_tap else _product
    kind = np.float32 if weights[0, 0].size <= EXACT else np.float64
    pixels = conv.out_hw[0] * conv.out_hw[1]
    result = np.empty((len(samples), pixels, len(bias)), np.int32)
    step = max(1, _BLOCK // (pixels * (len(bias) if by_tap else weights[:, 0].size)))

    def run(start: int) -> None:
        part = slice(start, start + step)
        sums = one(views(conv, samples[part].astype(kind)), weights.astype(kind))
        result[part] = sums.reshape(result[part].shape)
        result[part] += bias

    with ThreadpoolController().limit(limits=1), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, range(0, len(samples), step)))
    return result


def _depthwise(seen: Floats, weights: Floats) -> Floats:
    """Of windows (N, H, W, channels, KH, KW), tap by tap."""
    total = np.zeros(seen.shape[:4], seen.dtype)
    for i, j in np.ndindex(seen.shape[4:]):
        total += seen[..., i, j] * weights[:, 0, i, j, 0]
    return total


def _product(seen: Floats, weights: Floats) -> Floats:
    groups, channels, *_, depth = weights.shape
    count, height, width = seen.shape[:3]
    grouped = seen.reshape(count, height, width, groups, depth, *seen.shape[4:])
    operands = grouped.transpose(3, 0, 1, 2, 5, 6, 4).reshape(groups, -1, weights[0, 0].size)
    flat = weights.reshape(groups, channels, -1).transpose(0, 2, 1)
    return (operands @ flat).transpose(1, 0, 2)
