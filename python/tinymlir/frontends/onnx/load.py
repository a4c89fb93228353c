"""From a file to a checked ONNX model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from tinymlir.errors import TinymlirError
from tinymlir.frontends.canonical.tensors import MAX_OPERATORS

MIN_OPSET = 13
#: Functions that call functions.
MAX_NESTING = 100


def load_model(path: Path) -> onnx.ModelProto:
    """The model in ``path`` with its external data.

    Raises:
        TinymlirError: the file cannot be read or is no model.
    """
    file = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TinymlirError(
            f"cannot be read: {error.strerror or error}", file=file, hint="check the path"
        ) from error
    if not data:
        raise TinymlirError("the file is empty", file=file, hint="export the model again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise TinymlirError(
            "not an ONNX model, or a truncated one",
            file=file,
            hint="give a .onnx file; if it is one, copy or export it again",
        ) from error
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # the helper raises what its checks and the file system raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TinymlirError(
            f"external weights cannot be loaded: {reason}",
            file=file,
            hint="keep the data file next to the model, or save the model in one file",
        ) from error
    return model


def check_model(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """The model with its local functions inlined, if structure and versions are right.

    Raises:
        TinymlirError: naming what is wrong.
    """
    if not model.HasField("graph") or not model.graph.node:
        raise TinymlirError(
            "the file holds no ONNX graph", file=file, hint="give a .onnx file with a network"
        )
    if _inlined_nodes(model) > MAX_OPERATORS:
        raise TinymlirError(
            f"the graph has more than {MAX_OPERATORS} nodes, functions inlined",
            file=file,
            hint="such a network fits no microcontroller",
        )
    if not model.graph.output:
        raise TinymlirError(
            "the graph has no outputs", file=file, hint="export the model with its outputs"
        )
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is None or opset < MIN_OPSET:
        raise TinymlirError(
            f"opset {opset} is too old" if opset is not None else "no opset is given",
            file=file,
            hint=f"export with opset {MIN_OPSET} or newer, or use onnx.version_converter",
        )
    try:
        onnx.checker.check_model(_with_shapes(model))
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # the checker raises more than its own ValidationError
        reason = str(error).strip().splitlines()
        raise TinymlirError(
            f"not a valid ONNX model: {reason[0] if reason else type(error).__name__}",
            file=file,
            hint="export the model again; onnx.checker.check_model says the same",
        ) from error


def _inlined_nodes(model: onnx.ModelProto) -> int:
    """How many nodes there are once functions are inlined; some number above, if too many."""
    functions = {(f.domain, f.name): f for f in model.functions}
    known: dict[tuple[str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > MAX_NESTING:
            return MAX_OPERATORS + 1
        total = sum(size((node.domain, node.op_type), depth) for node in nodes)
        return min(total, MAX_OPERATORS + 1)

    def size(name: tuple[str, str], depth: int) -> int:
        if name in functions and name not in known:
            known[name] = 1  # for one that calls itself, which the checker refuses
            known[name] = count(functions[name].node, depth + 1)
        return known.get(name, 1)

    return count(model.graph.node, 0)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every port shaped, however wrongly.

    The checker insists on shapes; but those of outputs are not needed, and an
    input without one deserves the message about dynamic shapes.
    """
    ports = (*model.graph.input, *model.graph.output)
    if all(port.type.tensor_type.HasField("shape") for port in ports):
        return model
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    for port in (*shaped.graph.input, *shaped.graph.output):
        if port.type.HasField("tensor_type"):
            port.type.tensor_type.shape.SetInParent()
    return shaped
