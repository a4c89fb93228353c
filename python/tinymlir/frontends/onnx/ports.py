"""Graph inputs and outputs: their layout in the object and what is recorded about them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinymlir.bindings import ir
from tinymlir.frontends.canonical import ports
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Quantization

from .graph import Graph, Node, Port, resolve_shape
from .values import Integer, Meaning

#: Operators that want their logical N×C×... input channels-last.
SPATIAL = {
    "Conv",
    "ConvTranspose",
    "QLinearConv",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
}
#: Operators that keep the arrangement of their first input.
TRANSPARENT = {
    "QuantizeLinear",
    "DequantizeLinear",
    "Identity",
    "Relu",
    "Clip",
    "Pad",
    "Add",
    "QLinearAdd",
    "Mul",
    "Sub",
}


def input_permutation(graph: Graph, port: Port) -> tuple[int, ...]:
    """How the object's array nests the dimensions of a model input.

    Chosen so that the first spatial operator that the input reaches finds its
    channels innermost; the model's own order if none does.
    """
    identity = tuple(range(len(port.shape)))
    moves = [(*identity[:d], *identity[d + 1 :], d) for d in identity[1:]]
    for candidate in (*moves[:1], identity, *moves[1:]):
        if _meets_channels_last(graph, port.name, Layout.of(port.shape, candidate)):
            return candidate
    return identity


def _meets_channels_last(graph: Graph, name: str, layout: Layout) -> bool:
    """Whether the first spatial operator after a tensor finds its channels innermost."""
    queue = [(name, layout)]
    seen = {name}
    while queue:
        name, layout = queue.pop(0)
        for node in graph.consumers(name):
            if node.op in SPATIAL and layout.rank >= 3:
                dims = layout.dims
                space = tuple(atom for dim in dims[2:] for atom in dim)
                return layout.order == space + dims[1]
            reached = _through(graph, node, layout)
            if reached is not None and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                queue.append((node.outputs[0], reached))
    return False


def _through(graph: Graph, node: Node, layout: Layout) -> Layout | None:
    """The layout behind an operator that only regroups elements; None for others."""
    if node.op in TRANSPARENT:
        return layout
    if node.op == "Transpose":
        permutation = node.attribute("perm", range(layout.rank - 1, -1, -1))
        valid = sorted(permutation) == list(range(layout.rank))
        return layout.transposed(permutation) if valid else None
    operand = graph.constants.get(node.input(1))
    if operand is None:
        return None
    numbers = [int(n) for n in operand.reshape(-1)]
    shape: list[int] | None
    if node.op == "Reshape":
        shape = resolve_shape(layout.shape, numbers, node.attribute("allowzero", 0))
    elif node.op == "Unsqueeze":
        rank = layout.rank + len(numbers)
        sizes = iter(layout.shape)
        new = {n % rank for n in numbers}
        shape = [1 if d in new else next(sizes, 1) for d in range(rank)]
    elif node.op == "Squeeze":
        gone = {n % layout.rank for n in numbers}
        shape = [n for d, n in enumerate(layout.shape) if d not in gone]
    else:
        return None
    return layout.reshaped(shape) if shape and math.prod(shape) == math.prod(layout.shape) else None


def port_attributes(
    name: str,
    element: str,
    shape: Sequence[int],
    permutation: Sequence[int],
    meaning: Meaning,
) -> ir.Attribute:
    """What is recorded of an input or output."""
    model_type = "float32" if element == "float" else element
    quantization = _quantization(meaning, element == "uint8")
    return ports.port_attributes(name, model_type, shape, permutation, quantization)


def name_result(name: str, value: Integer) -> None:
    """Record which layer computes the tensor ``name``."""
    model_type = "uint8" if value.unsigned else "int8"
    quantization = _quantization(value.meaning, value.unsigned)
    ports.name_layer(value.activation, name, model_type, quantization)


def _quantization(meaning: Meaning, unsigned: bool) -> Quantization:
    """Integers that no operator gives a scale stand for themselves."""
    return meaning.quantization or Quantization(np.float32(1), -128 if unsigned else 0)
