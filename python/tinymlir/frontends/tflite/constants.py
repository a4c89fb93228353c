"""Evaluates the shape arithmetic that converters leave in a graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .operands import Operands
from .schema import Array, Node
from .slices import strided_slices

_INTEGERS = (np.dtype(np.int32), np.dtype(np.int64))


def evaluate(imp: Operands, node: Node) -> Array | None:
    """The result of an integer operator on constants; None if it must be imported."""
    if node.op == "SHAPE":
        kind = np.int64 if imp.graph.tensors[node.outputs[0]].type == "int64" else np.int32
        return np.array(imp.shape(node), kind)
    if node.op not in _FOLDED or len(node.outputs) != 1:
        return None
    arrays = []
    for index in range(len(node.inputs)):
        if imp.has_input(node, index):
            value = imp.value(node, index)
            if not isinstance(value, np.ndarray) or value.dtype not in _INTEGERS:
                return None
            arrays.append(value)
    if not arrays:
        return None
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(_FOLDED[node.op](imp, node, arrays))
    except (ValueError, IndexError, TypeError, KeyError, ZeroDivisionError) as error:
        reason = str(error).strip().splitlines()
        imp.fail(
            node,
            f"cannot be evaluated: {reason[0] if reason else type(error).__name__}",
            "convert the network again",
        )
    return result.astype(arrays[0].dtype)


def _pack(imp: Operands, node: Node, arrays: list[Array]) -> Array:
    return np.stack(arrays, axis=node.options["Axis"])


def _concatenate(imp: Operands, node: Node, arrays: list[Array]) -> Array:
    return np.concatenate(arrays, axis=node.options["Axis"])


def _reshape(imp: Operands, node: Node, arrays: list[Array]) -> Array:
    shape = arrays[1].tolist() if len(arrays) > 1 else node.options["NewShape"]
    return arrays[0].reshape(shape)


def _strided_slice(imp: Operands, node: Node, arrays: list[Array]) -> Array:
    data, begin, end, strides = arrays
    plan = strided_slices(data.shape, begin.tolist(), end.tolist(), strides.tolist(), node.options)
    return data[np.ix_(*plan.ranges)].reshape(plan.shape)


def _gather(imp: Operands, node: Node, arrays: list[Array]) -> Array:
    # Few indices, so that the result stays small.
    if math.prod(arrays[1].shape) > 2**16:
        raise ValueError("too many indices")
    return np.take(arrays[0], arrays[1], axis=node.options["Axis"])


def _product(imp: Operands, node: Node, arrays: list[Array]) -> Array:
    axes = tuple(arrays[1].reshape(-1).tolist())
    return np.prod(arrays[0], axis=axes, keepdims=node.options["KeepDims"])


def _pairwise(
    function: Callable[[Any, Any], Any],
) -> Callable[[Operands, Node, list[Array]], Array]:
    def apply(imp: Operands, node: Node, arrays: list[Array]) -> Array:
        if math.prod(np.broadcast_shapes(*(a.shape for a in arrays))) > 2**16:
            raise ValueError("too many elements")
        return function(*arrays)

    return apply


_FOLDED: dict[str, Callable[[Operands, Node, list[Array]], Array]] = {
    "ADD": _pairwise(np.add),
    "CONCATENATION": _concatenate,
    "GATHER": _gather,
    "MUL": _pairwise(np.multiply),
    "PACK": _pack,
    "REDUCE_PROD": _product,
    "RESHAPE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _pairwise(np.subtract),
}
