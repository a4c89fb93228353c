"""``tiny-link-levels``: one module of several levels, of which one is chosen at run time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, func, ir, memref, scf

from ._pass import Pass, PassFailure, references, register_pass
from .tiny_outline_layers import find_main


@register_pass
@dataclass(frozen=True)
class LinkLevels(Pass):
    """Link modules that each hold a level of one network; what two levels have is there once

    The network of the first module becomes ``@level0``, and so on. Functions that are the same
    but for their names are one, which has the name of the first level's, and so are constants;
    what only level k has is called ``@level<k>_NAME``. ``@main`` takes a state before everything
    else, one number, and an arena that is large enough for every level. ``@run_level`` runs the
    level of a number, the first one where there is no such level, and gives the number of what
    ran; ``@set_level`` writes to a state and gives 0, or -1 where there is no such level.

    Before::

        module {
          func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<16xi8>) {
            call @layer0(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
            return
          }
          func.func private @layer0(%x: memref<8xi8>, %y: memref<8xi8>) { return }
        }
        module {
          func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<8xi8>) {
            call @layer0(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
            return
          }
          func.func private @layer0(%x: memref<8xi8>, %y: memref<8xi8>) { return }
        }

    After::

        func.func private @level0(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<16xi8>) {
          call @layer0(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
          return
        }
        func.func private @layer0(%x: memref<8xi8>, %y: memref<8xi8>) { return }
        func.func private @level1(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<8xi8>) {
          call @layer0(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
          return
        }
        func.func private @run_level(%level: i32, %x: memref<8xi8>, %y: memref<8xi8>,
                                     %arena: memref<16xi8>) -> i32 {
          ...
        }
        func.func @main(%state: memref<1xi32>, %x: memref<8xi8>, %y: memref<8xi8>,
                        %arena: memref<16xi8>) {
          %c0 = arith.constant 0 : index
          %level = memref.load %state[%c0] : memref<1xi32>
          %ran = call @run_level(%level, %x, %y, %arena)
              : (i32, memref<8xi8>, memref<8xi8>, memref<16xi8>) -> i32
          return
        }
        func.func @set_level(%state: memref<1xi32>, %level: i32) -> i32 {
          ...
        }
    """

    name: ClassVar[str] = "tiny-link-levels"

    def run(self, op: ir.Operation) -> None:
        block = op.regions[0].blocks[0]
        modules = [child.operation for child in block.operations]
        if len(modules) < 2 or any(m.name != "builtin.module" for m in modules):
            raise PassFailure(op.location, "expects two modules or more, a level in each")
        mains = [find_main(module) for module in modules]
        for main in mains:
            _require_same_interface(main, mains[0])
        for name in modules[0].attributes:
            op.attributes[name] = modules[0].attributes[name]
        for number, module in enumerate(modules):
            _name_after(module, number)
        linked = _Linked(block)
        for module, main in zip(modules, mains, strict=True):
            linked.take(module, main.operation)
        _emit_choice(block, mains)


def _require_same_interface(main: func.FuncOp, first: func.FuncOp) -> None:
    facts = main.operation.attributes
    if "tiny.input" in facts and facts["tiny.input"].value != "external":
        raise PassFailure(main.location, "expects an input that the caller holds, for every level")
    types = list(main.type.inputs)
    if len(types) < 3 or not all(isinstance(kind, ir.MemRefType) for kind in types):
        raise PassFailure(main.location, "expects inputs, outputs and an arena as memrefs")
    if types[:-1] != list(first.type.inputs)[:-1]:
        raise PassFailure(main.location, "expects the inputs and outputs of the first level")


def _symbols(module: ir.Operation) -> list[ir.Operation]:
    return [
        child.operation
        for child in module.regions[0].blocks[0].operations
        if "sym_name" in child.operation.attributes
    ]


def _rename(module: ir.Operation, symbol: ir.Operation, name: str) -> None:
    old = symbol.attributes["sym_name"].value
    ir.SymbolTable.replace_all_symbol_uses(old, name, module)
    symbol.attributes["sym_name"] = ir.StringAttr.get(name)


def _name_after(module: ir.Operation, number: int) -> None:
    """Names that no other level has."""
    for symbol in _symbols(module):
        name = symbol.attributes["sym_name"].value
        if name == "main":
            _rename(module, symbol, f"level{number}")
            symbol.attributes["sym_visibility"] = ir.StringAttr.get("private")
        elif number:
            _rename(module, symbol, f"level{number}_{name}")


class _Linked:
    """The symbols that are linked already."""

    def __init__(self, block: ir.Block) -> None:
        self._block = block
        self._known: dict[object, str] = {}

    def take(self, module: ir.Operation, main: ir.Operation) -> None:
        """Move what is new, and ``main`` in any case, out of ``module``, which goes."""
        for symbol in _callees_first(_symbols(module)):
            if symbol == main:
                continue
            name = symbol.attributes["sym_name"].value
            there = self._known.setdefault(contents(symbol), name)
            if there != name:
                ir.SymbolTable.replace_all_symbol_uses(name, there, module)
                symbol.erase()
        for symbol in _symbols(module):
            symbol.detach_from_parent()
            self._block.append(symbol)
        module.erase()


def _callees_first(symbols: list[ir.Operation]) -> Iterator[ir.Operation]:
    """In an order in which everything comes after what it refers to."""
    pending = {symbol.attributes["sym_name"].value: symbol for symbol in symbols}

    def visit(symbol: ir.Operation) -> Iterator[ir.Operation]:
        for name in references(symbol):
            if name in pending:
                yield from visit(pending.pop(name))
        yield symbol

    while pending:
        yield from visit(pending.pop(next(iter(pending))))


def contents(symbol: ir.Operation) -> object:
    """What is equal for two symbols that are the same but for their names."""
    if symbol.name == "memref.global":
        given = symbol.attributes
        return frozenset((name, given[name]) for name in given if name != "sym_name")
    header = f"@{symbol.attributes['sym_name'].value}("
    return symbol.get_asm(use_local_scope=True).replace(header, "@(", 1)


def _emit_choice(block: ir.Block, levels: list[func.FuncOp]) -> None:
    """``@run_level``, ``@main`` and ``@set_level``."""
    first = levels[0]
    location = first.location
    i32 = ir.IntegerType.get_signless(32)
    state_type = ir.MemRefType.get([1], i32)
    arena_bytes = max(list(level.type.inputs)[-1].shape[0] for level in levels)
    buffers = [*list(first.type.inputs)[:-1], _bytes(arena_bytes)]
    with ir.InsertionPoint(block), location:
        run = func.FuncOp("run_level", ([i32, *buffers], [i32]), visibility="private")
        main = func.FuncOp("main", ([state_type, *buffers], []))
        choose = func.FuncOp("set_level", ([state_type, i32], [i32]))
    if "arg_attrs" in first.operation.attributes:
        given = list(first.operation.attributes["arg_attrs"])
        main.operation.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get({}), *given])
    with ir.InsertionPoint(run.add_entry_block()), location:
        func.ReturnOp([_run(levels, *run.arguments)])
    with ir.InsertionPoint(main.add_entry_block()), location:
        state, *arguments = main.arguments
        func.call([i32], "run_level", [load_level(state), *arguments])
        func.ReturnOp([])
    with ir.InsertionPoint(choose.add_entry_block()), location:
        func.ReturnOp([_set(len(levels), *choose.arguments)])


def _bytes(count: int) -> ir.Type:
    return ir.MemRefType.get([count], ir.IntegerType.get_signless(8))


def load_level(state: ir.Value) -> ir.Value:
    return memref.load(state, [arith.constant(ir.IndexType.get(), 0)])


def _run(levels: list[func.FuncOp], level: ir.Value, *arguments: ir.Value) -> ir.Value:
    *buffers, arena = arguments

    def call(number: int) -> None:
        size = list(levels[number].type.inputs)[-1].shape[0]
        start = arith.constant(ir.IndexType.get(), 0)
        own = memref.view(_bytes(size), arena, start, [])
        func.call([], f"level{number}", [*buffers, own])
        scf.yield_([arith.constant(level.type, number)])

    return scf.index_switch(
        [level.type],
        arith.index_cast(ir.IndexType.get(), level),
        range(1, len(levels)),
        lambda _op, _place, number: call(number),
        lambda _op: call(0),
    )


def _set(count: int, state: ir.Value, level: ir.Value) -> ir.Value:
    i32 = level.type
    known = arith.cmpi(arith.CmpIPredicate.ult, level, arith.constant(i32, count))
    place = arith.constant(ir.IndexType.get(), 0)
    kept = arith.select(known, level, memref.load(state, [place]))
    memref.store(kept, state, [place])
    return arith.select(known, arith.constant(i32, 0), arith.constant(i32, -1))
