"""How much of each layer may go: levels, and the weights that they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir
from tinymlir.kernels.convolution import Convolution, replace_constants
from tinymlir.pipeline import run_pipeline
from tinymlir.skipping.annotations import skippable
from tinymlir.skipping.channels import (
    DepthwiseChannels,
    Mask,
    channel_significance,
    depthwise_channels,
    lost_operands,
    sort_channels,
)
from tinymlir.skipping.compensation import Compensation, Simple, without
from tinymlir.skipping.influence import influence
from tinymlir.skipping.layerwise import Bytes, Constants, Layerwise
from tinymlir.skipping.selection import least_channels, least_significant, skipped_macs
from tinymlir.skipping.sequence import SequentialFit
from tinymlir.skipping.significance import BY_CHANNEL, Score, significance
from tinymlir.skipping.statistics import Statistics, flat_weights
from tinymlir.skipping.units import Granularity, Unit, by_operand, units, whole_units

#: Shares of a layer's units that are left out at level 0, 1, ...
FRACTIONS = (0.0, 0.1, 0.2, *(n / 20 for n in range(5, 19)))
#: Layers with a smaller share of the network's MACs stay as they are.
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class SkippableLayer:
    """A layer of which some may go: ``unit`` by ``unit``.

    ``name`` is that of the model, ``symbol`` that of the layer function. ``channels`` are those
    of a depthwise layer, which goes channel by channel.
    """

    symbol: str
    name: str
    macs: int
    conv: Convolution
    scores: npt.NDArray[np.float64]
    unit: Unit
    channels: DepthwiseChannels | None = None

    def gone(self, level: int, lost: Mask | None = None) -> Mask:
        """The operands that a level leaves out, (channels, K), of those not ``lost`` already."""
        operands = by_operand(self._units_gone(level, lost), self._table(), self._operands())
        return operands if lost is None else operands | lost

    def left(self, gone: Mask) -> npt.NDArray[np.int8]:
        """Weights of which those that are ``gone`` are zero."""
        gone = gone.reshape(self.conv.weights.shape)
        return np.where(gone, 0, self.conv.weights).astype(np.int8)

    def channels_gone(self, level: int) -> Mask:
        """The channels that a level of a depthwise layer leaves out, (channels,)."""
        return self._units_gone(level, None).reshape(-1)

    def kept(self, level: int) -> float:
        """The share of channels that a level of a depthwise layer keeps."""
        return 1 - float(self.channels_gone(level).mean())

    def narrowed(self, level: int) -> Convolution:
        """The layer at a level, by itself."""
        if self.channels is None:
            return replace(self.conv, weights=self.left(self.gone(level)))
        kept = ~self.channels_gone(level)
        return replace(self.conv, weights=self.conv.weights[kept], bias=self.conv.bias[kept])

    def skipped_macs(self, gone: Mask) -> int:
        """MACs of units that are all zero, where operands are ``gone``."""
        return skipped_macs(self.left(gone), self._table(), self.macs)

    def threshold(self, level: int) -> float:
        """The significance of what goes, at most."""
        return float(self.scores[self._units_gone(level, None)].max(initial=0))

    def error(self, level: int) -> float:
        """What a level costs beside another one, as far as scores tell: the sum of squares."""
        gone = np.where(self._units_gone(level, None), self.scores, 0)
        # What costs more in a channel goes later, and its score counts all that is gone by then.
        by_channel = gone.max() if self.channels is not None else gone.max(1)
        return float(np.square(by_channel).sum())

    def _units_gone(self, level: int, lost: Mask | None) -> npt.NDArray[np.bool_]:
        if self.channels is not None:
            return least_channels(self.scores, FRACTIONS[level])
        units_lost = None if lost is None else whole_units(lost, self._table())
        return least_significant(self.scores, FRACTIONS[level], units_lost)

    def _operands(self) -> int:
        return int(self.conv.weights[0, 0].size)

    def _table(self) -> npt.NDArray[np.intp]:
        return units(self._operands(), self.unit)


def sort_by_significance(
    module: ir.Module, score: Score, samples: Sequence[Bytes], statistics: Mapping[str, Statistics]
) -> bool:
    """``tiny-sort-channels`` by what ``tiny-significance`` says; returns whether there is any."""
    known = depthwise_channels(module.operation) if score in BY_CHANNEL else {}
    convs = {layer.name.value: conv for layer, conv in skippable(module.operation)}
    readers = {symbol: convs[symbol] for each in known.values() for symbol in each.columns}
    influences = (
        influence(Layerwise(module), readers, statistics, samples)
        if score == "impact" and known
        else {}
    )
    scores = {
        symbol: channel_significance(each, convs, statistics, influences)
        for symbol, each in known.items()
    }
    for layer, _ in list(skippable(module.operation)):
        if layer.name.value in scores:
            sort_channels(module.operation, layer, scores[layer.name.value])
    return bool(known)


def skippable_layers(
    module: ir.Module,
    pays: Callable[[Convolution], bool],
    statistics: Mapping[str, Statistics],
    score: Score,
    granularity: Granularity,
    network: Layerwise,
    samples: Sequence[Bytes],
) -> list[SkippableLayer]:
    """The layers of an outlined module that ``pays`` and depthwise ones, if they are no trifle.

    Args:
        network: that of the module.
        samples: what the `influence` of channels is measured on, where the score needs it.
    """
    found = {
        layer.name.value: (layer.operation.attributes, conv)
        for layer, conv in skippable(module.operation)
    }
    convs = {symbol: conv for symbol, (_, conv) in found.items()}
    macs = {symbol: int(facts["tiny.macs"].value) for symbol, (facts, _) in found.items()}
    by_channel = depthwise_channels(module.operation) if score in BY_CHANNEL else {}

    def share(symbol: str) -> float:
        """Of the network's MACs: a layer's, with those that its channels run through."""
        tied = by_channel[symbol].symbols() if symbol in by_channel else {symbol}
        return sum(macs[each] for each in tied) / max(sum(macs.values()), 1)

    worth = [
        symbol
        for symbol, conv in convs.items()
        if (symbol in by_channel or pays(conv)) and share(symbol) >= _LEAST_SHARE
    ]
    needed = {s for s in worth if s not in by_channel}
    needed |= {reader for s in worth if s in by_channel for reader in by_channel[s].columns}
    influences = (
        influence(network, {s: convs[s] for s in convs if s in needed}, statistics, samples)
        if score == "impact"
        else {}
    )

    def scored(symbol: str) -> npt.NDArray[np.float64]:
        if symbol in by_channel:
            return channel_significance(by_channel[symbol], convs, statistics, influences)
        flat, own = flat_weights(convs[symbol]), influences.get(symbol)
        return significance(flat, statistics[symbol], score, granularity, own)

    return [
        SkippableLayer(
            symbol,
            found[symbol][0]["tiny.layer"].value,
            macs[symbol],
            convs[symbol],
            scored(symbol),
            "channel" if symbol in by_channel else granularity,
            by_channel.get(symbol),
        )
        for symbol in worth
    ]


class Reduction:
    """The constants of layers at levels."""

    def __init__(
        self,
        layers: Sequence[SkippableLayer],
        convs: Mapping[str, Convolution],
        statistics: Mapping[str, Statistics],
        compensation: Compensation,
        network: Layerwise,
        samples: Sequence[Bytes],
    ) -> None:
        """
        Args:
            convs: all convolutions of the network, by symbol.
            statistics: of their operands.
            network: the one that layers are of.
            samples: what weights are fitted on, where layers are fitted in sequence.
        """
        self._layers = {layer.symbol: layer for layer in layers}
        self._convs, self._statistics, self._compensation = convs, statistics, compensation
        sequential = compensation == "sequence"
        self._fit = SequentialFit(network, convs, samples) if sequential else None
        self._known: dict[frozenset[tuple[str, int]], dict[str, Constants]] = {}

    def gone(self, levels: Mapping[str, int]) -> dict[str, Mask]:
        """Operands that go, (channels, K), of layers that lose any, by symbol."""
        reduced = [(self._layers[symbol], level) for symbol, level in levels.items() if level]
        known = {la.symbol: la.channels for la, _ in reduced if la.channels is not None}
        dropped = {
            la.symbol: la.channels_gone(level) for la, level in reduced if la.symbol in known
        }
        lost = lost_operands(dropped, known, self._convs)
        own = {la.symbol: la.gone(level, lost.get(la.symbol)) for la, level in reduced}
        return lost | own

    def left(self, levels: Mapping[str, int]) -> dict[str, Constants]:
        """Constants of layers that lose operands, as they are but for those."""
        return {
            symbol: (
                np.where(which.reshape(conv.weights.shape), 0, conv.weights).astype(np.int8),
                conv.bias,
            )
            for symbol, which in self.gone(levels).items()
            for conv in [self._convs[symbol]]
        }

    def __call__(self, levels: Mapping[str, int]) -> dict[str, Constants]:
        """Constants by layer symbol, of layers that lose operands or make up for others."""
        key = frozenset((symbol, level) for symbol, level in levels.items() if level)
        if key not in self._known:
            gone = self.gone(levels)
            if not gone:
                self._known[key] = {}
            elif self._fit is not None:
                self._known[key] = self._fit(gone)
            else:
                kind: Simple = "bias" if self._compensation == "bias" else "weights"
                self._known[key] = {
                    symbol: without(self._convs[symbol], self._statistics[symbol], which, kind)
                    for symbol, which in gone.items()
                }
        return self._known[key]


def with_constants(
    text: str, constants: Mapping[str, Constants], skipped: Mapping[str, int]
) -> ir.Module:
    """An outlined module, as ``text``, with other constants, and the MACs that they skip.

    Channels that nobody reads by then go.
    """
    module = ir.Module.parse(text)
    i64 = ir.IntegerType.get_signless(64)
    for function, conv in skippable(module.operation):
        symbol = function.name.value
        if symbol in constants:
            replace_constants(conv, *constants[symbol])
            if skipped.get(symbol):
                attribute = ir.IntegerAttr.get(i64, skipped[symbol])
                function.operation.attributes["tiny.skipped_macs"] = attribute
    run_pipeline(module, "builtin.module(tiny-drop-channels)")
    return module
