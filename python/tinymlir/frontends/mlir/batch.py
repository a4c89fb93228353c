"""A batch of any size, ``tensor<?x...>``, is one sample."""

from __future__ import annotations

from tinymlir.bindings import func, ir
from tinymlir.pipeline import run_pipeline

#: Static sizes spread from the arguments: through TOSA, then through linalg and tensor.
_INFER = "builtin.module(func.func(tosa-infer-shapes),canonicalize)"


def to_one_sample(module: ir.Module, function: func.FuncOp) -> None:
    """Give arguments whose first dimension is unknown the size 1 there, and infer the rest.

    What stays dynamic is left for the caller to refuse.
    """
    arguments = list(function.arguments)
    types = [_one_sample(argument.type) for argument in arguments]
    if types == [argument.type for argument in arguments]:
        return
    for argument, kind in zip(arguments, types, strict=True):
        argument.set_type(kind)
    if len(function.body.blocks) != 1:
        return
    _update_type(function)
    run_pipeline(module, _INFER)
    # Inference keeps the type of what is returned, and casts to it.
    last = _terminator(function)
    for index, value in enumerate(last.operands):
        if not isinstance(value, ir.BlockArgument) and value.owner.name == "tensor.cast":
            cast = value.owner.operation
            last.operands[index] = cast.operands[0]
            if not list(cast.results[0].uses):
                cast.erase()
    _update_type(function)


def _terminator(function: func.FuncOp) -> ir.Operation:
    return list(function.body.blocks[0].operations)[-1].operation


def _update_type(function: func.FuncOp) -> None:
    """To what the body takes and returns."""
    kinds = [
        [v.type for v in values] for values in (function.arguments, _terminator(function).operands)
    ]
    function.operation.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(*kinds))


def _one_sample(kind: ir.Type) -> ir.Type:
    if not isinstance(kind, ir.RankedTensorType) or kind.rank == 0 or not kind.is_dynamic_dim(0):
        return kind
    return ir.RankedTensorType.get([1, *kind.shape[1:]], kind.element_type, kind.encoding)
