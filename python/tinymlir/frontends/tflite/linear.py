"""Convolutions and fully connected layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.frontends.canonical.builder import Scaling
from tinymlir.frontends.canonical.convolution import Linear, conv2d
from tinymlir.frontends.canonical.dense import fully_connected
from tinymlir.frontends.canonical.tensors import (
    Activation,
    Dequantized,
    Quantization,
    is_absurd,
    reshaped,
)
from tinymlir.frontends.canonical.transposed import conv_transpose2d

from . import arithmetic
from .operands import CONVERT_AGAIN, HOW_TO_QUANTIZE, Operands
from .registry import operator
from .rounding import double_rounding, single_rounding
from .schema import Array, Node
from .values import Integer, Padded, Phases, Value
from .windows import SAME, same_padding, window_of


@dataclass(frozen=True)
class _Wrapping(Linear):
    """Constants of a layer whose accumulator wraps around, as the reference's does."""

    def folded_bias(self, input_zero_point: int) -> npt.NDArray[np.int32]:
        sums = self.weights.reshape(len(self.weights), -1).sum(axis=1, dtype=np.int64)
        return arithmetic.wrapped(self.bias - input_zero_point * sums).astype(np.int32)

    def range(self, folded_bias: npt.NDArray[np.int32]) -> tuple[Array, Array]:
        """Reachable accumulators; all where some could wrap."""
        low, high = numerics.accumulator_range(self.weights, folded_bias)
        wraps = (low < numerics.I32_MIN) | (high > numerics.I32_MAX)
        return np.where(wraps, numerics.I32_MIN, low), np.where(wraps, numerics.I32_MAX, high)


class ConvolutionLinear(_Wrapping):
    """Results rounded twice, which is what the convolution kernels do."""

    def scaling(self, folded_bias: npt.NDArray[np.int32]) -> Scaling:
        return double_rounding(self.scales, self.zero_point, self.clamp)


class DenseLinear(_Wrapping):
    """Results rounded once, from a product in double precision."""

    def scaling(self, folded_bias: npt.NDArray[np.int32]) -> Scaling:
        scales = np.asarray(self.scales, np.float64)
        low, high = self.range(folded_bias)
        if (scales == scales[0]).all():
            scales, low, high = scales[:1], low.min(keepdims=True), high.max(keepdims=True)
        return single_rounding(scales, self.zero_point, self.clamp, low, high)


@dataclass(frozen=True)
class Constants:
    """Weights (int8, output channels first), bias and scales of the weights, none negative."""

    weights: Array
    bias: Array
    scales: Array


def _linear(
    kind: type[_Wrapping], imp: Operands, node: Node, known: Constants, x: Integer
) -> Linear:
    """The layer that ``node`` makes of its constants and of ``x``."""
    target = imp.output(node)
    # From accumulators to results, one factor for each output channel.
    factors = known.scales.astype(np.float64) * float(x.quantization.scale) / float(target.scale)
    clamp = imp.clamp(node, target)
    return kind(known.weights, known.bias, factors, target.zero_point, clamp)


def constants(imp: Operands, node: Node, rank: int, *, outputs: int, bias: int = 2) -> Constants:
    """Input 1 and the bias.

    Args:
        rank: of the weights.
        outputs: which dimension of the weights runs over the output channels.
        bias: which input that is.
    """
    tensor, array = imp.tensor(node, 1), imp.constant(node, 1)
    if tensor.type != "int8":
        hint = HOW_TO_QUANTIZE if tensor.type.startswith("float") else "quantise weights to int8"
        imp.fail(node, f"weights of type {tensor.type} are not supported", hint)
    if array.ndim != rank or array.size == 0:
        imp.fail(node, f"weights have the shape {list(array.shape)}", CONVERT_AGAIN)
    count = array.shape[outputs]
    scale, zero_point = tensor.scale, tensor.zero_point
    known = len(scale) == 1 or (len(scale) == count and tensor.axis == outputs)
    if not known or not np.isfinite(scale).all():
        imp.fail(
            node,
            f"weights '{tensor.name}' have no usable scales",
            "quantise them per tensor or along the output channels",
        )
    # Folding a batch normalisation can leave negative scales; their channels change sign.
    sign = np.where(np.broadcast_to(scale, (count,)) < 0, -1, 1)
    offset = zero_point[0] if len(zero_point) == 1 else 0
    centred = np.moveaxis(array, outputs, 0).astype(np.int64) - offset
    centred *= sign.reshape(-1, *[1] * (rank - 1))
    uneven = len(zero_point) > 1 and zero_point.any()
    if uneven or centred.min() < numerics.I8_MIN or centred.max() > numerics.I8_MAX:
        imp.fail(node, f"weights '{tensor.name}' are not symmetric", HOW_TO_QUANTIZE)
    weights, scales = centred.astype(np.int8), np.abs(np.broadcast_to(scale, (count,)))
    return Constants(weights, sign * _bias(imp, node, bias, count), scales)


def _bias(imp: Operands, node: Node, index: int, count: int) -> Array:
    """In units of the accumulator, one for each output."""
    if not imp.has_input(node, index):
        return np.zeros(count, np.int64)
    tensor, array = imp.tensor(node, index), imp.constant(node, index)
    if tensor.type != "int32" or array.size != count:
        imp.fail(
            node,
            f"the bias is {tensor.type} of shape {list(array.shape)}, not int32 of {count}",
            HOW_TO_QUANTIZE,
        )
    return array.reshape(-1).astype(np.int64)


@operator("CONV_2D", note="int8, weights per tensor or per channel, groups")
def conv_2d(imp: Operands, node: Node) -> Value:
    known = constants(imp, node, 4, outputs=0)
    image = _image(imp, node)
    channels, depth = image.x.shape[3], known.weights.shape[3]
    if channels % depth or len(known.weights) % (channels // depth):
        _misfit(imp, node, known, image.x)
    known = dataclasses.replace(known, weights=known.weights.transpose(0, 3, 1, 2))
    return _convolution(imp, node, image, known, channels // depth)


@operator("DEPTHWISE_CONV_2D", note="int8, weights per tensor or per channel, any multiplier")
def depthwise_conv_2d(imp: Operands, node: Node) -> Value:
    known = constants(imp, node, 4, outputs=3)
    image = _image(imp, node)
    channels = image.x.shape[3]
    if known.weights.shape[1] != 1 or len(known.weights) % channels:
        _misfit(imp, node, known, image.x)
    return _convolution(imp, node, image, known, channels)


def _misfit(imp: Operands, node: Node, known: Constants, x: Integer) -> NoReturn:
    shapes = f"weights {list(known.weights.shape)} do not fit the input {list(x.shape)}"
    imp.fail(node, shapes, CONVERT_AGAIN)


_Border = tuple[tuple[int, int], tuple[int, int]]


def _operand(x: Integer) -> Dequantized:
    """``x`` as logical N×C×H×W."""
    layout = x.activation.layout.transposed((0, 3, 1, 2))
    return Dequantized(Activation(x.activation.value, layout), x.quantization)


def _result(y: Activation, target: Quantization) -> Integer:
    """The way back from `_operand`."""
    return Integer(Activation(y.value, y.layout.transposed((0, 2, 3, 1))), target)


def _check_image(imp: Operands, node: Node, shape: Sequence[int]) -> None:
    if len(shape) != 4 or shape[0] != 1:
        imp.fail(
            node,
            f"the input has the shape {list(shape)}",
            "convert the network for one sample (batch 1), with rows, columns and channels",
        )


@dataclass(frozen=True)
class _Image:
    """What a convolution takes in its input 0: an image of rank four.

    Attributes:
        border: around rows and columns, which becomes padding.
        steps: of the phases along each dimension, if that is what the convolution takes.
    """

    x: Integer
    border: _Border = ((0, 0), (0, 0))
    steps: tuple[int, ...] | None = None


def _image(imp: Operands, node: Node) -> _Image:
    """Input 0.

    A PAD in front is taken into the convolution's own padding if it pads with the
    zero point, so that no padded copy need exist.
    """
    value = imp.value(node, 0)
    if isinstance(value, Phases):
        _check_image(imp, node, value.image.shape)
        strides = (node.options["StrideH"], node.options["StrideW"])
        if value.steps[3] != 1 or node.options["Padding"] == SAME or strides != (1, 1):
            imp.fail(node, "strides or pads the parts of a split image", CONVERT_AGAIN)
        border = _rows_and_columns(value.low, value.high)
        return _Image(value.image, border, value.steps)
    _check_image(imp, node, value.shape)
    if isinstance(value, Padded) and not value.source.unsigned:
        outer = (value.low[0], value.low[3], value.high[0], value.high[3])
        if not any(outer) and value.fill == value.quantization.zero_point:
            source = Integer(value.source.activation, value.quantization)
            return _Image(source, _rows_and_columns(value.low, value.high))
    return _Image(imp.activation(node, 0))


def _rows_and_columns(low: Sequence[int], high: Sequence[int]) -> _Border:
    return (low[1], low[2]), (high[1], high[2])


def _convolution(
    imp: Operands, node: Node, image: _Image, known: Constants, groups: int
) -> Integer | Phases:
    """Weights are O×I×KH×KW."""
    x, target = image.x, imp.output(node)
    kernel = known.weights.shape[2:]
    gaps = (image.steps or (1, 1, 1))[1:3]
    window = window_of(imp, node, x.shape[1:3], kernel, image.border, gaps)
    linear = _linear(ConvolutionLinear, imp, node, known, x)
    made = conv2d(imp.builder, node.name, _operand(x), linear, window, groups)
    y, none = _result(made, target), (0, 0, 0, 0)
    return y if image.steps is None else Phases(y, image.steps, none, none)


@operator("TRANSPOSE_CONV", note="int8, weights per tensor or per channel")
def transpose_conv(imp: Operands, node: Node) -> Value:
    known = constants(imp, node, 4, outputs=0, bias=3)
    x, target = imp.activation(node, 2), imp.output(node)
    _check_image(imp, node, x.shape)
    # The shape may be computed at run time; the converter has worked it out then.
    given = isinstance(imp.value(node, 0), np.ndarray)
    shape = imp.integers(node, 0) if given else imp.graph.tensors[node.outputs[0]].shape
    outputs, rows, columns, depth = known.weights.shape
    if len(shape) != 4 or shape[3] != outputs or depth != x.shape[3] or is_absurd(shape):
        _misfit(imp, node, known, x)
    strides, size = (node.options["StrideH"], node.options["StrideW"]), (shape[1], shape[2])
    if min(*strides, *size) < 1:
        imp.fail(
            node, f"strides {list(strides)} and size {list(size)} must be positive", CONVERT_AGAIN
        )
    padded = node.options["Padding"] == SAME
    top, left = (
        same_padding(n, k, s)[0] if padded else 0
        for n, k, s in zip(size, (rows, columns), strides, strict=True)
    )
    known = dataclasses.replace(known, weights=known.weights.transpose(0, 3, 1, 2))
    linear = _linear(ConvolutionLinear, imp, node, known, x)
    y = conv_transpose2d(imp.builder, node.name, _operand(x), linear, strides, (top, left), size)
    return _result(y, target)


@operator("FULLY_CONNECTED", note="int8, constant weights per tensor or per channel")
def dense(imp: Operands, node: Node) -> Value:
    x = imp.activation(node)
    known = constants(imp, node, 2, outputs=0)
    outputs, depth = known.weights.shape
    if node.options["WeightsFormat"]:
        imp.fail(node, "shuffled weights are not supported", CONVERT_AGAIN)
    count = math.prod(x.shape)
    keep = node.options["KeepNumDims"]
    if count % depth or (keep and x.shape[-1:] != (depth,)):
        _misfit(imp, node, known, x)
    target = imp.output(node)
    activation = reshaped(imp.builder, node.name, x.activation, (count // depth, depth))
    linear = _linear(DenseLinear, imp, node, known, x)
    operand = Dequantized(activation, x.quantization)
    y = fully_connected(imp.builder, node.name, operand, linear)
    shape = (*x.shape[:-1], outputs) if keep else (count // depth, outputs)
    return Integer(reshaped(imp.builder, node.name, y, shape), target)
