"""What is known of a layer's inputs: moments of the operands of its products.

The products of a layer are w[o, i] · x[i]: output channel o, operand i of the window in the
order KH, KW, input channel. Operands differ by group; every output channel of a group has
the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tinymlir.kernels.convolution import Convolution

Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int8]
Number = TypeVar("Number", bound=np.generic)

#: Elements of the window matrix that is made at a time.
_BLOCK = 1 << 23
#: Output positions of a sample that count, at most, and products that their moments take: what
#: lies side by side in an image says much the same.
_MOST_POSITIONS, _MOST_PRODUCTS = 256, 1 << 24
#: Output positions that count even where operands are many.
_LEAST_POSITIONS = 16
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Statistics:
    """Moments over the samples and output positions of a calibration set.

    ``mean`` is (G, K), ``covariance`` (G, K, K), ``shares`` (O, K): the mean of
    |x·w / Σ x·w| (`expected_share`), where x counts from ``zero_point``.
    """

    mean: Doubles
    covariance: Doubles
    shares: Doubles
    zero_point: int

    def output_variance(self, weights: Doubles) -> Doubles:
        """Variance of the accumulators, (O,), under ``weights`` (G, O per group, K)."""
        moved = np.einsum("gok,gkj->goj", weights, self.covariance)
        return np.maximum((moved * weights).sum(-1).reshape(-1), 0)


def flat_weights(conv: Convolution) -> npt.NDArray[np.int8]:
    """Weights as (G, O per group, K)."""
    return conv.weights.reshape(conv.groups, conv.out_per_group, -1)


def windows(
    conv: Convolution, samples: Bytes, positions: npt.NDArray[np.intp] | None = None
) -> Bytes:
    """Operands of output positions, (G, N · positions, K), of inputs (N, ...) in NHWC.

    ``positions`` are numbers of output pixels, row by row; all of them where None.
    """
    seen = views(conv, samples)
    if positions is None:
        positions = np.arange(conv.out_hw[0] * conv.out_hw[1])
    rows, columns = np.divmod(positions, conv.out_hw[1])
    picked = seen[:, rows, columns]
    grouped = picked.reshape(*picked.shape[:2], conv.groups, conv.in_per_group, *conv.kernel)
    return np.ascontiguousarray(grouped.transpose(2, 0, 1, 4, 5, 3)).reshape(
        conv.groups, -1, conv.kernel[0] * conv.kernel[1] * conv.in_per_group
    )


def views(conv: Convolution, samples: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The windows of inputs (N, ...) in NHWC, (N, H, W, channels, KH, KW), without a copy."""
    images = samples.reshape(len(samples), *conv.in_hw, conv.groups * conv.in_per_group)
    reach = [conv.dilation[a] * (conv.kernel[a] - 1) + 1 for a in (0, 1)]
    last = [conv.stride[a] * (conv.out_hw[a] - 1) + reach[a] for a in (0, 1)]
    after = [max(0, last[a] - conv.pad[a] - conv.in_hw[a]) for a in (0, 1)]
    around = [(0, 0), (conv.pad[0], after[0]), (conv.pad[1], after[1]), (0, 0)]
    padded = np.pad(images, around, constant_values=conv.pad_value)[:, : last[0], : last[1]]
    seen = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
    (down, across), (tall, wide) = conv.stride, conv.dilation
    return seen[:, ::down, ::across, :, ::tall, ::wide]


def spread(conv: Convolution, wanted: int, first: int = 0) -> npt.NDArray[np.intp]:
    """Numbers of ``wanted`` output pixels; of all, in order, where there are not more.

    Numbers ``first`` and on of a sequence that prefers no row and no column: multiples of the
    golden ratio, of which any stretch is spread evenly.
    """
    pixels = conv.out_hw[0] * conv.out_hw[1]
    if pixels <= wanted:
        return np.arange(pixels)
    return (np.arange(first, first + wanted) * _GOLDEN % 1 * pixels).astype(np.intp)


class Accumulation:
    """Statistics on their way: add batches, then `finish`.

    Sums of integers in float64 are exact, so the moments depend neither on the order of
    samples nor on the number of threads.
    """

    def __init__(self, conv: Convolution, zero_point: int) -> None:
        self.conv, self.zero_point = conv, zero_point
        self.weights = flat_weights(conv).astype(np.float64)
        groups, per_group, operands = self.weights.shape
        self.count = 0
        self.counted = np.zeros((groups, per_group, 1))
        self.first = np.zeros((groups, operands))
        self.second = np.zeros((groups, operands, operands))
        self.shares = np.zeros((groups, per_group, operands))

    def add(self, samples: Bytes) -> None:
        """Count in samples (N, ...) of the layer's input."""
        affordable = _MOST_PRODUCTS // self.second.size
        wanted = max(_LEAST_POSITIONS, min(_MOST_POSITIONS, affordable))
        counted = spread(self.conv, wanted)
        step = max(1, _BLOCK // max(1, len(counted) * self.first.size))
        for start in range(0, len(samples), step):
            seen = windows(self.conv, samples[start : start + step], counted).astype(np.float64)
            self.count += seen.shape[1]
            self.first += seen.sum(1)
            self.second += seen.transpose(0, 2, 1) @ seen
            seen -= self.zero_point
            sums = seen @ self.weights.transpose(0, 2, 1)
            inverse = np.divide(1.0, np.abs(sums), out=np.zeros_like(sums), where=sums != 0)
            self.shares += inverse.transpose(0, 2, 1) @ np.abs(seen)
            self.counted += (sums != 0).sum(1)[..., None]

    def finish(self) -> Statistics:
        mean = self.first / self.count
        covariance = self.second / self.count - mean[:, :, None] * mean[:, None, :]
        shares = np.abs(self.weights) * self.shares / np.maximum(self.counted, 1)
        shares = shares.reshape(-1, shares.shape[-1])
        # As they are as attributes, so that choices are the same there.
        mean, covariance, shares = (
            array.astype(np.float32).astype(np.float64) for array in (mean, covariance, shares)
        )
        return Statistics(mean, covariance, shares, self.zero_point)
