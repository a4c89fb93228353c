"""``tiny-plan-arena`` on random networks: every layer finds what it is to read."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.pipeline import run_pipeline

COLUMNS = 4


@dataclass(frozen=True)
class Layer:
    """Reads tensors (0 is the input, i the result of layer i - 1) and makes one of ``rows``.

    ``folded`` says for each operand whether it is read through a reshape; ``overlap``
    how far above the output it must start, -1 for apart.
    """

    rows: int
    reads: tuple[int, ...]
    folded: tuple[bool, ...]
    overlap: tuple[int, ...]


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Layer], list[int]]:
    layers = []
    for i in range(draw(st.integers(1, 7))):
        near = st.sampled_from([i, i, i, max(0, i - 1), max(0, i - 2)])
        reads = draw(st.lists(near, min_size=1, max_size=3))
        count = len(reads)
        folded = draw(st.tuples(*[st.booleans()] * count))
        overlap = draw(st.tuples(*[st.sampled_from([-1, 0, 4, 12])] * count))
        layers.append(Layer(draw(st.integers(1, 4)), tuple(reads), folded, overlap))
    made = st.integers(1, len(layers))
    return layers, [len(layers), *draw(st.lists(made, max_size=2))]


def as_text(layers: list[Layer], results: list[int]) -> str:
    rows = [2, *(layer.rows for layer in layers)]
    wide = [f"memref<{r}x{COLUMNS}xi8>" for r in rows]
    flat = [f"memref<{r * COLUMNS}xi8>" for r in rows]
    body, functions = [], []
    for i, layer in enumerate(layers, 1):
        operands, types = [], []
        for j, (read, folded) in enumerate(zip(layer.reads, layer.folded, strict=True)):
            name = f"%t{read}"
            if folded:
                name = f"%f{i}_{j}"
                types_of = f"{wide[read]} into {flat[read]}"
                body.append(f"{name} = memref.collapse_shape %t{read} [[0, 1]] : {types_of}")
            operands.append(name)
            types.append(flat[read] if folded else wide[read])
        body.append(f"%t{i} = memref.alloc() : {wide[i]}")
        signature = ", ".join([*types, wide[i]])
        body.append(f"call @layer{i}({', '.join([*operands, f'%t{i}'])}) : ({signature}) -> ()")
        overlap = ", ".join(map(str, layer.overlap))
        functions.append(
            f"func.func private @layer{i}({signature}) attributes"
            f" {{tiny.inputs = {len(types)} : i64, tiny.overlap = array<i64: {overlap}>}}"
        )
    given = ", ".join(f"%t{r}" for r in results)
    types = [wide[r] for r in results]
    return "\n".join(
        [
            f"func.func @main(%t0: {wide[0]}) -> ({', '.join(types)}) {{",
            *body,
            f"return {given} : {', '.join(types)}",
            "}",
            *functions,
        ]
    )


class Machine:
    """Memories whose bytes know which tensor they hold a byte of."""

    def __init__(self, main: ir.OpView) -> None:
        arguments = list(main.body.blocks[0].arguments)
        self.holds: list[list[object]] = [[None] * prod(a.type.shape) for a in arguments]
        self.where = {argument: (i, 0) for i, argument in enumerate(arguments)}

    def span(self, value: ir.Value) -> tuple[int, range]:
        """The memory of a buffer, and the bytes of it."""
        memory, start = self.where[value]
        return memory, range(start, start + prod(value.type.shape))

    def fill(self, value: ir.Value, tensor: int) -> None:
        memory, span = self.span(value)
        for position, byte in enumerate(span):
            self.holds[memory][byte] = (tensor, position)

    def has(self, value: ir.Value, tensor: int) -> bool:
        memory, span = self.span(value)
        return all(
            self.holds[memory][byte] == (tensor, position) for position, byte in enumerate(span)
        )


def run(machine: Machine, module: ir.Module, layers: list[Layer]) -> None:
    main, *functions = module.body.operations
    calls = 0
    for child in main.body.blocks[0].operations:
        op = child.operation
        if op.name == "memref.view":
            shift = op.operands[1].owner.operation.attributes["value"].value
            machine.where[op.results[0]] = (machine.where[op.operands[0]][0], shift)
        elif op.name in ("memref.collapse_shape", "memref.expand_shape"):
            machine.where[op.results[0]] = machine.where[op.operands[0]]
        elif op.name == "scf.for":
            inside = [o.operation for o in op.regions[0].blocks[0].operations]
            load, store = (
                next(o for o in inside if o.name == f"memref.{n}") for n in ("load", "store")
            )
            memory, span = machine.span(load.operands[0])
            to, target = machine.span(store.operands[1])
            machine.holds[to][target.start : target.stop] = machine.holds[memory][
                span.start : span.stop
            ]
        elif op.name == "func.call":
            layer, inputs, output = layers[calls], list(op.operands)[:-1], op.operands[-1]
            calls += 1
            written, target = machine.span(output)
            for value, tensor, distance in zip(inputs, layer.reads, layer.overlap, strict=True):
                assert machine.has(value, tensor)
                memory, source = machine.span(value)
                if memory == written and source.start < target.stop and target.start < source.stop:
                    assert distance >= 0 and source.start >= target.start + distance
                    assert layer.reads.count(tensor) == 1
                    assert "tiny.aliased" in functions[calls - 1].attributes
            machine.fill(output, calls)
    assert calls == len(layers)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(networks())
def test_every_layer_finds_its_inputs(network: tuple[list[Layer], list[int]]) -> None:
    layers, results = network
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(as_text(layers, results))
        run_pipeline(module, "builtin.module(tiny-plan-arena)")
        main = module.body.operations[0]
        machine = Machine(main)
        arguments = list(main.body.blocks[0].arguments)
        machine.fill(arguments[0], 0)
        run(machine, module, layers)
        for value, tensor in zip(arguments[1:-1], results, strict=True):
            assert machine.has(value, tensor)
        assert machine.has(arguments[0], 0), "the network's input is the caller's"
        assert len(machine.holds[-1]) == main.attributes["tiny.arena_bytes"].value
