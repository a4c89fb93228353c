"""A float ONNX file and the samples to quantise it with: checked, static, of batch 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter
from onnx import TensorProto

from tinymlir.errors import TinymlirError
from tinymlir.frontends import model_format
from tinymlir.frontends.onnx import MIN_OPSET, check_model, load_model
from tinymlir.references import first_line

_TYPE_NAMES = {code: name.lower() for name, code in TensorProto.DataType.items()}

Floats = npt.NDArray[np.float32]


class FloatModel:
    """A float network, prepared for quantisation: static, batch 1, constants and norms folded.

    ``inputs`` are the names of its inputs.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            TinymlirError: no ONNX model, quantised already, or of another type than float32.
        """
        self.file = str(path)
        if model_format(path) != "onnx":
            raise TinymlirError(
                "is no ONNX model",
                file=self.file,
                hint="TFLite's converter quantises TFLite models",
            )
        self.model = load_model(path)
        self.bytes = len(self.model.SerializeToString())
        graph = self.model.graph
        self._refuse_quantized()
        constants = {tensor.name for tensor in graph.initializer}
        # Older files list constants among the inputs.
        ports = [port for port in graph.input if port.name not in constants]
        del graph.input[:]
        graph.input.extend(ports)
        self.inputs = [port.name for port in ports]
        if not ports:
            raise self._error("the network has no inputs", "export the network again")
        for port in ports:
            kind = port.type.tensor_type.elem_type
            if kind != TensorProto.FLOAT:
                name = _TYPE_NAMES.get(kind, "undefined")
                hint = "export the network in float32"
                raise self._error(f"input '{port.name}' is of type {name}", hint)
        self._upgrade()
        self.model = check_model(self.model, self.file)

    def _error(self, message: str, hint: str | None = None) -> TinymlirError:
        return TinymlirError(message, file=self.file, hint=hint)

    def _refuse_quantized(self) -> None:
        for node in self.model.graph.node:
            name = str(node.op_type)  # Bytes, where a damaged file has no text.
            if name in ("QuantizeLinear", "DequantizeLinear") or name.startswith("QLinear"):
                raise TinymlirError(
                    f"the network is quantised already ({name})",
                    file=self.file,
                    node=str(node.name) or name,
                    hint="'tinymlir compile' takes it as it is",
                )

    def _upgrade(self) -> None:
        """Scales for each channel need a newer opset than many files have."""
        opset = next(
            (o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), MIN_OPSET
        )
        if opset >= MIN_OPSET:
            return
        self.model.ir_version = max(self.model.ir_version, onnx.IR_VERSION_2019_9_19)
        try:
            self.model = onnx.version_converter.convert_version(self.model, MIN_OPSET)
        except Exception as error:  # the converter raises RuntimeError and others
            reason = first_line(error)
            hint = f"export it with opset {MIN_OPSET} or newer"
            raise self._error(f"cannot be converted from opset {opset}: {reason}", hint) from error

    def fit(self, samples: Sequence[npt.NDArray[Any]]) -> list[Floats]:
        """Fix the model's shapes to those of samples, and give each sample the batch of 1.

        Args:
            samples: one array per input, samples first.

        Returns:
            the same as float32, (N, *shape of the model's input).

        Raises:
            TinymlirError: they do not fit, or hold values that are no finite numbers.
        """
        fitted = [
            self._fit_input(port, array)
            for port, array in zip(self.model.graph.input, samples, strict=True)
        ]
        del self.model.graph.value_info[:]
        for output in self.model.graph.output:
            for dim in output.type.tensor_type.shape.dim:
                if not dim.HasField("dim_value"):
                    dim.Clear()
        return fitted

    def _fit_input(self, port: onnx.ValueInfoProto, array: npt.NDArray[Any]) -> Floats:
        if not np.issubdtype(array.dtype, np.floating):
            raise TinymlirError(
                f"is of type {array.dtype}; the model takes float32",
                node=port.name,
                hint="store what the network was trained on: scaled and normalised in the same way",
            )
        dims = port.type.tensor_type.shape.dim
        if not port.type.tensor_type.HasField("shape"):
            dims.extend(onnx.TensorShapeProto.Dimension() for _ in array.shape)
        shape = [d.dim_value if d.HasField("dim_value") else None for d in dims]
        batched = array.ndim == len(shape)
        if batched and shape[0] not in (None, 1):
            hint = "export it for one sample or for any number"
            raise self._error(f"input '{port.name}' has batch size {shape[0]}", hint)
        wanted = shape[1:] if batched else shape
        fits = len(wanted) == array.ndim - 1 and all(
            n in (None, given) for n, given in zip(wanted, array.shape[1:], strict=True)
        )
        if not fits:
            wanted = shape[1:] if shape and shape[0] in (None, 1) else shape
            expected = ", ".join(["N", *("any" if n is None else str(n) for n in wanted)])
            swapped = [*wanted[1:], *wanted[:1]] == list(array.shape[1:])
            raise TinymlirError(
                f"is of shape {array.shape}; the model takes ({expected}), samples first",
                node=port.name,
                hint=f"its channels come first: transpose the array to {tuple(wanted)}"
                if swapped
                else None,
            )
        broken = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if broken.any():
            first = int(np.flatnonzero(broken)[0])
            raise TinymlirError(
                f"sample {first} has values that are not finite numbers", node=port.name
            )
        full = [1, *array.shape[1:]] if batched else list(array.shape[1:])
        for dim, size in zip(dims, full, strict=True):
            dim.dim_value = size
        return array.astype(np.float32).reshape(-1, *full)
