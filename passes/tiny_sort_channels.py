"""``tiny-sort-channels``: channels of depthwise layers in the order of their significance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir
from tinymlir.skipping.annotations import GRANULARITY, SIGNIFICANCE, array, skippable
from tinymlir.skipping.channels import sort_channels

from ._pass import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class SortChannels(Pass):
    """Put channels inside the network into the order of their significance, the greatest first

    The network computes the same. Layers whose significance is by channel (tiny-significance)
    give theirs in another order, and all that make, pass on or read these follow. So what
    tiny-skip-macs leaves out is at the end, words of what is left remain words, and what
    is multiplied together is about as significant. Statistics and significance of layers that
    change go: calibrate again.

    Before::

        func.func @main(%x: tensor<1x1xi8>) -> tensor<1x1xi8> {
          %h = call @layer0(%x) : (tensor<1x1xi8>) -> tensor<1x2xi8>
          %y = call @layer1(%h) : (tensor<1x2xi8>) -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }
        func.func private @layer0(%x: tensor<1x1xi8>) -> tensor<1x2xi8>
            attributes {tiny.granularity = "channel", tiny.layer = "maker", tiny.macs = 2 : i64,
                        tiny.op = "fully_connected",
                        tiny.significance = dense<[[0.25], [0.5]]> : tensor<2x1xf32>} {
          %w = arith.constant dense<[[3, 4]]> : tensor<1x2xi8>
          %b = arith.constant dense<[1, 8]> : tensor<2xi32>
          %m = arith.constant 1073741824 : i32
          %s = arith.constant 31 : i32
          %e = tensor.empty() : tensor<1x2xi32>
          %i = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e : tensor<1x2xi32>) dimensions = [0]
          %a = linalg.matmul ins(%x, %w : tensor<1x1xi8>, tensor<1x2xi8>)
                             outs(%i : tensor<1x2xi32>) -> tensor<1x2xi32>
          %f = tensor.empty() : tensor<1x2xi8>
          %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>,
                 affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
                 ins(%a : tensor<1x2xi32>) outs(%f : tensor<1x2xi8>) {
          ^bb0(%acc: i32, %unused: i8):
            %r = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32,
                   max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<1x2xi8>
          return %y : tensor<1x2xi8>
        }
        func.func private @layer1(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "reader", tiny.macs = 2 : i64, tiny.op = "fully_connected"} {
          %w = arith.constant dense<[[7], [5]]> : tensor<2x1xi8>
          %b = arith.constant dense<[1]> : tensor<1xi32>
          %m = arith.constant 1073741824 : i32
          %s = arith.constant 31 : i32
          %e = tensor.empty() : tensor<1x1xi32>
          %i = linalg.broadcast ins(%b : tensor<1xi32>) outs(%e : tensor<1x1xi32>) dimensions = [0]
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

    After::

        func.func @main(%x: tensor<1x1xi8>) -> tensor<1x1xi8> {
          %h = call @layer0(%x) : (tensor<1x1xi8>) -> tensor<1x2xi8>
          %y = call @layer1(%h) : (tensor<1x2xi8>) -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }
        func.func private @layer0(%x: tensor<1x1xi8>) -> tensor<1x2xi8>
            attributes {tiny.layer = "maker", tiny.macs = 2 : i64, tiny.op = "fully_connected"} {
          ...
          %b = arith.constant dense<[8, 1]> : tensor<2xi32>
          ...
          %w = arith.constant {{dense<.*4, 3.*>}} : tensor<1x2xi8>
          ...
        }
        func.func private @layer1(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "reader", tiny.macs = 2 : i64, tiny.op = "fully_connected"} {
          ...
          %w = arith.constant {{dense<.*5.*7.*>}} : tensor<2x1xi8>
          ...
        }
    """

    name: ClassVar[str] = "tiny-sort-channels"

    def run(self, op: ir.Operation) -> None:
        for layer, _ in list(skippable(op)):
            attributes = layer.operation.attributes
            if GRANULARITY in attributes and attributes[GRANULARITY].value == "channel":
                sort_channels(op, layer, array(attributes[SIGNIFICANCE]))
