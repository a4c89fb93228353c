"""Frontends: from model files to the canonical form."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tinymlir.bindings import ir

_MLIR_SUFFIXES = (".mlir", ".mlirbc")
_MLIR_BYTECODE = b"ML\xefR"
_TFLITE_SUFFIX = ".tflite"
_TFLITE_IDENTIFIER = b"TFL3"


def model_format(path: str | Path) -> Literal["mlir", "onnx", "tflite"]:
    """The format of the model in a file: its name says what it is, or else how it begins."""
    path = Path(path)
    if path.suffix in _MLIR_SUFFIXES or _begins_with(path, _MLIR_BYTECODE):
        return "mlir"
    if path.suffix == _TFLITE_SUFFIX or _begins_with(path, _TFLITE_IDENTIFIER, after=4):
        return "tflite"
    return "onnx"


def import_model(path: str | Path, context: ir.Context) -> ir.Module:
    """The canonical form (docs/design.md) of the model in a file.

    Raises:
        TinymlirError: naming the file, the node where there is one, and what to do.
    """
    # A format's libraries are loaded only where there is a file of it.
    path = Path(path)
    kind = model_format(path)
    if kind == "mlir":
        from .mlir.isolation import import_mlir

        return import_mlir(path, context)
    if kind == "tflite":
        from .tflite import import_tflite

        return import_tflite(path, context)
    from .onnx import import_onnx, load_model

    return import_onnx(load_model(path), file=str(path), context=context)


def _begins_with(path: Path, magic: bytes, *, after: int = 0) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(after + len(magic))[after:] == magic
    except OSError:
        return False
