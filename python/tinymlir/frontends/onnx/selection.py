"""Operators whose result repeats, leaves out or reorders elements of one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.tensors import Activation, is_absurd
from tinymlir.frontends.canonical.tensors import reshaped as regrouped

from .graph import Node
from .movement import moved
from .operands import EXPORT_AGAIN, Operands
from .registry import operator
from .values import Array, Value

Places = Sequence[Sequence[int]]


def selected(
    imp: Operands,
    node: Node,
    places: Places,
    shape: Sequence[int] | None = None,
    *,
    kind: str = "slice",
    index: int = 0,
) -> Value:
    """``x[numpy.ix_(*places)]`` of input 0, under the logical shape ``shape``.

    Args:
        places: for each dimension, the index that each place of the result takes.
        kind: of layer.
        index: of the output, where the node has several.
    """
    old = imp.shape(node)
    found = [len(p) for p in places]
    shape = found if shape is None else shape
    if min(shape, default=1) < 1 or is_absurd(shape):
        imp.fail(
            node, f"the result has the absurd shape {list(shape)}", "check the indices and sizes"
        )
    whole = all(list(p) == list(range(n)) for p, n in zip(places, old, strict=True))
    name = f"{node.name}_{index}" if index else node.name

    def move(x: Activation) -> Activation:
        if not whole:
            x = movement.select(imp.builder, name, kind, x, places)
        return regrouped(imp.builder, name, x, shape)

    def move_array(array: Array) -> Array:
        return array[np.ix_(*places)].reshape(shape)

    return moved(imp, node, shape, move, move_array)


def _along(shape: Sequence[int], axis: int, places: Sequence[int]) -> list[Sequence[int]]:
    """Everything, but for one axis."""
    return [places if d == axis else range(n) for d, n in enumerate(shape)]


@operator("Slice", note="constant starts, ends, axes and steps, of either sign")
def slice_(imp: Operands, node: Node) -> Value:
    shape = imp.shape(node)
    starts, ends = imp.integers(node, 1, "starts"), imp.integers(node, 2, "ends")
    if starts is None or ends is None:
        imp.fail(node, "starts or ends are missing", EXPORT_AGAIN)
    axes = imp.integers(node, 3, "axes") or list(range(len(starts)))
    steps = imp.integers(node, 4, "steps") or [1] * len(starts)
    places: list[Sequence[int]] = [range(n) for n in shape]
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        imp.fail(node, f"starts {starts}, ends {ends} and steps {steps} do not fit", EXPORT_AGAIN)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        d = imp.axis(node, axis, len(shape))
        # Before the first element is written as an end far below zero.
        last = None if step < 0 and end < -shape[d] else end
        places[d] = range(shape[d])[slice(start, last, step)]
    return selected(imp, node, places)


@operator("Split", note="any axis and sizes")
def split(imp: Operands, node: Node) -> Sequence[Value]:
    shape = imp.shape(node)
    axis = imp.axis(node, node.attribute("axis", 0), len(shape))
    parts, total = len(node.outputs), shape[axis]
    # Of unequal parts the last one is the smaller.
    size = -(-total // parts)
    sizes = imp.integers(node, 1, "split") or [*[size] * (parts - 1), total - size * (parts - 1)]
    if len(sizes) != parts or sum(sizes) != total or min(sizes) < 1:
        imp.fail(node, f"{total} elements do not split into {sizes}", EXPORT_AGAIN)
    ends = np.cumsum(sizes).tolist()
    return [
        selected(imp, node, _along(shape, axis, range(end - size, end)), index=i)
        for i, (end, size) in enumerate(zip(ends, sizes, strict=True))
    ]


@operator("Gather", note="constant indices")
def gather(imp: Operands, node: Node) -> Value:
    shape, indices = imp.shape(node), imp.constant(node, 1)
    axis = imp.axis(node, node.attribute("axis", 0), len(shape))
    if indices is None or indices.dtype.kind != "i":
        imp.fail(node, "the indices are no integers", EXPORT_AGAIN)
    size = shape[axis]
    if indices.size == 0 or indices.min() < -size or indices.max() >= size:
        imp.fail(node, f"the indices do not lie in {size} elements", EXPORT_AGAIN)
    places = (indices.reshape(-1) % size).astype(int).tolist()
    result = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    return selected(imp, node, _along(shape, axis, places), result, kind="gather")


@operator("Expand", note="a constant shape")
def expand(imp: Operands, node: Node) -> Value:
    shape, wanted = imp.shape(node), imp.integers(node, 1, "shape")
    if wanted is None:
        imp.fail(node, "the new shape is missing", EXPORT_AGAIN)
    try:
        result = np.broadcast_shapes(shape, tuple(wanted))
    except ValueError:
        imp.fail(node, f"{list(shape)} cannot become {wanted}", EXPORT_AGAIN)
    if is_absurd(result):
        imp.fail(node, f"the result has the absurd shape {list(result)}", EXPORT_AGAIN)
    added = len(result) - len(shape)
    if math.prod(result[:added]) != 1:
        imp.fail(node, f"{list(shape)} becomes {list(result)}", "repeat existing dimensions only")
    repeats = [n // size for size, n in zip(shape, result[added:], strict=True)]
    return _tiled(imp, node, repeats, result)


def _tiled(
    imp: Operands, node: Node, repeats: Sequence[int], result: Sequence[int] | None = None
) -> Value:
    shape = imp.shape(node)
    places = [list(range(n)) * times for n, times in zip(shape, repeats, strict=True)]
    return selected(imp, node, places, result, kind="repeat")


@operator("Tile", note="constant repeats")
def tile(imp: Operands, node: Node) -> Value:
    shape, repeats = imp.shape(node), imp.integers(node, 1, "repeats")
    if repeats is None or len(repeats) != len(shape) or min(repeats, default=1) < 1:
        imp.fail(node, f"repeats {repeats} of {list(shape)}", EXPORT_AGAIN)
    if is_absurd([n * times for n, times in zip(shape, repeats, strict=True)]):
        imp.fail(node, f"repeats {repeats} of {list(shape)}", EXPORT_AGAIN)
    return _tiled(imp, node, repeats)


def _blocks(imp: Operands, node: Node) -> tuple[int, int, int, int]:
    """Channels, rows, columns and block size."""
    shape, size = imp.shape(node), node.attribute("blocksize", 0)
    if len(shape) != 4 or shape[0] != 1 or size < 1:
        imp.fail(node, f"blocks of {size} in {list(shape)}", "use images of batch 1")
    return shape[1], shape[2], shape[3], size


def _rearranged(
    imp: Operands, node: Node, split: Sequence[int], permutation: Sequence[int], to: Sequence[int]
) -> Value:
    """Input 0 reshaped, transposed and reshaped again."""

    def move(x: Activation) -> Activation:
        x = regrouped(imp.builder, node.name, x, split)
        x = Activation(x.value, x.layout.transposed(permutation))
        return regrouped(imp.builder, node.name, x, to)

    return moved(imp, node, to, move, lambda a: a.reshape(split).transpose(permutation).reshape(to))


@operator("DepthToSpace", note="modes DCR and CRD")
def depth_to_space(imp: Operands, node: Node) -> Value:
    channels, rows, columns, size = _blocks(imp, node)
    if channels % size**2:
        imp.fail(node, f"{channels} channels do not make blocks of {size}", EXPORT_AGAIN)
    depth = channels // size**2
    to = (1, depth, rows * size, columns * size)
    if node.attribute("mode", "DCR") == "CRD":
        split, permutation = (1, depth, size, size, rows, columns), (0, 1, 4, 2, 5, 3)
    else:
        split, permutation = (1, size, size, depth, rows, columns), (0, 3, 4, 1, 5, 2)
    return _rearranged(imp, node, split, permutation, to)


@operator("SpaceToDepth", note="all of it")
def space_to_depth(imp: Operands, node: Node) -> Value:
    channels, rows, columns, size = _blocks(imp, node)
    if rows % size or columns % size:
        imp.fail(node, f"{rows} by {columns} is not made of blocks of {size}", EXPORT_AGAIN)
    split = (1, channels, rows // size, size, columns // size, size)
    to = (1, channels * size**2, rows // size, columns // size)
    return _rearranged(imp, node, split, (0, 3, 5, 1, 2, 4), to)
