"""QuantizeLinear, DequantizeLinear, sums, products and activation functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith
from tinymlir.frontends.canonical import elementwise, softmax
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.product import multiply
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .channelwise import scaled
from .functions import evaluated
from .graph import Node
from .operands import EXPORT_AGAIN, Operands
from .reference import float_sum, qlinear_sum
from .registry import operator
from .values import Array, Deferred, Dequantized, Function, Integer, QuantizedConstant, Value


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
) -> Value:
    """Sum or difference of two activations, or of one and a constant."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return _constant_addition(imp, node, left, right, subtract)
    x, y = _pair(imp, node, left, right)
    offset = imp.carrier_offset(node)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        xq, yq = x.quantization, y.quantization
        # ONNX Runtime has no kernel for differences, and none that limits the sum.
        if subtract or not clamp.trivial:
            reference = float_sum(xq, yq, target, subtract=subtract)
        else:
            reference = qlinear_sum(xq, yq, target, offset, swapped=_is_repeated(x, y))
        return elementwise.add(
            imp.builder, node.name, x, y, target, clamp, reference, subtract=subtract
        )

    return Deferred(node, _broadcast(imp, node, x.shape, y.shape), build)


def _is_repeated(x: Dequantized, y: Dequantized) -> bool:
    """Whether one element of ``x`` meets a run of neighbours of ``y``."""
    sizes = [n for n in zip(reversed(x.shape), reversed(y.shape), strict=False) if max(n) > 1]
    return bool(sizes) and sizes[0][0] == 1


def _pair(
    imp: Operands, node: Node, left: Value | None, right: Value | None
) -> tuple[Dequantized, Dequantized]:
    """Two operands as activations, of which one may be a quantised constant."""
    values = [left, right]
    for i in (0, 1):
        constant, other = values[i], values[1 - i]
        if isinstance(constant, QuantizedConstant) and not _is_constant(other):
            like = imp.activation(node, other, "operand").activation.layout
            values[i] = imp.constant_activation(node, constant, like)
    x, y = (imp.activation(node, value, "operand") for value in values)
    return x, y


def _constant_addition(
    imp: Operands, node: Node, left: Value | None, right: Value | None, subtract: bool
) -> Value:
    """Sum or difference of reals that are computed and constant ones."""
    negate = subtract and _is_constant(left)
    variable, constant = (right, left) if _is_constant(left) else (left, right)
    addend = _real(constant).astype(np.float64)
    if subtract and not negate:
        addend = -addend
    absorbed = scaled(imp, node, variable, np.array(-1.0 if negate else 1.0), addend)
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
    for variable, constant in ((left, right), (right, left)):
        if isinstance(constant, np.ndarray) or (
            isinstance(constant, QuantizedConstant) and isinstance(variable, Deferred)
        ):
            return _constant_product(imp, node, variable, _real(constant))
    x, y = _pair(imp, node, left, right)
    offset = imp.carrier_offset(node)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        zero_point = target.zero_point + offset
        return multiply(imp.builder, node.name, x, y, target, clamp, zero_point)

    return Deferred(node, _broadcast(imp, node, x.shape, y.shape), build)


def _constant_product(imp: Operands, node: Node, variable: Value | None, factors: Array) -> Value:
    absorbed = scaled(imp, node, variable, factors, np.zeros(()))
    if absorbed is None:
        imp.fail(
            node,
            "a factor that is a float constant along several dimensions, or behind a float result",
            "quantise it, or fold it into the layer before",
        )
    return absorbed


def _real(value: Value | None) -> Array:
    assert isinstance(value, np.ndarray | QuantizedConstant)
    return value.real() if isinstance(value, QuantizedConstant) else value


_BROADCAST = "two activations of which one has the result's shape, or one and a constant"


def _evaluated(imp: Operands, node: Node) -> Function | None:
    """As `evaluated`, but for what ONNX Runtime fuses: operands and result are all quantised."""
    values = [imp.input(node, i) for i in range(len(node.inputs))]
    fused = all(isinstance(value, Dequantized | QuantizedConstant) for value in values)
    return None if fused and imp.quantizer(node) else evaluated(imp, node)


@operator("Add", note=_BROADCAST)
def add(imp: Operands, node: Node) -> Value:
    return _evaluated(imp, node) or addition(imp, node, imp.input(node, 0), imp.input(node, 1))


@operator("Sub", note=_BROADCAST)
def sub(imp: Operands, node: Node) -> Value:
    known = evaluated(imp, node)
    return known or addition(imp, node, imp.input(node, 0), imp.input(node, 1), subtract=True)


@operator("Mul", note=_BROADCAST + "; a positive number is free")
def mul(imp: Operands, node: Node) -> Value:
    left, right = imp.input(node, 0), imp.input(node, 1)
    known = _evaluated(imp, node)
    if known is None:
        return product(imp, node, left, right)
    if _is_constant(left):
        left, right = right, left
    return _scaled(imp, node, known, left, _real(right).item()) if _is_constant(right) else known


@operator("Div", note="by constants along one dimension; a positive number is free")
def div(imp: Operands, node: Node) -> Value:
    left, right = imp.input(node, 0), imp.input(node, 1)
    known = evaluated(imp, node)
    if known is None:
        if not _is_constant(right) or not _real(right).all():
            imp.fail(node, "the divisor is no constant, or zero", "divide by constant numbers")
        return _constant_product(imp, node, left, 1 / _real(right).astype(np.float64))
    divisor = _real(right).item() if _is_constant(right) else 0.0
    return _scaled(imp, node, known, left, 1 / divisor if divisor else 0.0)


def _scaled(
    imp: Operands, node: Node, known: Function, value: Value | None, factor: float
) -> Function:
    """``known``, which is ``value`` times a number; a positive one only changes the scale."""
    before = imp.function(node, value).linear
    if before is None or factor <= 0:
        return known
    after = Quantization(np.float32(before.scale * np.float32(factor)), before.zero_point)
    return dataclasses.replace(known, linear=after, limited=imp.function(node, value).limited)


@operator("Max", note=_BROADCAST)
@operator("Min", note=_BROADCAST)
def extremum(imp: Operands, node: Node) -> Value:
    known = evaluated(imp, node)
    if known is not None:
        return known
    parts = [imp.deferred(node, imp.input(node, i)) for i in range(len(node.inputs))]
    return _extremum(imp, node, parts, node.op.lower())


def _extremum(imp: Operands, node: Node, parts: Sequence[Deferred], op: str) -> Deferred:
    """The greatest or least of several reals: rounding is monotone, so it is of the integers."""
    pick = arith.MaxSIOp if op == "max" else arith.MinSIOp

    def build(target: Quantization, clamp: Clamp) -> Activation:
        first, *others = (part.emit(target, clamp) for part in parts)
        for other in others:
            first = elementwise.pairwise(
                imp.builder, node.name, op, first, other, lambda p, q: pick(p, q).result
            )
        return first

    return Deferred(node, _broadcast(imp, node, *(part.shape for part in parts)), build)


@operator("PRelu", note="constant slopes along one dimension, of at most one where several differ")
def prelu(imp: Operands, node: Node) -> Value:
    known = evaluated(imp, node)
    if known is not None:
        return known
    x, slopes = imp.activation(node, imp.input(node, 0)), imp.constant(node, 1)
    if slopes is None or not (slopes <= 1).all():
        imp.fail(node, "slopes above one", "quantise it as the operators that it is made of")
    bent = scaled(imp, node, x, slopes.astype(np.float64), np.zeros(()))
    if bent is None:
        imp.fail(node, "slopes along several dimensions", "give one for each channel")
    # With such slopes the line that counts is always the upper one.
    return _extremum(imp, node, [imp.deferred(node, x), bent], "max")


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
    if isinstance(value, Deferred):
        return value.clamped(low, high)
    if not isinstance(value, Integer):
        known = imp.function(node, value)
        reals = np.clip(known.reals, low, high)
        return dataclasses.replace(known, reals=reals, limited=True, node=node)
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
