"""Operators that only regroup or place elements."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tinymlir.frontends.canonical.tensors import Activation, row_major

from .graph import Node
from .importer import Importer, operator
from .values import Array, Deferred, QuantizedConstant, Value


def moved(
    imp: Importer,
    node: Node,
    shape: Sequence[int],
    move: Callable[[Activation], Activation],
    move_array: Callable[[Array], Array],
) -> Value:
    """Input 0 with its elements moved by ``move``, whatever kind of value it is."""
    value = imp.input(node, 0)
    if isinstance(value, np.ndarray):
        return move_array(value)
    if isinstance(value, QuantizedConstant):
        return _moved_constant(imp, node, value, move_array)
    if isinstance(value, Deferred):
        inner = value
        build = lambda target, clamp: move(inner.build(target, clamp))  # noqa: E731
        return Deferred(inner.node, tuple(shape), build, inner.low, inner.high)
    assert value is not None
    return dataclasses.replace(value, activation=move(value.activation))


def _moved_constant(
    imp: Importer, node: Node, value: QuantizedConstant, move: Callable[[Array], Array]
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
        if np.array_equal(first, index.max(axis=other)) and len(first) == value.scale.size:
            return dataclasses.replace(
                value,
                array=array,
                axis=axis,
                scale=value.scale[first],
                zero_point=value.zero_point[first]
                if value.zero_point.size > 1
                else value.zero_point,
            )
    raise imp.graph.error(
        f"{node.op}: the scales of these weights no longer follow one axis",
        node=node,
        hint="quantise the weights after reshaping them",
    )


def reshaped(imp: Importer, node: Node, shape: Sequence[int]) -> Value:
    """Input 0 under another logical shape."""

    def move(x: Activation) -> Activation:
        layout = x.layout.reshaped(shape)
        if layout is None:
            x = row_major(imp.builder, node.name, x)
            layout = x.layout.reshaped(shape)
            assert layout is not None
        return Activation(x.value, layout)

    return moved(imp, node, shape, move, lambda array: array.reshape(shape))


def _shape(imp: Importer, node: Node) -> tuple[int, ...]:
    value = imp.input(node, 0)
    assert value is not None
    return value.shape


@operator("Reshape")
def reshape(imp: Importer, node: Node) -> Value:
    old = _shape(imp, node)
    wanted = imp.constant(node, 1)
    keep_zero = node.attribute("allowzero", 0)
    shape = [
        old[i] if n == 0 and not keep_zero and i < len(old) else int(n)
        for i, n in enumerate(np.asarray(wanted).reshape(-1))
    ]
    if shape.count(-1) == 1:
        rest = -int(np.prod(shape, dtype=np.int64))
        if rest > 0:
            shape[shape.index(-1)] = int(np.prod(old, dtype=np.int64)) // rest
    if min(shape, default=1) < 1 or np.prod(shape, dtype=np.int64) != np.prod(old, dtype=np.int64):
        raise imp.graph.error(
            f"Reshape: {list(old)} cannot become {shape}", node=node, hint="export the model again"
        )
    return reshaped(imp, node, shape)
