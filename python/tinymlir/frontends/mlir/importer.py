"""From a file of MLIR to the canonical form.

Our passes do the work; this is the order they run in, and what is checked around them.
"""

from __future__ import annotations

from pathlib import Path

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.pipeline import run_pipeline

from .entry import check_results, prepare
from .source import parse

_LEGALIZE = "builtin.module(tiny-legalize-tosa)"
#: Upstream's lowering of what has no rule of ours; it would refold a module without TOSA.
_LOWER_REST = (
    "builtin.module(func.func(tosa-to-linalg-named,tosa-to-linalg,"
    "tosa-to-arith{include-apply-rescale=true use-32-bit=true},tosa-to-tensor))"
)
_CANONICALIZE = "builtin.module(tiny-canonicalize-linalg,tiny-sink-transposes)"


def import_mlir(path: Path, context: ir.Context) -> ir.Module:
    """The canonical form (docs/design.md) of the network in an MLIR file, text or bytecode.

    Raises:
        TinymlirError: naming the file, the line and the operation that cannot be taken.
    """
    register(context)
    module = parse(path, context)
    with context, ir.Location.unknown(context):
        prepare(module, path)
        run_pipeline(module, _LEGALIZE)
        if _has_tosa(module):
            run_pipeline(module, _LOWER_REST)
        run_pipeline(module, _CANONICALIZE)
        check_results(find_main(module.operation), path)
    return module


def _has_tosa(module: ir.Module) -> bool:
    found: list[str] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if not op.name.startswith("tosa."):
            return ir.WalkResult.ADVANCE
        found.append(op.name)
        return ir.WalkResult.INTERRUPT

    module.operation.walk(visit)
    return bool(found)
