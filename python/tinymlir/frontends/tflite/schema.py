"""A TFLite file as plain data: every access to the flatbuffer happens here.

The flatbuffer library checks nothing, so this module reads all there is at once,
bounds what it takes, and turns whatever a damaged file raises into one error.
"""

from __future__ import annotations

import collections
import functools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from tinymlir.errors import TinymlirError
from tinymlir.frontends.canonical.tensors import MAX_OPERATORS, MAX_TENSOR_BYTES

from .options import OPTIONS

IDENTIFIER = b"TFL3"
#: Far above any model for a microcontroller; flatbuffers end at 2 GiB.
MAX_FILE_BYTES = 2**28
_MAX_RANK = 8
_VERSION = 3
#: Where the virtual table of an OperatorCode has its 32-bit field.
_BUILTIN_CODE = 10

Array = npt.NDArray[Any]


def _names(enumeration: type) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int)}


_OPERATORS = _names(tflite.BuiltinOperator)
_TYPES = {code: name.lower() for code, name in _names(tflite.TensorType).items()}
_DTYPES = {"float32", "int8", "uint8", "int16", "int32", "int64", "bool", "float16", "float64"}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file.

    Attributes:
        index: what operators call it.
        signature: the shape with -1 for dimensions that may vary; empty if none may.
        scale, zero_point: one for the tensor, one for each index of ``axis``, or none.
        data: the elements of a constant, None for what is computed or fed.
    """

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    variable: bool
    data: Array | None


@dataclass(frozen=True)
class Node:
    """An operator: absent optional inputs are -1, options go by their names in the schema."""

    index: int
    op: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]

    def input(self, index: int) -> int:
        return self.inputs[index] if index < len(self.inputs) else -1

    def __str__(self) -> str:
        return f"operator {self.index} ({self.op})"


@dataclass(frozen=True)
class Graph:
    """The main subgraph of a model."""

    file: str
    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def error(
        self, message: str, *, node: Node | None = None, hint: str | None = None
    ) -> TinymlirError:
        """An error that names the file and the node."""
        return TinymlirError(message, file=self.file, node=node.name if node else None, hint=hint)

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The name of each tensor; with its index where others have that name too."""
        count = collections.Counter(tensor.name for tensor in self.tensors)
        return tuple(t.name if count[t.name] == 1 else f"{t.name}#{t.index}" for t in self.tensors)

    def consumers(self, tensor: int) -> Iterator[Node]:
        return (node for node in self.nodes if tensor in node.inputs)


class _Damaged(Exception):
    """The file contradicts itself; the text says how."""


def load_graph(path: Path) -> Graph:
    """Read a TFLite file.

    Raises:
        TinymlirError: the file cannot be read, is damaged, or of a form that is not taken.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TinymlirError(
            f"cannot be read: {error.strerror or error}", file=file, hint="check the path"
        ) from error
    if data[4:8] != IDENTIFIER:
        raise TinymlirError("not a TFLite model", file=file, hint="give a .tflite or .onnx file")
    if len(data) > MAX_FILE_BYTES:
        raise TinymlirError(
            f"the file has more than {MAX_FILE_BYTES} bytes",
            file=file,
            hint="such a network fits no microcontroller",
        )
    try:
        return _Reader(data, file).graph()
    except (_Damaged, struct.error, ValueError, IndexError, OverflowError, TypeError) as error:
        reason = str(error) if isinstance(error, _Damaged) else "its tables do not add up"
        raise TinymlirError(
            f"the TFLite file is damaged or truncated: {reason}",
            file=file,
            hint="copy or convert it again",
        ) from error


class _Reader:
    def __init__(self, data: bytes, file: str) -> None:
        self.data, self.file = data, file
        self.model = tflite.Model.GetRootAs(data)

    def graph(self) -> Graph:
        if self.model.Version() != _VERSION:
            raise _Damaged(f"its version is {self.model.Version()}, not {_VERSION}")
        if self._count(self.model.SubgraphsLength()) < 1:
            raise _Damaged("it has no subgraph")
        main = self.model.Subgraphs(0)
        if self._count(main.OperatorsLength()) > MAX_OPERATORS:
            raise TinymlirError(
                f"the network has {main.OperatorsLength()} operators, more than {MAX_OPERATORS}",
                file=self.file,
                hint="such a network fits no microcontroller",
            )
        self.buffers = [
            self.model.Buffers(i) for i in range(self._count(self.model.BuffersLength()))
        ]
        tensors = tuple(
            self._tensor(i, main.Tensors(i)) for i in range(self._count(main.TensorsLength()))
        )
        codes = [self._code(i) for i in range(self._count(self.model.OperatorCodesLength()))]
        nodes = tuple(
            self._node(i, main.Operators(i), codes, tensors) for i in range(main.OperatorsLength())
        )
        if sum(len(node.inputs) + len(node.outputs) for node in nodes) > len(self.data):
            raise _Damaged("its operators have more operands than it has bytes")
        inputs, outputs = (
            self._indices(main, name, tensors, optional=False) for name in ("Inputs", "Outputs")
        )
        graph = Graph(self.file, tensors, nodes, inputs, outputs)
        _check_order(graph)
        return graph

    def _count(self, length: int) -> int:
        """The length of a vector of offsets, which takes four bytes for each."""
        if length * 4 > len(self.data):
            raise _Damaged("a list is longer than the file")
        return length

    def _numbers(self, table: Any, name: str) -> Array:
        """A vector of numbers, empty where there is none."""
        value = getattr(table, f"{name}AsNumpy")()
        return value if isinstance(value, np.ndarray) else np.zeros(0, np.int64)

    def _indices(
        self, table: Any, name: str, tensors: tuple[Tensor, ...], *, optional: bool
    ) -> tuple[int, ...]:
        """Tensor indices, checked."""
        numbers = self._numbers(table, name)
        if len(numbers) > len(tensors) + _MAX_RANK:
            raise _Damaged("an operator has more operands than there are tensors")
        indices = tuple(int(n) for n in numbers)
        if any(not (-1 if optional else 0) <= n < len(tensors) for n in indices):
            raise _Damaged("an operator refers to a tensor that does not exist")
        return indices

    def _tensor(self, index: int, table: Any) -> Tensor:
        name = _text(table.Name()) or f"tensor_{index}"
        shape, signature = (
            tuple(int(n) for n in self._vector(table, field))
            for field in ("Shape", "ShapeSignature")
        )
        kind = _TYPES.get(table.Type(), f"type {table.Type()}")
        quantization = table.Quantization()
        empty = np.zeros(0, np.float32)
        scale, zero_point, axis = empty, np.zeros(0, np.int64), 0
        if quantization is not None:
            scale = self._numbers(quantization, "Scale").astype(np.float32)
            zero_point = self._numbers(quantization, "ZeroPoint").astype(np.int64)
            axis = quantization.QuantizedDimension()
        if table.Sparsity() is not None:
            raise TinymlirError(
                f"tensor '{name}' is stored sparsely",
                file=self.file,
                hint="convert the network without sparsity",
            )
        data = self._data(name, table.Buffer(), kind, shape)
        variable = bool(table.IsVariable())
        return Tensor(index, name, kind, shape, signature, scale, zero_point, axis, variable, data)

    def _vector(self, table: Any, name: str) -> Array:
        numbers = self._numbers(table, name)
        if len(numbers) > _MAX_RANK:
            raise _Damaged(f"a tensor has {len(numbers)} dimensions")
        return numbers

    def _data(self, name: str, place: int, kind: str, shape: tuple[int, ...]) -> Array | None:
        """The elements of a constant, of the tensor's shape and type."""
        if place >= len(self.buffers):
            raise _Damaged(f"tensor '{name}' refers to a buffer that does not exist")
        buffer = self.buffers[place]
        if buffer.Offset() > 1:
            raise TinymlirError(
                f"tensor '{name}' lies outside of the file's tables",
                file=self.file,
                hint="save the model in one flatbuffer",
            )
        if place == 0 or buffer.DataLength() == 0:
            return None
        raw = buffer.DataAsNumpy()
        count = 1
        for n in shape:
            count *= n
            if n < 0 or count > MAX_TENSOR_BYTES:
                raise _Damaged(f"constant '{name}' has the shape {list(shape)}")
        if kind not in _DTYPES:
            return np.asarray(raw)
        dtype = np.dtype(kind)
        if raw.nbytes != count * dtype.itemsize:
            raise _Damaged(f"constant '{name}' has {raw.nbytes} bytes for the shape {list(shape)}")
        return np.frombuffer(raw.tobytes(), dtype.newbyteorder("<")).reshape(shape)

    def _code(self, index: int) -> str:
        """The operator's name; a custom one in quotes."""
        table = self.model.OperatorCodes(index)
        # Older files know only the 8-bit field, some writers fill only the other one,
        # and interpreters take the greater; the package's BuiltinCode() does not.
        slot = table._tab.Offset(_BUILTIN_CODE)
        wide = struct.unpack_from("<i", self.data, table._tab.Pos + slot)[0] if slot else 0
        number = max(wide, table.DeprecatedBuiltinCode())
        name = _OPERATORS.get(number, f"operator code {number}")
        return f"CUSTOM '{_text(table.CustomCode())}'" if name == "CUSTOM" else name

    def _node(self, index: int, table: Any, codes: list[str], tensors: tuple[Tensor, ...]) -> Node:
        if table.OpcodeIndex() >= len(codes):
            raise _Damaged(f"operator {index} has no code")
        op = codes[table.OpcodeIndex()]
        inputs = self._indices(table, "Inputs", tensors, optional=True)
        outputs = self._indices(table, "Outputs", tensors, optional=False)
        if not outputs:
            raise _Damaged(f"operator {index} has no outputs")
        # Converters join the names of what they fused.
        name = tensors[outputs[0]].name.split(";")[0]
        return Node(index, op, name, inputs, outputs, self._options(op, table))

    def _options(self, op: str, table: Any) -> dict[str, Any]:
        if op not in OPTIONS:
            return {}
        kind, defaults = OPTIONS[op]
        options = dict(defaults)
        union = table.BuiltinOptions()
        if union is None or table.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind):
            return options
        view = getattr(tflite, kind)()
        view.Init(union.Bytes, union.Pos)
        for name, default in defaults.items():
            if isinstance(default, tuple):
                options[name] = tuple(int(n) for n in self._vector(view, name))
            else:
                read: Callable[[], Any] = getattr(view, name)
                options[name] = type(default)(read())
        return options


def _text(value: bytes | None) -> str:
    """A name on one line."""
    text = (value or b"")[:200].decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _check_order(graph: Graph) -> None:
    """Every input is defined before it is used; interpreters run operators in file order."""
    known = {t.index for t in graph.tensors if t.data is not None} | set(graph.inputs) | {-1}
    for node in graph.nodes:
        for index in node.inputs:
            # Variables and empty constants need no producer; operators that meet one refuse it.
            tensor = graph.tensors[index]
            if index not in known and not tensor.variable and 0 not in tensor.shape:
                raise _Damaged(f"{node} takes tensor '{tensor.name}', which nothing computes")
        known.update(node.outputs)
    for index in graph.outputs:
        if index not in known:
            raise _Damaged(f"nothing computes the output '{graph.tensors[index].name}'")
