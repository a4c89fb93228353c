"""Several levels of a network in one object: the exact one, and approximations of it.

Kernels are chosen for all levels together; then each level is lowered by itself, as far as its
arena, and ``tiny-link-levels`` makes one module of them, in which what levels have in common is
there once (docs/skipping.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from tinymlir.bindings import func, ir
from tinymlir.compiler import Compilation, Level, read_layers
from tinymlir.network import read_interface
from tinymlir.passes._pass import references
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.pipeline import run_pipeline
from tinymlir.pipelines import (
    BALANCED,
    FLOAT_IO,
    Fusion,
    Selection,
    from_kernels,
    on_module,
    select_kernels,
    to_layers,
    to_llvm,
)
from tinymlir.targets import Target


def _to_one_module(
    target: Target, gated: bool, selection: Selection, fusion: Fusion | None
) -> tuple[str, ...]:
    """A module of modules in canonical form to loops on memrefs, all levels together."""
    return (
        on_module(to_layers(target)),
        select_kernels(target, selection),
        on_module(from_kernels(target, fusion)),
        "tiny-link-levels",
        *(("tiny-gate-levels",) if gated else ()),
    )


def levels_pipeline(
    target: Target,
    symbol: str,
    *,
    gated: bool = True,
    float_io: bool = False,
    selection: Selection = BALANCED,
    fusion: Fusion | None = None,
) -> str:
    """`compiler.pipeline` for a module of modules, a level in each."""
    borders = (on_module(FLOAT_IO),) if float_io else ()
    passes = _to_one_module(target, gated, selection, fusion)
    return on_module((*borders, *passes, *to_llvm(target, symbol)))


def lower_levels(
    modules: Sequence[ir.Module],
    target: Target,
    name: str,
    model_sha256: str = "",
    *,
    gated: bool = True,
    float_io: bool = False,
    selection: Selection = BALANCED,
    fusion: Fusion | None = None,
) -> Compilation:
    """Run `levels_pipeline` on modules in canonical form, and note what it found.

    The modules' context must be active.

    Args:
        modules: the same network, first as it is, then in forms that are faster; two at least.
        gated: whether there is an entry point that runs again exactly what is not sure; takes
            one int8 output of scores.
        selection: how kernels are chosen, with a view to all levels together.
    """
    whole = ir.Module.create()
    with ir.InsertionPoint(whole.body):
        for module in modules:
            module.operation.clone()
    stages = {"linalg": str(whole)}
    if float_io:
        run_pipeline(whole, on_module((on_module(FLOAT_IO),)))
    first = whole.body.operations[0].operation
    inputs, outputs = read_interface(find_main(first))
    run_pipeline(whole, on_module(_to_one_module(target, gated, selection, fusion)))
    stages["memref"] = str(whole)
    levels = tuple(_read_level(whole, number, name) for number in range(len(modules)))
    run_pipeline(whole, on_module(to_llvm(target, name)))
    levels = tuple(replace(level, code=_code(whole, level.symbol)) for level in levels)
    stages["llvm"] = str(whole)
    return Compilation(
        name=name,
        target=target,
        module=whole,
        inputs=inputs,
        outputs=outputs,
        layers=levels[0].layers,
        arena_bytes=max(level.arena_bytes for level in levels),
        arena_lower_bound=max(level.arena_lower_bound for level in levels),
        model_sha256=model_sha256,
        stages=stages,
        levels=levels,
        gated=gated,
    )


def _read_level(module: ir.Module, number: int, name: str) -> Level:
    """What is known of a level that is loops on memrefs: all but its code."""
    reached = _reached(module, f"level{number}")
    main = reached[f"level{number}"]
    assert isinstance(main, func.FuncOp)
    kinds = {
        symbol: op.operation.attributes["type"].value
        for symbol, op in reached.items()
        if op.operation.name == "memref.global"
    }
    facts = main.operation.attributes
    return Level(
        symbol=f"{name}_level{number}",
        layers=tuple(read_layers(module, main, name)),
        arena_bytes=facts["tiny.arena_bytes"].value,
        arena_lower_bound=facts["tiny.arena_lower_bound"].value,
        code=frozenset(),
        constants={s: prod(k.shape) * (k.element_type.width // 8) for s, k in kinds.items()},
    )


def _code(module: ir.Module, symbol: str) -> frozenset[str]:
    """The functions in the LLVM dialect that a level runs; passes have merged some by then."""
    reached = _reached(module, symbol)
    return frozenset(s for s, op in reached.items() if op.operation.name == "llvm.func")


def _reached(module: ir.Module, start: str) -> dict[str, ir.OpView]:
    """What ``start`` needs, itself included, by symbol."""
    symbols = ir.SymbolTable(module.operation)
    reached: dict[str, ir.OpView] = {}
    pending = [start]
    while pending:
        symbol = pending.pop()
        if symbol not in reached:
            reached[symbol] = symbols[symbol]
            pending += references(symbols[symbol].operation)
    return reached
