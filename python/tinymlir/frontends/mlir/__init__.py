"""MLIR as input: linalg on tensors, or int8 TOSA, to the canonical form."""

from __future__ import annotations

from pathlib import Path

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.pipeline import run_pipeline

from .entry import check_results, prepare
from .source import parse

#: Passes that bring TOSA and linalg of any origin to the canonical form.
PIPELINE = "builtin.module(tiny-canonicalize-linalg,tiny-sink-transposes)"

__all__ = ["PIPELINE", "import_mlir"]


def import_mlir(path: Path, context: ir.Context) -> ir.Module:
    """The canonical form (docs/design.md) of the network in an MLIR file, text or bytecode.

    Raises:
        TinymlirError: naming the file, the line and the operation that cannot be taken.
    """
    register(context)
    module = parse(path, context)
    with context, ir.Location.unknown(context):
        prepare(module, path)
        run_pipeline(module, PIPELINE)
        check_results(find_main(module.operation), path)
    return module
