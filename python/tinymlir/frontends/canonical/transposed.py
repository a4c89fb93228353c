"""Transposed convolutions, as plain ones that compute a block of pixels at once."""

from __future__ import annotations

import dataclasses

import numpy as np

from . import movement
from .builder import Builder
from .convolution import Linear, Window, conv2d
from .tensors import Activation, Dequantized, reshaped


def conv_transpose2d(
    b: Builder,
    name: str,
    operand: Dequantized,
    linear: Linear,
    strides: tuple[int, int],
    crop: tuple[int, int],
    size: tuple[int, int],
    groups: int = 1,
) -> Activation:
    """A transposed convolution of logical shape N×C×H×W.

    ``out[s * i + k - crop] += in[i] * w[k]`` along rows and columns. With
    ``out + crop = s * h + r`` and ``k = s * j + r`` that is, for each remainder r, a plain
    convolution ``sum over j of in[h - j] * w[s * j + r]``: one convolution with s·s times
    the channels computes the s×s pixels of a block, and a transposition puts them in place.

    Args:
        linear: weights are O×(C/groups)×KH×KW; O runs over the groups first.
        crop: rows and columns to drop at the start of the whole result.
        size: rows and columns of the result.

    Raises:
        OverflowError: see `Linear.folded_bias`.
    """
    taps, low, high, blocks, lead = ([0, 0] for _ in range(5))
    for axis, source in enumerate(operand.shape[2:]):
        stride, kernel = strides[axis], linear.weights.shape[2 + axis]
        taps[axis] = -(-kernel // stride)
        first, last = crop[axis] // stride, (crop[axis] + size[axis] - 1) // stride
        low[axis] = taps[axis] - 1 - first
        high[axis] = max(last + 1 - source, 0)
        blocks[axis] = source + low[axis] + high[axis] - taps[axis] + 1
        lead[axis] = crop[axis] - first * stride
    window = Window(_pair(taps), (1, 1), (1, 1), _pair(low), _pair(high))
    widened = _blocks(linear, strides, groups)
    y = conv2d(b, name, operand, widened, window, groups)
    inner = len(linear.weights) // groups
    rows, columns = strides
    y = reshaped(b, name, y, (1, groups, rows, columns, inner, *blocks))
    y = Activation(y.value, y.layout.transposed((0, 1, 4, 5, 2, 6, 3)))
    whole = (blocks[0] * rows, blocks[1] * columns)
    y = reshaped(b, name, y, (1, groups * inner, *whole))
    if whole == size:
        return y
    spatial = [range(start, start + n) for start, n in zip(lead, size, strict=True)]
    places = [range(1), range(groups * inner), *spatial]
    return movement.select(b, f"{name}_crop", "slice", y, places)


def _pair(values: list[int]) -> tuple[int, int]:
    return values[0], values[1]


def _blocks(linear: Linear, strides: tuple[int, int], groups: int) -> Linear:
    """Output channels for every pixel of a block: group, row, column, then channel."""
    outputs, depth, *kernel = linear.weights.shape
    taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
    padding = [(0, t * s - k) for t, s, k in zip(taps, strides, kernel, strict=True)]
    weights = np.pad(linear.weights, [(0, 0), (0, 0), *padding])
    inner = outputs // groups
    split = weights.reshape(groups, inner, depth, taps[0], strides[0], taps[1], strides[1])
    # The taps run against the input.
    split = split[:, :, :, ::-1, :, ::-1].transpose(0, 4, 6, 1, 2, 3, 5)
    count = strides[0] * strides[1]

    def repeated(values: np.ndarray) -> np.ndarray:
        return np.repeat(values.reshape(groups, 1, inner), count, axis=1).reshape(-1)

    return dataclasses.replace(
        linear.each(repeated), weights=split.reshape(outputs * count, depth, *taps)
    )
