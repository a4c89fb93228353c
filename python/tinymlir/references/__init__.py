"""The interpreters whose results the compiled code must equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.frontends import model_format

Array = npt.NDArray[Any]

INSTALL_HINT = "pip install 'tinymlir[reference]'"
LITERT_HINT = "pip install 'tinymlir[litert]'"


@dataclass(frozen=True)
class Answer:
    """What an interpreter computes of one sample, in the model's own shapes and types.

    ``tensors`` holds those tensors of the model that were asked for and exist, by name.
    """

    outputs: list[Array]
    tensors: dict[str, Array]


class Reference(Protocol):
    """A model in its interpreter: ``name`` is the interpreter's, with its version."""

    name: str

    def __call__(self, sample: Sequence[Array]) -> Answer:
        """Run one sample: an array for each input, of the model's shape and type."""
        ...


def open_references(path: Path, tensors: Sequence[str]) -> list[Reference]:
    """A model in ONNX Runtime or LiteRT: in each way in which that computes it, the best first.

    Args:
        tensors: names of intermediate tensors that answers should hold.

    Raises:
        TinymlirError: the interpreter is not installed or refuses the model, or there is none for
            such a file.
    """
    kind = model_format(path)
    if kind == "onnx":
        from .onnx_runtime import OnnxRuntime

        return [OnnxRuntime(path, tensors, integer=integer) for integer in (True, False)]
    if kind == "tflite":
        from .litert import LiteRt

        return [LiteRt(path, tensors)]
    raise TinymlirError("MLIR has no reference interpreter", file=str(path))


def first_line(error: Exception) -> str:
    """What an interpreter complains of, on one line."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())


__all__ = [
    "INSTALL_HINT",
    "LITERT_HINT",
    "Answer",
    "Array",
    "Reference",
    "first_line",
    "open_references",
]
