"""Evaluates the nodes whose inputs are all constant."""

from __future__ import annotations

import math
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
    feeds: dict[str, Array] = {}
    for index, name in enumerate(node.inputs):
        value = imp.input(node, index)
        if isinstance(value, QuantizedConstant) and node.op not in _MOVING:
            value = value.real()
        if value is not None and not isinstance(value, np.ndarray):
            return None
        if value is not None:
            feeds[name] = value
    if node.op == "ConstantOfShape":
        size = math.prod(int(n) for n in next(iter(feeds.values())).reshape(-1))
        if size * 8 > MAX_TENSOR_BYTES:
            imp.fail(node, f"makes a constant of {size} elements", "the file is damaged")
    return _run(imp, node, feeds)


def _shape(imp: Operands, node: Node) -> Array:
    shape = imp.shape(node)
    if node.op == "Size":
        return np.array(math.prod(shape), np.int64)
    start, end = node.attribute("start", 0), node.attribute("end", len(shape))
    return np.array(shape[start:end], np.int64)


def _run(imp: Operands, node: Node, feeds: dict[str, Array]) -> list[Array]:
    def info(name: str, array: Any) -> onnx.ValueInfoProto:
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.helper.make_tensor_value_info(name, element, array.shape)

    try:
        graph = onnx.helper.make_graph(
            [node.proto],
            "constants",
            [info(name, array) for name, array in feeds.items()],
            [onnx.helper.make_empty_tensor_value_info(name) for name in node.outputs],
        )
        opset = onnx.helper.make_opsetid("", imp.graph.opset)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
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
