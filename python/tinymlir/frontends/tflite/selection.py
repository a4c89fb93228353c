"""Operators that take some elements of a tensor, in whatever order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.tensors import is_absurd, reshaped

from .movement import placed_result
from .operands import CONVERT_AGAIN, Operands
from .registry import operator
from .schema import Node
from .slices import Selection, simple_slices, strided_slices
from .values import Integer, Value


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
    return Integer(activation, placed_result(imp, node, x, index), x.unsigned)


@operator("SLICE", note="int8")
def slice_(imp: Operands, node: Node) -> Value:
    begin, size = (imp.integers(node, i) for i in (1, 2))
    return _selected(imp, node, simple_slices(imp.shape(node), begin, size))


@operator("STRIDED_SLICE", note="int8; any stride")
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


def _placed(imp: Operands, node: Node, x: Integer, places: Sequence[Sequence[int]]) -> Integer:
    """For each dimension of ``x`` the index that each place of the result takes."""
    activation = x.activation
    if any(list(p) != list(range(n)) for p, n in zip(places, x.shape, strict=True)):
        kind = node.op.lower()
        activation = movement.select(imp.builder, node.name, kind, activation, places)
    return Integer(activation, placed_result(imp, node, x), x.unsigned)


@operator("REVERSE_V2", note="int8")
def reverse(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, unsigned=True)
    axes = {imp.axis(node, axis, len(x.shape)) for axis in imp.integers(node, 1)}
    places = [range(n)[:: -1 if d in axes else 1] for d, n in enumerate(x.shape)]
    return _placed(imp, node, x, places)


@operator("TILE", note="int8")
def tile(imp: Operands, node: Node) -> Value:
    x, times = imp.activation(node, unsigned=True), imp.integers(node, 1)
    whole = [n * t for n, t in zip(x.shape, times, strict=False)]
    if len(times) != len(x.shape) or min(times, default=1) < 1 or is_absurd(whole):
        imp.fail(node, f"{list(x.shape)} cannot be repeated {times} times", CONVERT_AGAIN)
    places = [list(range(n)) * t for n, t in zip(x.shape, times, strict=True)]
    return _placed(imp, node, x, places)


@operator("BROADCAST_TO", note="int8")
def broadcast_to(imp: Operands, node: Node) -> Value:
    x, shape = imp.activation(node, unsigned=True), imp.integers(node, 1)
    old = (1,) * (len(shape) - len(x.shape)) + x.shape
    fits = len(old) == len(shape) and all(n in (1, m) for n, m in zip(old, shape, strict=True))
    if not fits or min(shape, default=1) < 1 or is_absurd(shape):
        imp.fail(node, f"{list(x.shape)} cannot become {shape}", CONVERT_AGAIN)
    ranked = Integer(
        reshaped(imp.builder, node.name, x.activation, old), x.quantization, x.unsigned
    )
    places = [range(n) if n == m else [0] * m for n, m in zip(old, shape, strict=True)]
    return _placed(imp, node, ranked, places)


@operator("GATHER", note="int8, constant indices")
def gather(imp: Operands, node: Node) -> Value:
    x, indices = imp.activation(node, unsigned=True), imp.integers(node, 1)
    axis = imp.axis(node, node.options["Axis"], len(x.shape))
    if node.options["BatchDims"]:
        imp.fail(node, "batch dimensions are not supported", "gather from the whole tensor")
    if not indices or any(not 0 <= n < x.shape[axis] for n in indices):
        imp.fail(node, f"indices do not fit a dimension of {x.shape[axis]}", CONVERT_AGAIN)
    places: list[Sequence[int]] = [range(n) for n in x.shape]
    places[axis] = indices
    y = _placed(imp, node, x, places)
    shape = (*x.shape[:axis], *imp.shape(node, 1), *x.shape[axis + 1 :])
    return Integer(
        reshaped(imp.builder, node.name, y.activation, shape), y.quantization, x.unsigned
    )


@operator("MIRROR_PAD", note="int8")
def mirror_pad(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, unsigned=True)
    amounts = np.array(imp.integers(node, 1)).reshape(-1, 2)
    # REFLECT leaves out the border itself, SYMMETRIC repeats it.
    border = 1 if node.options["Mode"] == 0 else 0
    if len(amounts) != len(x.shape) or any(
        not 0 <= amount <= n - border
        for n, pair in zip(x.shape, amounts, strict=True)
        for amount in pair
    ):
        imp.fail(node, f"{amounts.tolist()} does not mirror {list(x.shape)}", CONVERT_AGAIN)
    places = []
    for n, (low, high) in zip(x.shape, amounts.tolist(), strict=True):
        before = range(border, border + low)[::-1]
        after = range(n - border - high, n - border)[::-1]
        places.append([*before, *range(n), *after])
    return _placed(imp, node, x, places)
