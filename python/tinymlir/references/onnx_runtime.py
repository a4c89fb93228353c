"""ONNX Runtime, with the tensors between its fused operators."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from tinymlir.errors import TinymlirError
from tinymlir.frontends.onnx import check_model, load_model

from . import INSTALL_HINT, Answer, Array, first_line

#: On x86-64 it else computes some int8 operators of QDQ models in float32.
_INTEGER = ("session.qdqisint8allowed", "1")


class OnnxRuntime:
    """A model in ONNX Runtime; see `Reference`.

    Making a tensor an output can change which operators ONNX Runtime fuses, and so the result. So
    intermediate tensors are read from the graph that it has optimised already, run as it is.
    """

    def __init__(self, path: Path, tensors: Sequence[str], *, integer: bool) -> None:
        """
        Args:
            integer: keep to the integer kernels; otherwise as it runs by default.

        Raises:
            TinymlirError: ONNX Runtime is not installed, or refuses the model.
        """
        try:
            import onnxruntime
        except ImportError:
            raise TinymlirError(
                "ONNX models are compared with the package 'onnxruntime'", hint=INSTALL_HINT
            ) from None
        self._runtime, self._file, self._integer = onnxruntime, str(path), integer
        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        if integer:
            self.name += f" ({'='.join(_INTEGER)})"
        model = check_model(load_model(path), self._file)
        levels = onnxruntime.GraphOptimizationLevel
        self._session = self._open(model, levels.ORT_ENABLE_ALL)
        with tempfile.TemporaryDirectory() as folder:
            # The levels above rename what they lay out anew.
            optimized = Path(folder, "optimized.onnx")
            self._open(model, levels.ORT_ENABLE_EXTENDED, str(optimized))
            tapped = onnx.load(optimized)
        there = {name for node in tapped.graph.node for name in node.output}
        outputs = {output.name for output in tapped.graph.output}
        self._tensors = [name for name in dict.fromkeys(tensors) if name in there]
        for name in self._tensors:
            if name not in outputs:
                tapped.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        self._tapped = self._open(tapped, levels.ORT_DISABLE_ALL)

    def _open(self, model: onnx.ModelProto, level: Any, optimized: str = "") -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.optimized_model_filepath = optimized
        if self._integer:
            options.add_session_config_entry(*_INTEGER)
        try:
            return self._runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base
            raise TinymlirError(
                f"{self.name} refuses the model: {first_line(error)}", file=self._file
            ) from error

    def __call__(self, sample: Sequence[Array]) -> Answer:
        feeds = {
            port.name: array for port, array in zip(self._session.get_inputs(), sample, strict=True)
        }
        try:
            outputs = self._session.run(None, feeds)
            tensors = self._tapped.run(self._tensors, feeds) if self._tensors else []
        except Exception as error:  # its exceptions have no common base
            raise TinymlirError(
                f"{self.name} cannot run the model: {first_line(error)}", file=self._file
            ) from error
        return Answer(outputs, dict(zip(self._tensors, tensors, strict=True)))
