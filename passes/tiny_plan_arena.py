"""``tiny-plan-arena``: every buffer of the network becomes a view into one arena."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from tinymlir.arena import APART, Buffer, plan
from tinymlir.bindings import arith, func, ir, memref
from tinymlir.fusion.network_graph import layer_functions
from tinymlir.kernels.emitter import Emitter

from ._pass import Pass, PassFailure, find_ops, register_pass
from .tiny_outline_layers import find_main

_VIEWS = ("memref.expand_shape", "memref.collapse_shape")


@register_pass
@dataclass(frozen=True)
class PlanArena(Pass):
    """Place all buffers of @main in one arena that the caller gives

    Results become arguments: the last layer writes straight into the caller's
    output. The other buffers are packed by liveness. An input that dies in a layer
    may share bytes with the layer's output if it starts far enough above it
    (``tiny.overlap``; 0 lets an elementwise layer work in place), likewise with the work
    space of a stage (``tiny.work_overlap``). With ``tiny.input = "in-arena"`` on ``@main``
    inputs are such buffers too, no arguments: ``tiny.input_offsets`` says where they lie; with
    ``"streamed"`` a result that is made while rows arrive is one until the end. ``@main`` gains
    ``tiny.arena_bytes``, ``tiny.live_bytes`` (bytes in use during each call) and
    ``tiny.arena_lower_bound``, which no plan can beat.

    Before::

        func.func @main(%x: memref<8xi8>) -> memref<8xi8> {
          %t = memref.alloc() : memref<8xi8>
          call @layer0(%x, %t) : (memref<8xi8>, memref<8xi8>) -> ()
          %y = memref.alloc() : memref<8xi8>
          call @layer1(%t, %y) : (memref<8xi8>, memref<8xi8>) -> ()
          return %y : memref<8xi8>
        }
        func.func private @layer0(memref<8xi8>, memref<8xi8>)
        func.func private @layer1(memref<8xi8>, memref<8xi8>)

    After::

        func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<8xi8>)
            attributes {tiny.arena_bytes = 8 : i64, tiny.arena_lower_bound = 8 : i64,
                        tiny.live_bytes = array<i64: 8, 8>} {
          %c0 = arith.constant 0 : index
          %t = memref.view %arena[%c0][] : memref<8xi8> to memref<8xi8>
          call @layer0(%x, %t) : (memref<8xi8>, memref<8xi8>) -> ()
          call @layer1(%t, %y) : (memref<8xi8>, memref<8xi8>) -> ()
          return
        }
        func.func private @layer0(memref<8xi8>, memref<8xi8>)
        func.func private @layer1(memref<8xi8>, memref<8xi8>)
    """

    name: ClassVar[str] = "tiny-plan-arena"

    def run(self, op: ir.Operation) -> None:
        main = find_main(op)
        _require_planned_views(main)
        given = main.operation.attributes
        place = given["tiny.input"].value if "tiny.input" in given else "external"
        inputs = _inputs_to_allocations(main) if place == "in-arena" else []
        _results_to_arguments(main, place == "streamed")
        _place_allocations(op, main, inputs)


def _root(value: ir.Value) -> ir.Value:
    """The buffer that a chain of views looks at."""
    while not isinstance(value, ir.BlockArgument) and value.owner.operation.name in _VIEWS:
        value = value.owner.operation.operands[0]
    return value


def _is_alloc(value: ir.Value) -> bool:
    return not isinstance(value, ir.BlockArgument) and value.owner.operation.name == "memref.alloc"


def _inputs_to_allocations(main: func.FuncOp) -> list[ir.Value]:
    """Buffers in the place of the arguments."""
    entry = main.body.blocks[0]
    buffers = []
    with ir.InsertionPoint.at_block_begin(entry), main.location:
        for argument in list(entry.arguments):
            buffers.append(memref.alloc(argument.type, [], []))
            argument.replace_all_uses_with(buffers[-1])
    while len(entry.arguments):
        entry.erase_argument(0)
    if "arg_attrs" in main.operation.attributes:
        del main.operation.attributes["arg_attrs"]
    return buffers


def _results_to_arguments(main: func.FuncOp, streamed: bool) -> None:
    entry = main.body.blocks[0]
    terminator = list(entry.operations)[-1].operation
    for index in range(len(terminator.operands)):
        result = terminator.operands[index]
        argument = entry.add_argument(result.type, terminator.location)
        source = _root(result)
        if _is_alloc(source) and not (streamed and _made_on_arrival(main, source)):
            with ir.InsertionPoint.at_block_begin(entry), terminator.location:
                buffer = _view_back(argument, result)
            alloc = source.owner.operation
            source.replace_all_uses_with(buffer)
            alloc.erase()
        else:
            # An input, a buffer that is another result as well, or one that is made too early.
            with ir.InsertionPoint(terminator), terminator.location:
                _copy(result, argument)
    with ir.InsertionPoint(terminator), terminator.location:
        func.ReturnOp([])
    terminator.erase()
    attributes = main.operation.attributes
    # What the results were called and how they were scaled now describes arguments.
    if "res_attrs" in attributes:
        given = list(attributes["arg_attrs"]) if "arg_attrs" in attributes else []
        missing = len(main.type.inputs) - len(given)
        given += [ir.DictAttr.get({})] * missing
        attributes["arg_attrs"] = ir.ArrayAttr.get([*given, *attributes["res_attrs"]])
        del attributes["res_attrs"]
    _set_signature(main)


def _made_on_arrival(main: func.FuncOp, buffer: ir.Value) -> bool:
    """Whether a function that takes rows of the input writes to ``buffer``."""
    inputs = main.body.blocks[0].arguments
    return any(
        child.operation.name == "func.call"
        and any(_root(v) == inputs[0] for v in child.operation.operands)
        and any(_root(v) == buffer for v in child.operation.operands)
        for child in main.body.blocks[0].operations
    )


def _copy(source: ir.Value, target: ir.Value) -> None:
    """Element by element: a memref.copy would become a call of memcpy."""
    emitter = Emitter()
    size = prod(source.type.shape)
    source, target = emitter.flat(source), emitter.flat(target)
    emitter.loop(0, size, 1, lambda i: emitter.store(emitter.load(source, [i]), target, [i]))


def _set_signature(main: func.FuncOp) -> None:
    types = [a.type for a in main.body.blocks[0].arguments]
    attributes = main.operation.attributes
    attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, []))
    if "arg_attrs" in attributes:
        given = list(attributes["arg_attrs"])
        given += [ir.DictAttr.get({})] * (len(types) - len(given))
        attributes["arg_attrs"] = ir.ArrayAttr.get(given)


def _view_back(argument: ir.Value, result: ir.Value) -> ir.Value:
    """``argument``, of the type of ``result``, seen as the buffer that ``result`` views."""
    if _is_alloc(result):
        return argument
    op = result.owner.operation
    wanted = op.operands[0].type
    groups = [[i.value for i in g] for g in op.attributes["reassociation"]]
    if op.name == "memref.collapse_shape":
        view = memref.ExpandShapeOp(
            wanted, argument, _reassociation(groups), [], ir.DenseI64ArrayAttr.get(wanted.shape)
        ).result
    else:
        view = memref.CollapseShapeOp(wanted, argument, _reassociation(groups)).result
    return _view_back(view, op.operands[0])


def _reassociation(groups: list[list[int]]) -> ir.ArrayAttr:
    i64 = ir.IntegerType.get_signless(64)
    return ir.ArrayAttr.get(
        [ir.ArrayAttr.get([ir.IntegerAttr.get(i64, i) for i in group]) for group in groups]
    )


def _users(main: func.FuncOp, buffer: ir.Value) -> list[int]:
    """Positions in @main of the ops that touch ``buffer``, through views as well."""
    return [
        i
        for i, child in enumerate(main.body.blocks[0].operations)
        if child.operation.name not in _VIEWS
        and any(_root(v) == buffer for v in child.operation.operands)
    ]


def mark_aliased(function: func.FuncOp) -> None:
    """Note that ``function``, and what it hands its buffers to, may be given one buffer twice.

    But not the rows of a stage: what one of them reads it does not overwrite, even where they lie
    in one buffer (`tinymlir.fusion.costs.Stage.overlap`).
    """
    module = function.operation.parent.operation
    functions = layer_functions(module)
    pending = [function.name.value]
    while pending:
        f = functions[pending.pop()].operation
        if "tiny.aliased" not in f.attributes:
            f.attributes["tiny.aliased"] = ir.UnitAttr.get()
            if "tiny.stage" in f.attributes:
                continue
            pending += [call.attributes["callee"].value for call in find_ops(f, "func.call")]


def _require_planned_views(main: func.FuncOp) -> None:
    """Liveness follows reshapes only; what else sees a buffer might outlive it."""
    for child in main.body.blocks[0].operations:
        op = child.operation
        known = op.name in (*_VIEWS, "memref.alloc")
        if not known and any(isinstance(r.type, ir.MemRefType) for r in op.results):
            raise PassFailure(op.location, f"has no plan for the buffer that '{op.name}' gives")


def _bytes(alloc: ir.Operation) -> int:
    kind = alloc.results[0].type
    element = kind.element_type
    if not kind.has_static_shape or not isinstance(element, ir.IntegerType | ir.F32Type):
        raise PassFailure(
            alloc.location, "expects a static shape, and elements that are integers or f32"
        )
    return prod(kind.shape) * max(1, element.width // 8)


def _overlaps(
    main: func.FuncOp, layers: dict[str, func.FuncOp], allocs: list[ir.Value]
) -> dict[tuple[int, int], int]:
    """Which buffers may share bytes: a layer's output and an input that dies there."""
    pairs: dict[tuple[int, int], int] = {}
    for position, child in enumerate(main.body.blocks[0].operations):
        op = child.operation
        if op.name != "func.call" or op.attributes["callee"].value not in layers:
            continue
        facts = layers[op.attributes["callee"].value].operation.attributes
        roots = [_root(v) for v in op.operands]
        output = facts["tiny.inputs"].value
        for name, written in (("tiny.overlap", output), ("tiny.work_overlap", output + 1)):
            for index, distance in enumerate(facts.get(name, [])):
                source = roots[index]
                dies = source in allocs and max(_users(main, source)) == position
                # Another operand may look at the same buffer, and read it elsewhere.
                apart = distance == APART or roots.count(source) > 1
                if dies and not apart and op.operands[written] in allocs:
                    pairs[allocs.index(op.operands[written]), allocs.index(source)] = distance
    return pairs


def _place_allocations(module: ir.Operation, main: func.FuncOp, inputs: list[ir.Value]) -> None:
    entry = main.body.blocks[0]
    layers = {
        f.name.value: f
        for f in module.regions[0].blocks[0].operations
        if isinstance(f, func.FuncOp) and "tiny.overlap" in f.operation.attributes
    }
    allocs = [c.operation for c in entry.operations if c.operation.name == "memref.alloc"]
    values = [alloc.results[0] for alloc in allocs]
    buffers = []
    for alloc in allocs:
        positions = _users(main, alloc.results[0])
        if not positions:
            raise PassFailure(alloc.location, "allocates a buffer that nothing uses")
        first = 0 if alloc.results[0] in inputs else min(positions)
        buffers.append(Buffer(_bytes(alloc), first, max(positions)))
    pairs = _overlaps(main, layers, values)
    placed = plan(buffers, pairs)
    _mark_aliased_layers(main, layers, values, buffers, placed.offsets)
    alive = [
        placed.live[i] if i < len(placed.live) else 0
        for i, child in enumerate(entry.operations)
        if child.operation.name == "func.call"
    ]
    i8 = ir.IntegerType.get_signless(8)
    arena = entry.add_argument(ir.MemRefType.get([placed.size], i8), main.location)
    offsets = dict(zip(values, placed.offsets, strict=True))
    for alloc, offset in zip(allocs, placed.offsets, strict=True):
        with ir.InsertionPoint(alloc), alloc.location:
            shift = arith.constant(ir.IndexType.get(), offset)
            view = memref.view(alloc.results[0].type, arena, shift, [])
        alloc.results[0].replace_all_uses_with(view)
        alloc.erase()
    i64 = ir.IntegerType.get_signless(64)
    attributes = main.operation.attributes
    attributes["tiny.arena_bytes"] = ir.IntegerAttr.get(i64, placed.size)
    attributes["tiny.arena_lower_bound"] = ir.IntegerAttr.get(i64, placed.lower_bound)
    attributes["tiny.live_bytes"] = ir.DenseI64ArrayAttr.get(alive)
    if inputs:
        attributes["tiny.input_offsets"] = ir.DenseI64ArrayAttr.get([offsets[v] for v in inputs])
    _set_signature(main)


def _mark_aliased_layers(
    main: func.FuncOp,
    layers: dict[str, func.FuncOp],
    values: list[ir.Value],
    buffers: list[Buffer],
    offsets: tuple[int, ...],
) -> None:
    """Mark the layers whose output and an input share bytes in the plan."""
    span = {
        value: range(offset, offset + buffer.size)
        for value, buffer, offset in zip(values, buffers, offsets, strict=True)
    }
    for child in main.body.blocks[0].operations:
        op = child.operation
        if op.name != "func.call" or op.attributes["callee"].value not in layers:
            continue
        layer = layers[op.attributes["callee"].value]
        count = layer.operation.attributes["tiny.inputs"].value
        spans = [span.get(_root(v)) for v in op.operands]
        together = [
            (read, written)
            for read in spans[:count]
            for written in spans[count:]
            if read and written and written.start < read.stop and read.start < written.stop
        ]
        if together:
            mark_aliased(layer)
