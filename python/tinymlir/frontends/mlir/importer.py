"""From a file of MLIR to the canonical form.

Our passes do the work; this is the order they run in, and what is checked around them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.pipeline import run_pipeline

from .entry import check_result, prepare
from .source import parse

_LEGALIZE = "builtin.module(tiny-legalize-tosa)"
#: Upstream's lowering of TOSA that makes no layer.
_LOWER_REST = (
    "builtin.module(func.func(tosa-to-linalg-named,tosa-to-linalg,"
    "tosa-to-arith{include-apply-rescale=true use-32-bit=true},tosa-to-tensor))"
)
#: For linalg that is not in the canonical form: sizes that are constants become static,
#: and what some cores have no instruction for (leading zeros) becomes arithmetic.
_FOLD = "builtin.module(func.func(math-expand-ops),canonicalize)"
_CANONICALIZE = "builtin.module(tiny-canonicalize-linalg,tiny-sink-transposes)"


def canonical_form(path: Path) -> ir.Module:
    """The canonical form (docs/design.md) of the network in an MLIR file, text or bytecode.

    Damaged files may end the process: see isolation.py.

    Raises:
        TinymlirError: naming the file, the line and the operation that cannot be taken.
    """
    context = ir.Context()
    register(context)
    module = parse(path, context)
    with context, ir.Location.unknown(context):
        prepare(module, path)
        run_pipeline(module, _LEGALIZE)
        kept_tosa = _any(module, lambda op: op.name.startswith("tosa."))
        if kept_tosa:
            run_pipeline(module, _LOWER_REST)
        if kept_tosa or not _any(module, lambda op: "tiny.layer" in op.attributes):
            run_pipeline(module, _FOLD)
        run_pipeline(module, _CANONICALIZE)
        check_result(find_main(module.operation), path)
    return module


def _any(module: ir.Module, condition: Callable[[ir.Operation], bool]) -> bool:
    """Whether an operation fulfils ``condition``."""
    found = False

    def visit(op: ir.Operation) -> ir.WalkResult:
        nonlocal found
        found = found or condition(op)
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found
