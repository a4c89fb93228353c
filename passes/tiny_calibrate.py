"""``tiny-calibrate``: what the inputs of layers are like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir

from ._pass import Pass, register_pass
from ._samples import read_samples


@register_pass
@dataclass(frozen=True)
class Calibrate(Pass):
    """Attach to convolutions and dense layers the statistics of their operands

    The network runs on this machine over samples of a file: ``.npy``, or ``.npz`` with ``x``
    or one array per input, in the model's layout. ``tiny.statistics`` has for each group of a
    layer the mean and the covariance of the operands of a window (order: kernel row, column,
    channel), and for each output channel the mean share of each product in the sum, of which
    the input's zero point is no part.

    Before::

        func.func @main(%x: tensor<1x2xi8>) -> tensor<1x1xi8> {
          %y = call @layer0(%x) : (tensor<1x2xi8>) -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }
        func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "dense", tiny.macs = 2 : i64, tiny.op = "fully_connected"} {
          %w = arith.constant dense<[[3], [1]]> : tensor<2x1xi8>
          %b = arith.constant 0 : i32
          %m = arith.constant 1073741824 : i32
          %s = arith.constant 30 : i32
          %e = tensor.empty() : tensor<1x1xi32>
          %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x1xi32>) -> tensor<1x1xi32>
          %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x1xi8>)
                             outs(%i : tensor<1x1xi32>) -> tensor<1x1xi32>
          %f = tensor.empty() : tensor<1x1xi8>
          %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>,
                 affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
                 ins(%a : tensor<1x1xi32>) outs(%f : tensor<1x1xi8>) {
          ^bb0(%acc: i32, %unused: i8):
            %r = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32,
                   max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }

    After, with samples (2, 2) and (4, -2)::

        func.func @main(%x: tensor<1x2xi8>) -> tensor<1x1xi8> {
          ...
        }
        func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "dense", tiny.macs = 2 : i64, tiny.op = "fully_connected",
                        tiny.statistics = {covariance = dense<[[[1.000000e+00,
                                               -2.000000e+00],
                                               [-2.000000e+00, 4.000000e+00]]]>
                                             : tensor<1x2x2xf32>,
                          mean = dense<[[3.000000e+00, 0.000000e+00]]> : tensor<1x2xf32>,
                          shares = dense<[[9.750000e-01, 2.250000e-01]]> : tensor<1x2xf32>,
                          zero_point = 0 : i32}} {
          ...
        }
    """

    name: ClassVar[str] = "tiny-calibrate"
    #: file of samples
    data: str
    #: how many to take: the first
    samples: int | None = None

    def run(self, op: ir.Operation) -> None:
        # They compile networks, which takes passes.
        from tinymlir.skipping.annotations import skippable, write_statistics
        from tinymlir.skipping.calibration import calibrate

        samples = read_samples(op, self.data, self.samples)
        known = calibrate(ir.Module.parse(str(op)), samples)
        for layer, _ in skippable(op):
            if layer.name.value in known:
                write_statistics(layer, known[layer.name.value])
