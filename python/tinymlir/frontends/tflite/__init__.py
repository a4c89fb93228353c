"""The TFLite frontend: an int8 TFLite model becomes the canonical form."""

from __future__ import annotations

from pathlib import Path

from tinymlir.bindings import ir

from .importer import import_graph
from .schema import load_graph

__all__ = ["import_tflite"]


def import_tflite(path: Path, context: ir.Context) -> ir.Module:
    """Build the canonical form (docs/design.md) of the quantised model in a file.

    Raises:
        TinymlirError: the file cannot be read, or the model is damaged, not quantised,
            or uses what is not supported; the message names the operator and says
            what to do.
    """
    return import_graph(load_graph(path), context)
