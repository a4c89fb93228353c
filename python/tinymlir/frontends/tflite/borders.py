"""QUANTIZE and DEQUANTIZE: the borders of the int8 network, and changes of scale within it."""

from __future__ import annotations

import numpy as np

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
    x = value.integer if isinstance(value, Real) else imp.activation(node, unsigned=True)
    table = arithmetic.requantized if isinstance(value, Real) else arithmetic.rescaled
    return tabulated(imp, node, x, table(x.quantization, target), target, unsigned=unsigned)


@operator("DEQUANTIZE", note="int8 or uint8 to float32, before a QUANTIZE or an output")
def dequantize(imp: Operands, node: Node) -> Value:
    value = imp.value(node, 0)
    if isinstance(value, np.ndarray):
        imp.fail(node, "weights are dequantised to compute in float32", HOW_TO_QUANTIZE)
    if not isinstance(value, Integer | Padded):
        imp.fail(node, "takes a float32 tensor", CONVERT_AGAIN)
    return Real(imp.activation(node, unsigned=True))
