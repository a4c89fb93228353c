"""What is recorded about the inputs, outputs and layers of the network."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import ir

from .folding import VIEWS
from .tensors import Activation, Quantization


def port_attributes(
    name: str,
    model_type: str,
    shape: Sequence[int],
    permutation: Sequence[int],
    quantization: Quantization,
    rounding: str = "nearest_even",
) -> ir.Attribute:
    """The argument or result attributes that docs/design.md lists.

    Args:
        rounding: how the model itself quantises a float32 input (`numerics.quantize_float32`).
    """
    ties = {"tiny.rounding": ir.StringAttr.get(rounding)} if model_type == "float32" else {}
    return ir.DictAttr.get(
        {
            **ties,
            "tiny.name": ir.StringAttr.get(name),
            "tiny.scale": ir.FloatAttr.get_f32(float(quantization.scale)),
            "tiny.zero_point": ir.IntegerAttr.get(
                ir.IntegerType.get_signless(32), quantization.zero_point
            ),
            "tiny.model_type": ir.StringAttr.get(model_type),
            "tiny.model_shape": ir.DenseI64ArrayAttr.get(list(shape)),
            "tiny.permutation": ir.DenseI64ArrayAttr.get(list(permutation)),
        }
    )


def name_layer(x: Activation, name: str, model_type: str, quantization: Quantization) -> None:
    """Record on the layer that computes ``x`` which tensor of the model that is.

    The first name stays: what comes later only reshapes the tensor.
    """
    value = x.value
    while not isinstance(value, ir.BlockArgument) and value.owner.name in VIEWS:
        value = value.owner.operation.operands[0]
    if isinstance(value, ir.BlockArgument):
        return
    attributes = value.owner.operation.attributes
    if "tiny.layer" not in attributes or "tiny.tensor" in attributes:
        return
    shape, permutation = x.layout.shape, x.layout.dim_order()
    if permutation is None:
        # The dimensions are interleaved: their factors stand for them.
        factors = [atom for dim in x.layout.dims for atom in dim]
        shape = tuple(atom.size for atom in factors)
        permutation = tuple(factors.index(atom) for atom in x.layout.order)
    attributes["tiny.tensor"] = port_attributes(name, model_type, shape, permutation, quantization)


def permuted(
    attributes: ir.DictAttr, shape: Sequence[int], permutation: Sequence[int]
) -> ir.Attribute:
    """What is recorded of a tensor once the object's array nests its dimensions in another order.

    Args:
        attributes: what was recorded before, perhaps nothing.
        shape: of the object's array before.
        permutation: its transposition is the array from now on.
    """
    facts = {named.name: named.attr for named in attributes}
    if list(permutation) == sorted(permutation):
        return attributes
    before = list(facts.get("tiny.permutation", range(len(permutation))))
    facts.setdefault("tiny.model_shape", ir.DenseI64ArrayAttr.get(list(shape)))
    facts["tiny.permutation"] = ir.DenseI64ArrayAttr.get([before[d] for d in permutation])
    return ir.DictAttr.get(facts)
