"""Float operators on one quantised tensor, evaluated for its 256 values.

Whatever a chain of them does between a DequantizeLinear and a QuantizeLinear, the
result is one table.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from tinymlir.frontends.canonical.tensors import Activation

from .constants import run
from .graph import Node
from .operands import HOW_TO_QUANTIZE, Operands
from .registry import operator
from .values import Array, Dequantized, Function, QuantizedConstant, Value


def evaluated(imp: Operands, node: Node) -> Function | None:
    """The results of a node by the value of the one int8 number that they depend on.

    None unless all inputs are functions of one quantised tensor or single numbers, and
    the result has its shape.
    """
    operands: list[Array | None] = []
    source: Activation | None = None
    shapes = []
    for index in range(len(node.inputs)):
        value = imp.input(node, index)
        if isinstance(value, QuantizedConstant):
            value = value.real()
        if isinstance(value, Dequantized):
            value = Function.of(value)
        if isinstance(value, Function):
            if source not in (None, value.activation):
                return None
            source = value.activation
            operands.append(value.reals)
        elif value is None or (isinstance(value, np.ndarray) and value.size == 1):
            operands.append(None if value is None else value.reshape(()))
        else:
            return None
        if value is not None:
            shapes.append(value.shape)
    if source is None or np.broadcast_shapes(*shapes) != source.layout.shape:
        return None
    return Function(source, _real(run(imp, node, operands)), node=node)


def _real(results: list[Array]) -> npt.NDArray[np.float32]:
    return results[0].astype(np.float32)


def _function(imp: Operands, node: Node) -> Value:
    result = evaluated(imp, node)
    if result is not None:
        return result
    for index in range(len(node.inputs)):
        value = imp.input(node, index)
        if value is not None and not isinstance(value, np.ndarray | QuantizedConstant | Function):
            imp.activation(node, value)
    imp.fail(
        node, "only one quantised tensor and single numbers may be its inputs", HOW_TO_QUANTIZE
    )


_TABLE = "a table of 256 values, with the float operators around it"
for _name in (
    *("Abs", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
    *("HardSwish", "LeakyRelu", "Log", "Mish", "Neg", "Pow"),
    *("Reciprocal", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt"),
    *("Swish", "Tanh", "ThresholdedRelu"),
):
    operator(_name, note=_TABLE)(_function)


@operator("QLinearSigmoid", "com.microsoft", note="a table of 256 values")
@operator("QLinearLeakyRelu", "com.microsoft", note="a table of 256 values")
def qlinear_function(imp: Operands, node: Node) -> Value:
    x = Function.of(imp.activation(node, imp.dequantize(node, 0, 1, 2)))
    plain = dataclasses.replace(node, op=node.op.removeprefix("QLinear"), domain="")
    reals = _real(run(imp, plain, [x.reals]))
    return imp.quantize(node, Function(x.activation, reals, node=node), 3, 4)
