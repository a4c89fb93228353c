"""The ONNX graph in a form that is easy to walk, with constants evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from tinymlir.errors import TinymlirError
from tinymlir.frontends.canonical.tensors import MAX_TENSOR_BYTES

_TYPE_NAMES = {v: k.lower() for k, v in onnx.TensorProto.DataType.items()}


def _text(value: str | bytes) -> str:
    """A name fit for a message: damaged files hold bytes that are no text."""
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True)
class Node:
    """One operator; absent optional inputs are empty strings."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: onnx.NodeProto

    def input(self, index: int) -> str:
        return self.inputs[index] if index < len(self.inputs) else ""

    def attribute(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)

    @property
    def qualified_op(self) -> str:
        return f"{self.domain}.{self.op}" if self.domain else self.op


@dataclass(frozen=True)
class Port:
    """A graph input or output."""

    name: str
    element: str
    shape: tuple[int, ...]


class Graph:
    """Nodes in topological order, constants by name, ports.

    Raises:
        TinymlirError: on what cannot be compiled whatever the operators are.
    """

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self.file = file
        graph = model.graph
        self.opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.constants: dict[str, npt.NDArray[Any]] = {}
        for initializer in graph.initializer:
            self.constants[_text(initializer.name)] = self._array(initializer)
        if graph.sparse_initializer:
            raise self.error("sparse initializers are not supported", hint="store them densely")
        self.nodes = [self._node(i, proto) for i, proto in enumerate(graph.node)]
        self.inputs = [
            self._port(info, "input")
            for info in graph.input
            if _text(info.name) not in self.constants
        ]
        self.outputs = [_text(info.name) for info in graph.output]
        self._check_order()

    def error(
        self, message: str, *, node: Node | None = None, hint: str | None = None
    ) -> TinymlirError:
        """An error that names the file and the node."""
        return TinymlirError(message, file=self.file, node=node.name if node else None, hint=hint)

    def _array(self, proto: onnx.TensorProto) -> npt.NDArray[Any]:
        name = _text(proto.name)
        self._check_size(name, tuple(proto.dims), "initializer")
        try:
            return numpy_helper.to_array(proto)
        except Exception as error:  # malformed protos raise many types
            raise self.error(
                f"initializer '{name}' is malformed: {_text(str(error))}",
                hint="export the model again",
            ) from error

    def _check_size(self, name: str, shape: tuple[int, ...], what: str) -> None:
        if any(n < 0 for n in shape) or math.prod(shape) * 4 > MAX_TENSOR_BYTES:
            raise self.error(
                f"{what} '{name}' has the absurd shape {list(shape)}",
                hint=f"tensors must stay under {MAX_TENSOR_BYTES >> 20} MiB",
            )

    def _node(self, index: int, proto: onnx.NodeProto) -> Node:
        inputs, outputs = (tuple(map(_text, names)) for names in (proto.input, proto.output))
        op, domain = _text(proto.op_type), _text(proto.domain)
        # Without a name of its own, a node is known by its first output.
        first = next((name for name in outputs if name), "")
        name = _text(proto.name) or first or f"{op}_{index}"
        attributes = {}
        for attribute in proto.attribute:
            try:
                value = onnx.helper.get_attribute_value(attribute)
            except ValueError as error:  # one that stands for an attribute of a function
                raise TinymlirError(
                    f"attribute '{_text(attribute.name)}' has no value",
                    file=self.file,
                    node=name,
                    hint="export the model again",
                ) from error
            attributes[_text(attribute.name)] = _text(value) if isinstance(value, bytes) else value
        return Node(
            op, "" if domain == "ai.onnx" else domain, name, inputs, outputs, attributes, proto
        )

    def _port(self, info: onnx.ValueInfoProto, what: str) -> Port:
        name = _text(info.name)
        if not info.type.HasField("tensor_type"):
            raise self.error(f"{what} '{name}' is not a tensor", hint="use tensor inputs")
        tensor = info.type.tensor_type
        element = _TYPE_NAMES.get(tensor.elem_type, "undefined")
        if not tensor.HasField("shape"):
            raise self._dynamic(f"{what} '{name}' has no shape", name, None)
        shape = []
        for i, dim in enumerate(tensor.shape.dim):
            if not dim.HasField("dim_value"):
                param = _text(dim.dim_param)
                label = f" ('{param}')" if param else ""
                message = f"{what} '{name}' has a dynamic dimension {i}{label}"
                raise self._dynamic(message, name, param or None)
            shape.append(dim.dim_value)
        if 0 in shape:
            raise self.error(
                f"{what} '{name}' has the empty shape {shape}",
                hint="give every dimension a size",
            )
        self._check_size(name, tuple(shape), what)
        return Port(name, element, tuple(shape))

    def _dynamic(self, message: str, name: str, param: str | None) -> TinymlirError:
        how = (
            f"--dim_param {param} --dim_value 1"
            if param
            else f"--input_name {name} --input_shape 1,..."
        )
        return self.error(
            f"{message}; tinymlir needs static shapes",
            hint=f"fix it: python -m onnxruntime.tools.make_dynamic_shape_fixed {how} IN OUT",
        )

    def _check_order(self) -> None:
        """Every input is defined before it is used; ONNX demands that order."""
        known = {port.name for port in self.inputs} | set(self.constants) | {""}
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise self.error(
                        f"input '{name}' is not defined before it is used",
                        node=node,
                        hint="the graph has a cycle or a missing tensor; export it again",
                    )
            known.update(node.outputs)
        for name in self.outputs:
            if name not in known:
                raise self.error(
                    f"output '{name}' is not computed by the graph", hint="export the model again"
                )

    def producer(self, name: str) -> Node | None:
        """The node that computes a tensor, None for inputs and constants."""
        return next((node for node in self.nodes if name and name in node.outputs), None)

    def known(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a constant, also behind Identity or in a Constant; None for others."""
        while name not in self.constants:
            node = self.producer(name)
            if node is None or node.op not in ("Constant", "Identity"):
                return None
            if node.op == "Constant":
                value = node.attribute("value", None)
                return None if value is None else self._array(value)
            name = node.input(0)
        return self.constants[name]

    def consumers(self, name: str) -> Iterator[Node]:
        return (node for node in self.nodes if name in node.inputs)


def resolve_shape(old: Sequence[int], wanted: Sequence[int], allow_zero: int) -> list[int] | None:
    """The shape that a Reshape operand means; None if it does not fit ``old``."""
    shape = [
        old[i] if n == 0 and not allow_zero and i < len(old) else n for i, n in enumerate(wanted)
    ]
    if shape.count(-1) == 1:
        rest = -math.prod(shape)
        if rest > 0:
            shape[shape.index(-1)] = math.prod(old) // rest
    fits = min(shape, default=1) > 0 and math.prod(shape) == math.prod(old)
    return shape if fits else None
