"""Channels of depthwise layers as what is left out.

A channel of a depthwise layer that is left out saves its products and its output, that of the layer
before, which nobody reads then, and a column of each layer behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import func, ir
from tinymlir.channels import Channels, Place, find_channels
from tinymlir.kernels.convolution import Convolution
from tinymlir.skipping.annotations import forget, skippable
from tinymlir.skipping.removal import damped
from tinymlir.skipping.statistics import Statistics, flat_weights

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DepthwiseChannels:
    """Layers that the channels of a depthwise layer run through, by symbol.

    Those with ``rows`` make or pass them: output channels. Those with ``columns`` read them.
    """

    count: int
    rows: Mapping[str, Place]
    columns: Mapping[str, Place]

    def operands(self, symbol: str, conv: Convolution, channels: Mask) -> Mask:
        """The operands of a layer, (channels, K), that go with ``channels``, (count,)."""
        lost = np.zeros((len(conv.bias), conv.weights[0, 0].size), bool)
        if symbol in self.rows:
            lost[channels[self.rows[symbol].channels(len(lost), self.count)]] = True
        else:
            lost[:, channels[self.by_operand(symbol, conv)]] = True
        return lost

    def by_operand(self, symbol: str, conv: Convolution) -> npt.NDArray[np.intp]:
        """The channel of each operand of a window of a reader, (K,)."""
        one_tap = self.columns[symbol].channels(conv.in_per_group, self.count)
        return np.tile(one_tap, conv.kernel[0] * conv.kernel[1])

    def symbols(self) -> set[str]:
        return {*self.rows, *self.columns}


def depthwise_channels(module: ir.Operation) -> dict[str, DepthwiseChannels]:
    """By layer symbol, of depthwise layers whose channels can go."""
    layers = list(skippable(module))
    found: dict[str, DepthwiseChannels] = {}
    for layer, conv in layers:
        if conv.in_per_group == conv.out_per_group == 1 < conv.groups:
            channels = find_channels(module, layer)
            known = None if channels is None else _of_layers(channels, layers)
            if known is not None:
                found[layer.name.value] = known
    return found


def _of_layers(
    channels: Channels, layers: list[tuple[func.FuncOp, Convolution]]
) -> DepthwiseChannels | None:
    """None where layers that read channels are no convolutions of one group."""
    rows: dict[str, Place] = {}
    columns: dict[str, Place] = {}
    readers = {result for result, _ in channels.readers}
    for layer, conv in layers:
        for value, places in ((conv.result, rows), (conv.source, columns)):
            place = channels.values.get(value)
            if place is None:
                continue
            if place.dim != len(value.type.shape) - 1 or (places is columns and conv.groups > 1):
                return None
            places[layer.name.value] = place
            readers.discard(conv.result)
            break
    if readers or not columns:
        return None
    return DepthwiseChannels(channels.count, rows, columns)


def lost_operands(
    gone: Mapping[str, Mask],
    known: Mapping[str, DepthwiseChannels],
    convs: Mapping[str, Convolution],
) -> dict[str, Mask]:
    """Operands, (channels, K), that go with channels of depthwise layers, by layer symbol.

    Args:
        gone: channels that go, (count,), by symbol of the depthwise layer.
        convs: all convolutions of the network.
    """
    lost: dict[str, Mask] = {}
    for symbol, channels in gone.items():
        for tied in known[symbol].symbols():
            operands = known[symbol].operands(tied, convs[tied], channels)
            lost[tied] = lost[tied] | operands if tied in lost else operands
    return lost


def channel_significance(
    channels: DepthwiseChannels,
    convs: Mapping[str, Convolution],
    statistics: Mapping[str, Statistics],
    influences: Mapping[str, Doubles],
) -> Doubles:
    """The score of each channel, (count, 1): what its readers lose by it and all that score lower.

    Root mean square of the errors of their outputs, relative to their standard deviations, once
    their other operands make up for the channels (`removal_costs`, for all outputs of a layer
    at once); times the root of ``influences`` of outputs, where these are known.
    """
    readers = []
    for symbol in channels.columns:
        weights = flat_weights(convs[symbol])
        variance = statistics[symbol].output_variance(weights.astype(np.float64))
        scale = np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
        if symbol in influences:
            scale = scale * influences[symbol]
        inverse = np.linalg.inv(damped(statistics[symbol].covariance[0])).astype(np.float64)
        by_operand = channels.by_operand(symbol, convs[symbol])
        readers.append(_Reader(weights[0] * np.sqrt(scale)[:, None], inverse, by_operand))
    costs = np.zeros((channels.count, 1))
    left = list(range(channels.count))
    lost = 0.0
    while left:
        alone = np.sum([reader.costs(left) for reader in readers], axis=0)
        cheapest = int(np.argmin(alone))
        lost += float(alone[cheapest])
        channel = left.pop(cheapest)
        costs[channel] = np.sqrt(lost)
        for reader in readers:
            reader.remove(channel)
    return costs


class _Reader:
    """A layer without some channels, the other operands refitted to make up for them."""

    def __init__(self, weights: Doubles, inverse: Doubles, channels: npt.NDArray[np.intp]) -> None:
        self.weights, self.inverse, self.channels = weights, inverse, channels

    def costs(self, left: list[int]) -> Doubles:
        """Output variance that each of the channels that are left costs."""
        return np.array([self._cost(np.flatnonzero(self.channels == c)) for c in left])

    def _cost(self, out: npt.NDArray[np.intp]) -> float:
        block, own = self.inverse[np.ix_(out, out)], self.weights[:, out]
        return float((own * np.linalg.solve(block, own.T).T).sum())

    def remove(self, channel: int) -> None:
        out, keep = self.channels == channel, self.channels != channel
        solved = np.linalg.solve(self.inverse[np.ix_(out, out)], self.inverse[out])
        self.weights = (self.weights - self.weights[:, out] @ solved)[:, keep]
        self.inverse = (
            self.inverse[np.ix_(keep, keep)] - self.inverse[np.ix_(keep, out)] @ solved[:, keep]
        )
        self.channels = self.channels[keep]


def sort_channels(module: ir.Operation, layer: func.FuncOp, significance: Doubles) -> None:
    """Give the channels of ``layer`` by falling significance, (count, 1)."""
    channels = find_channels(module, layer)
    if channels is not None:
        # As they are as attributes, so that the order is the same there.
        order = np.argsort(-significance.reshape(-1).astype(np.float32), kind="stable")
        for changed in channels.take(order):
            forget(changed)
