"""Walks the TFLite graph and builds the module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymlir.bindings import ir
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.elementwise import clamp
from tinymlir.frontends.canonical.folding import VIEWS
from tinymlir.frontends.canonical.main import Results, build_main, build_module, result
from tinymlir.frontends.canonical.ports import port_attributes
from tinymlir.frontends.canonical.tensors import (
    MAX_TENSOR_BYTES,
    Activation,
    Quantization,
    is_absurd,
)

from . import borders, dilation, elementwise, linear, movement, pooling, resize, selection, softmax
from .constants import evaluate
from .functions import function_of
from .operands import HOW_TO_QUANTIZE, Operands
from .registry import OPERATORS
from .schema import Graph, Node, Tensor
from .values import FloatInput, Integer, Padded, Real, Value

#: Importing these fills `OPERATORS`.
OPERATOR_MODULES = (
    borders,
    dilation,
    elementwise,
    linear,
    movement,
    pooling,
    resize,
    selection,
    softmax,
)

#: Operators that keep the order of the elements of their first input.
_TRANSPARENT = {"QUANTIZE", "RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH", "PAD", "ADD", "MUL"}


def import_graph(graph: Graph, context: ir.Context) -> ir.Module:
    """Build the module.

    Raises:
        TinymlirError: naming the operator that cannot be compiled.
    """
    return build_module(context, _Importer(graph, context).build, graph.error)


class _Importer(Operands):
    """One import."""

    def build(self) -> None:
        """Build ``@main`` at the current insertion point."""
        self._refuse_float_networks()
        tensors = [self.graph.tensors[index] for index in self.graph.inputs]
        for tensor in tensors:
            self._check_input(tensor)
        permutations = [self._input_permutation(tensor) for tensor in tensors]

        def body(inputs: Sequence[Activation]) -> Results:
            for tensor, activation in zip(tensors, inputs, strict=True):
                self.values[tensor.index] = self._input(tensor, activation)
            for node in self.graph.nodes:
                self._import(node)
            values, results = self._results()
            arguments = [
                port_attributes(t.name, t.type, t.shape, order, self._meaning(t), "nearest_away")
                for t, order in zip(tensors, permutations, strict=True)
            ]
            return Results(values, arguments, results)

        shapes = [tensor.shape for tensor in tensors]
        build_main(self.builder, list(zip(shapes, permutations, strict=True)), body)

    def _refuse_float_networks(self) -> None:
        """A network without any quantisation gets one answer, not one about its first node."""
        used = {i for node in self.graph.nodes for i in (*node.inputs, *node.outputs) if i >= 0}
        tensors = [self.graph.tensors[index] for index in used]
        computed = {tensor.type for tensor in tensors if tensor.data is None}
        if not computed or computed & {"int8", "uint8", "int16"}:
            return
        if not computed & {"float32", "float16"}:
            return
        if any(t.data is not None and t.type in ("int8", "int4") for t in tensors):
            raise self.graph.error(
                "only the weights are quantised, the network computes in float32",
                hint=HOW_TO_QUANTIZE,
            )
        raise self.graph.error("the network computes in float32", hint=HOW_TO_QUANTIZE)

    def _check_input(self, tensor: Tensor) -> None:
        shape = list(tensor.shape)
        # Converters write -1 for a batch of any size, and 1 as its size.
        unknown = [d for d, n in enumerate(tensor.signature) if n < 0 and d > 0]
        if unknown or any(n < 1 for n in shape):
            known = list(tensor.signature or tensor.shape)
            raise self.graph.error(
                f"input '{tensor.name}' has a dynamic shape {known}; tinymlir needs static shapes",
                hint="convert from a concrete function or a Keras model with a fixed input shape",
            )
        if is_absurd(shape):
            raise self.graph.error(
                f"input '{tensor.name}' has the absurd shape {shape}",
                hint=f"tensors must stay under {MAX_TENSOR_BYTES >> 20} MiB",
            )

    def _input_permutation(self, tensor: Tensor) -> tuple[int, ...]:
        """How the object's array nests the dimensions: as the first TRANSPOSE wants them."""
        identity = tuple(range(len(tensor.shape)))
        index, seen = tensor.index, {tensor.index}
        while True:
            consumers = list(self.graph.consumers(index))
            if len(consumers) != 1:
                return identity
            node = consumers[0]
            if node.op == "TRANSPOSE" and self.has_input(node, 1):
                permutation = self.graph.tensors[node.inputs[1]].data
                order = () if permutation is None else tuple(permutation.reshape(-1).tolist())
                return order if tuple(sorted(order)) == identity else identity
            if node.op not in _TRANSPARENT or node.outputs[0] in seen:
                return identity
            index = node.outputs[0]
            seen.add(index)

    def _input(self, tensor: Tensor, activation: Activation) -> Value:
        if tensor.type == "float32":
            return FloatInput(tensor.index, activation)
        if tensor.type in ("int8", "uint8"):
            return Integer(activation, self._meaning(tensor), tensor.type == "uint8")
        if tensor.type == "int16":
            raise self.graph.error(
                f"input '{tensor.name}' is int16 (16x8 quantisation)",
                hint="convert with int8 activations: TFLITE_BUILTINS_INT8",
            )
        raise self.graph.error(
            f"input '{tensor.name}' has the type {tensor.type}",
            hint="inputs must be int8, uint8 or float32",
        )

    def _meaning(self, tensor: Tensor) -> Quantization:
        """What the integers of an input stand for; without a scale, for themselves."""
        raw = Quantization(np.float32(1), -128 if tensor.type == "uint8" else 0)
        if tensor.type == "float32":
            return self.input_quantization.get(tensor.index, raw)
        if len(tensor.scale) == 0:
            return raw
        return self.quantization(Node(0, "input", tensor.name, (), (tensor.index,), {}), tensor)

    def _import(self, node: Node) -> None:
        entry = OPERATORS.get(node.op)
        with self.blame(node), ir.Location.name(node.name):
            outputs: Value | Sequence[Value] | None = evaluate(self, node)
            if outputs is None:
                outputs = function_of(self, node)
            if outputs is None and entry is not None:
                outputs = entry.handler(self, node)
        if outputs is None:
            self.fail(node, "the operator is not supported", "docs/operators.md lists what is")
        several = outputs if isinstance(outputs, list | tuple) else [outputs]
        for index, value in zip(node.outputs, several, strict=False):
            if is_absurd(value.shape):
                self.fail(
                    node,
                    f"the result has the absurd shape {list(value.shape)}",
                    f"tensors must stay under {MAX_TENSOR_BYTES >> 20} MiB",
                )
            self.values[index] = value
            if isinstance(value, Integer):
                self.name_result(index, value)

    def _results(self) -> tuple[list[ir.Value], list[ir.Attribute]]:
        results: list[ir.Value] = []
        attributes: list[ir.Attribute] = []
        for index in self.graph.outputs:
            tensor = self.graph.tensors[index]
            value, kind = self.values.get(index), tensor.type
            if isinstance(value, Real):
                if not value.dequantized:
                    raise self.graph.error(
                        f"output '{tensor.name}' is computed in float32", hint=HOW_TO_QUANTIZE
                    )
                value, kind = value.integer, "float32"
            if isinstance(value, Padded):
                value = self._materialized(value)
            if not isinstance(value, Integer):
                raise self.graph.error(
                    f"output '{tensor.name}' of type {tensor.type} is not computed by a quantised"
                    " layer",
                    hint="remove it from the outputs, or quantise the network",
                )
            activation = self._computed(tensor.name, value.activation, results)
            made, permutation = result(self.builder, tensor.name, activation)
            results.append(made)
            attributes.append(
                port_attributes(tensor.name, kind, value.shape, permutation, value.quantization)
            )
        return results, attributes

    def _computed(self, name: str, x: Activation, others: Sequence[ir.Value]) -> Activation:
        """``x`` as the result of a layer that no other output has: a copy where it must be."""

        def origin(value: ir.Value) -> ir.Value:
            while not isinstance(value, ir.BlockArgument) and value.owner.name in VIEWS:
                value = value.owner.operation.operands[0]
            return value

        value = origin(x.value)
        computed = not isinstance(value, ir.BlockArgument) and value.owner.name != "arith.constant"
        if computed and all(origin(other) != value for other in others):
            return x
        return clamp(self.builder, name, x, Clamp())
