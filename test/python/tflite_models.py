"""Small TFLite models, built operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

_TYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "int32": tflite.TensorType.INT32,
    "uint8": tflite.TensorType.UINT8,
    "int64": tflite.TensorType.INT64,
    "bool": tflite.TensorType.BOOL,
    "int16": tflite.TensorType.INT16,
    "int8": tflite.TensorType.INT8,
    "int4": tflite.TensorType.INT4,
}
#: Versions of operators, where interpreters have no first one.
_VERSIONS = {tflite.BuiltinOperator.BROADCAST_TO: 2}


@dataclass
class _Tensor:
    name: str
    shape: tuple[int, ...]
    type: str
    scale: list[float]
    zero_point: list[int]
    axis: int
    data: bytes | None
    signature: list[int] | None
    variable: bool = False


@dataclass
class _Operator:
    code: int
    inputs: list[int]
    outputs: list[int]
    options: str | None
    fields: dict[str, Any]
    custom: str | None = None


@dataclass
class TfliteModel:
    """A model under construction; tensors are known by the index that adding them gives."""

    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    version: int = 3
    #: whether the 8-bit field of operator codes is filled as well as the 32-bit one
    narrow_codes: bool = True
    _tensors: list[_Tensor] = field(default_factory=list)
    _operators: list[_Operator] = field(default_factory=list)

    def activation(
        self,
        shape: Sequence[int],
        scale: float | None = 0.05,
        zero_point: int = 0,
        *,
        type: str = "int8",
        name: str | None = None,
        signature: list[int] | None = None,
        variable: bool = False,
    ) -> int:
        """A tensor that is computed, or fed; without a scale it is not quantised."""
        scales, zero_points = ([], []) if scale is None else ([float(scale)], [int(zero_point)])
        return self._add(
            name, tuple(shape), type, scales, zero_points, 0, None, signature, variable
        )

    def constant(
        self,
        array: npt.NDArray[Any],
        scale: npt.ArrayLike | None = None,
        *,
        zero_point: int = 0,
        axis: int = 0,
        type: str | None = None,
    ) -> int:
        scales = [] if scale is None else [float(s) for s in np.asarray(scale).reshape(-1)]
        zero_points = [zero_point] * len(scales)
        kind = type or array.dtype.name
        return self._add(None, array.shape, kind, scales, zero_points, axis, array.tobytes(), None)

    def change_operator(self, index: int, *, inputs: Sequence[int]) -> None:
        self._operators[index].inputs = list(inputs)

    def change_data(self, tensor: int, data: bytes) -> None:
        self._tensors[tensor].data = data

    def quantization(self, index: int) -> tuple[float, int]:
        """Scale and zero point of an activation."""
        tensor = self._tensors[index]
        return tensor.scale[0], tensor.zero_point[0]

    def _add(self, name: str | None, *rest: Any) -> int:
        self._tensors.append(_Tensor(name or f"t{len(self._tensors)}", *rest))
        return len(self._tensors) - 1

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str | None = None,
        **fields: Any,
    ) -> None:
        """An operator; ``fields`` belong to its options table (``Conv2DOptions``, ...)."""
        code = getattr(tflite.BuiltinOperator, name)
        self._operators.append(_Operator(code, list(inputs), list(outputs), options, fields))

    def custom_op(self, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        code = tflite.BuiltinOperator.CUSTOM
        self._operators.append(_Operator(code, list(inputs), list(outputs), None, {}, name))

    def build(self) -> bytes:
        """The file."""
        b = flatbuffers.Builder(1024)
        codes: list[tuple[int, str | None]] = []
        for operator in self._operators:
            if (operator.code, operator.custom) not in codes:
                codes.append((operator.code, operator.custom))
        buffers = [_table(b, "Buffer")]
        tensors = [self._tensor(b, tensor, buffers) for tensor in self._tensors]
        operators = [self._operator(b, operator, codes) for operator in self._operators]
        subgraph = _table(
            b,
            "SubGraph",
            Tensors=_offsets(b, tensors),
            Inputs=_numbers(b, self.inputs, np.int32),
            Outputs=_numbers(b, self.outputs, np.int32),
            Operators=_offsets(b, operators),
            Name=b.CreateString("main"),
        )
        made = [
            _table(
                b,
                "OperatorCode",
                DeprecatedBuiltinCode=min(code, 127) if self.narrow_codes else None,
                BuiltinCode=code,
                Version=_VERSIONS.get(code, 1),
                CustomCode=b.CreateString(custom) if custom else None,
            )
            for code, custom in codes
        ]
        model = _table(
            b,
            "Model",
            Version=self.version,
            OperatorCodes=_offsets(b, made),
            Subgraphs=_offsets(b, [subgraph]),
            Buffers=_offsets(b, buffers),
        )
        b.Finish(model, file_identifier=b"TFL3")
        return bytes(b.Output())

    def _tensor(self, b: flatbuffers.Builder, tensor: _Tensor, buffers: list[int]) -> int:
        place = 0
        if tensor.data is not None:
            place = len(buffers)
            buffers.append(_table(b, "Buffer", Data=_bytes(b, tensor.data)))
        quantization = None
        if tensor.scale:
            quantization = _table(
                b,
                "QuantizationParameters",
                Scale=_numbers(b, tensor.scale, np.float32),
                ZeroPoint=_numbers(b, tensor.zero_point, np.int64),
                QuantizedDimension=tensor.axis,
            )
        signature = tensor.signature
        return _table(
            b,
            "Tensor",
            Shape=_numbers(b, tensor.shape, np.int32),
            Type=_TYPES[tensor.type],
            Buffer=place,
            Name=b.CreateString(tensor.name),
            Quantization=quantization,
            IsVariable=tensor.variable,
            ShapeSignature=None if signature is None else _numbers(b, signature, np.int32),
        )

    def _operator(
        self, b: flatbuffers.Builder, operator: _Operator, codes: list[tuple[int, str | None]]
    ) -> int:
        fields = {
            name: _numbers(b, value, np.int32) if isinstance(value, list) else value
            for name, value in operator.fields.items()
        }
        options = None if operator.options is None else _table(b, operator.options, **fields)
        kind = getattr(tflite.BuiltinOptions, operator.options) if operator.options else None
        return _table(
            b,
            "Operator",
            OpcodeIndex=codes.index((operator.code, operator.custom)),
            Inputs=_numbers(b, operator.inputs, np.int32),
            Outputs=_numbers(b, operator.outputs, np.int32),
            BuiltinOptionsType=kind,
            BuiltinOptions=options,
        )


def _table(b: flatbuffers.Builder, kind: str, **fields: Any) -> int:
    """A table of the schema; None leaves a field out."""
    getattr(tflite, f"{kind}Start")(b)
    for name, value in fields.items():
        if value is not None:
            getattr(tflite, f"{kind}Add{name}")(b, value)
    return int(getattr(tflite, f"{kind}End")(b))


def _numbers(b: flatbuffers.Builder, values: Sequence[float], dtype: Any) -> int:
    return int(b.CreateNumpyVector(np.array(values, dtype)))


def _bytes(b: flatbuffers.Builder, data: bytes) -> int:
    """Aligned as interpreters want constants to be."""
    b.StartVector(1, len(data), 16)
    b.head = b.head - len(data)
    b.Bytes[b.head : b.head + len(data)] = data
    return int(b.EndVector())


def _offsets(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependUOffsetTRelative(value)
    return int(b.EndVector())
