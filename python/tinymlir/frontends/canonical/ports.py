"""What is recorded about an input or output of the network."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import ir

from .tensors import Quantization


def port_attributes(
    name: str,
    model_type: str,
    shape: Sequence[int],
    permutation: Sequence[int],
    quantization: Quantization,
) -> ir.Attribute:
    """The argument or result attributes that docs/design.md lists."""
    return ir.DictAttr.get(
        {
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
