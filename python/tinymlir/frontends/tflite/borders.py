"""QUANTIZE and DEQUANTIZE: the borders of the int8 network, and changes of scale within it."""

from __future__ import annotations

import numpy as np

from tinymlir.numerics import quantize_float32

from . import arithmetic
from .elementwise import tabulated
from .operands import CONVERT_AGAIN, HOW_TO_QUANTIZE, Operands
from .registry import operator
from .schema import Node
from .values import FloatInput, Integer, Padded, Real, Value


@operator("QUANTIZE", note="float32, int8 or uint8 to int8 or uint8; a float32 input disappears")
def quantize(imp: Operands, node: Node) -> Value:
    tensor = imp.graph.tensors[node.outputs[0]]
    target, unsigned = imp.quantization(node, tensor), tensor.type == "uint8"
    value = imp.value(node, 0)
    if isinstance(value, FloatInput):
        if imp.input_quantization.setdefault(value.tensor, target) != target:
            imp.fail(node, "the input is quantised in two ways", "quantise it once")
        return Integer(value.activation, target, unsigned)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        imp.fail(node, "quantises a constant", CONVERT_AGAIN)
    if isinstance(value, Real):
        x, real = value.integer, value.reals
        table = quantize_float32(real, target.scale, target.zero_point, "nearest_away")
    else:
        x = imp.activation(node, unsigned=True)
        table = arithmetic.rescaled(x.quantization, target)
    return tabulated(imp, node, x, table, target, unsigned=unsigned)


@operator("DEQUANTIZE", note="int8 or uint8 to float32, before a QUANTIZE or an output")
def dequantize(imp: Operands, node: Node) -> Value:
    value = imp.value(node, 0)
    if isinstance(value, np.ndarray):
        imp.fail(node, "weights are dequantised to compute in float32", HOW_TO_QUANTIZE)
    if not isinstance(value, Integer | Padded):
        imp.fail(node, "takes a float32 tensor", CONVERT_AGAIN)
    return Real.of(imp.activation(node, unsigned=True))
