"""``tiny-significance``: how much each product of a layer matters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.network import read_interface
from tinymlir.samples import load_samples
from tinymlir.skipping.annotations import SIGNIFICANCE, dense, read_statistics, skippable
from tinymlir.skipping.significance import Score, significance
from tinymlir.skipping.statistics import flat_weights
from tinymlir.skipping.units import Granularity

from ._pass import Pass, PassFailure, register_pass
from .tiny_outline_layers import find_main


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
        influences = {} if self.data is None else self._influences(op, Path(self.data))
        for layer, conv in skippable(op):
            statistics = read_statistics(layer)
            if statistics is None:
                continue
            values = significance(
                flat_weights(conv),
                statistics,
                self.score,
                self.granularity,
                influences.get(layer.name.value),
            )
            attributes = layer.operation.attributes
            attributes[SIGNIFICANCE] = dense(values)
            attributes["tiny.granularity"] = ir.StringAttr.get(self.granularity)

    def _influences(self, op: ir.Operation, data: Path) -> dict[str, npt.NDArray[np.float64]]:
        # They compile networks, which takes passes.
        from tinymlir.skipping.influence import influence
        from tinymlir.skipping.layerwise import Layerwise

        found = {layer.name.value: (layer, conv) for layer, conv in skippable(op)}
        known = {symbol: read_statistics(layer) for symbol, (layer, _) in found.items()}
        statistics = {symbol: each for symbol, each in known.items() if each is not None}
        inputs, _ = read_interface(find_main(op))
        try:
            samples, _ = load_samples(data, inputs, None)
            convs = {symbol: found[symbol][1] for symbol in statistics}
            module = ir.Module.parse(str(op))
            return influence(Layerwise(module), convs, statistics, samples)
        except TinymlirError as error:
            raise PassFailure(op.location, str(error)) from error
