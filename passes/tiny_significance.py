"""``tiny-significance``: how much each product of a layer matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.skipping.annotations import (
    GRANULARITY,
    SIGNIFICANCE,
    dense,
    read_statistics,
    skippable,
)
from tinymlir.skipping.channels import channel_significance, depthwise_channels
from tinymlir.skipping.significance import BY_CHANNEL, Score, significance
from tinymlir.skipping.statistics import Statistics, flat_weights
from tinymlir.skipping.units import Granularity, Unit

from ._pass import Pass, register_pass
from ._samples import read_samples


@register_pass
@dataclass(frozen=True)
class Significance(Pass):
    """Attach to each layer with statistics the significance of its products

    ``tiny.significance`` has one number for each output channel and unit of products that
    can be skipped together: a single one, the pair of one SMLAD (operands 4k and 4k + 2, or
    4k + 1 and 4k + 3, of a window), or a word of weights. ``expected-share`` is the mean of
    |x·w / Σ x·w|, ``rms-over-std`` the root mean square of a unit over the standard deviation
    of the output, ``residual`` the error of the output, relative to its standard deviation,
    once the unit and all below are gone and the other weights make up for them. ``impact`` is what
    becomes of the network's scores by that error: the rest of it runs over samples of ``data``.

    No kernel leaves out less than a channel of a depthwise layer. So ``residual`` and ``impact``
    give each of these one number, where they are inside the network: what the layers that read
    it lose.

    Before::

        func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "dense", tiny.macs = 2 : i64, tiny.op = "fully_connected",
                        tiny.statistics = {
                          covariance = dense<[[[1.0, 0.0], [0.0, 4.0]]]> : tensor<1x2x2xf32>,
                          mean = dense<[[3.0, 0.0]]> : tensor<1x2xf32>,
                          shares = dense<[[0.9, 0.1]]> : tensor<1x2xf32>,
                          zero_point = 0 : i32}} {
          %w = arith.constant dense<[[4], [1]]> : tensor<2x1xi8>
          %b = arith.constant 0 : i32
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

    After, with ``score=expected-share granularity=single``::

        func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.granularity = "single", tiny.layer = "dense", ...
                        tiny.significance = dense<[[0.899999976, 1.000000e-01]]>
                          : tensor<1x2xf32>, ... {
          ...
        }
    """

    name: ClassVar[str] = "tiny-significance"
    score: Score = "residual"
    granularity: Granularity = "single"
    #: file of samples to see scores change on, with ``score=impact``
    data: str | None = None

    def __post_init__(self) -> None:
        if (self.score == "impact") != (self.data is not None):
            raise ValueError("takes data=FILE with score=impact, and only then")

    def run(self, op: ir.Operation) -> None:
        layers = {layer.name.value: (layer, conv) for layer, conv in skippable(op)}
        known = {symbol: read_statistics(layer) for symbol, (layer, _) in layers.items()}
        statistics = {symbol: each for symbol, each in known.items() if each is not None}
        convs = {symbol: layers[symbol][1] for symbol in statistics}
        influences = {} if self.data is None else self._influences(op, convs, statistics)
        by_channel = depthwise_channels(op) if self.score in BY_CHANNEL else {}
        for symbol, conv in convs.items():
            channels = by_channel.get(symbol)
            unit: Unit = self.granularity
            if channels is not None and statistics.keys() >= channels.columns.keys():
                values = channel_significance(channels, convs, statistics, influences)
                unit = "channel"
            else:
                values = significance(
                    flat_weights(conv),
                    statistics[symbol],
                    self.score,
                    self.granularity,
                    influences.get(symbol),
                )
            attributes = layers[symbol][0].operation.attributes
            attributes[SIGNIFICANCE] = dense(values)
            attributes[GRANULARITY] = ir.StringAttr.get(unit)

    def _influences(
        self,
        op: ir.Operation,
        convs: Mapping[str, Convolution],
        statistics: Mapping[str, Statistics],
    ) -> dict[str, npt.NDArray[np.float64]]:
        # They compile networks, which takes passes.
        from tinymlir.skipping.influence import influence
        from tinymlir.skipping.layerwise import Layerwise

        assert self.data is not None
        samples = read_samples(op, self.data)
        module = ir.Module.parse(str(op))
        return influence(Layerwise(module), convs, statistics, samples)
