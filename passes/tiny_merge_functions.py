"""``tiny-merge-functions``: functions that are the same but for constants become one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from tinymlir.bindings import arith, builtin, func, ir, memref
from tinymlir.linalg_info import constant_scalar

from ._pass import Pass, find_ops, references, register_pass

#: Operations that make a function worth sharing, and constants that it is handed at most.
_LEAST_OPERATIONS, _MOST_ARGUMENTS = 16, 6
_Constant: TypeAlias = str | int
_GLOBAL = re.compile(r"memref\.get_global @([\w$.-]+)")
_NAME = re.compile(r"%[\w$.-]+")
_CONSTANT = re.compile(r"\s*(%[\w$.-]+) = arith\.constant (.*)$")
#: What an address is made of (`words.stream`), and how many elements lie there.
_STREAM = "builtin.unrealized_conversion_cast"
_SIZE = re.compile(r"memref<\d+x")
_NUMBER = re.compile(r"<(-?\d+) : i32>")
#: Where a constant is part of an instruction.
_IMMEDIATE_OPS = (
    *("arith.shli", "arith.shrsi", "arith.shrui", "arith.andi", "arith.ori"),
    *("arith.cmpi", "arith.select", "arith.maxsi", "arith.minsi"),
)
_IMMEDIATE = re.compile(r"|".join(re.escape(name) + r"\b" for name in _IMMEDIATE_OPS))
#: What functions have that are known by their names: layers, stages, entry points, levels.
_KEEP_NAMES = ("tiny.layer", "tiny.stage", "tiny.streaming", "tiny.arena_bytes")


@register_pass
@dataclass(frozen=True)
class MergeFunctions(Pass):
    """Make one function of those that are the same but for constants, which become its arguments

    Layers of one shape with the same kernel are the same code: networks repeat their blocks. They
    differ in the weights that they read and in some i32 constants, as zero points; distances to
    shift by and limits are parts of instructions, and must be equal. A layer stays a function of
    its own name, which calls what is shared, so that instructions are still attributed to it.
    Functions of few operations, or that differ in more than six constants, are left alone.

    Before::

        memref.global "private" constant @w0 : memref<2xi8> = dense<[1, 2]>
        memref.global "private" constant @w1 : memref<2xi8> = dense<[3, 4]>
        func.func private @layer0(%x: memref<2xi8>) attributes {tiny.layer = "a"} {
          %c0 = arith.constant 0 : index
          %w = memref.get_global @w0 : memref<2xi8>
          %a = memref.load %w[%c0] : memref<2xi8>
          memref.store %a, %x[%c0] : memref<2xi8>
          return
        }
        func.func private @layer1(%x: memref<2xi8>) attributes {tiny.layer = "b"} {
          %c0 = arith.constant 0 : index
          %w = memref.get_global @w1 : memref<2xi8>
          %a = memref.load %w[%c0] : memref<2xi8>
          memref.store %a, %x[%c0] : memref<2xi8>
          return
        }

    After, with ``least-operations=4``::

        func.func private @layer0(%x: memref<2xi8>) attributes {tiny.layer = "a"} {
          %w = memref.get_global @w0 : memref<2xi8>
          call @layer0_shared(%x, %w) : (memref<2xi8>, memref<2xi8>) -> ()
          return
        }
        func.func private @layer0_shared(%x: memref<2xi8>, %w: memref<2xi8> {llvm.noalias}) {
          %c0 = arith.constant 0 : index
          %a = memref.load %w[%c0] : memref<2xi8>
          memref.store %a, %x[%c0] : memref<2xi8>
          return
        }
        func.func private @layer1(%x: memref<2xi8>) attributes {tiny.layer = "b"} {
          %w = memref.get_global @w1 : memref<2xi8>
          call @layer0_shared(%x, %w) : (memref<2xi8>, memref<2xi8>) -> ()
          return
        }
    """

    name: ClassVar[str] = "tiny-merge-functions"
    #: operations of a function that is worth sharing
    least_operations: int = _LEAST_OPERATIONS

    def run(self, op: ir.Operation) -> None:
        for functions in _by_height(op):
            alike: dict[str, list[_Form]] = defaultdict(list)
            for form in map(_form, functions):
                if form.code.count("\n") >= self.least_operations:
                    alike[form.code].append(form)
            for group in alike.values():
                if len(group) > 1:
                    _merge(op, group)


def _by_height(module: ir.Operation) -> Iterator[list[func.FuncOp]]:
    """The private functions, those first that call none, then those that only call these…"""
    functions = {
        f.name.value: f
        for f in module.regions[0].blocks[0].operations
        if isinstance(f, func.FuncOp) and not f.is_external
    }
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            callees = [c for c in references(functions[name].operation) if c in functions]
            heights[name] = 1 + max(map(height, callees), default=0)
        return heights[name]

    levels: dict[int, list[func.FuncOp]] = defaultdict(list)
    for name, function in functions.items():
        if "sym_visibility" in function.operation.attributes:
            levels[height(name)].append(function)
    for number in sorted(levels):
        yield levels[number]


@dataclass(frozen=True)
class _Form:
    """A function, and what it may differ in from others that are the same code.

    ``code`` is its text with constants in the place of their names, ``globals`` what it reads, each
    once, and ``numbers`` the i32 constants among its operands, in order. Those that instructions
    have as immediates, as distances to shift by, are part of the code.
    """

    function: func.FuncOp
    code: str
    globals: tuple[str, ...]
    numbers: tuple[int, ...]


def _form(function: func.FuncOp) -> _Form:
    header, *lines = function.operation.get_asm(use_local_scope=True).split("\n")
    header = header.replace(f"@{function.name.value}(", "@(", 1)
    header = header.split(" attributes {", 1)[0].removesuffix(" {")
    aliased = "tiny.aliased" in function.operation.attributes and any(
        isinstance(argument.type, ir.MemRefType) for argument in function.arguments
    )
    constants: dict[str, str] = {}
    numbers: list[int] = []
    symbols: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        numbers.append(int(match[1]))
        return "<i32>"

    streams = _streams(function)
    code = [header, str(aliased)]
    for line in lines:
        made = _CONSTANT.match(line)
        if made:
            constants[made[1]] = f"<{made[2]}>"
            continue
        line = _NAME.sub(lambda m: constants.get(m[0], m[0]), line)
        read = _GLOBAL.search(line)
        if read:
            line = line.replace(read[0], symbols.setdefault(read[1], f"#{len(symbols)}"), 1)
            if read[1] in streams:
                line = _SIZE.sub("memref<?x", line)
        elif _STREAM in line:
            line = _SIZE.sub("memref<?x", line)
        if not _IMMEDIATE.search(line):
            line = _NUMBER.sub(number, line)
        code.append(line)
    return _Form(function, "\n".join(code), tuple(symbols), tuple(numbers))


def _streams(function: func.FuncOp) -> set[str]:
    """The globals of which `function` takes the address alone, whatever their size."""
    reads = find_ops(function.operation, "memref.get_global")
    sized = {
        read.attributes["name"].value
        for read in reads
        for use in read.results[0].uses
        if use.owner.operation.name != _STREAM
    }
    return {read.attributes["name"].value for read in reads} - sized


def _merge(module: ir.Operation, group: list[_Form]) -> None:
    """Make one function of a group, whose constants become arguments where they differ."""
    globals_ = _differing([form.globals for form in group])
    numbers = _differing([form.numbers for form in group])
    extra = [*dict.fromkeys(globals_.values()), *dict.fromkeys(numbers.values())]
    if len(extra) > _MOST_ARGUMENTS:
        return
    shared = _shared(group[0], globals_, numbers)
    if shared is None:
        return
    calls: dict[str, list[ir.Operation]] = defaultdict(list)
    for call in find_ops(module, "func.call"):
        calls[call.attributes["callee"].value].append(call)
    types = list(shared.type.inputs)
    sizes = {
        found.attributes["sym_name"].value: found.attributes["type"].value
        for found in find_ops(module, "memref.global")
    }
    for place, form in enumerate(group):
        function, own = form.function, [values[place] for values in extra]
        if any(name in function.operation.attributes for name in _KEEP_NAMES):
            entry = function.body.blocks[0]
            for op in reversed(list(entry.operations)):
                op.operation.erase()
            with ir.InsertionPoint(entry), function.location:
                func.call([], shared.name.value, [*entry.arguments, *_made(own, types, sizes)])
                func.ReturnOp([])
            continue
        for call in calls[function.name.value]:
            with ir.InsertionPoint(call), call.location:
                made = func.CallOp(shared, [*call.operands, *_made(own, types, sizes)])
            for old, new in zip(call.results, made.results, strict=True):
                old.replace_all_uses_with(new)
            call.erase()
        function.operation.erase()


def _differing(columns: list[tuple[_Constant, ...]]) -> dict[int, tuple[_Constant, ...]]:
    """The places where functions have different constants, and those of each function there."""
    return {i: own for i, own in enumerate(zip(*columns, strict=True)) if len(set(own)) > 1}


def _made(
    constants: list[_Constant], types: list[ir.Type], sizes: Mapping[str, ir.Type]
) -> list[ir.Value]:
    """Constants as values, for the last arguments of a function of these ``types``."""
    made: list[ir.Value] = []
    for constant, kind in zip(constants, types[len(types) - len(constants) :], strict=True):
        if not isinstance(constant, str):
            made.append(arith.constant(kind, constant))
            continue
        value = memref.get_global(sizes[constant], constant)
        # Of another size, but nothing but its address is looked at.
        same = value.type == kind
        made.append(value if same else builtin.unrealized_conversion_cast([kind], [value]))
    return made


def _shared(
    first: _Form,
    globals_: dict[int, tuple[_Constant, ...]],
    numbers: dict[int, tuple[_Constant, ...]],
) -> func.FuncOp | None:
    """A copy of a function that is given the constants at these places."""
    with ir.InsertionPoint.after(first.function.operation):
        copy = first.function.operation.clone()
    uses = _number_uses(copy.operation)
    if [value for _, _, value in uses] != list(first.numbers):
        copy.operation.erase()
        return None
    attributes = copy.operation.attributes
    for name in [name for name in attributes if name.startswith("tiny.")]:
        if name != "tiny.aliased":
            del attributes[name]
    attributes["sym_name"] = ir.StringAttr.get(f"{first.function.name.value}_shared")
    entry = copy.body.blocks[0]
    given = list(attributes["arg_attrs"]) if "arg_attrs" in attributes else []
    given += [ir.DictAttr.get({})] * (len(entry.arguments) - len(given))
    arguments: dict[tuple[_Constant, ...], ir.Value] = {}

    def argument(constants: tuple[_Constant, ...], kind: ir.Type, facts: ir.DictAttr) -> ir.Value:
        if constants not in arguments:
            arguments[constants] = entry.add_argument(kind, first.function.location)
            given.append(facts)
        return arguments[constants]

    reads: dict[str, list[ir.Operation]] = defaultdict(list)
    for read in find_ops(copy.operation, "memref.get_global"):
        reads[read.attributes["name"].value].append(read)
    for place, constants in globals_.items():
        for read in reads[first.globals[place]]:
            facts = ir.DictAttr.get({"llvm.noalias": ir.UnitAttr.get()})
            given_one = argument(constants, read.results[0].type, facts)
            read.results[0].replace_all_uses_with(given_one)
            read.erase()
    for place, constants in numbers.items():
        op, operand, _ = uses[place]
        i32 = ir.IntegerType.get_signless(32)
        op.operands[operand] = argument(constants, i32, ir.DictAttr.get({}))
    types = [value.type for value in entry.arguments]
    attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, copy.type.results))
    attributes["arg_attrs"] = ir.ArrayAttr.get(given)
    return copy


def _number_uses(function: ir.Operation) -> list[tuple[ir.Operation, int, int]]:
    """Where i32 constants are operands that may be arguments: op, operand and value, in order."""
    found: list[tuple[ir.Operation, int, int]] = []
    i32 = ir.IntegerType.get_signless(32)
    for op in find_ops(function):
        if op.name in _IMMEDIATE_OPS:
            continue
        for place, value in enumerate(op.operands):
            known = constant_scalar(value) if value.type == i32 else None
            if known is not None:
                found.append((op, place, known))
    return found
