"""Conv, Gemm, MatMul and their QLinear forms."""

from __future__ import annotations

import math

import numpy as np

from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.convolution import Linear, conv2d
from tinymlir.frontends.canonical.dense import fully_connected
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .importer import HOW_TO_QUANTIZE, Importer, operator
from .values import Array, Deferred, Dequantized, QuantizedConstant, Value
from .windows import window_of


def _weights(imp: Importer, node: Node, value: Value | None, outputs: int) -> tuple[Array, Array]:
    """Constant weights as centred int8, and a scale for each of the axis ``outputs``."""
    if isinstance(value, np.ndarray):
        raise imp.graph.error(
            f"{node.op}: weights are {value.dtype}, not quantised", node=node, hint=HOW_TO_QUANTIZE
        )
    if not isinstance(value, QuantizedConstant):
        raise imp.graph.error(
            f"{node.op}: the weights are not constant",
            node=node,
            hint="weights must be initializers or Constant nodes",
        )
    if value.array.dtype == np.int32:
        raise imp.graph.error(
            f"{node.op}: weights are int32", node=node, hint="quantise weights to int8 or uint8"
        )
    if value.scale.size > 1 and value.axis != outputs:
        raise imp.graph.error(
            f"{node.op}: weights have a scale for each index of axis {value.axis}",
            node=node,
            hint=f"quantise per tensor or along the output channels, axis {outputs}",
        )
    centred = value.centred()
    if centred.min(initial=0) < -128 or centred.max(initial=0) > 127:
        raise imp.graph.error(
            f"{node.op}: weights less their zero point do not fit int8",
            node=node,
            hint="quantise weights symmetrically (WeightSymmetric=True) or to int8",
        )
    scales = np.broadcast_to(value.scale, (value.array.shape[outputs],))
    return centred.astype(np.int8), scales


def _bias(imp: Importer, node: Node, value: Value | None, unit: Array) -> Array:
    """The bias in units of the accumulator, one integer for each output.

    Args:
        value: reals, or int32 constants in those units already.
        unit: the accumulator's scale for each output, float32.
    """
    if value is None or (isinstance(value, np.ndarray) and value.size == 0):
        return np.zeros(unit.shape, np.int64)
    if isinstance(value, QuantizedConstant):
        same = np.allclose(value.scale, unit, rtol=1e-5, atol=0)
        if value.array.dtype == np.int32 and same:
            return np.broadcast_to(value.centred().reshape(-1), unit.shape)
        value = value.real()
    if not isinstance(value, np.ndarray):
        raise imp.graph.error(
            f"{node.op}: the bias is not constant",
            node=node,
            hint="the bias must be an initializer",
        )
    if value.dtype == np.int32:
        return np.broadcast_to(value.reshape(-1).astype(np.int64), unit.shape)
    steps = np.broadcast_to(value.astype(np.float64).reshape(-1), unit.shape) / unit
    if not (np.abs(steps) < 2**31).all():
        raise ValueError("the bias does not fit 32 bits at the accumulator's scale")
    return np.rint(steps).astype(np.int64)


def _linear(weights: Array, bias: Array, unit: Array, target: Quantization, clamp: Clamp) -> Linear:
    """Scales in float32, as ONNX Runtime computes them."""
    scales = (unit / target.scale).astype(np.float32)
    return Linear(weights, bias, scales, target.zero_point, clamp)


def convolution(
    imp: Importer, node: Node, x: Dequantized, w: Value | None, bias: Value | None
) -> Deferred:
    """Conv of one or two spatial dimensions."""
    weights, scales = _weights(imp, node, w, 0)
    spatial = weights.ndim - 2
    if spatial not in (1, 2) or len(x.shape) != weights.ndim:
        raise imp.graph.error(
            f"{node.op}: {spatial} spatial dimensions are not supported",
            node=node,
            hint="use 1-D or 2-D convolutions",
        )
    groups = node.attribute("group", 1)
    channels = x.shape[1]
    if x.shape[0] != 1:
        raise imp.graph.error(f"{node.op}: batch size {x.shape[0]}", node=node, hint="use batch 1")
    if groups < 1 or weights.shape[1] * groups != channels or weights.shape[0] % groups:
        raise imp.graph.error(
            f"{node.op}: weights {list(weights.shape)} in {groups} groups do not fit"
            f" {channels} input channels",
            node=node,
            hint="export the model again",
        )
    window = window_of(imp, node, x.shape[2:], weights.shape[2:])
    unit = x.quantization.scale * scales
    offsets = _bias(imp, node, bias, unit)
    if spatial == 1:
        weights = weights[:, :, None]
    rows = 1 if spatial == 1 else x.shape[2]
    out = [window.output(0, rows), window.output(1, x.shape[-1])]
    shape = (1, weights.shape[0], *out[2 - spatial :])

    def build(target: Quantization, clamp: Clamp) -> Activation:
        source = expanded(x.activation)
        linear = _linear(weights, offsets, unit, target, clamp)
        y = conv2d(imp.builder, node.name, source, x.quantization, linear, window, groups)
        return flattened(y, spatial)

    return Deferred(node, shape, build)


def expanded(x: Activation) -> Activation:
    """N×C×L as N×C×1×L."""
    if x.layout.rank != 3:
        return x
    dims = x.layout.dims
    return Activation(x.value, Layout((*dims[:2], (), dims[2]), x.layout.order))


def flattened(x: Activation, spatial: int) -> Activation:
    """The way back from `expanded`."""
    if spatial != 1:
        return x
    dims = x.layout.dims
    return Activation(x.value, Layout((*dims[:2], dims[3]), x.layout.order))


def dense(
    imp: Importer,
    node: Node,
    x: Dequantized,
    w: Value | None,
    bias: Value | None,
    *,
    transposed: bool,
) -> Deferred:
    """A product with constant weights K×N (N×K if ``transposed``)."""
    array = w.array if isinstance(w, QuantizedConstant) else w
    if isinstance(array, np.ndarray) and array.ndim != 2:
        raise imp.graph.error(
            f"{node.op}: weights have {array.ndim} dimensions",
            node=node,
            hint="use a weight matrix",
        )
    weights, scales = _weights(imp, node, w, 0 if transposed else 1)
    weights = weights if transposed else weights.T
    if len(x.shape) < 2 or x.shape[-1] != weights.shape[1]:
        raise imp.graph.error(
            f"{node.op}: an input {list(x.shape)} does not fit {weights.shape[1]} weights per output",
            node=node,
            hint="export the model again",
        )
    unit = x.quantization.scale * scales
    offsets = _bias(imp, node, bias, unit)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        linear = _linear(weights, offsets, unit, target, clamp)
        return fully_connected(imp.builder, node.name, x.activation, x.quantization, linear)

    return Deferred(node, (*x.shape[:-1], weights.shape[0]), build)


@operator("Conv")
def conv(imp: Importer, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    return convolution(imp, node, x, imp.input(node, 1), imp.input(node, 2))


@operator("QLinearConv")
def qlinear_conv(imp: Importer, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2, 1))
    w = imp.dequantize(node, 3, 4, 5, 0)
    return imp.quantize(node, convolution(imp, node, x, w, imp.input(node, 8)), 6, 7)


def _check_gemm(imp: Importer, node: Node) -> bool:
    """Only plain products; gives whether B is transposed."""
    factors = [node.attribute(name, 1.0) for name in ("alpha", "beta")]
    if node.attribute("transA", 0) or any(not math.isclose(f, 1.0) for f in factors):
        raise imp.graph.error(
            f"{node.op}: only alpha = beta = 1 without transA is supported",
            node=node,
            hint="fold the factors into the weights",
        )
    return bool(node.attribute("transB", 0))


@operator("Gemm")
def gemm(imp: Importer, node: Node) -> Value:
    transposed = _check_gemm(imp, node)
    x = imp.activation(node, imp.input(node, 0))
    return dense(imp, node, x, imp.input(node, 1), imp.input(node, 2), transposed=transposed)


@operator("QGemm", "com.microsoft")
def qgemm(imp: Importer, node: Node) -> Value:
    transposed = _check_gemm(imp, node)
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2, 1))
    w = imp.dequantize(node, 3, 4, 5, 0 if transposed else 1)
    if not node.input(7):
        raise imp.graph.error(
            "QGemm without an output scale gives floats", node=node, hint="quantise its output"
        )
    product = dense(imp, node, x, w, imp.input(node, 6), transposed=transposed)
    return imp.quantize(node, product, 7, 8)


@operator("MatMul")
def matmul(imp: Importer, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    return dense(imp, node, x, imp.input(node, 1), None, transposed=False)


@operator("QLinearMatMul")
def qlinear_matmul(imp: Importer, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2, 1))
    w = imp.dequantize(node, 3, 4, 5, 1)
    return imp.quantize(node, dense(imp, node, x, w, None, transposed=False), 6, 7)
