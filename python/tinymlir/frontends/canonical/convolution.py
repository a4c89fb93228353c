"""Convolutions: plain, grouped and depthwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import ir, linalg

from .builder import Builder, Clamp, Scaling
from .offset import OffsetScaling, requantize_with_offset
from .tensors import (
    Activation,
    Dequantized,
    arrange,
    atoms,
    channels_last,
    channels_last_layout,
)


@dataclass(frozen=True)
class Window:
    """A sliding window; every pair is (rows, columns)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pad_low: tuple[int, int]
    pad_high: tuple[int, int]

    def reach(self, axis: int) -> int:
        """Extent of the dilated kernel."""
        return self.dilations[axis] * (self.kernel[axis] - 1) + 1

    def output(self, axis: int, size: int) -> int:
        """Positions of the window along an axis of ``size``; below one if it does not fit."""
        padded = size + self.pad_low[axis] + self.pad_high[axis]
        return (padded - self.reach(axis)) // self.strides[axis] + 1

    def covered(self, axis: int, size: int, low: int = 0, high: int = 0) -> npt.NDArray[np.int64]:
        """For each position along ``axis``, how many taps fall on ``[-low, size + high)``."""
        starts = np.arange(self.output(axis, size)) * self.strides[axis] - self.pad_low[axis]
        taps = starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
        return ((taps >= -low) & (taps < size + high)).sum(axis=1)

    def counts(
        self,
        size: Sequence[int],
        low: tuple[int, int] = (0, 0),
        high: tuple[int, int] = (0, 0),
    ) -> npt.NDArray[np.int64]:
        """Taps at each position (rows by columns) as in `covered`; one number if all are alike.

        Args:
            size: rows and columns that the window slides on.
        """
        rows, columns = (self.covered(d, size[d], low[d], high[d]) for d in (0, 1))
        counts = np.multiply.outer(rows, columns)
        return counts[:1, :1].reshape(()) if (counts == counts.flat[0]).all() else counts

    def pad(self, b: Builder, value: ir.Value, fill: int) -> ir.Value:
        """``value`` (N×H×W×C) padded as far as the window reaches, not further."""
        high = []
        for axis in (0, 1):
            size = value.type.shape[1 + axis]
            end = (self.output(axis, size) - 1) * self.strides[axis] + self.reach(axis)
            needed = max(end - size - self.pad_low[axis], 0)
            high.append(min(needed, self.pad_high[axis]))
        return b.pad(value, (0, *self.pad_low, 0), (0, *high, 0), fill)


@dataclass(frozen=True)
class Linear:
    """The constants of a convolution or a dense layer.

    Attributes:
        weights: int8, output channels first.
        bias: one integer for each output channel, at the accumulator's scale.
        scales: real factors from the accumulator to the result, one for each channel.
        zero_point: of the result.
        clamp: of the result.
        fractions: what the bias has beyond ``bias``, if anything, less than one step.
    """

    weights: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int64]
    scales: npt.NDArray[np.floating]
    zero_point: int
    clamp: Clamp
    fractions: npt.NDArray[np.float64] | None = None

    def folded_bias(self, input_zero_point: int) -> npt.NDArray[np.int32]:
        """``b - zp * sum(w)``, which makes the products ``x * w`` of raw int8 values exact.

        Raises:
            OverflowError: some int8 input would overflow the i32 accumulator.
        """
        sums = self.weights.reshape(len(self.weights), -1).sum(axis=1, dtype=np.int64)
        folded = self.bias - input_zero_point * sums
        low, high = numerics.accumulator_range(self.weights, folded)
        if low.min() < numerics.I32_MIN or high.max() > numerics.I32_MAX:
            raise OverflowError("the 32-bit accumulator can overflow")
        return folded.astype(np.int32)

    def scaling(self, folded_bias: npt.NDArray[np.int32]) -> Scaling:
        low, high = numerics.accumulator_range(self.weights, folded_bias)
        return Scaling.of(self.scales, self.zero_point, self.clamp, low, high)

    def requantized(
        self, b: Builder, acc: ir.Value, folded_bias: npt.NDArray[np.int32], channel: int
    ) -> ir.Value:
        """The layer's result; ``channel`` is the dimension of the output channels."""
        if self.fractions is not None:
            scaling = OffsetScaling.of(self.scales, self.fractions, self.zero_point, self.clamp)
            if scaling is not None:
                return requantize_with_offset(b, acc, scaling, channel)
        return b.requantize(acc, self.scaling(folded_bias), (channel,))

    def each(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Linear:
        """The same with ``change`` made to all that there is one of for each output."""
        return dataclasses.replace(
            self,
            bias=change(self.bias),
            scales=change(self.scales),
            fractions=None if self.fractions is None else change(self.fractions),
        )

    def permuted(self, index: npt.NDArray[np.intp]) -> Linear:
        """Output channels in another order."""
        moved = self.each(lambda values: values[index])
        return dataclasses.replace(moved, weights=self.weights[index])


def conv2d(
    b: Builder,
    name: str,
    operand: Dequantized,
    linear: Linear,
    window: Window,
    groups: int,
) -> Activation:
    """A quantised convolution of logical shape N×C×H×W.

    Args:
        operand: padding has its zero point.
        linear: weights are O×(C/groups)×KH×KW.

    Raises:
        OverflowError: see `Linear.folded_bias`.
    """
    zero_point = operand.quantization.zero_point
    x = channels_last(b, name, operand.activation)
    _, height, width, channels = x.value.type.shape
    outputs = len(linear.weights)
    rows, columns = window.output(0, height), window.output(1, width)
    out_channels = atoms(outputs)
    out_inner = out_channels
    depthwise = groups == channels and groups > 1
    index = x.layout.logical_index(1)
    if groups == 1:
        linear = dataclasses.replace(linear, weights=linear.weights[:, index])
    elif depthwise and outputs == groups:
        linear = linear.permuted(index)
        out_channels, out_inner = x.layout.dims[1], x.layout.within([1])
    elif not np.array_equal(index, np.arange(channels)):
        # A group is a run of neighbours in the buffer: shuffled channels are put in order.
        _, of_channels, of_rows, of_columns = x.layout.dims
        x = channels_last(b, name, arrange(b, name, x, of_rows + of_columns + of_channels))
    bias = linear.folded_bias(zero_point)
    with b.layer(name, "depthwise_conv2d" if depthwise else "conv2d"):
        source = window.pad(b, x.value, zero_point)
        weights = linear.weights
        shape: tuple[int, ...] = (1, rows, columns, outputs)
        if depthwise and outputs == groups:
            op_class = linalg.DepthwiseConv2DNhwcHwcOp
            weights = weights[:, 0].transpose(1, 2, 0)
        elif depthwise:
            op_class = linalg.DepthwiseConv2DNhwcHwcmOp
            multiplier = outputs // groups
            weights = weights.reshape(groups, multiplier, *window.kernel).transpose(2, 3, 0, 1)
            shape = (1, rows, columns, groups, multiplier)
        elif groups > 1:
            op_class = linalg.Conv2DNhwgcGfhwcOp
            weights = weights.transpose(0, 2, 3, 1)
            weights = weights.reshape(groups, outputs // groups, *weights.shape[1:])
            source = b.reshape(source, (*source.type.shape[:3], groups, channels // groups))
            shape = (1, rows, columns, groups, outputs // groups)
        else:
            op_class = linalg.Conv2DNhwcFhwcOp
            weights = weights.transpose(0, 2, 3, 1)
        init = b.broadcast(b.constant(bias.reshape(shape[3:])), shape, (0, 1, 2))
        acc = b.structured(
            op_class, [source, b.constant(weights)], init, window.strides, window.dilations
        )
        acc = b.reshape(acc, (1, rows, columns, outputs))
        value = linear.requantized(b, acc, bias, 3)
    layout = channels_last_layout(out_channels, out_inner, rows, columns)
    return Activation(value, layout)
