"""Evaluates the nodes whose inputs are all constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from .graph import MAX_TENSOR_BYTES, Node
from .operands import Operands
from .values import Array, QuantizedConstant

#: Operators on constants that exporters leave in shape arithmetic and weights. None of
#: them makes a tensor much larger than its inputs, but ConstantOfShape, which is guarded.
_FOLDED = frozenset(
    {
        *("Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Div"),
        *("Equal", "Flatten", "Floor", "Gather", "Greater", "Identity", "Less", "Max", "Min"),
        *("Mul", "Neg", "Not", "Or", "QuantizeLinear", "ReduceProd", "Relu", "Reshape", "Slice"),
        *("Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
    }
)

#: Of these, what keeps integers integers: weights may be rearranged behind a DequantizeLinear.
_MOVING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def evaluate(imp: Operands, node: Node) -> list[Array] | None:
    """The outputs of a node with constant inputs; None if it must be imported.

    Raises:
        TinymlirError: the node cannot be evaluated.
    """
    if node.op in ("Shape", "Size") and not node.domain:
        return [_shape(imp, node)]
    if node.op not in _FOLDED or node.domain:
        return None
    operands: list[Array | None] = []
    for index in range(len(node.inputs)):
        value = imp.input(node, index)
        if isinstance(value, QuantizedConstant) and node.op not in _MOVING:
            value = value.real()
        if value is not None and not isinstance(value, np.ndarray):
            return None
        operands.append(value)
    if node.op == "ConstantOfShape" and operands and operands[0] is not None:
        size = math.prod(int(n) for n in operands[0].reshape(-1).tolist())
        if size * 8 > MAX_TENSOR_BYTES:
            imp.fail(node, f"makes a constant of {size} elements", "the file is damaged")
    return run(imp, node, operands)


def _shape(imp: Operands, node: Node) -> Array:
    shape = imp.shape(node)
    if node.op == "Size":
        return np.array(math.prod(shape), np.int64)
    start, end = node.attribute("start", 0), node.attribute("end", len(shape))
    return np.array(shape[start:end], np.int64)


def run(imp: Operands, node: Node, operands: Sequence[Array | None]) -> list[Array]:
    """The outputs of a node on arrays, None for inputs that are left out.

    Raises:
        TinymlirError: the node cannot be evaluated.
    """

    def info(name: str, array: Any) -> onnx.ValueInfoProto:
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.helper.make_tensor_value_info(name, element, array.shape)

    # Names of our own: a tensor may be several inputs, and be called anything.
    names = ["" if array is None else f"x{i}" for i, array in enumerate(operands)]
    feeds = {name: a for name, a in zip(names, operands, strict=True) if a is not None}
    outputs = [f"y{i}" for i in range(len(node.outputs))]
    plain = onnx.helper.make_node(node.op, names, outputs)
    plain.attribute.extend(node.proto.attribute)
    try:
        graph = onnx.helper.make_graph(
            [plain],
            "node",
            [info(name, array) for name, array in feeds.items()],
            [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        )
        opset = onnx.helper.make_opsetid("", imp.graph.opset)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # the evaluator raises whatever numpy and its operators do
        reason = str(error).strip().splitlines()
        imp.fail(
            node,
            f"cannot be evaluated: {reason[0] if reason else type(error).__name__}",
            "export the model again",
        )
    arrays = [np.asarray(result) for result in results]
    if any(array.nbytes > MAX_TENSOR_BYTES for array in arrays):
        imp.fail(node, "makes an absurdly large constant", "the file is damaged")
    return arrays
