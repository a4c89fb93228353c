"""How much of each layer may go: levels, and the weights that they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir
from tinymlir.kernels.convolution import Convolution, replace_constants
from tinymlir.skipping.annotations import skippable
from tinymlir.skipping.compensation import Compensation, Simple, without
from tinymlir.skipping.influence import influence
from tinymlir.skipping.layerwise import Bytes, Constants, Layerwise
from tinymlir.skipping.selection import least_significant, skipped_macs
from tinymlir.skipping.sequence import SequentialFit
from tinymlir.skipping.significance import Score, significance
from tinymlir.skipping.statistics import Statistics, flat_weights
from tinymlir.skipping.units import Granularity, by_operand, units

#: Shares of a layer's units that are left out at level 0, 1, ...
FRACTIONS = (0.0, 0.1, 0.2, *(n / 20 for n in range(5, 19)))
#: Layers with a smaller share of the network's MACs stay as they are.
_LEAST_SHARE = 0.01


@dataclass
class SkippableLayer:
    """A layer of which some may go.

    ``name`` is that of the model, ``symbol`` that of the layer function.
    """

    symbol: str
    name: str
    macs: int
    conv: Convolution
    statistics: Statistics
    scores: npt.NDArray[np.float64]
    granularity: Granularity
    compensation: Compensation
    _constants: dict[int, Constants] = field(default_factory=dict)

    def gone(self, level: int) -> npt.NDArray[np.bool_]:
        """The operands that a level leaves out, (channels, K)."""
        units_gone = least_significant(self.scores, FRACTIONS[level])
        return by_operand(units_gone, self._table(), self._operands())

    def left(self, level: int) -> npt.NDArray[np.int8]:
        """Weights of which those that a level leaves out are zero."""
        gone = self.gone(level).reshape(self.conv.weights.shape)
        return np.where(gone, 0, self.conv.weights).astype(np.int8)

    def constants(self, level: int) -> Constants:
        """Weights and biases at a level, where all other layers are exact."""
        if level == 0:
            return self.conv.weights, self.conv.bias
        if level not in self._constants:
            kind: Simple = "bias" if self.compensation == "bias" else "weights"
            self._constants[level] = without(self.conv, self.statistics, self.gone(level), kind)
        return self._constants[level]

    def skipped_macs(self, level: int) -> int:
        """MACs of units that are all zero."""
        return skipped_macs(self.left(level), self._table(), self.macs)

    def threshold(self, level: int) -> float:
        """The significance of what goes, at most."""
        gone = least_significant(self.scores, FRACTIONS[level])
        return float(self.scores[gone].max(initial=0))

    def _operands(self) -> int:
        return int(self.conv.weights[0, 0].size)

    def _table(self) -> npt.NDArray[np.intp]:
        return units(self._operands(), self.granularity)


def skippable_layers(
    module: ir.Module,
    pays: Callable[[Convolution], bool],
    statistics: Mapping[str, Statistics],
    score: Score,
    granularity: Granularity,
    compensation: Compensation,
    network: Layerwise,
    samples: Sequence[Bytes],
) -> list[SkippableLayer]:
    """The layers of an outlined module that ``pays`` and that are no trifle.

    Args:
        network: that of the module.
        samples: what the `influence` of channels is measured on, where the score needs it.
    """
    found = {
        layer.name.value: (layer.operation.attributes, conv)
        for layer, conv in skippable(module.operation)
    }
    total = sum(attributes["tiny.macs"].value for attributes, _ in found.values())
    worth = {
        symbol: conv
        for symbol, (attributes, conv) in found.items()
        if pays(conv) and attributes["tiny.macs"].value >= _LEAST_SHARE * total
    }
    influences = influence(network, worth, statistics, samples) if score == "impact" else {}
    return [
        SkippableLayer(
            symbol,
            found[symbol][0]["tiny.layer"].value,
            found[symbol][0]["tiny.macs"].value,
            conv,
            statistics[symbol],
            significance(
                flat_weights(conv), statistics[symbol], score, granularity, influences.get(symbol)
            ),
            granularity,
            compensation,
        )
        for symbol, conv in worth.items()
    ]


class Reduction:
    """The constants of layers at levels."""

    def __init__(
        self,
        layers: Sequence[SkippableLayer],
        convs: Mapping[str, Convolution],
        network: Layerwise,
        samples: Sequence[Bytes],
    ) -> None:
        """
        Args:
            convs: all convolutions of the network, by symbol.
            network: the one that layers are of.
            samples: what weights are fitted on, where layers are fitted in sequence.
        """
        self._layers = {layer.symbol: layer for layer in layers}
        sequential = layers[0].compensation == "sequence"
        self._fit = SequentialFit(network, convs, samples) if sequential else None
        self._known: dict[frozenset[tuple[str, int]], dict[str, Constants]] = {}

    def __call__(self, levels: Mapping[str, int]) -> dict[str, Constants]:
        """Constants by layer symbol, of layers that are not at level 0 or make up for others."""
        reduced = {symbol: level for symbol, level in levels.items() if level}
        if self._fit is None:
            return {s: self._layers[s].constants(level) for s, level in reduced.items()}
        key = frozenset(reduced.items())
        if key not in self._known:
            gone = {s: self._layers[s].gone(level) for s, level in reduced.items()}
            self._known[key] = self._fit(gone) if gone else {}
        return self._known[key]


def with_constants(
    text: str, constants: Mapping[str, Constants], skipped: Mapping[str, int]
) -> ir.Module:
    """An outlined module, as ``text``, with other constants, and the MACs that they skip."""
    module = ir.Module.parse(text)
    i64 = ir.IntegerType.get_signless(64)
    for function, conv in skippable(module.operation):
        symbol = function.name.value
        if symbol in constants:
            replace_constants(conv, *constants[symbol])
            if skipped.get(symbol):
                attribute = ir.IntegerAttr.get(i64, skipped[symbol])
                function.operation.attributes["tiny.skipped_macs"] = attribute
    return module
