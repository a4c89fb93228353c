"""Activation functions that turn out to be the producer's clamp."""

from __future__ import annotations

from tinymlir.bindings import ir
from tinymlir.linalg_info import yielded

VIEWS = ("tensor.expand_shape", "tensor.collapse_shape")


def fold_clamps(block: ir.Block) -> None:
    """Fold each clamp layer into the layer it follows, where that has no other reader.

    The producer must end in one ``tiny.requantize``; clamping twice is clamping
    to the intersection of the ranges.
    """
    for op in [o.operation for o in block.operations]:
        if "tiny.op" in op.attributes and op.attributes["tiny.op"].value == "clamp":
            _fold(op)


def _fold(clamp: ir.Operation) -> None:
    source = clamp.operands[0]
    value = source
    while _sole_use(value) and value.owner.name in VIEWS:
        value = value.owner.operation.operands[0]
    if isinstance(value, ir.BlockArgument) or not _sole_use(value):
        return
    requantize = _final_requantize(value.owner.operation)
    if requantize is None:
        return
    low, high = (_bound(clamp, name) for name in ("arith.maxsi", "arith.minsi"))
    i32 = ir.IntegerType.get_signless(32)
    for name in ("min", "max"):
        bound = requantize.attributes[name].value
        requantize.attributes[name] = ir.IntegerAttr.get(i32, min(max(bound, low), high))
    # What the layer now computes is the clamp's tensor of the model.
    if "tiny.tensor" in clamp.attributes:
        value.owner.attributes["tiny.tensor"] = clamp.attributes["tiny.tensor"]
    elif "tiny.tensor" in value.owner.attributes:
        del value.owner.attributes["tiny.tensor"]
    clamp.results[0].replace_all_uses_with(source)
    clamp.erase()


def _sole_use(value: ir.Value) -> bool:
    return not isinstance(value, ir.BlockArgument) and len(list(value.uses)) == 1


def _final_requantize(op: ir.Operation) -> ir.Operation | None:
    """The ``tiny.requantize`` whose result a ``linalg.generic`` yields."""
    if op.name != "linalg.generic":
        return None
    result = yielded(op.regions[0].blocks[0])
    if isinstance(result, ir.BlockArgument) or result.owner.name != "tiny.requantize":
        return None
    return result.owner.operation


def _bound(clamp: ir.Operation, name: str) -> int:
    """The constant that a clamp layer's body compares with."""
    for nested in clamp.regions[0].blocks[0].operations:
        if nested.operation.name == name:
            return nested.operation.operands[1].owner.operation.attributes["value"].value
    raise ValueError("a clamp layer has both bounds")
