"""Factors and addends that differ from channel to channel: batch normalisation and the like."""

from __future__ import annotations

import numpy as np

from tinymlir.frontends.canonical.convolution import Linear, Window, conv2d
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation

from .graph import Node
from .linear import Weighted, layer
from .operands import EXPORT_AGAIN, Operands
from .registry import operator
from .values import Array, Deferred, Dequantized, Value

#: The one weight of a channel: a power of two, so that its scale stays far below one.
_WEIGHT = 64


def scaled(
    imp: Operands, node: Node, value: Value | None, factors: Array, addends: Array
) -> Deferred | None:
    """``value * factors + addends`` for constant reals along one dimension.

    A layer that is not quantised yet absorbs them; otherwise they are a depthwise
    convolution with one tap. None if they differ along several dimensions.
    """
    if isinstance(value, Deferred):
        return value.affine(factors, addends) if value.affine else None
    x = imp.activation(node, value, "operand")
    rank = len(x.shape)
    along = set()
    for values in (factors, addends):
        if values.ndim > rank:
            return None
        missing = rank - values.ndim
        along |= {d + missing for d, n in enumerate(values.shape) if n != 1}
        np.broadcast_shapes(values.shape, x.shape)
    if len(along) > 1:
        return None
    dim = along.pop() if along else rank - 1
    absorbed = _tap(imp, node, x, dim).affine
    return absorbed(factors, addends) if absorbed else None


def _tap(imp: Operands, node: Node, x: Dequantized, dim: int) -> Deferred:
    """``x`` as the result of a layer, with its dimension ``dim`` as the channels."""
    dims, order = x.activation.layout.dims, x.activation.layout.order
    rows = x.activation.layout.within(d for d in range(len(dims)) if d != dim)
    image = Activation(x.activation.value, Layout(((), dims[dim], rows, ()), order))
    channels = x.shape[dim]

    def emit(linear: Linear) -> Activation:
        source = Dequantized(image, x.quantization)
        window = Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
        y = conv2d(imp.builder, node.name, source, linear, window, channels)
        return Activation(y.value, Layout(dims, rows + y.layout.within([1])))

    constants = Weighted(
        np.full((channels, 1, 1, 1), _WEIGHT, np.int8),
        np.full(channels, float(x.quantization.scale) / _WEIGHT),
        np.zeros(channels),
    )
    return layer(node, x.shape, len(x.shape) - 1 - dim, constants, emit)


@operator("BatchNormalization", note="free behind a layer that is not quantised in between")
def batch_normalization(imp: Operands, node: Node) -> Value:
    shape = imp.shape(node)
    parameters = [imp.constant(node, i) for i in range(1, 5)]
    if node.attribute("training_mode", 0) or len(shape) < 2:
        imp.fail(node, "in training mode, or without channels", EXPORT_AGAIN)
    known = [p.reshape(-1).astype(np.float64) for p in parameters if p is not None]
    if len(known) != 4 or any(p.shape != shape[1:2] for p in known):
        imp.fail(node, f"parameters that do not fit {list(shape)}", EXPORT_AGAIN)
    scale, bias, mean, variance = known
    factors = scale / np.sqrt(variance + node.attribute("epsilon", 1e-5))
    along = (-1, *[1] * (len(shape) - 2))
    addends = (bias - mean * factors).reshape(along)
    result = scaled(imp, node, imp.input(node, 0), factors.reshape(along), addends)
    if result is None:
        imp.fail(
            node,
            "follows what it cannot be folded into",
            "run onnxruntime.quantization.quant_pre_process on the float model, then quantise it",
        )
    return result
