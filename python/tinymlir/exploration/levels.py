"""How much of each layer may go: levels, and the weights that they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir
from tinymlir.kernels.convolution import Convolution, replace_constants
from tinymlir.skipping.annotations import skippable
from tinymlir.skipping.compensation import Compensation, without
from tinymlir.skipping.selection import least_significant, skipped_macs
from tinymlir.skipping.significance import Score, significance
from tinymlir.skipping.statistics import Statistics, flat_weights
from tinymlir.skipping.units import Granularity, by_operand, units

#: Shares of a layer's units that are left out at level 0, 1, ...
FRACTIONS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
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
    _constants: dict[int, tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]] = field(
        default_factory=dict
    )

    def constants(self, level: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
        """Weights and biases at a level."""
        if level == 0:
            return self.conv.weights, self.conv.bias
        if level not in self._constants:
            gone = least_significant(self.scores, FRACTIONS[level])
            skipped = by_operand(gone, self._table(), self._operands())
            self._constants[level] = without(self.conv, self.statistics, skipped, self.compensation)
        return self._constants[level]

    def skipped_macs(self, level: int) -> int:
        """MACs of units that are all zero."""
        return skipped_macs(self.constants(level)[0], self._table(), self.macs)

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
) -> list[SkippableLayer]:
    """The layers of an outlined module that ``pays`` and that are no trifle."""
    found = [
        (layer.name.value, layer.operation.attributes, conv)
        for layer, conv in skippable(module.operation)
    ]
    total = sum(attributes["tiny.macs"].value for _, attributes, _ in found)
    return [
        SkippableLayer(
            symbol,
            attributes["tiny.layer"].value,
            attributes["tiny.macs"].value,
            conv,
            statistics[symbol],
            significance(flat_weights(conv), statistics[symbol], score, granularity),
            granularity,
            compensation,
        )
        for symbol, attributes, conv in found
        if pays(conv) and attributes["tiny.macs"].value >= _LEAST_SHARE * total
    ]


def at_levels(text: str, layers: Sequence[SkippableLayer], levels: Mapping[str, int]) -> ir.Module:
    """An outlined module, as ``text``, with layers at ``levels``."""
    module = ir.Module.parse(text)
    known = {layer.symbol: layer for layer in layers}
    i64 = ir.IntegerType.get_signless(64)
    for function, conv in skippable(module.operation):
        level = levels.get(function.name.value, 0)
        if level:
            layer = known[function.name.value]
            replace_constants(conv, *layer.constants(level))
            function.operation.attributes["tiny.skipped_macs"] = ir.IntegerAttr.get(
                i64, layer.skipped_macs(level)
            )
    return module
