"""The module and its ``@main``, as every frontend builds them from a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinymlir.bindings import func, ir
from tinymlir.dialects import tiny
from tinymlir.errors import TinymlirError

from .builder import Builder
from .folding import fold_clamps
from .layout import Layout
from .tensors import Activation, row_major


@dataclass(frozen=True)
class Results:
    """What ``@main`` returns, and what is recorded about its arguments and results."""

    values: Sequence[ir.Value]
    arguments: Sequence[ir.Attribute]
    results: Sequence[ir.Attribute]


def build_module(
    context: ir.Context, build: Callable[[], None], error: Callable[[str], TinymlirError]
) -> ir.Module:
    """A verified module with what ``build`` builds in it."""
    tiny.register(context)
    with context, ir.Location.name("main"):
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            build()
        if not module.operation.verify():
            raise error("the import built IR that does not verify")
    return module


def build_main(
    b: Builder,
    inputs: Sequence[tuple[Sequence[int], Sequence[int]]],
    build: Callable[[Sequence[Activation]], Results],
) -> None:
    """Build ``@main`` at the current insertion point.

    Args:
        inputs: of each the logical shape, and the order in which the buffer nests its dimensions.
        build: the body, from the inputs.
    """
    types = [b.tensor_type([shape[d] for d in order] or [1], b.i8) for shape, order in inputs]
    function = func.FuncOp("main", (types, []))
    block = function.add_entry_block()
    with ir.InsertionPoint(block):
        made = build(
            [
                Activation(argument, Layout.of(shape, order))
                for argument, (shape, order) in zip(block.arguments, inputs, strict=True)
            ]
        )
        func.ReturnOp(list(made.values))
    signature = ir.FunctionType.get(types, [value.type for value in made.values])
    # After this some of the results are others.
    fold_clamps(block)
    attributes = function.attributes
    attributes["function_type"] = ir.TypeAttr.get(signature)
    attributes["arg_attrs"] = ir.ArrayAttr.get(list(made.arguments))
    attributes["res_attrs"] = ir.ArrayAttr.get(list(made.results))


def result(b: Builder, name: str, x: Activation) -> tuple[ir.Value, tuple[int, ...]]:
    """``x`` as a result of ``@main``, and the permutation of its dimensions that it has.

    It is transposed if its buffer nests the factors of its dimensions in one another.
    """
    permutation = x.layout.dim_order()
    if permutation is None:
        x = row_major(b, name, x)
        permutation = tuple(range(x.layout.rank))
    shape = x.layout.shape
    return b.reshape(x.value, [shape[d] for d in permutation] or [1]), permutation
