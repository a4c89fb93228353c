"""QuantizeLinear, DequantizeLinear, sums, products and activation functions."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from tinymlir import numerics
from tinymlir.frontends.canonical import elementwise, softmax
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .operands import EXPORT_AGAIN, Operands
from .registry import operator
from .values import Array, Deferred, Dequantized, Integer, QuantizedConstant, Value, quantize


@operator("QuantizeLinear", note="int8 and uint8, one scale and zero point; free at inputs")
@operator("QuantizeLinear", "com.microsoft", note="as the ONNX operator")
def quantize_linear(imp: Operands, node: Node) -> Value:
    return imp.quantize(node, imp.input(node, 0), 1, 2)


@operator(
    "DequantizeLinear",
    note="int8 and uint8 activations, int8, uint8 and int32 constants (per tensor or channel)",
)
@operator("DequantizeLinear", "com.microsoft", note="as the ONNX operator")
def dequantize_linear(imp: Operands, node: Node) -> Value:
    return imp.dequantize(node, 0, 1, 2, node.attribute("axis", 1))


def _broadcast(imp: Operands, node: Node, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        imp.fail(node, f"shapes {' and '.join(map(str, shapes))} do not fit", EXPORT_AGAIN)


def _is_constant(value: Value | None) -> bool:
    return isinstance(value, np.ndarray | QuantizedConstant)


def addition(
    imp: Operands, node: Node, left: Value | None, right: Value | None, *, subtract: bool = False
) -> Deferred:
    """Sum or difference of two activations, or of one and a constant."""
    if _is_constant(left) or _is_constant(right):
        return _constant_addition(imp, node, left, right, subtract)
    x, y = (imp.activation(node, value, "operand") for value in (left, right))

    def build(target: Quantization, clamp: Clamp) -> Activation:
        return elementwise.add(imp.builder, node.name, x, y, target, clamp, subtract=subtract)

    return Deferred(node, _broadcast(imp, node, x.shape, y.shape), build)


def _real(value: Value | None) -> Array:
    assert isinstance(value, np.ndarray | QuantizedConstant)
    return value.real() if isinstance(value, QuantizedConstant) else value


def _constant_addition(
    imp: Operands, node: Node, left: Value | None, right: Value | None, subtract: bool
) -> Deferred:
    negate = subtract and _is_constant(left)
    variable, constant = (right, left) if _is_constant(left) else (left, right)
    addend = _real(constant).astype(np.float64)
    if subtract and not negate:
        addend = -addend
    if isinstance(variable, Deferred) and variable.biased and not negate:
        absorbed = variable.biased(addend)
        if absorbed is not None:
            return absorbed
    x = imp.activation(node, variable, "operand")

    def build(target: Quantization, clamp: Clamp) -> Activation:
        return elementwise.add_constant(
            imp.builder, node.name, x, addend, target, clamp, negate=negate
        )

    return Deferred(node, _broadcast(imp, node, x.shape, addend.shape), build)


def product(imp: Operands, node: Node, left: Value | None, right: Value | None) -> Value:
    """Product of two activations, or of one and a constant."""
    if _is_constant(left):
        left, right = right, left
    x = imp.activation(node, left, "operand")
    if _is_constant(right):
        real = _real(right)
        if real.size == 1 and real.reshape(-1)[0] > 0 and real.ndim <= len(x.shape):
            # A positive factor only changes what the same integers stand for.
            scale = np.float32(x.quantization.scale * np.float32(real.reshape(-1)[0]))
            return Dequantized(x.activation, Quantization(scale, x.quantization.zero_point))
    if isinstance(right, np.ndarray):
        imp.fail(
            node,
            "a factor that is a float constant of several elements, or negative",
            "quantise it, or fold it into the layer before",
        )
    if isinstance(right, QuantizedConstant):
        return _constant_product(imp, node, x, right)
    y = imp.activation(node, right, "operand")

    def build(target: Quantization, clamp: Clamp) -> Activation:
        return elementwise.multiply(imp.builder, node.name, x, y, target, clamp)

    return Deferred(node, _broadcast(imp, node, x.shape, y.shape), build)


def _constant_product(
    imp: Operands, node: Node, x: Dequantized, factors: QuantizedConstant
) -> Deferred:
    if factors.scale.size != 1:
        imp.fail(node, "a constant factor with several scales", "quantise it per tensor")
    centred = factors.centred()

    def build(target: Quantization, clamp: Clamp) -> Activation:
        return elementwise.multiply_constant(
            imp.builder, node.name, x, centred, factors.scale[0], target, clamp
        )

    return Deferred(node, _broadcast(imp, node, x.shape, centred.shape), build)


_BROADCAST = "two activations of which one has the result's shape, or one and a constant"


@operator("Add", note=_BROADCAST)
def add(imp: Operands, node: Node) -> Value:
    return addition(imp, node, imp.input(node, 0), imp.input(node, 1))


@operator("Sub", note=_BROADCAST)
def sub(imp: Operands, node: Node) -> Value:
    return addition(imp, node, imp.input(node, 0), imp.input(node, 1), subtract=True)


@operator("Mul", note=_BROADCAST + "; a positive number is free")
def mul(imp: Operands, node: Node) -> Value:
    return product(imp, node, imp.input(node, 0), imp.input(node, 1))


@operator("Div", note="by a positive number, which is free")
def div(imp: Operands, node: Node) -> Value:
    divisor = imp.scalar(node, 1, 1.0)
    if not divisor > 0:
        imp.fail(node, f"division by {divisor}", "divide by a positive constant")
    return product(imp, node, imp.input(node, 0), np.array(1.0 / divisor, np.float32))


@operator("QLinearAdd", "com.microsoft", note=_BROADCAST)
def qlinear_add(imp: Operands, node: Node) -> Value:
    total = addition(imp, node, imp.dequantize(node, 0, 1, 2), imp.dequantize(node, 3, 4, 5))
    return imp.quantize(node, total, 6, 7)


@operator("QLinearMul", "com.microsoft", note=_BROADCAST)
def qlinear_mul(imp: Operands, node: Node) -> Value:
    result = product(imp, node, imp.dequantize(node, 0, 1, 2), imp.dequantize(node, 3, 4, 5))
    return imp.quantize(node, result, 6, 7)


def _clamped(imp: Operands, node: Node, low: float, high: float) -> Value:
    value = imp.input(node, 0)
    if not isinstance(value, Integer):
        return imp.deferred(node, value).clamped(low, high)
    # Raw integers: the limits are in their own terms.
    offset = 128 if value.unsigned else 0
    limits = [
        int(np.clip(limit - offset, numerics.I8_MIN, numerics.I8_MAX)) for limit in (low, high)
    ]
    x = elementwise.clamp(imp.builder, node.name, value.activation, Clamp(*limits))
    return dataclasses.replace(value, activation=x)


@operator("Relu", note="folded into the layer before it where that has no other reader")
def relu(imp: Operands, node: Node) -> Value:
    return _clamped(imp, node, 0.0, np.inf)


@operator("Clip", note="as Relu; constant limits")
def clip(imp: Operands, node: Node) -> Value:
    return _clamped(imp, node, imp.scalar(node, 1, -np.inf), imp.scalar(node, 2, np.inf))


def _softmax(imp: Operands, node: Node, x: Dequantized, *, flatten: bool) -> Deferred:
    axis = imp.axis(node, node.attribute("axis", 1 if flatten else -1), len(x.shape))
    dims = range(axis, len(x.shape)) if flatten else [axis]

    def build(target: Quantization, clamp: Clamp) -> Activation:
        return softmax.softmax(imp.builder, node.name, x, target, clamp, dims)

    return Deferred(node, x.shape, build)


@operator("Softmax", note="any axis; within one step of the exact value")
def softmax_(imp: Operands, node: Node) -> Value:
    return _softmax(imp, node, imp.activation(node, imp.input(node, 0)), flatten=False)


@operator("QLinearSoftmax", "com.microsoft", note="as Softmax")
def qlinear_softmax(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2))
    flatten = node.attribute("opset", 13) < 13
    return imp.quantize(node, _softmax(imp, node, x, flatten=flatten), 3, 4)


def _table(imp: Operands, node: Node, x: Dequantized, op: str) -> Deferred:
    """A function of one number as a table of its 256 values, computed in float32."""
    levels = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1) - x.quantization.zero_point
    reals = levels.astype(np.float32) * x.quantization.scale
    plain = onnx.helper.make_node(op, ["x"], ["y"])
    named = [a for a in node.proto.attribute if a.name in ("alpha", "beta")]
    plain.attribute.extend(named)
    kind = onnx.TensorProto.FLOAT
    ports = [onnx.helper.make_tensor_value_info(name, kind, [256]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([plain], "table", ports[:1], ports[1:])
    opset = onnx.helper.make_opsetid("", imp.graph.opset)
    model = onnx.helper.make_model(graph, opset_imports=[opset])
    with np.errstate(all="ignore"):
        (values,) = ReferenceEvaluator(model).run(None, {"x": reals})

    def build(target: Quantization, clamp: Clamp) -> Activation:
        entries = [min(max(quantize(float(v), target), clamp.low), clamp.high) for v in values]
        return elementwise.lookup(imp.builder, node.name, x.activation, np.array(entries, np.int8))

    return Deferred(node, x.shape, build)


def _tabulated(imp: Operands, node: Node) -> Value:
    return _table(imp, node, imp.activation(node, imp.input(node, 0)), node.op)


for _name in ("Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "Softplus", "Tanh"):
    operator(_name, note="a table of 256 values")(_tabulated)


@operator("QLinearSigmoid", "com.microsoft", note="a table of 256 values")
@operator("QLinearLeakyRelu", "com.microsoft", note="a table of 256 values")
def qlinear_tabulated(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2))
    return imp.quantize(node, _table(imp, node, x, node.op.removeprefix("QLinear")), 3, 4)
