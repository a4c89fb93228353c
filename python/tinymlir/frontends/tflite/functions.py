"""Float operators on one dequantised tensor, evaluated for its 256 values.

Converters leave an operator in float32 where there is no int8 kernel. What a chain of
them does between a DEQUANTIZE and a QUANTIZE is one table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .arithmetic import (
    RELU_LIMITS,
    Float32,
    approximate_gelu,
    exponential,
    gelu,
    logistic,
    tanh,
)
from .operands import ACTIVATIONS, Operands
from .schema import Array, Node
from .values import Real


def function_of(imp: Operands, node: Node) -> Real | None:
    """The result of a float operator that depends on one integer tensor; None of others."""
    function = {1: _OF_ONE, 2: _OF_TWO}.get(len(node.inputs), {}).get(node.op)
    if function is None or len(node.outputs) != 1:
        return None
    sources, arrays, shapes = [], [], []
    for index in range(len(node.inputs)):
        value = imp.value(node, index)
        if isinstance(value, Real):
            sources.append(value)
            arrays.append(value.reals)
        elif isinstance(value, np.ndarray) and value.dtype == np.float32 and value.size == 1:
            arrays.append(value.reshape(()))
        else:
            return None
        shapes.append(tuple(value.shape))
    activations = [source.integer.activation for source in sources]
    if not sources or any(x is not activations[0] for x in activations):
        return None
    limits = ACTIVATIONS.get(node.options.get("FusedActivationFunction", 0))
    if np.broadcast_shapes(*shapes) != sources[0].shape or limits is None:
        return None
    with np.errstate(all="ignore"):
        reals = np.asarray(function(node, *arrays), np.float32)
        reals = np.clip(reals, *map(np.float32, limits))
    return Real(sources[0].integer, reals)


def _elu(node: Node, x: Float32) -> Array:
    return np.where(x < 0, np.expm1(x.astype(np.float64)), x)


def _gelu(node: Node, x: Float32) -> Array:
    return approximate_gelu(x) if node.options["Approximate"] else gelu(x)


def _hard_swish(node: Node, x: Float32) -> Array:
    return x * np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)


def _leaky_relu(node: Node, x: Float32) -> Array:
    return np.where(x > 0, x, x * np.float32(node.options["Alpha"]))


def _relu(node: Node, x: Float32) -> Array:
    return np.clip(x, *map(np.float32, RELU_LIMITS[node.op]))


def _plain(function: Callable[..., Array]) -> Callable[..., Array]:
    """A function that needs no options."""
    return lambda node, *operands: function(*operands)


_OF_ONE: dict[str, Callable[..., Array]] = {
    "ABS": _plain(np.abs),
    "ELU": _elu,
    "EXP": _plain(exponential),
    "GELU": _gelu,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOG": _plain(np.log),
    "LOGISTIC": _plain(logistic),
    "NEG": _plain(np.negative),
    "RSQRT": _plain(lambda x: np.float32(1) / np.sqrt(x)),
    "SQRT": _plain(np.sqrt),
    "SQUARE": _plain(np.square),
    "TANH": _plain(tanh),
    **dict.fromkeys(RELU_LIMITS, _relu),
}
_OF_TWO: dict[str, Callable[..., Array]] = {
    "ADD": _plain(np.add),
    "DIV": _plain(np.divide),
    "MAXIMUM": _plain(np.maximum),
    "MINIMUM": _plain(np.minimum),
    "MUL": _plain(np.multiply),
    "SUB": _plain(np.subtract),
}
