"""Small quantised ONNX models, and what ONNX Runtime and the compiled code make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tinymlir.arrays import from_object, to_object
from tinymlir.bindings import ir
from tinymlir.frontends.onnx import import_onnx
from tinymlir.host import compile_for_host

Array = npt.NDArray[Any]
MICROSOFT = "com.microsoft"
#: An opset that has everything the default models use.
OPSET = 13


@dataclass(frozen=True)
class Quant:
    """A quantisation: one scale and zero point, or one for each channel."""

    scale: float | Sequence[float]
    zero_point: int | Sequence[int] = 0
    dtype: str = "int8"

    def integers(self, reals: Array) -> Array:
        """``reals`` quantised."""
        limits = np.iinfo(self.dtype)
        steps = np.rint(reals / np.asarray(self.scale, np.float32)) + self.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)


class ModelBuilder:
    """An ONNX graph, node by node; tensors are named by strings."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def input(self, shape: Sequence[int | str], dtype: str = "float32", name: str = "") -> str:
        """A graph input."""
        name = name or self._name("input")
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def output(self, name: str, dtype: str = "float32", shape: Sequence[int] | None = None) -> None:
        """Make a tensor a graph output."""
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._outputs.append(helper.make_tensor_value_info(name, element, shape))

    def constant(self, array: npt.ArrayLike, dtype: str | None = None, name: str = "") -> str:
        """An initializer."""
        name = name or self._name("const")
        data = np.ascontiguousarray(np.asarray(array, dtype))
        self._initializers.append(numpy_helper.from_array(data.reshape(np.shape(array)), name))
        return name

    def node(
        self, op: str, inputs: Sequence[str], domain: str = "", outputs: int = 1, **attributes: Any
    ) -> str:
        """A node named after its operator; gives its first output."""
        names = [self._name("t") for _ in range(outputs)]
        node = helper.make_node(
            op, inputs, names, name=self._name(f"{op}_"), domain=domain, **attributes
        )
        self._nodes.append(node)
        return names[0]

    def parameters(self, quant: Quant) -> list[str]:
        """Scale and zero point as constants."""
        scale = self.constant(quant.scale, "float32")
        return [scale, self.constant(quant.zero_point, quant.dtype)]

    def dequantize(self, tensor: str, quant: Quant, **attributes: Any) -> str:
        return self.node("DequantizeLinear", [tensor, *self.parameters(quant)], **attributes)

    def quantize(self, tensor: str, quant: Quant) -> str:
        return self.node("QuantizeLinear", [tensor, *self.parameters(quant)])

    def model(self, opset: int = OPSET) -> onnx.ModelProto:
        """The model; output shapes come from shape inference where they can."""
        graph = helper.make_graph(
            self._nodes, "test", self._inputs, self._outputs, self._initializers
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        for output in model.graph.output:
            if not output.type.tensor_type.HasField("shape"):
                _set_shape(output, _run_shapes(model)[output.name])
        return model


def _set_shape(info: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    for size in shape:
        info.type.tensor_type.shape.dim.add().dim_value = size


def _run_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Output shapes, by running the model on zeros."""
    session = _session(model)
    zeros = {
        i.name: np.zeros(i.shape, helper.tensor_dtype_to_np_dtype(t.type.tensor_type.elem_type))
        for i, t in zip(session.get_inputs(), model.graph.input, strict=True)
    }
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, (r.shape for r in session.run(None, zeros)), strict=True))


def _session(model: onnx.ModelProto, *, integer: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if integer:
        # On x86-64 it otherwise computes some int8 operators of QDQ models in float32.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def reference(
    model: onnx.ModelProto, inputs: Sequence[Array], *, integer: bool = False
) -> list[Array]:
    """ONNX Runtime's outputs, samples first; inputs are (N, *model shape).

    Args:
        integer: keep to its integer kernels for all of a QDQ model.
    """
    session = _session(model, integer=integer)
    names = [i.name for i in session.get_inputs()]
    runs = [
        session.run(None, dict(zip(names, sample, strict=True)))
        for sample in zip(*inputs, strict=True)
    ]
    return [np.stack(column) for column in zip(*runs, strict=True)]


def compiled(model: onnx.ModelProto, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of the code compiled for this machine, in the model's terms."""
    host = compile_for_host(import_onnx(model, file="test.onnx", context=ir.Context()))
    samples = len(inputs[0])
    given = [
        to_object(array.reshape(samples, *_without_batch(info.model_shape)), info)
        for array, info in zip(inputs, host.inputs, strict=True)
    ]
    return [
        from_object(array, info).reshape(samples, *info.model_shape)
        for array, info in zip(host(*given), host.outputs, strict=True)
    ]


def _without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if shape and shape[0] == 1 else shape


@dataclass
class Agreement:
    """How many outputs equal the reference's, and how far off the others are, in steps."""

    total: int = 0
    equal: int = 0
    worst: int = 0

    def add(self, model: onnx.ModelProto, inputs: Sequence[Array], *, integer: bool = False) -> int:
        """Compare on one model; gives the greatest difference there."""
        greatest = 0
        expected = reference(model, inputs, integer=integer)
        for ours, theirs in zip(compiled(model, inputs), expected, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
            if ours.dtype == np.float32:
                # Dequantised: one step is the least difference there can be.
                steps = np.unique(np.abs(np.diff(np.unique(theirs))))
                difference = np.rint(difference / (steps[0] if len(steps) else 1.0))
            greatest = max(greatest, int(difference.max(initial=0)))
            self.total += difference.size
            self.equal += int((difference == 0).sum())
        self.worst = max(self.worst, greatest)
        return greatest
