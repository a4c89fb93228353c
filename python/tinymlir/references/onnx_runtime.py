"""ONNX Runtime, kept to its integer kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from tinymlir.errors import TinymlirError
from tinymlir.frontends.onnx import check_model, load_model

from . import INSTALL_HINT, Answer, Array, first_line


class OnnxRuntime:
    """A model in ONNX Runtime; see `Reference`.

    Intermediate tensors are read from a second session, whose model has them as outputs: the
    network's own outputs come from the model as it is.
    """

    def __init__(self, path: Path, tensors: Sequence[str]) -> None:
        """
        Raises:
            TinymlirError: ONNX Runtime is not installed, or refuses the model.
        """
        self._file = str(path)
        model = check_model(load_model(path), self._file)
        self._session = self._open(model)
        known = {name for node in model.graph.node for name in node.output}
        outputs = {output.name for output in model.graph.output}
        self._tensors = [name for name in dict.fromkeys(tensors) if name in known]
        tapped = onnx.ModelProto()
        tapped.CopyFrom(model)
        for name in self._tensors:
            if name not in outputs:
                tapped.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        self._tapped = self._open(tapped)

    def _open(self, model: onnx.ModelProto) -> Any:
        try:
            import onnxruntime
        except ImportError:
            raise TinymlirError(
                "ONNX models are compared with the package 'onnxruntime'", hint=INSTALL_HINT
            ) from None
        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        # Else it computes some int8 operators in float32, and others once a tensor is an output.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        try:
            return onnxruntime.InferenceSession(
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
