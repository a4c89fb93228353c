"""Tensors of quantised types, ``!quant.uniform<...>``, as tensors of the integers they hold."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import func, ir, quant


def to_storage_types(module: ir.Module) -> None:
    """Replace quantised element types; operations give zero points and scales themselves.

    What arguments and results of functions stand for is kept in their attributes.
    """

    def visit(op: ir.Operation) -> ir.WalkResult:
        if isinstance(op.opview, func.FuncOp):
            _function(op.opview)
        for value in op.results:
            value.set_type(_stored(value.type))
        for region in op.regions:
            for block in region.blocks:
                for argument in block.arguments:
                    argument.set_type(_stored(argument.type))
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)


def _function(function: func.FuncOp) -> None:
    attributes, kind = function.operation.attributes, function.type
    for key, types in (("arg_attrs", kind.inputs), ("res_attrs", kind.results)):
        given = list(attributes[key]) if key in attributes else [ir.DictAttr.get({})] * len(types)
        known = [_with_meaning(facts, t) for facts, t in zip(given, types, strict=True)]
        if known != given:
            attributes[key] = ir.ArrayAttr.get(known)
    signature = ir.FunctionType.get(_all_stored(kind.inputs), _all_stored(kind.results))
    attributes["function_type"] = ir.TypeAttr.get(signature)


def _quantized(kind: ir.Type) -> ir.Type | None:
    """The quantised element type of a tensor."""
    element = kind.element_type if isinstance(kind, ir.RankedTensorType) else None
    return element if isinstance(element, quant.QuantizedType) else None


def _stored(kind: ir.Type) -> ir.Type:
    element = _quantized(kind)
    if element is None:
        return kind
    stored = element.storage_type
    if not element.is_signed:
        stored = ir.IntegerType.get_unsigned(element.storage_type_integral_width)
    return ir.RankedTensorType.get(kind.shape, stored)


def _all_stored(kinds: Sequence[ir.Type]) -> list[ir.Type]:
    return [_stored(kind) for kind in kinds]


def _with_meaning(facts: ir.Attribute, kind: ir.Type) -> ir.Attribute:
    """``facts`` with scale and zero point, if the type has one of each."""
    element = _quantized(kind)
    if not isinstance(element, quant.UniformQuantizedType):
        return facts
    zero_point = element.zero_point - (0 if element.is_signed else 128)
    i32 = ir.IntegerType.get_signless(32)
    meaning = {
        "tiny.scale": ir.FloatAttr.get_f32(element.scale),
        "tiny.zero_point": ir.IntegerAttr.get(i32, zero_point),
    }
    return ir.DictAttr.get({**meaning, **{named.name: named.attr for named in facts}})
