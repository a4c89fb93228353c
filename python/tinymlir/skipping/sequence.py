"""Weights refitted layer by layer, each on what the layers before it give by now.

`compensation.without` fits a layer to its operands as the exact network has them. But once the
layers before leave something out, their outputs are others, and vary less; and so do those of
every layer behind. Here a layer is fitted from the operands z that it really gets to what the
exact one, with weights w, makes of the operands x: the least squares for w·x by v·z are
C_zz v = C_zx w. So errors do not add up from layer to layer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from tinymlir.kernels.convolution import Convolution
from tinymlir.numerics import I32_MAX, I32_MIN
from tinymlir.skipping.layerwise import Bytes, Constants, Layerwise, Step
from tinymlir.skipping.removal import Doubles, noise, refitted
from tinymlir.skipping.statistics import flat_weights, spread, windows

#: Windows that a layer is fitted on, at least, and for each operand.
_WINDOWS, _WINDOWS_BY_OPERAND = 1 << 14, 32
#: Bytes that the activations of all samples take, at most.
_MEMORY = 1 << 28
#: Elements of the window matrix that is made at a time, and samples with the same windows.
_BLOCK, _TOGETHER = 1 << 22, 32


#: Means of the operands x and z, (G, K), and their covariances C_zz and C_zx, (G, K, K).
Moments = tuple[Doubles, Doubles, Doubles, Doubles]


class SequentialFit:
    """What refits a network, of which the exact activations are kept."""

    def __init__(
        self, network: Layerwise, convs: Mapping[str, Convolution], samples: Sequence[Bytes]
    ) -> None:
        """
        Args:
            convs: convolutions by layer symbol.
            samples: one array per input, (N, *shape); as many count as memory allows.
        """
        self.network, self.convs = network, convs
        bytes_of_one = sum(v[0].nbytes for v in self._exact([array[:1] for array in samples]))
        self.count = min(len(samples[0]), max(1, _MEMORY // bytes_of_one))
        self.exact = self._exact([array[: self.count] for array in samples])
        #: moments of layers before which nothing is left out
        self._unchanged: dict[str, Moments] = {}

    def __call__(self, gone: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Constants]:
        """Constants of the layers that are reduced.

        Args:
            gone: operands that are left out, (channels, K), by layer symbol.
        """
        values = self.exact[: len(self.exact) - len(self.network.steps)]
        fitted: dict[str, Constants] = {}
        for step in self.network.steps:
            if step.symbol in gone:
                moments = self._moments(step, values)
                fitted[step.symbol] = _fit(self.convs[step.symbol], moments, gone[step.symbol])
            same = all(values[n] is self.exact[n] for n in step.sources)
            if same and step.symbol not in gone:
                values.append(self.exact[len(values)])
            elif len(fitted) < len(gone):
                values.append(self.network.run(step, values, fitted.get(step.symbol)))
            else:
                break
        return fitted

    def _moments(self, step: Step, values: Sequence[Bytes]) -> Moments:
        x, z = (known[step.sources[0]] for known in (self.exact, values))
        if x is not z:
            return _moments(self.convs[step.symbol], x, z)
        if step.symbol not in self._unchanged:
            self._unchanged[step.symbol] = _moments(self.convs[step.symbol], x, x)
        return self._unchanged[step.symbol]

    def _exact(self, samples: Sequence[Bytes]) -> list[Bytes]:
        values = list(samples)
        for step in self.network.steps:
            values.append(self.network.run(step, values))
        return values


def _fit(conv: Convolution, moments: Moments, skipped: npt.NDArray[np.bool_]) -> Constants:
    before = flat_weights(conv).astype(np.float64)
    gone = skipped.reshape(before.shape)
    mean_x, mean_z, zz, zx = moments
    after = np.zeros_like(before)
    added = [noise(covariance) for covariance in zz]

    def channel(where: tuple[int, int]) -> None:
        group = where[0]
        wanted = (zx[group] + added[group]) @ before[where]
        # What was zero before stays so: it costs nothing, and may be part of a unit.
        kept = ~gone[where] & (before[where] != 0)
        after[where] = np.rint(refitted(wanted, zz[group] + added[group], kept))

    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(channel, np.ndindex(before.shape[:2])))
    moved = np.einsum("gok,gk->go", before, mean_x) - np.einsum("gok,gk->go", after, mean_z)
    bias = np.clip(conv.bias + np.rint(moved).reshape(-1), I32_MIN, I32_MAX)
    return after.reshape(conv.weights.shape).astype(np.int8), bias.astype(np.int32)


def _moments(conv: Convolution, x: Bytes, z: Bytes) -> Moments:
    """Over windows of all samples, at places that differ from batch to batch.

    Sums of integers in float64 are exact, so they depend neither on batches nor on threads.
    """
    groups, _, operands = flat_weights(conv).shape
    wanted = max(_WINDOWS, _WINDOWS_BY_OPERAND * operands)
    places = min(-(-wanted // len(x)), conv.out_hw[0] * conv.out_hw[1])
    step = max(1, min(_TOGETHER, _BLOCK // (places * groups * operands)))
    sums = [np.zeros((groups, operands)) for _ in range(2)]
    squares = [np.zeros((groups, operands, operands)) for _ in range(2)]
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        counted = spread(conv, places, start // step * places)
        a, b = (windows(conv, v[part], counted).astype(np.float64) for v in (x, z))
        for total, seen in zip(sums, (a, b), strict=True):
            total += seen.sum(1)
        for square, seen in zip(squares, (b, a), strict=True):
            square += b.transpose(0, 2, 1) @ seen
    count = len(x) * places
    mean_x, mean_z = (total / count for total in sums)
    zz, zx = (
        square / count - mean_z[:, :, None] * mean[:, None, :]
        for square, mean in zip(squares, (mean_z, mean_x), strict=True)
    )
    return mean_x, mean_z, zz, zx
