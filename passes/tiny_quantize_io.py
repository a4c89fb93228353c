"""``tiny-quantize-io``: float32 inputs and outputs around an int8 network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymlir.bindings import ir
from tinymlir.frontends.canonical import float_io
from tinymlir.frontends.canonical.builder import Builder
from tinymlir.frontends.canonical.tensors import Quantization
from tinymlir.network import TensorInfo, read_interface

from ._pass import Pass, register_pass
from .tiny_outline_layers import find_main


@register_pass
@dataclass(frozen=True)
class QuantizeIo(Pass):
    """Take and give float32 where the model does

    Frontends leave out what quantises a float32 input and dequantises a float32
    output. This puts them back, as layers: arguments and results of @main whose
    ``tiny.model_type`` is ``float32`` become that. A float32 is quantised by a search
    among the 255 values at which the result changes, and an int8 dequantised by a
    table, so that no core computes in float32.

    Before::

        func.func @main(%x: tensor<4xi8> {tiny.model_type = "float32", tiny.name = "x",
                                          tiny.scale = 0.5 : f32, tiny.zero_point = 3 : i32})
            -> (tensor<4xi8> {tiny.model_type = "float32", tiny.name = "y",
                              tiny.scale = 0.25 : f32, tiny.zero_point = -1 : i32}) {
          %y = func.call @net(%x) : (tensor<4xi8>) -> tensor<4xi8>
          return %y : tensor<4xi8>
        }
        func.func private @net(tensor<4xi8>) -> tensor<4xi8>

    After::

        func.func @main(%x: tensor<4xf32> {tiny.model_type = "float32", tiny.name = "x",
                                           tiny.scale = 5.000000e-01 : f32,
                                           tiny.zero_point = 3 : i32})
            -> (tensor<4xf32> {tiny.model_type = "float32", tiny.name = "y",
                               tiny.scale = 2.500000e-01 : f32, tiny.zero_point = -1 : i32}) {
          %thresholds = arith.constant ... : tensor<255xi32>
          %e = tensor.empty() : tensor<4xi8>
          %q = linalg.generic ... ins(%x : tensor<4xf32>) outs(%e : tensor<4xi8>)
              attrs = {tiny.layer = "x_quantize", tiny.op = "quantize"} {
            ...
          } -> tensor<4xi8>
          %y = call @net(%q) : (tensor<4xi8>) -> tensor<4xi8>
          %reals = arith.constant ... : tensor<256xi32>
          %f = tensor.empty() : tensor<4xf32>
          %r = linalg.generic ... ins(%y : tensor<4xi8>) outs(%f : tensor<4xf32>)
              attrs = {tiny.layer = "y_dequantize", tiny.op = "dequantize"} {
            ...
          } -> tensor<4xf32>
          return %r : tensor<4xf32>
        }
        func.func private @net(tensor<4xi8>) -> tensor<4xi8>
    """

    name: ClassVar[str] = "tiny-quantize-io"

    def run(self, op: ir.Operation) -> None:
        main = find_main(op)
        inputs, outputs = read_interface(main)
        block = main.body.blocks[0]
        builder, unused = Builder(main.context), _unused_names(block)
        with ir.InsertionPoint.at_block_begin(block), main.location:
            for argument, info in zip(block.arguments, inputs, strict=True):
                if info.model_type == "float32":
                    _quantize(builder, unused(f"{info.name}_quantize"), argument, info)
        terminator = list(block.operations)[-1].operation
        with ir.InsertionPoint(terminator), main.location:
            for index, info in enumerate(outputs):
                if info.model_type == "float32":
                    terminator.operands[index] = float_io.dequantize(
                        builder,
                        unused(f"{info.name}_dequantize"),
                        terminator.operands[index],
                        _quantization(info),
                    )
        signature = ir.FunctionType.get(
            [argument.type for argument in block.arguments],
            [value.type for value in terminator.operands],
        )
        main.operation.attributes["function_type"] = ir.TypeAttr.get(signature)


def _unused_names(block: ir.Block) -> Callable[[str], str]:
    """What makes a name another than those of the layers in ``block``."""
    attributes = [child.operation.attributes for child in block.operations]
    taken = {a["tiny.layer"].value for a in attributes if "tiny.layer" in a}

    def unused(name: str) -> str:
        while name in taken:
            name += "_"
        return name

    return unused


def _quantization(info: TensorInfo) -> Quantization:
    return Quantization(np.float32(info.scale), info.zero_point)


def _quantize(b: Builder, name: str, argument: ir.BlockArgument, info: TensorInfo) -> None:
    """Make an argument float32, and what read it read it quantised."""
    argument.set_type(ir.RankedTensorType.get(argument.type.shape, ir.F32Type.get()))
    value = float_io.quantize(b, name, argument, _quantization(info), info.rounding)
    argument.replace_all_uses_except(value, value.owner.operation)
