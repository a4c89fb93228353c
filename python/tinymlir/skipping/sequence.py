"""Weights refitted layer by layer, each on what the layers before it give by now.

`compensation.without` fits a layer to its operands as the exact network has them. But once the
layers before leave something out, their outputs are others, and vary less; and so do those of
every layer behind. Here a layer is fitted from the operands z that it really gets to what the
exact one, with weights w, makes of the operands x: the least squares for y = w·x by v·z are
C_zz v = C_zy. So errors do not add up from layer to layer. Layers that leave nothing out make up
for those before them as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from tinymlir.kernels.convolution import Convolution
from tinymlir.numerics import I32_MAX, I32_MIN
from tinymlir.skipping.accumulate import EXACT
from tinymlir.skipping.layerwise import Bytes, Constants, Layerwise, Step
from tinymlir.skipping.removal import Doubles, noise, refitted
from tinymlir.skipping.statistics import flat_weights, spread, windows

#: Windows that a layer is fitted on, at least, and for each operand.
_WINDOWS, _WINDOWS_BY_OPERAND = 1 << 14, 32
#: Windows for each operand without which a layer that leaves nothing out stays as it is.
_ENOUGH = 4
#: Samples with the same windows, and elements of the window matrix that is made at a time.
_TOGETHER, _BLOCK = 32, 1 << 22


@dataclass(frozen=True)
class Moments:
    """Of operands z, and of outputs y without bias.

    ``mean_z`` (G, K), ``mean_y`` (G, O per group), and covariances ``zz`` (G, K, K), ``zy``
    (G, K, O per group).
    """

    mean_z: Doubles
    mean_y: Doubles
    zz: Doubles
    zy: Doubles


class SequentialFit:
    """What refits a network, of which the exact activations are kept."""

    def __init__(
        self, network: Layerwise, convs: Mapping[str, Convolution], samples: Sequence[Bytes]
    ) -> None:
        """
        Args:
            convs: convolutions by layer symbol, those that may be refitted.
            samples: one array per input, (N, *shape); as many count as memory allows.
        """
        self.network, self.convs = network, convs
        self.exact = network.trace(samples)
        #: moments of layers before which nothing is left out
        self._unchanged: dict[str, Moments] = {}

    def __call__(self, gone: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Constants]:
        """Constants of the layers that are reduced, and of those behind them.

        Args:
            gone: operands that are left out, (channels, K), by layer symbol.
        """
        values = self.exact[: self.network.inputs]
        fitted: dict[str, Constants] = {}
        for step in self.network.steps:
            same = all(values[n] is self.exact[n] for n in step.sources)
            if same and step.symbol not in gone:
                values.append(self.exact[len(values)])
                continue
            if step.symbol in self.convs and (step.symbol in gone or self._enough(step)):
                conv = self.convs[step.symbol]
                none = np.zeros((conv.groups * conv.out_per_group, conv.weights[0, 0].size), bool)
                moments = self._moments(step, values)
                fitted[step.symbol] = _fit(conv, moments, gone.get(step.symbol, none))
            values.append(self.network.run(step, values, fitted.get(step.symbol)))
        return fitted

    def _enough(self, step: Step) -> bool:
        conv = self.convs[step.symbol]
        count = _places(conv, len(self.exact[0])) * len(self.exact[0])
        return count >= _ENOUGH * conv.weights[0, 0].size

    def _moments(self, step: Step, values: Sequence[Bytes]) -> Moments:
        x, z = (known[step.sources[0]] for known in (self.exact, values))
        if x is not z:
            return _moments(self.convs[step.symbol], x, z)
        if step.symbol not in self._unchanged:
            self._unchanged[step.symbol] = _moments(self.convs[step.symbol], x, x)
        return self._unchanged[step.symbol]


def _fit(conv: Convolution, moments: Moments, skipped: npt.NDArray[np.bool_]) -> Constants:
    before = flat_weights(conv).astype(np.float64)
    gone = skipped.reshape(before.shape)
    after = np.zeros_like(before)

    def channel(where: tuple[int, int]) -> None:
        # What was zero before stays so: it costs nothing, and may be part of a unit.
        kept = ~gone[where] & (before[where] != 0)
        after[where] = np.rint(refitted(best[where], inverses[where[0]], kept))

    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        added = [noise(covariance) for covariance in moments.zz]
        inverses = list(pool.map(np.linalg.inv, moments.zz + added))
        wanted = moments.zy + added @ before.transpose(0, 2, 1)
        best = (inverses @ wanted).transpose(0, 2, 1)
        list(pool.map(channel, np.ndindex(before.shape[:2])))
    moved = moments.mean_y - np.einsum("gok,gk->go", after, moments.mean_z)
    bias = np.clip(conv.bias + np.rint(moved).reshape(-1), I32_MIN, I32_MAX)
    return after.reshape(conv.weights.shape).astype(np.int8), bias.astype(np.int32)


def _places(conv: Convolution, samples: int) -> int:
    """Output positions of each sample that a layer is fitted on."""
    wanted = max(_WINDOWS, _WINDOWS_BY_OPERAND * conv.weights[0, 0].size)
    return min(-(-wanted // samples), conv.out_hw[0] * conv.out_hw[1])


def _moments(conv: Convolution, x: Bytes, z: Bytes) -> Moments:
    """Over windows of all samples, at places that differ from batch to batch.

    Sums of integers are exact, in float32 for so few of them, so they depend neither on
    batches nor on threads.
    """
    weights = flat_weights(conv).transpose(0, 2, 1)
    groups, operands, channels = weights.shape
    places = _places(conv, len(x))
    step = max(1, min(_TOGETHER, _BLOCK // (places * groups * operands)))
    kind = np.float32 if operands <= EXACT else np.float64
    mean_z, mean_y = np.zeros((groups, operands)), np.zeros((groups, channels))
    zz, zy = np.zeros((groups, operands, operands)), np.zeros((groups, operands, channels))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        counted = spread(conv, places, start // step * places)
        b = windows(conv, z[part], counted)
        a = b if x is z else windows(conv, x[part], counted)
        y = (a.astype(kind) @ weights.astype(kind)).astype(np.float64)
        mean_z += b.sum(1)
        mean_y += y.sum(1)
        zy += b.transpose(0, 2, 1).astype(np.float64) @ y
        for first in range(0, b.shape[1], EXACT):
            few = b[:, first : first + EXACT].astype(np.float32)
            zz += few.transpose(0, 2, 1) @ few
    count = len(x) * places
    mean_z, mean_y = mean_z / count, mean_y / count
    return Moments(
        mean_z,
        mean_y,
        zz / count - mean_z[:, :, None] * mean_z[:, None, :],
        zy / count - mean_z[:, :, None] * mean_y[:, None, :],
    )
