"""``tiny-skip-macs``: weights of insignificant products become zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import func, ir
from tinymlir.kernels.convolution import Convolution, replace_constants
from tinymlir.skipping.annotations import (
    GRANULARITY,
    SIGNIFICANCE,
    STATISTICS,
    array,
    forget,
    read_statistics,
    skippable,
)
from tinymlir.skipping.channels import Mask, depthwise_channels, lost_operands
from tinymlir.skipping.compensation import Compensation, without
from tinymlir.skipping.selection import least_channels, least_significant, skipped_macs
from tinymlir.skipping.statistics import Statistics
from tinymlir.skipping.units import Unit, Units, by_operand, units, whole_units

from ._pass import Pass, PassFailure, register_pass
from ._samples import read_samples

if TYPE_CHECKING:
    from tinymlir.skipping.layerwise import Constants


@register_pass
@dataclass(frozen=True)
class SkipMacs(Pass):
    """Leave out the products of least significance, by making their weights zero

    What is left is another exact network of the same shape, which every kernel computes and
    kernels that look at the weights compute faster. The mean of what is left out goes into
    the bias; with ``compensate=weights`` the other weights of a channel are refitted as well,
    within int8 and the scale that they have. ``compensate=sequence`` fits layer after layer to
    what the exact one gives, from what the layers before, already reduced, make of the samples of
    ``data``; layers behind that leave nothing out make up for those as well.
    ``tiny.skipped_macs`` counts products of units that are all zero. Significance and statistics,
    which no longer hold, go.

    Before::

        func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.granularity = "single", tiny.layer = "dense", tiny.macs = 2 : i64,
                        tiny.op = "fully_connected",
                        tiny.significance = dense<[[0.9, 0.1]]> : tensor<1x2xf32>,
                        tiny.statistics = {
                          covariance = dense<[[[4.0, 1.0], [1.0, 2.0]]]> : tensor<1x2x2xf32>,
                          mean = dense<[[3.0, 5.0]]> : tensor<1x2xf32>,
                          shares = dense<[[0.9, 0.1]]> : tensor<1x2xf32>,
                          zero_point = 0 : i32}} {
          %w = arith.constant dense<[[8], [2]]> : tensor<2x1xi8>
          %b = arith.constant 7 : i32
          %e = tensor.empty() : tensor<1x1xi32>
          %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x1xi32>) -> tensor<1x1xi32>
          %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x1xi8>)
                             outs(%i : tensor<1x1xi32>) -> tensor<1x1xi32>
          %f = tensor.empty() : tensor<1x1xi8>
          %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>,
                 affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
                 ins(%a : tensor<1x1xi32>) outs(%f : tensor<1x1xi8>) {
          ^bb0(%acc: i32, %unused: i8):
            %r = arith.trunci %acc : i32 to i8
            linalg.yield %r : i8
          } -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }

    After, with ``fraction=0.5 compensate=bias``::

        func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "dense", tiny.macs = 2 : i64, tiny.op = "fully_connected",
                        tiny.skipped_macs = 1 : i64,
                        tiny.skipping = {compensate = "bias", granularity = "single",
                                         threshold = 1.000000e-01 : f32}} {
          %w = arith.constant dense<[[8], [0]]> : tensor<2x1xi8>
          ...
          %b = arith.constant dense<17> : tensor<1xi32>
          ...
        }
    """

    name: ClassVar[str] = "tiny-skip-macs"
    #: skip what is at most this significant
    threshold: float | None = None
    #: or this share of each layer's units
    fraction: float | None = None
    #: or shares by layer function: layer2:0.5; other layers as `fraction` says
    per_layer: tuple[str, ...] = ()
    compensate: Compensation = "weights"
    #: file of samples to fit weights on, with ``compensate=sequence``
    data: str | None = None

    def __post_init__(self) -> None:
        if (self.threshold is None) == (self.fraction is None and not self.per_layer):
            raise ValueError("takes either a threshold or fractions")
        if not all(0 <= f <= 1 for f in (self.fraction or 0, *self._fractions().values())):
            raise ValueError("takes fractions from 0 to 1")
        if (self.compensate == "sequence") != (self.data is not None):
            raise ValueError("takes data=FILE with compensate=sequence, and only then")

    def _fractions(self) -> Mapping[str, float]:
        pairs = [text.rpartition(":") for text in self.per_layer]
        try:
            return {symbol: float(number) for symbol, _, number in pairs}
        except ValueError:
            raise ValueError("takes per-layer=SYMBOL:FRACTION") from None

    def run(self, op: ir.Operation) -> None:
        fractions = self._fractions()
        layers = {layer.name.value: (layer, conv) for layer, conv in skippable(op)}
        for symbol in fractions:
            if symbol not in layers:
                known = ", ".join(layers) or "none"
                raise PassFailure(op.location, f"cannot skip in '{symbol}', only in: {known}")
        asked = {symbol: fractions.get(symbol, self.fraction) for symbol in layers}
        chosen = {
            symbol: _Scored.of(*layers[symbol])
            for symbol, fraction in asked.items()
            if fraction is not None or self.threshold is not None
        }
        lost = self._lost_channels(op, chosen, asked, layers)
        removals = {
            symbol: self._remove(scored, asked[symbol], lost.get(symbol))
            for symbol, scored in chosen.items()
        }
        gone = {symbol: removal.gone for symbol, removal in removals.items()}
        if self.compensate == "sequence":
            constants = self._fit_in_sequence(op, lost | gone)
        else:
            kind = self.compensate
            constants = {
                symbol: without(layers[symbol][1], _statistics(layers[symbol][0]), which, kind)
                for symbol, which in (lost | gone).items()
            }
        for symbol, new in constants.items():
            replace_constants(layers[symbol][1], *new)
            self._describe(layers[symbol][0], removals.get(symbol), new)

    def _lost_channels(
        self,
        op: ir.Operation,
        chosen: Mapping[str, _Scored],
        fractions: Mapping[str, float | None],
        layers: Mapping[str, tuple[func.FuncOp, Convolution]],
    ) -> dict[str, Mask]:
        """Operands, (channels, K) by layer symbol, that go with channels of depthwise layers."""
        by_channel = {
            symbol: np.asarray(self._remove(scored, fractions[symbol], None).gone.all(1))
            for symbol, scored in chosen.items()
            if scored.unit == "channel"
        }
        convs = {symbol: conv for symbol, (_, conv) in layers.items()}
        lost = lost_operands(by_channel, depthwise_channels(op), convs)
        return {symbol: operands for symbol, operands in lost.items() if operands.any()}

    def _remove(self, scored: _Scored, fraction: float | None, lost: Mask | None) -> _Removal:
        """What goes from a layer of which operands are ``lost`` already."""
        units_lost = None if lost is None else whole_units(lost, scored.table)
        if fraction is None:
            assert self.threshold is not None
            gone = scored.values <= self.threshold
        elif scored.unit == "channel":
            gone = least_channels(scored.values, fraction)
        else:
            gone = least_significant(scored.values, fraction, units_lost)
        operands = by_operand(gone, scored.table, scored.operands)
        threshold = float(scored.values[gone].max(initial=0))
        return _Removal(scored, operands if lost is None else operands | lost, threshold)

    def _fit_in_sequence(
        self, op: ir.Operation, gone: Mapping[str, npt.NDArray[np.bool_]]
    ) -> dict[str, Constants]:
        # They compile networks, which takes passes.
        from tinymlir.skipping.layerwise import Layerwise
        from tinymlir.skipping.sequence import SequentialFit

        assert self.data is not None
        samples = read_samples(op, self.data)
        module = ir.Module.parse(str(op))
        convs = {layer.name.value: conv for layer, conv in skippable(module.operation)}
        asked, gone = gone, {symbol: which for symbol, which in gone.items() if which.any()}
        fitted = SequentialFit(Layerwise(module), convs, samples)(gone)
        # Layers that were to be reduced and have nothing that could go stay as they are.
        kept = {symbol: (convs[symbol].weights, convs[symbol].bias) for symbol in asked}
        return kept | fitted

    def _describe(self, layer: func.FuncOp, removal: _Removal | None, new: Constants) -> None:
        """What a layer with ``new`` constants says of itself; None: it makes up for others."""
        attributes = layer.operation.attributes
        if removal is not None:
            macs = skipped_macs(new[0], removal.scored.table, attributes["tiny.macs"].value)
            i64 = ir.IntegerType.get_signless(64)
            attributes["tiny.skipped_macs"] = ir.IntegerAttr.get(i64, macs)
            attributes["tiny.skipping"] = ir.DictAttr.get(
                {
                    "compensate": ir.StringAttr.get(self.compensate),
                    "granularity": ir.StringAttr.get(removal.scored.unit),
                    "threshold": ir.FloatAttr.get(ir.F32Type.get(), np.float32(removal.threshold)),
                }
            )
        forget(layer)


@dataclass(frozen=True)
class _Scored:
    """The significance of a layer's units, and the operands of each."""

    values: npt.NDArray[np.float64]
    unit: Unit
    table: Units
    operands: int

    @classmethod
    def of(cls, layer: func.FuncOp, conv: Convolution) -> _Scored:
        attributes = layer.operation.attributes
        if STATISTICS not in attributes or SIGNIFICANCE not in attributes:
            raise PassFailure(layer.location, "expects a layer with statistics and significance")
        operands = int(conv.weights[0, 0].size)
        values = array(attributes[SIGNIFICANCE])
        unit: Unit = attributes[GRANULARITY].value
        table = units(operands, unit)
        if values.shape != (conv.groups * conv.out_per_group, len(table)):
            raise PassFailure(layer.location, "has the significance of another layer")
        return cls(values, unit, table, operands)


@dataclass(frozen=True)
class _Removal:
    """What goes from a layer: operands by channel, of units significant up to a threshold."""

    scored: _Scored
    gone: Mask
    threshold: float


def _statistics(layer: func.FuncOp) -> Statistics:
    """Those of a layer that loses operands.

    Raises:
        PassFailure: it has none.
    """
    statistics = read_statistics(layer)
    if statistics is None:
        raise PassFailure(layer.location, "expects a layer with statistics")
    return statistics
