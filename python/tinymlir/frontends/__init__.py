"""Frontends: from model files to the canonical form."""

from __future__ import annotations

from pathlib import Path

from tinymlir.bindings import ir

from .onnx import import_onnx, load_model


def import_model(path: str | Path, context: ir.Context) -> ir.Module:
    """The canonical form (docs/design.md) of the model in a file.

    Raises:
        TinymlirError: naming the file, the node where there is one, and what to do.
    """
    path = Path(path)
    return import_onnx(load_model(path), file=str(path), context=context)
