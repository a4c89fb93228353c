"""LiteRT's reference kernels."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from tinymlir.errors import TinymlirError
from tinymlir.frontends.tflite.schema import load_graph

from . import LITERT_HINT, Answer, Array, first_line


class LiteRt:
    """A model in LiteRT's interpreter with the ``BUILTIN_REF`` kernels; see `Reference`."""

    def __init__(self, path: Path, tensors: Sequence[str]) -> None:
        """
        Raises:
            TinymlirError: LiteRT is not installed, or refuses the model.
        """
        try:
            from ai_edge_litert import interpreter
        except ImportError:
            raise TinymlirError(
                "TFLite models are compared with the package 'ai-edge-litert'", hint=LITERT_HINT
            ) from None
        self.name = f"LiteRT {importlib.metadata.version('ai-edge-litert')}, BUILTIN_REF"
        self._file = str(path)
        wanted = set(tensors)
        labels = load_graph(path).labels
        self._tensors = {label: index for index, label in enumerate(labels) if label in wanted}
        try:
            self._interpreter = interpreter.Interpreter(
                model_path=self._file,
                experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )
            self._interpreter.allocate_tensors()
        except Exception as error:  # ValueError, RuntimeError and what its bindings raise
            raise TinymlirError(
                f"{self.name} refuses the model: {first_line(error)}", file=self._file
            ) from error

    def __call__(self, sample: Sequence[Array]) -> Answer:
        engine = self._interpreter
        try:
            for port, array in zip(engine.get_input_details(), sample, strict=True):
                engine.set_tensor(port["index"], array)
            engine.invoke()
            outputs = [engine.get_tensor(port["index"]) for port in engine.get_output_details()]
            tensors = {name: engine.get_tensor(index) for name, index in self._tensors.items()}
        except Exception as error:  # ValueError, RuntimeError and what its bindings raise
            raise TinymlirError(
                f"{self.name} cannot run the model: {first_line(error)}", file=self._file
            ) from error
        return Answer(outputs, tensors)
