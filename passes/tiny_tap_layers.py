"""``tiny-tap-layers``: make the result of every layer a result of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import func, ir, linalg, tensor

from ._pass import Pass, register_pass
from .tiny_outline_layers import find_main

#: What ``tiny.op`` is for the copies that this pass makes.
TAP = "tap"


@register_pass
@dataclass(frozen=True)
class TapLayers(Pass):
    """Give a copy of each layer's result to the caller

    For debugging: ``@main`` returns, after its own results, that of each layer in the
    order of the calls. They are copied, right after they are computed, so that layers
    share the arena as they would without. ``tiny.tensor``, what frontends know of the
    result as a tensor of the model, becomes the attributes of the new result.

    Before::

        func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
          %y = call @layer0(%x) : (tensor<4xi8>) -> tensor<4xi8>
          return %y : tensor<4xi8>
        }
        func.func private @layer0(tensor<4xi8>) -> tensor<4xi8>
            attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max",
                        tiny.tensor = {tiny.name = "y"}}

    After::

        func.func @main(%x: tensor<4xi8>) -> (tensor<4xi8>, tensor<4xi8> {tiny.name = "y"}) {
          %y = call @layer0(%x) : (tensor<4xi8>) -> tensor<4xi8>
          %t = call @tap0(%y) : (tensor<4xi8>) -> tensor<4xi8>
          return %y, %t : tensor<4xi8>, tensor<4xi8>
        }
        func.func private @tap0(%y: tensor<4xi8>) -> tensor<4xi8>
            attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "tap"} {
          %e = tensor.empty() : tensor<4xi8>
          %t = linalg.copy ... ins(%y : tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
          return %t : tensor<4xi8>
        }
        func.func private @layer0(tensor<4xi8>) -> tensor<4xi8>
            attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max",
                        tiny.tensor = {tiny.name = "y"}}
    """

    name: ClassVar[str] = "tiny-tap-layers"

    def run(self, op: ir.Operation) -> None:
        main = find_main(op)
        layers = {
            f.name.value: f.operation.attributes
            for f in op.regions[0].blocks[0].operations
            if isinstance(f, func.FuncOp) and "tiny.layer" in f.operation.attributes
        }
        given = main.operation.attributes
        results = len(main.type.results)
        described = (
            list(given["res_attrs"]) if "res_attrs" in given else [ir.DictAttr.get()] * results
        )
        block = main.body.blocks[0]
        calls = [o.operation for o in block.operations if o.operation.name == "func.call"]
        taps: list[ir.Value] = []
        for call in calls:
            facts = layers.get(call.attributes["callee"].value)
            if facts is None:
                continue
            taps.append(_tap(main, call, f"tap{len(taps)}", facts["tiny.layer"]))
            described.append(facts["tiny.tensor"] if "tiny.tensor" in facts else ir.DictAttr.get())
        old = list(block.operations)[-1].operation
        with ir.InsertionPoint(old), old.location:
            func.ReturnOp([*old.operands, *taps])
        old.erase()
        types = [*main.type.results, *(tap.type for tap in taps)]
        signature = ir.FunctionType.get(main.type.inputs, types)
        given["function_type"] = ir.TypeAttr.get(signature)
        given["res_attrs"] = ir.ArrayAttr.get(described)


def _tap(main: func.FuncOp, call: ir.Operation, symbol: str, layer: ir.Attribute) -> ir.Value:
    """Copy the result of a call in a layer of its own; gives the copy."""
    result = call.results[0]
    with ir.InsertionPoint(main.operation), call.location:
        function = func.FuncOp(symbol, ([result.type], [result.type]), visibility="private")
        attributes = function.operation.attributes
        attributes["tiny.layer"] = layer
        attributes["tiny.op"] = ir.StringAttr.get(TAP)
        attributes["tiny.macs"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 0)
        with ir.InsertionPoint(function.add_entry_block()):
            init = tensor.EmptyOp(list(result.type.shape), result.type.element_type).result
            copied = linalg.copy(function.arguments[0], outs=[init])
            func.ReturnOp([copied])
    function.operation.move_after(main.operation)
    with ir.InsertionPoint.after(call), call.location:
        return func.CallOp(function, [result]).results[0]
