"""A network on this machine, with any layer at any level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tinymlir.skipping.layerwise import BATCH, Bytes, Constants, Layerwise

#: Weights and biases of the layers that are reduced, by symbol, from the levels of layers.
Reduction = Callable[[Mapping[str, int]], Mapping[str, Constants]]


class Evaluator:
    """What a search asks for: the same network again and again, with other weights."""

    def __init__(self, network: Layerwise, reduction: Reduction) -> None:
        self._network, self._reduction = network, reduction

    def __call__(
        self, samples: Sequence[Bytes], levels: Mapping[str, int], *, raw: bool = False
    ) -> Bytes:
        """The network's first output, (N, elements), with layers at ``levels`` (0 if not named).

        ``raw``: what the softmax, if that is the last layer, is of.
        """
        constants = self._reduction(levels)
        batches = range(0, len(samples[0]), BATCH)
        return np.concatenate(
            [self._batch([a[i : i + BATCH] for a in samples], constants, raw) for i in batches]
        )

    def _batch(self, samples: list[Bytes], constants: Mapping[str, Constants], raw: bool) -> Bytes:
        values = list(samples)
        result = self._network.scores if raw else self._network.results[0]
        for step in self._network.steps:
            values.append(self._network.run(step, values, constants.get(step.symbol)))
        return values[result].reshape(len(samples[0]), -1)
