"""Operators that only regroup or place elements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from tinymlir import numerics
from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.tensors import Activation, Quantization, is_absurd, row_major

from .graph import Node, resolve_shape
from .operands import EXPORT_AGAIN, Operands
from .registry import operator
from .values import (
    Array,
    Deferred,
    Dequantized,
    Integer,
    Meaning,
    QuantizedConstant,
    Value,
    quantize,
)

Move = Callable[[Activation], Activation]


def moved(
    imp: Operands,
    node: Node,
    shape: Sequence[int],
    move: Move,
    move_array: Callable[[Array], Array] | None = None,
) -> Value:
    """Input 0 with its elements moved by ``move``, whatever kind of value it is."""
    value = imp.input(node, 0)
    if isinstance(value, np.ndarray | QuantizedConstant):
        if move_array is None:
            imp.fail(node, "a constant input is not supported", "evaluate it before exporting")
        if isinstance(value, np.ndarray):
            return move_array(value)
        return _moved_constant(imp, node, value, move_array)
    if isinstance(value, Deferred):
        inner = value

        def build(target: Quantization, clamp: Clamp) -> Activation:
            return move(inner.emit(target, clamp))

        return Deferred(inner.node, tuple(shape), build)
    if value is None:
        imp.fail(node, "the input is missing", EXPORT_AGAIN)
    return dataclasses.replace(value, activation=move(value.activation))


def _moved_constant(
    imp: Operands, node: Node, value: QuantizedConstant, move: Callable[[Array], Array]
) -> Value:
    """The axis of the scales follows the elements."""
    array = move(value.array)
    if value.scale.size == 1 and value.zero_point.size == 1:
        return dataclasses.replace(value, array=array, axis=0)
    along = [1] * value.array.ndim
    along[value.axis] = value.array.shape[value.axis]
    index = move(np.broadcast_to(np.arange(along[value.axis]).reshape(along), value.array.shape))
    for axis in range(array.ndim):
        other = tuple(d for d in range(array.ndim) if d != axis)
        first = index.min(axis=other)
        if np.array_equal(first, np.arange(along[value.axis])) and (
            np.array_equal(first, index.max(axis=other))
        ):
            return dataclasses.replace(value, array=array, axis=axis)
    imp.fail(
        node,
        "the scales of these weights no longer follow one axis",
        "quantise the weights after reshaping them",
    )


def reshaped(imp: Operands, node: Node, shape: Sequence[int]) -> Value:
    """Input 0 under another logical shape of as many elements."""

    def move(x: Activation) -> Activation:
        layout = x.layout.reshaped(shape)
        if layout is None:
            x = row_major(imp.builder, node.name, x)
            layout = x.layout.reshaped(shape)
            assert layout is not None
        return Activation(x.value, layout)

    return moved(imp, node, shape, move, lambda array: array.reshape(shape))


@operator("Reshape", note="free, unless channels end up between others")
def reshape(imp: Operands, node: Node) -> Value:
    old = imp.shape(node)
    wanted = imp.integers(node, 1, "shape")
    if wanted is None:
        imp.fail(node, "the new shape is missing", EXPORT_AGAIN)
    shape = resolve_shape(old, wanted, node.attribute("allowzero", 0))
    if shape is None:
        imp.fail(node, f"{list(old)} cannot become {wanted}", EXPORT_AGAIN)
    return reshaped(imp, node, shape)


@operator("Flatten", note="free")
def flatten(imp: Operands, node: Node) -> Value:
    old = imp.shape(node)
    axis = node.attribute("axis", 1)
    axis = len(old) if axis == len(old) else imp.axis(node, axis, len(old))
    return reshaped(imp, node, (math.prod(old[:axis]), math.prod(old[axis:])))


@operator("Squeeze", note="free")
def squeeze(imp: Operands, node: Node) -> Value:
    old = imp.shape(node)
    axes = imp.integers(node, 1, "axes")
    if axes is None:
        axes = [d for d, n in enumerate(old) if n == 1]
    gone = {imp.axis(node, a, len(old)) for a in axes}
    if any(old[d] != 1 for d in gone):
        imp.fail(node, f"axes {axes} of {list(old)} are not of size one", EXPORT_AGAIN)
    return reshaped(imp, node, [n for d, n in enumerate(old) if d not in gone])


@operator("Unsqueeze", note="free")
def unsqueeze(imp: Operands, node: Node) -> Value:
    old = list(imp.shape(node))
    axes = imp.integers(node, 1, "axes") or []
    new = {imp.axis(node, a, len(old) + len(axes)) for a in axes}
    sizes = iter(old)
    return reshaped(imp, node, [1 if d in new else next(sizes) for d in range(len(old) + len(new))])


@operator("Transpose", note="free; later layers follow the arrangement where they can")
def transpose(imp: Operands, node: Node) -> Value:
    shape = imp.shape(node)
    permutation = list(node.attribute("perm", range(len(shape) - 1, -1, -1)))
    if sorted(permutation) != list(range(len(shape))):
        imp.fail(node, f"{permutation} does not permute {len(shape)} dimensions", EXPORT_AGAIN)

    def move(x: Activation) -> Activation:
        return Activation(x.value, x.layout.transposed(permutation))

    new = [shape[p] for p in permutation]
    return moved(imp, node, new, move, lambda array: array.transpose(permutation))


@operator("Identity", note="free")
@operator("Dropout", note="removed, as in inference")
def identity(imp: Operands, node: Node) -> Value:
    return moved(imp, node, imp.shape(node), lambda x: x, lambda array: array)


def _pads(imp: Operands, node: Node) -> tuple[list[int], list[int]]:
    """How much to add before and after each dimension; negative where it is cropped."""
    shape = imp.shape(node)
    pads, axes = imp.integers(node, 1, "pads"), imp.integers(node, 3, "axes")
    dims = range(len(shape)) if axes is None else [imp.axis(node, a, len(shape)) for a in axes]
    if pads is None or len(pads) != 2 * len(dims):
        imp.fail(node, f"pads {pads} for {len(dims)} dimensions", EXPORT_AGAIN)
    low, high = [0] * len(shape), [0] * len(shape)
    for d, before, after in zip(dims, pads[: len(dims)], pads[len(dims) :], strict=True):
        low[d], high[d] = low[d] + before, high[d] + after
    new = [a + n + b for a, n, b in zip(low, shape, high, strict=True)]
    if min(new, default=1) < 1 or is_absurd(new):
        imp.fail(node, f"pads give the absurd shape {new}", EXPORT_AGAIN)
    return low, high


@operator("Pad", note="modes constant (any constant value), reflect, edge and wrap")
def pad(imp: Operands, node: Node) -> Value:
    shape = imp.shape(node)
    low, high = _pads(imp, node)
    mode = node.attribute("mode", "constant")
    # The indices that every dimension takes, without those that have the constant.
    places: list[list[int]] = []
    for n, before, after in zip(shape, low, high, strict=True):
        kept = np.arange(n)[max(-before, 0) : n - max(-after, 0)]
        amount = (max(before, 0), max(after, 0))
        if mode == "constant":
            places.append(kept.tolist())
        elif mode in ("reflect", "edge", "wrap") and kept.size:
            places.append(np.pad(kept, amount, mode).tolist())
        else:
            imp.fail(node, f"mode '{mode}' with pads {low}, {high}", "pad with a constant")
    whole = [len(p) for p in places]
    if mode != "constant":

        def mirrored(x: Activation) -> Activation:
            return movement.select(imp.builder, node.name, "pad", x, places)

        return moved(imp, node, whole, mirrored)
    if min(whole, default=1) < 1:
        imp.fail(node, f"pads {low}, {high} leave nothing of {list(shape)}", EXPORT_AGAIN)
    more = [[max(n, 0) for n in side] for side in (low, high)]
    fill = imp.scalar(node, 2, 0.0)
    new = tuple(a + n + b for a, n, b in zip(low, shape, high, strict=True))

    def padded(x: Activation, steps: int) -> Activation:
        if whole != list(shape):
            x = movement.select(imp.builder, f"{node.name}_crop", "slice", x, places)
        return movement.pad(imp.builder, node.name, x, more[0], more[1], steps)

    value = imp.input(node, 0)
    if isinstance(value, Integer):
        steps = int(np.clip(fill - 128 * value.unsigned, numerics.I8_MIN, numerics.I8_MAX))
        return dataclasses.replace(value, activation=padded(value.activation, steps))
    if isinstance(value, Dequantized):
        steps = quantize(fill, value.quantization)
        exact = (steps - value.quantization.zero_point) * float(value.quantization.scale)
        if math.isclose(exact, fill, rel_tol=1e-6):
            return dataclasses.replace(value, activation=padded(value.activation, steps))
    inner = imp.deferred(node, value)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        steps = min(max(quantize(fill, target), clamp.low), clamp.high)
        return padded(inner.emit(target, clamp), steps)

    return Deferred(node, new, build)


def _joined(imp: Operands, node: Node, parts: Sequence[Activation], axis: int) -> Activation:
    return movement.concat(imp.builder, node.name, parts, axis)


def _concat_shape(
    imp: Operands, node: Node, shapes: Sequence[tuple[int, ...]]
) -> tuple[int, tuple[int, ...]]:
    """The axis and the result's shape."""
    if "axis" not in node.attributes or not shapes:
        imp.fail(node, "the axis or the inputs are missing", EXPORT_AGAIN)
    axis = imp.axis(node, node.attribute("axis", 0), len(shapes[0]))
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) != 1:
        imp.fail(node, f"shapes {' and '.join(map(str, shapes))} do not fit", EXPORT_AGAIN)
    total = sum(shape[axis] for shape in shapes)
    return axis, (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def concatenation(imp: Operands, node: Node, values: Sequence[Value | None]) -> Deferred:
    """Reals joined: every part is brought to the scale of the result."""
    parts = [imp.deferred(node, value) for value in values]
    axis, shape = _concat_shape(imp, node, [part.shape for part in parts])

    def build(target: Quantization, clamp: Clamp) -> Activation:
        emitted = [part.emit(target, clamp) for part in parts]
        return _joined(imp, node, emitted, axis)

    return Deferred(node, shape, build)


@operator("Concat", note="any axis; inputs of another scale are rescaled first")
def concat(imp: Operands, node: Node) -> Value:
    values = [imp.input(node, i) for i in range(len(node.inputs))]
    integers = [value for value in values if isinstance(value, Integer)]
    if len(integers) < len(values):
        return concatenation(imp, node, values)
    if len({value.unsigned for value in integers}) > 1:
        imp.fail(node, "int8 and uint8 inputs together", EXPORT_AGAIN)
    axis, _ = _concat_shape(imp, node, [value.shape for value in integers])
    joined = _joined(imp, node, [value.activation for value in integers], axis)
    known = {value.meaning.quantization for value in integers}
    meaning = Meaning(known.pop() if len(known) == 1 else None)
    return Integer(joined, integers[0].unsigned, meaning)


@operator("QLinearConcat", "com.microsoft", note="as Concat")
def qlinear_concat(imp: Operands, node: Node) -> Value:
    count = (len(node.inputs) - 2) // 3
    values = [imp.dequantize(node, *range(2 + 3 * i, 5 + 3 * i)) for i in range(count)]
    return imp.quantize(node, concatenation(imp, node, values), 0, 1)
