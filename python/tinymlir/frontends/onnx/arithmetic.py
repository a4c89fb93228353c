"""QuantizeLinear, DequantizeLinear, Add and the activation functions."""

from __future__ import annotations

import numpy as np

from tinymlir.frontends.canonical import elementwise
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .importer import Importer, operator
from .values import Deferred, Value


@operator("QuantizeLinear")
def quantize_linear(imp: Importer, node: Node) -> Value:
    return imp.quantize(node, imp.input(node, 0), 1, 2)


@operator("DequantizeLinear")
def dequantize_linear(imp: Importer, node: Node) -> Value:
    return imp.dequantize(node, 0, 1, 2, node.attribute("axis", 1))


def addition(imp: Importer, node: Node, a: Value | None, c: Value | None) -> Deferred:
    x, y = (imp.activation(node, value, "operand") for value in (a, c))
    shape = np.broadcast_shapes(x.shape, y.shape)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        return elementwise.add(
            imp.builder,
            node.name,
            (x.activation, x.quantization),
            (y.activation, y.quantization),
            target,
            clamp,
        )

    return Deferred(node, shape, build)


@operator("Add")
def add(imp: Importer, node: Node) -> Value:
    return addition(imp, node, imp.input(node, 0), imp.input(node, 1))


@operator("QLinearAdd", "com.microsoft")
def qlinear_add(imp: Importer, node: Node) -> Value:
    a, c = imp.dequantize(node, 0, 1, 2, 0), imp.dequantize(node, 3, 4, 5, 0)
    return imp.quantize(node, addition(imp, node, a, c), 6, 7)


@operator("Relu")
def relu(imp: Importer, node: Node) -> Value:
    return imp.deferred(node, imp.input(node, 0)).clamped(0.0, np.inf)
