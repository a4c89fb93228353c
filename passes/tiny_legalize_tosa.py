"""``tiny-legalize-tosa``: int8 TOSA to linalg in the canonical form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import func, ir
from tinymlir.frontends.mlir.tosa import elementwise, movement, pooling
from tinymlir.frontends.mlir.tosa.converter import Converter, Rule

from ._pass import Pass, register_pass

#: What makes a layer of an operation with an int8 result.
_RULES: dict[str, Rule] = {
    "tosa.avg_pool2d": pooling.avg_pool2d,
    "tosa.clamp": elementwise.clamped,
    "tosa.concat": movement.concat,
    "tosa.identity": movement.identity,
    "tosa.max_pool2d": pooling.max_pool2d,
    "tosa.pad": movement.pad,
    "tosa.rescale": elementwise.rescaled,
    "tosa.reshape": movement.reshape,
    "tosa.resize": movement.resize,
    "tosa.reverse": movement.reverse,
    "tosa.slice": movement.slice_,
    "tosa.tile": movement.tile,
    "tosa.transpose": movement.transpose,
    **dict.fromkeys(
        (
            "tosa.abs",
            "tosa.bitwise_and",
            "tosa.bitwise_or",
            "tosa.bitwise_xor",
            "tosa.cast",
            "tosa.maximum",
            "tosa.minimum",
            "tosa.negate",
            "tosa.select",
            "tosa.table",
        ),
        elementwise.function,
    ),
}


@register_pass
@dataclass(frozen=True)
class LegalizeTosa(Pass):
    """Fold quantised TOSA into the layers of the canonical form

    A convolution or product, what is added to it, and the rescale that follows become
    one layer, with zero points in its bias and the rescale as ``tiny.requantize``;
    clamps and padding go into their neighbours, transposes and reshapes into the order
    in which layers read. Functions of one int8 value become tables. Operations that
    make no layer stay TOSA, for upstream's lowering to linalg. Every result is the
    one that the TOSA specification defines, to the bit.

    Before::

        func.func @main(%x: tensor<1x1x4x2xi8>) -> tensor<1x1x4x1xi8> {
          %w = "tosa.const"() {values = dense<[[[[3, 4]]]]> : tensor<1x1x1x2xi8>}
               : () -> tensor<1x1x1x2xi8>
          %b = "tosa.const"() {values = dense<10> : tensor<1xi32>} : () -> tensor<1xi32>
          %xz = "tosa.const"() {values = dense<5> : tensor<1xi8>} : () -> tensor<1xi8>
          %z = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>
          %a = tosa.conv2d %x, %w, %b, %xz, %z {acc_type = i32, dilation = array<i64: 1, 1>,
                 pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 1, 1>}
               : (tensor<1x1x4x2xi8>, tensor<1x1x1x2xi8>, tensor<1xi32>, tensor<1xi8>,
                  tensor<1xi8>) -> tensor<1x1x4x1xi32>
          %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
          %s = "tosa.const"() {values = dense<34> : tensor<1xi8>} : () -> tensor<1xi8>
          %az = "tosa.const"() {values = dense<0> : tensor<1xi32>} : () -> tensor<1xi32>
          %r = tosa.rescale %a, %m, %s, %az, %xz {input_unsigned = false,
                 output_unsigned = false, per_channel = false,
                 rounding_mode = SINGLE_ROUND, scale32 = true}
               : (tensor<1x1x4x1xi32>, tensor<1xi32>, tensor<1xi8>, tensor<1xi32>,
                  tensor<1xi8>) -> tensor<1x1x4x1xi8>
          %y = tosa.clamp %r {min_val = 5 : i8, max_val = 127 : i8}
               : (tensor<1x1x4x1xi8>) -> tensor<1x1x4x1xi8>
          return %y : tensor<1x1x4x1xi8>
        }

    After::

        func.func @main(%x: tensor<1x1x4x2xi8>) -> tensor<1x1x4x1xi8> {
          %b = arith.constant dense<-25> : tensor<1xi32>
          %e = tensor.empty() : tensor<1x1x4x1xi32>
          %i = linalg.broadcast ins(%b : tensor<1xi32>)
                                outs(%e : tensor<1x1x4x1xi32>) dimensions = [0, 1, 2]
          %w = arith.constant dense<[[[[3, 4]]]]> : tensor<1x1x1x2xi8>
          %a = linalg.conv_2d_nhwc_fhwc ... ins(%x, %w : tensor<1x1x4x2xi8>, tensor<1x1x1x2xi8>)
                 outs(%i : tensor<1x1x4x1xi32>) -> tensor<1x1x4x1xi32>
          ...
          %y = linalg.generic ... ins(%a : tensor<1x1x4x1xi32>) ... {
          ...
            %q = "tiny.requantize"(%in, %m, %s) {max = 127 : i32, min = 5 : i32,
                   rounding = "nearest_up", zero_point = 5 : i32} : (i32, i32, i32) -> i8
          ...
          return %y : tensor<1x1x4x1xi8>
        }
    """

    name: ClassVar[str] = "tiny-legalize-tosa"

    def run(self, op: ir.Operation) -> None:
        for child in list(op.regions[0].blocks[0].operations):
            if isinstance(child, func.FuncOp) and len(child.body.blocks) == 1:
                operations = child.body.blocks[0].operations
                if any(nested.operation.name.startswith("tosa.") for nested in operations):
                    Converter(child, _RULES).run()
