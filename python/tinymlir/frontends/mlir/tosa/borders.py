"""Arguments and results of a TOSA function: the order of their elements, and what is recorded."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import func, ir
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.ports import permuted

from .constants import is_unsigned
from .evaluate import data_operands

#: Operations that read N×H×W×C windows of their first operand.
_SPATIAL = (
    "tosa.avg_pool2d",
    "tosa.conv2d",
    "tosa.depthwise_conv2d",
    "tosa.max_pool2d",
    "tosa.transpose_conv2d",
)
#: Operations that only place elements.
_MOVING = ("tosa.identity", "tosa.pad", "tosa.reshape", "tosa.slice", "tosa.transpose")


def input_permutation(argument: ir.Value) -> list[int]:
    """How the object's array nests the dimensions of an argument.

    As the first spatial operation that the argument reaches wants them; as they
    are if it reaches none.
    """
    identity = list(range(len(argument.type.shape)))
    queue, seen = [(argument, identity)], {argument}
    while queue:
        value, dims = queue.pop(0)
        for use in value.uses:
            op = use.owner.operation
            if op.name in _SPATIAL and use.operand_number == 0:
                return dims
            if op.name == "tosa.transpose":
                reached = [dims[p] for p in op.attributes["perms"]]
            elif op.name == "tosa.pad" or data_operands(op) is not None:
                reached = dims
            else:
                continue
            result = op.results[0]
            if result not in seen and len(result.type.shape) == len(dims):
                seen.add(result)
                queue.append((result, reached))
    return identity


def is_read_unsigned(value: ir.Value) -> bool:
    """Whether the 8-bit elements of an argument are read as 0 to 255."""
    if is_unsigned(value):
        return True
    for use in value.uses:
        op = use.owner.operation
        if op.name == "tosa.rescale" and op.attributes["input_unsigned"].value:
            return True
        if op.name in _MOVING and is_read_unsigned(op.results[0]):
            return True
    return False


def result_permutation(layout: Layout) -> list[int] | None:
    """The permutation of the logical dimensions that is the order in memory, if there is one."""
    rank = range(layout.rank)
    if layout.order == tuple(atom for d in rank for atom in layout.dims[d]):
        return list(rank)
    order = layout.dim_order()
    return None if order is None else list(order)


def argument_attributes(
    function: func.FuncOp, permutations: Sequence[Sequence[int]], unsigned: set[ir.Value]
) -> list[ir.Attribute]:
    arguments = function.body.blocks[0].arguments
    return [
        _attributes(function, "arg_attrs", i, list(argument.type.shape), p, argument in unsigned)
        for i, (argument, p) in enumerate(zip(arguments, permutations, strict=True))
    ]


def result_attributes(
    function: func.FuncOp, index: int, permutation: Sequence[int] | None, unsigned: bool
) -> ir.Attribute:
    shape = list(function.type.results[index].shape)
    order = range(len(shape)) if permutation is None else permutation
    return _attributes(function, "res_attrs", index, shape, order, unsigned)


def _attributes(
    function: func.FuncOp,
    key: str,
    index: int,
    shape: Sequence[int],
    permutation: Sequence[int],
    unsigned: bool,
) -> ir.Attribute:
    """The attributes that the old function has, and what is new."""
    given = function.operation.attributes
    old = given[key][index] if key in given else ir.DictAttr.get({})
    facts = {named.name: named.attr for named in old}
    if unsigned:
        zero = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), -128)
        facts.setdefault("tiny.zero_point", zero)
        facts["tiny.model_type"] = ir.StringAttr.get("uint8")
    return permuted(ir.DictAttr.get(facts), shape, permutation)


def finish(
    old: func.FuncOp,
    new: func.FuncOp,
    arguments_known: Sequence[ir.Attribute],
    results_known: Sequence[ir.Attribute],
) -> None:
    """Give ``new`` its type and attributes."""
    attributes = new.operation.attributes
    for name in old.operation.attributes:
        if name not in ("arg_attrs", "res_attrs", "function_type"):
            attributes[name] = old.operation.attributes[name]
    attributes["arg_attrs"] = ir.ArrayAttr.get(list(arguments_known))
    attributes["res_attrs"] = ir.ArrayAttr.get(list(results_known))
    operations = new.body.blocks[0].operations
    results = operations[len(operations) - 1].operands
    signature = ir.FunctionType.get(
        [argument.type for argument in new.arguments], [value.type for value in results]
    )
    attributes["function_type"] = ir.TypeAttr.get(signature)
