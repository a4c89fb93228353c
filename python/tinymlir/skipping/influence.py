"""How much an error of an output channel moves the scores of the network.

An error that is small beside a channel's own variation may matter much or not at all: behind it
are activations that cut it off, and channels that hardly count. So one channel at a time is made
a little wrong, as if its weights had three bits, the rest of the network runs on, and what
becomes of the scores is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tinymlir.kernels.convolution import Convolution
from tinymlir.progress import progress
from tinymlir.skipping.layerwise import Bytes, Constants, Layerwise, Step
from tinymlir.skipping.statistics import Statistics, flat_weights

Doubles = npt.NDArray[np.float64]

#: Samples on which each channel is made wrong, and samples that are taken for that.
_SAMPLES_BY_CHANNEL, _SAMPLES = 32, 512
#: Steps of the weights that make a channel wrong.
_COARSE = 32
#: Share of the mean influence that every channel has: what few samples do not show may be there.
_LEAST = 0.1


def influence(
    network: Layerwise,
    convs: Mapping[str, Convolution],
    statistics: Mapping[str, Statistics],
    samples: Sequence[Bytes],
) -> dict[str, Doubles]:
    """Mean square by which scores change, for an error as large as the channel's variation.

    Both are relative: to the mean square of the scores, and to the channel's variance.

    Args:
        convs: those that are of interest, by layer symbol.
        statistics: of their operands.
        samples: one array per input, (N, *shape); as many count as memory allows.

    Returns:
        (O,) by layer symbol.
    """
    exact = network.trace([array[:_SAMPLES] for array in samples])
    steps = [(n, step) for n, step in enumerate(network.steps) if step.symbol in convs]
    return {
        step.symbol: _influence(
            network, n, step, convs[step.symbol], statistics[step.symbol], exact
        )
        for n, step in progress(steps, len(steps), "measuring influence")
    }


def _influence(
    network: Layerwise,
    number: int,
    step: Step,
    conv: Convolution,
    statistics: Statistics,
    exact: Sequence[Bytes],
) -> Doubles:
    constants, error = _coarse(conv, statistics)
    right = exact[network.inputs + number]
    wrong = network.run(step, exact, constants)
    count, channels = len(right), len(conv.bias)
    each = np.arange(count)
    total, seen = np.zeros(channels), np.zeros(channels)
    for turn in range(-(-_SAMPLES_BY_CHANNEL * channels // count)):
        # Another channel for each sample; from turn to turn another one for the same sample.
        channel = (each + turn * (count % channels or 1)) % channels
        values = list(exact)
        mixed = right.reshape(count, -1, channels).copy()
        mixed[each, :, channel] = wrong.reshape(mixed.shape)[each, :, channel]
        values[network.inputs + number] = mixed.reshape(right.shape)
        np.add.at(total, channel, _change(network, number, values, exact))
        np.add.at(seen, channel, 1)
    found = np.divide(total / np.maximum(seen, 1), error, out=np.zeros(channels), where=error > 0)
    return found + _LEAST * found.mean() + np.finfo(float).tiny


def _coarse(conv: Convolution, statistics: Statistics) -> tuple[Constants, Doubles]:
    """Weights and biases of channels that are wrong, and the share of their variance, (O,)."""
    before = flat_weights(conv).astype(np.float64)
    after = np.clip(np.rint(before / _COARSE) * _COARSE, -127, 127)
    moved = np.einsum("gok,gk->go", before - after, statistics.mean).reshape(-1)
    variance = np.maximum(statistics.output_variance(before), np.finfo(float).tiny)
    bias = (conv.bias + np.rint(moved)).astype(np.int32)
    weights = after.reshape(conv.weights.shape).astype(np.int8)
    return (weights, bias), statistics.output_variance(before - after) / variance


def _change(
    network: Layerwise, number: int, values: list[Bytes], exact: Sequence[Bytes]
) -> Doubles:
    """Of each sample's scores, (N,), once what layer ``number`` gives has changed."""
    for n in range(number + 1, len(network.steps)):
        step = network.steps[n]
        if any(values[source] is not exact[source] for source in step.sources):
            values[network.inputs + n] = network.run(step, values)
    before, after = (
        known[network.scores].reshape(len(values[0]), -1).astype(np.float64)
        for known in (exact, values)
    )
    moved = after - before
    if before.shape[1] > 1:
        # What all classes have in common decides nothing.
        moved, before = (values - values.mean(1, keepdims=True) for values in (moved, before))
    return (moved**2).mean(1) / max(float((before**2).mean()), np.finfo(float).tiny)
