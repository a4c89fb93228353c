"""Convolutions and products with the rescale that follows them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import ir
from tinymlir.frontends.canonical.builder import Scaling
from tinymlir.frontends.canonical.convolution import Linear, Window, conv2d
from tinymlir.frontends.canonical.dense import fully_connected
from tinymlir.frontends.canonical.tensors import (
    Activation,
    Dequantized,
    Quantization,
    reshaped,
)
from tinymlir.frontends.canonical.transposed import conv_transpose2d
from tinymlir.numerics import IntArray

from .constants import constant, single
from .converter import Converter, blame
from .movement import absorbed_padding, uncropped
from .names import name_of
from .pooling import mean
from .rescale import Rescale

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class _Fixed(Linear):
    """Constants of a layer whose scales are integers already.

    ``scales`` holds ``multiplier * 64 + shift`` for each output channel. The accumulator
    wraps around, so folding a zero point into the bias is exact whatever its size.
    """

    rounding: str = ""

    def folded_bias(self, input_zero_point: int) -> npt.NDArray[np.int32]:
        sums = self.weights.reshape(len(self.weights), -1).sum(axis=1, dtype=np.int64)
        folded = self.bias - input_zero_point * sums
        return folded.astype(np.uint64).astype(np.uint32).view(np.int32)

    def scaling(self, folded_bias: npt.NDArray[np.int32]) -> Scaling:
        scales = self.scales.astype(np.int64)
        if (scales == scales[0]).all():
            scales = scales[0].reshape(())
        multipliers, shifts = (part.astype(np.int32) for part in (scales >> 6, scales & 63))
        return Scaling(multipliers, shifts, self.zero_point, self.clamp, self.rounding)


def accumulated(
    conv: Converter, value: ir.Value, rescale: Rescale, bias: IntArray | int = 0
) -> Activation | None:
    """The layer that computes ``value``, an i32 tensor, and rescales it.

    None where ``value`` is no accumulator of a kind that layers have.

    Args:
        bias: constants to add to it, one or one for each index of the last dimension.
    """
    if isinstance(value, ir.BlockArgument):
        return None
    op = value.owner.operation
    if op.name == "tosa.add":
        for known, other in ((0, 1), (1, 0)):
            array = constant(op.operands[known])
            if array is not None and array.size in (1, array.shape[-1] if array.ndim else 1):
                return accumulated(conv, op.operands[other], rescale, bias + array.reshape(-1))
        return None
    if op.name in ("tosa.reshape", "tosa.identity"):
        inner = op.operands[0]
        moved = inner.type.shape[-1:] != value.type.shape[-1:]
        if moved and not (rescale.uniform and np.size(bias) == 1):
            return None
        made = accumulated(conv, inner, rescale, bias)
        return None if made is None else reshaped(conv.builder, name_of(op), made, value.type.shape)
    if op.name == "tosa.reduce_sum" and not np.any(bias):
        return mean(conv, value, rescale)
    builder = _BUILDERS.get(op.name)
    if builder is None or str(value.type.element_type) != "i32":
        return None
    with blame(op):
        return builder(conv, op, rescale, bias)


def _linear(
    weights: IntArray | None, weight_zero: int | None, bias: IntArray, rescale: Rescale
) -> _Fixed | None:
    """The constants, weights output channels first; None where they do not fit int8."""
    if weights is None or weight_zero is None:
        return None
    centred = weights - weight_zero
    if centred.min(initial=0) < numerics.I8_MIN or centred.max(initial=0) > numerics.I8_MAX:
        return None
    count = len(weights)
    scaling = rescale.scaling()
    return _Fixed(
        np.ascontiguousarray(centred.astype(np.int8)),
        np.broadcast_to(bias, (count,)),
        np.broadcast_to(rescale.multipliers * 64 + rescale.shifts, (count,)),
        scaling.zero_point,
        scaling.clamp,
        rounding=rescale.rounding,
    )


def _bias(op: ir.Operation, extra: IntArray | int) -> IntArray | None:
    array = constant(op.operands[2])
    return None if array is None else array.reshape(-1) + extra


def _operand(value: Activation, zero_point: int) -> Dequantized:
    # The scale is in the rescale's multipliers.
    return Dequantized(value, Quantization(np.float32(1), zero_point))


def _convolution(
    conv: Converter, op: ir.Operation, rescale: Rescale, extra: IntArray | int
) -> Activation | None:
    weights, bias = constant(op.operands[1]), _bias(op, extra)
    zero, weight_zero = (single(op.operands[i]) for i in (3, 4))
    if weights is None or bias is None or zero is None:
        return None
    groups = 1
    if op.name == "tosa.depthwise_conv2d":
        rows, columns, groups, multiplier = weights.shape
        weights = weights.transpose(2, 3, 0, 1).reshape(groups * multiplier, 1, rows, columns)
    else:
        weights = weights.transpose(0, 3, 1, 2)
    linear = _linear(weights, weight_zero, bias, rescale)
    if linear is None:
        return None
    top, bottom, left, right = op.attributes["pad"]
    strides, dilations = (list(op.attributes[name]) for name in ("stride", "dilation"))
    shape = op.operands[0].type.shape
    pixels = shape[1:3] == [1, 1] and weights.shape[2:] == (1, 1) and groups == 1
    if pixels and [top, bottom, left, right] == [0, 0, 0, 0]:
        return _dense(conv, op, zero, linear)
    _check_batch(op.operands[0])
    source, low, high = absorbed_padding(conv, op, uncropped(op, op.operands[0]), zero)
    window = Window(
        kernel=(weights.shape[2], weights.shape[3]),
        strides=(strides[0], strides[1]),
        dilations=(dilations[0], dilations[1]),
        pad_low=(top + low[0], left + low[1]),
        pad_high=(bottom + high[0], right + high[1]),
    )
    logical = Activation(source.value, source.layout.transposed(_TO_NCHW))
    y = conv2d(conv.builder, name_of(op), _operand(logical, zero), linear, window, groups)
    return Activation(y.value, y.layout.transposed(_TO_NHWC))


def _dense(conv: Converter, op: ir.Operation, zero: int, linear: _Fixed) -> Activation:
    """A convolution of single pixels, which is how TOSA spells a dense layer."""
    source = op.operands[0]
    rows, depth = source.type.shape[0], source.type.shape[3]
    b, name = conv.builder, name_of(op)
    x = reshaped(b, name, conv.signed(op, source), (rows, depth))
    flat = replace(linear, weights=linear.weights.reshape(len(linear.weights), depth))
    y = fully_connected(b, name, _operand(x, zero), flat)
    return reshaped(b, name, y, (rows, 1, 1, len(linear.weights)))


def _transposed(
    conv: Converter, op: ir.Operation, rescale: Rescale, extra: IntArray | int
) -> Activation | None:
    """A transposed convolution; a positive ``out_pad`` would surround it with biases."""
    weights, bias = constant(op.operands[1]), _bias(op, extra)
    zero, weight_zero = (single(op.operands[i]) for i in (3, 4))
    top, _, left, _ = op.attributes["out_pad"]
    if weights is None or bias is None or zero is None or max(top, left) > 0:
        return None
    linear = _linear(weights.transpose(0, 3, 1, 2), weight_zero, bias, rescale)
    if linear is None:
        return None
    source, result = op.operands[0], op.results[0].type.shape
    _check_batch(source)
    x = conv.signed(op, source)
    logical = Activation(x.value, x.layout.transposed(_TO_NCHW))
    strides = list(op.attributes["stride"])
    y = conv_transpose2d(
        conv.builder,
        name_of(op),
        _operand(logical, zero),
        linear,
        (strides[0], strides[1]),
        (-top, -left),
        (result[1], result[2]),
    )
    return Activation(y.value, y.layout.transposed(_TO_NHWC))


def _check_batch(value: ir.Value) -> None:
    if value.type.shape[0] != 1:
        raise NotImplementedError(
            f"a batch of {value.type.shape[0]}; export the network for one sample"
        )


def _product(
    conv: Converter, op: ir.Operation, rescale: Rescale, extra: IntArray | int
) -> Activation | None:
    """A matrix product with constants on the right; one matrix."""
    weights = constant(op.operands[1])
    zero, weight_zero = (single(op.operands[i]) for i in (2, 3))
    if weights is None or zero is None or len(weights) != 1:
        return None
    rows = weights[0].T if op.name == "tosa.matmul" else weights[0]
    linear = _linear(rows, weight_zero, np.zeros(1, np.int64) + extra, rescale)
    if linear is None:
        return None
    x = conv.signed(op, op.operands[0])
    return fully_connected(conv.builder, name_of(op), _operand(x, zero), linear)


_BUILDERS = {
    "tosa.conv2d": _convolution,
    "tosa.depthwise_conv2d": _convolution,
    "tosa.matmul": _product,
    "tosa.matmul_t": _product,
    "tosa.transpose_conv2d": _transposed,
}
