"""``tiny-emit-entry``: the C interface of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, func, ir

from ._pass import Pass, PassFailure, register_pass
from ._streaming import emit_streaming
from .tiny_outline_layers import find_main


@register_pass
@dataclass(frozen=True)
class EmitEntry(Pass):
    """Name the network's function for C and hide the rest

    ``@main`` becomes ``int NAME_invoke(inputs…, outputs…, arena)``, which returns 0.
    Private functions, as layers are, become internal symbols ``NAME_layer<i>``; others are seen
    from outside under such a name. Declarations keep their names.
    Pointers that nothing else points to are marked ``noalias``: without that LLVM
    keeps accumulators in memory. Where the input arrives row by row (``tiny.streaming``) there are
    ``int NAME_begin(arena)``, ``int NAME_push_rows(arena, rows, count)`` and
    ``int NAME_finish(arena, outputs…)`` besides, and ``NAME_invoke`` calls them.

    Before::

        func.func @main(%x: memref<8xi8>, %arena: memref<4xi8>) {
          call @layer0(%x) : (memref<8xi8>) -> ()
          return
        }
        func.func private @layer0(%x: memref<8xi8>) attributes {tiny.layer = "conv"} { return }

    After, with ``symbol=net``::

        func.func @net_invoke(%x: memref<8xi8> {llvm.noalias}, %arena: memref<4xi8> {llvm.noalias})
            -> i32 {
          call @net_layer0(%x) : (memref<8xi8>) -> ()
          %c0 = arith.constant 0 : i32
          return %c0 : i32
        }
        func.func private @net_layer0(%x: memref<8xi8> {llvm.noalias})
            attributes {llvm.linkage = #llvm.linkage<internal>, tiny.layer = "conv"} { return }
    """

    name: ClassVar[str] = "tiny-emit-entry"
    #: prefix of every symbol; a C identifier
    symbol: str = "network"

    def run(self, op: ir.Operation) -> None:
        if not (self.symbol.isidentifier() and self.symbol.isascii()):
            raise PassFailure(op.location, f"'{self.symbol}' is not a C identifier")
        main = find_main(op)
        functions = [
            f
            for f in op.regions[0].blocks[0].operations
            if isinstance(f, func.FuncOp) and f != main and not f.is_external
        ]
        renamed = {f.name.value: f"{self.symbol}_{f.name.value}" for f in functions}
        _rename_calls(op, renamed)
        for function in functions:
            attributes = function.operation.attributes
            attributes["sym_name"] = ir.StringAttr.get(renamed[function.name.value])
            if "sym_visibility" in attributes:
                attributes["llvm.linkage"] = ir.Attribute.parse("#llvm.linkage<internal>")
            if "tiny.aliased" not in attributes:
                _mark_noalias(function)
        main.operation.attributes["sym_name"] = ir.StringAttr.get(f"{self.symbol}_invoke")
        calls = _streaming_calls(main, functions)
        entries = emit_streaming(main, calls, self.symbol) if calls else []
        for entry in (main, *entries):
            _mark_noalias(entry)
        _return_zero(main)


def _streaming_calls(main: func.FuncOp, functions: list[func.FuncOp]) -> dict[str, ir.Operation]:
    """The calls that begin, take rows and finish, by what they do."""
    roles = {
        f.name.value: f.operation.attributes["tiny.streaming"].value
        for f in functions
        if "tiny.streaming" in f.operation.attributes
    }
    calls = [c for c in main.body.blocks[0].operations if c.operation.name == "func.call"]
    callees = {c.operation.attributes["callee"].value: c.operation for c in calls}
    return {role: callees[name] for name, role in roles.items()}


def _rename_calls(module: ir.Operation, renamed: dict[str, str]) -> None:
    def rename(nested: ir.Operation) -> ir.WalkResult:
        if nested.name == "func.call":
            callee = nested.attributes["callee"].value
            nested.attributes["callee"] = ir.FlatSymbolRefAttr.get(renamed.get(callee, callee))
        return ir.WalkResult.ADVANCE

    module.walk(rename)


def _mark_noalias(function: func.FuncOp) -> None:
    attributes = function.operation.attributes
    arguments = function.body.blocks[0].arguments
    given = list(attributes["arg_attrs"]) if "arg_attrs" in attributes else []
    given += [ir.DictAttr.get({})] * (len(arguments) - len(given))
    marked = []
    for argument, old in zip(arguments, given, strict=True):
        entries = {named.name: named.attr for named in old}
        if isinstance(argument.type, ir.MemRefType):
            entries["llvm.noalias"] = ir.UnitAttr.get()
        marked.append(ir.DictAttr.get(entries))
    attributes["arg_attrs"] = ir.ArrayAttr.get(marked)


def _return_zero(main: func.FuncOp) -> None:
    terminator = list(main.body.blocks[0].operations)[-1].operation
    i32 = ir.IntegerType.get_signless(32)
    with ir.InsertionPoint(terminator), terminator.location:
        func.ReturnOp([arith.constant(i32, 0)])
    terminator.erase()
    types = list(main.type.inputs)
    attributes = main.operation.attributes
    attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, [i32]))
