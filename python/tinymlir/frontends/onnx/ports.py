"""Graph inputs and outputs: their layout in the object and what is recorded about them."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import ir

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
    """The argument or result attributes that docs/design.md lists.

    Integers that no operator gives a scale stand for themselves.
    """
    model_type = "float32" if element == "float" else element
    known = meaning.quantization
    scale = float(known.scale) if known else 1.0
    zero_point = known.zero_point if known else (-128 if element == "uint8" else 0)
    return ir.DictAttr.get(
        {
            "tiny.name": ir.StringAttr.get(name),
            "tiny.scale": ir.FloatAttr.get_f32(scale),
            "tiny.zero_point": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), zero_point),
            "tiny.model_type": ir.StringAttr.get(model_type),
            "tiny.model_shape": ir.DenseI64ArrayAttr.get(list(shape)),
            "tiny.permutation": ir.DenseI64ArrayAttr.get(list(permutation)),
        }
    )
