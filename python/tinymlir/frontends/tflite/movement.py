"""Operators that only regroup or place elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.tensors import (
    MAX_DIMENSION,
    Activation,
    Quantization,
    reshaped,
)

from . import arithmetic
from .operands import CONVERT_AGAIN, Operands
from .registry import operator
from .schema import Node
from .slices import Selection, simple_slices, strided_slices
from .values import FloatInput, Integer, Padded, Real, Value


def _regrouped(imp: Operands, node: Node, shape: Sequence[int]) -> Value:
    """Input 0 under another shape."""
    return _moved(imp, node, lambda x: reshaped(imp.builder, node.name, x, shape))


def _moved(imp: Operands, node: Node, move: Callable[[Activation], Activation]) -> Value:
    """Input 0 with its elements placed by ``move``: integers, or the reals they stand for."""
    value = imp.value(node, 0)
    if isinstance(value, Real):
        inner = value.integer
        return Real(Integer(move(inner.activation), inner.quantization, inner.unsigned))
    if isinstance(value, FloatInput):
        return FloatInput(value.tensor, move(value.activation))
    x = imp.activation(node, unsigned=True)
    return Integer(move(x.activation), _result(imp, node, x), x.unsigned)


def _result(imp: Operands, node: Node, x: Integer, index: int = 0) -> Quantization:
    """The quantisation of a result: kernels that move integers do not look at it."""
    tensor = imp.graph.tensors[node.outputs[index]]
    if (tensor.type == "uint8") != x.unsigned:
        imp.fail(node, f"the result has another type, {tensor.type}", CONVERT_AGAIN)
    return imp.quantization(node, tensor)


@operator("RESHAPE", note="any type; free")
def reshape(imp: Operands, node: Node) -> Value:
    old = imp.shape(node)
    known = imp.has_input(node, 1) and isinstance(imp.value(node, 1), np.ndarray)
    shape = imp.integers(node, 1) if known else list(node.options["NewShape"])
    if not known and imp.has_input(node, 1):
        # Computed at run time; the converter has worked it out.
        shape = list(imp.graph.tensors[node.outputs[0]].shape)
    count = math.prod(old)
    if shape.count(-1) == 1:
        rest = math.prod(n for n in shape if n != -1)
        shape[shape.index(-1)] = count // rest if rest > 0 else 0
    if min(shape, default=1) < 1 or math.prod(shape) != count:
        imp.fail(node, f"{list(old)} cannot become {shape}", CONVERT_AGAIN)
    return _regrouped(imp, node, shape)


@operator("SQUEEZE", note="any type; free")
def squeeze(imp: Operands, node: Node) -> Value:
    old = imp.shape(node)
    dims = node.options["SqueezeDims"]
    gone = {imp.axis(node, d, len(old)) for d in dims}
    if not dims:
        gone = {d for d, n in enumerate(old) if n == 1}
    if any(old[d] != 1 for d in gone):
        imp.fail(node, f"{list(old)} has no dimensions {sorted(gone)} of size one", CONVERT_AGAIN)
    return _regrouped(imp, node, [n for d, n in enumerate(old) if d not in gone])


@operator("EXPAND_DIMS", note="any type; free")
def expand_dims(imp: Operands, node: Node) -> Value:
    shape = list(imp.shape(node))
    axes = imp.integers(node, 1)
    if len(axes) != 1:
        imp.fail(node, "the axis must be one number", CONVERT_AGAIN)
    shape.insert(imp.axis(node, axes[0], len(shape) + 1), 1)
    return _regrouped(imp, node, shape)


@operator("TRANSPOSE", note="any type; free before and after convolutions")
def transpose(imp: Operands, node: Node) -> Value:
    permutation, rank = imp.integers(node, 1), len(imp.shape(node))
    if sorted(permutation) != list(range(rank)):
        imp.fail(node, f"{permutation} does not permute {rank} dimensions", CONVERT_AGAIN)
    return _moved(imp, node, lambda x: Activation(x.value, x.layout.transposed(permutation)))


@operator("PAD", "PADV2", note="int8; free before a convolution that it pads with zeros")
def pad(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, unsigned=True)
    amounts = np.array(imp.integers(node, 1)).reshape(-1, 2)
    if len(amounts) != len(x.shape) or amounts.min(initial=0) < 0:
        imp.fail(node, f"{amounts.tolist()} does not pad {list(x.shape)}", CONVERT_AGAIN)
    target = _result(imp, node, x)
    fill = target.zero_point
    if node.op == "PADV2" and imp.has_input(node, 2):
        value = imp.constant(node, 2)
        if value.size != 1 or value.dtype not in (np.int8, np.uint8):
            imp.fail(node, "the padding value must be one int8", CONVERT_AGAIN)
        fill = int(value.reshape(-1)[0]) - (128 if value.dtype == np.uint8 else 0)
    low, high = (tuple(int(n) for n in amounts[:, side]) for side in (0, 1))
    if not any((*low, *high)):
        return Integer(x.activation, target, x.unsigned)
    return Padded(node, x, low, high, fill, target)


@operator("CONCATENATION", note="int8 of one scale, as the reference demands")
def concatenation(imp: Operands, node: Node) -> Value:
    parts = [imp.activation(node, i) for i in range(len(node.inputs))]
    target = imp.output(node)
    if not imp.clamp(node, target).trivial:
        imp.fail(node, "has a fused activation function", CONVERT_AGAIN)
    axis = imp.axis(node, node.options["Axis"], len(parts[0].shape))
    return Integer(_joined(imp, node, parts, axis, target), target)


def _joined(
    imp: Operands, node: Node, parts: Sequence[Integer], axis: int, target: Quantization
) -> Activation:
    for part in parts:
        if part.quantization != target:
            imp.fail(node, "operands and result differ in scale or zero point", CONVERT_AGAIN)
        rest = [
            [n for d, n in enumerate(shape) if d != axis] for shape in (part.shape, parts[0].shape)
        ]
        if len(part.shape) != len(parts[0].shape) or rest[0] != rest[1]:
            shapes = [list(p.shape) for p in parts]
            imp.fail(node, f"the shapes {shapes} do not fit along axis {axis}", CONVERT_AGAIN)
    if len(parts) == 1:
        return parts[0].activation
    return movement.concat(imp.builder, node.name, [p.activation for p in parts], axis)


@operator("PACK", note="int8 of one scale")
def pack(imp: Operands, node: Node) -> Value:
    parts = [imp.activation(node, i) for i in range(len(node.inputs))]
    target = imp.output(node)
    rank = len(parts[0].shape)
    axis = imp.axis(node, node.options["Axis"], rank + 1)
    expanded = [
        Integer(_with_dimension(imp, node, p.activation, axis), p.quantization) for p in parts
    ]
    return Integer(_joined(imp, node, expanded, axis, target), target)


def _with_dimension(imp: Operands, node: Node, x: Activation, axis: int) -> Activation:
    shape = list(x.layout.shape)
    shape.insert(min(axis, len(shape)), 1)
    return reshaped(imp.builder, node.name, x, shape)


def _selected(
    imp: Operands, node: Node, selection: Selection, index: int = 0, source: int = 0
) -> Value:
    """The selected elements of an input as output ``index``."""
    x = imp.activation(node, source, unsigned=True)
    activation = x.activation
    if any(len(r) != n or r.step < 0 for r, n in zip(selection.ranges, x.shape, strict=True)):
        name = f"{node.name}_{index}" if index else node.name
        activation = movement.select(imp.builder, name, "slice", activation, selection.ranges)
    activation = reshaped(imp.builder, node.name, activation, selection.shape)
    return Integer(activation, _result(imp, node, x, index), x.unsigned)


@operator("SLICE", note="int8")
def slice_(imp: Operands, node: Node) -> Value:
    begin, size = (imp.integers(node, i) for i in (1, 2))
    return _selected(imp, node, simple_slices(imp.shape(node), begin, size))


@operator("STRIDED_SLICE", note="int8; any stride, no ellipsis")
def strided_slice(imp: Operands, node: Node) -> Value:
    begin, end, strides = (imp.integers(node, i) for i in (1, 2, 3))
    return _selected(imp, node, strided_slices(imp.shape(node), begin, end, strides, node.options))


@operator("SPLIT", "SPLIT_V", note="int8")
def split(imp: Operands, node: Node) -> Sequence[Value]:
    source = 1 if node.op == "SPLIT" else 0
    axes = imp.integers(node, 0 if node.op == "SPLIT" else 2)
    shape = imp.shape(node, source)
    if len(axes) != 1:
        imp.fail(node, "the axis must be one number", CONVERT_AGAIN)
    axis, parts = imp.axis(node, axes[0], len(shape)), len(node.outputs)
    sizes = [shape[axis] // parts] * parts if node.op == "SPLIT" else imp.integers(node, 1)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = shape[axis] - sum(sizes) - 1
    if len(sizes) != parts or sum(sizes) != shape[axis] or min(sizes) < 1:
        imp.fail(node, f"{shape[axis]} elements do not split into {sizes}", CONVERT_AGAIN)
    results, start = [], 0
    for index, size in enumerate(sizes):
        ranges = [range(n) for n in shape]
        ranges[axis] = range(start, start + size)
        selection = Selection(tuple(ranges), tuple(len(r) for r in ranges))
        results.append(_selected(imp, node, selection, index, source))
        start += size
    return results


@operator("UNPACK", note="int8")
def unpack(imp: Operands, node: Node) -> Sequence[Value]:
    shape = imp.shape(node)
    axis = imp.axis(node, node.options["Axis"], len(shape))
    if len(node.outputs) != shape[axis]:
        imp.fail(node, f"{shape[axis]} elements do not make {len(node.outputs)}", CONVERT_AGAIN)
    results = []
    for index in range(shape[axis]):
        ranges = [range(n) for n in shape]
        ranges[axis] = range(index, index + 1)
        left = tuple(n for d, n in enumerate(shape) if d != axis)
        results.append(_selected(imp, node, Selection(tuple(ranges), left), index))
    return results


@operator("RESIZE_NEAREST_NEIGHBOR", note="int8")
def resize_nearest(imp: Operands, node: Node) -> Value:
    x = imp.activation(node)
    size = imp.integers(node, 1)
    if len(x.shape) != 4 or len(size) != 2 or min(size) < 1 or max(size) > MAX_DIMENSION:
        imp.fail(node, f"{list(x.shape)} cannot be resized to {size}", CONVERT_AGAIN)
    places: list[Sequence[int]] = [range(n) for n in x.shape]
    for axis, result in zip((1, 2), size, strict=True):
        places[axis] = _nearest(x.shape[axis], result, node.options)
    whole = all(list(p) == list(range(n)) for p, n in zip(places, x.shape, strict=True))
    y = x.activation
    if not whole:
        y = movement.select(imp.builder, node.name, "resize", y, places)
    return Integer(y, imp.output(node))


def _nearest(size: int, result: int, options: dict[str, bool]) -> list[int]:
    """The input index for each place of the result, in the reference's float32."""
    aligned = 1 if options["AlignCorners"] and result > 1 else 0
    scale = np.float32(size - aligned) / np.float32(result - aligned)
    offset = np.float32(0.5 if options["HalfPixelCenters"] else 0)
    places = (np.arange(result).astype(np.float32) + offset) * scale
    rounded = arithmetic.round_away(places) if options["AlignCorners"] else np.floor(places)
    return np.clip(rounded, 0, size - 1).astype(np.int64).tolist()
