"""Graph inputs and outputs: their layout in the object and what is recorded about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymlir.bindings import ir
from tinymlir.frontends.canonical import ports
from tinymlir.frontends.canonical.tensors import Quantization

from .graph import Graph, Port
from .values import Meaning

#: Operators that want their logical N×C×... input channels-last.
SPATIAL = {
    "Conv",
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
    queue = [(port.name, identity)]
    seen = {port.name}
    while queue:
        name, dims = queue.pop(0)
        for node in graph.consumers(name):
            if node.op in SPATIAL and len(dims) >= 3:
                batch, channels, *space = dims
                return (batch, *space, channels)
            if node.op == "Transpose":
                permutation = node.attribute("perm", tuple(reversed(range(len(dims)))))
                if sorted(permutation) != list(range(len(dims))):
                    continue
                reached = tuple(dims[p] for p in permutation)
            elif node.op in TRANSPARENT:
                reached = dims
            else:
                continue
            if node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                queue.append((node.outputs[0], reached))
    return identity


def port_attributes(
    name: str,
    element: str,
    shape: Sequence[int],
    permutation: Sequence[int],
    meaning: Meaning,
) -> ir.Attribute:
    """What is recorded; integers that no operator gives a scale stand for themselves."""
    model_type = "float32" if element == "float" else element
    raw = Quantization(np.float32(1), -128 if element == "uint8" else 0)
    return ports.port_attributes(name, model_type, shape, permutation, meaning.quantization or raw)
