"""Walks the ONNX graph and builds the module."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinymlir.bindings import ir
from tinymlir.frontends.canonical.folding import VIEWS
from tinymlir.frontends.canonical.main import Results, build_main, build_module, result
from tinymlir.frontends.canonical.tensors import Activation

from . import (
    arithmetic,
    channelwise,
    functions,
    linear,
    movement,
    pooling,
    reductions,
    resize,
    selection,
    transposed,
)
from .constants import evaluate
from .graph import MAX_TENSOR_BYTES, Graph, Node, Port
from .operands import HOW_TO_QUANTIZE, Operands
from .pairs import merge_pairs
from .ports import input_permutation, name_result, port_attributes
from .registry import OPERATORS
from .values import Deferred, Dequantized, FloatInput, Function, Integer, Meaning, Value

#: Importing these fills `OPERATORS`.
OPERATOR_MODULES = (
    arithmetic,
    channelwise,
    functions,
    linear,
    movement,
    pooling,
    reductions,
    resize,
    selection,
    transposed,
)


def import_graph(graph: Graph, context: ir.Context) -> ir.Module:
    """Build the module.

    Raises:
        TinymlirError: naming the node that cannot be compiled.
    """
    merge_pairs(graph)
    return build_module(context, _Importer(graph, context).build, graph.error)


class _Importer(Operands):
    """One import."""

    def build(self) -> None:
        """Build ``@main`` at the current insertion point."""
        self._refuse_float_networks()
        ports = self.graph.inputs
        permutations = [input_permutation(self.graph, port) for port in ports]
        meanings = [Meaning() for _ in ports]

        def body(inputs: Sequence[Activation]) -> Results:
            for port, activation, meaning in zip(ports, inputs, meanings, strict=True):
                self.values[port.name] = self._input(port, activation, meaning)
            for node in self.graph.nodes:
                self._import(node)
            values, results = self._results()
            arguments = [
                port_attributes(port.name, port.element, port.shape, order, meaning)
                for port, order, meaning in zip(ports, permutations, meanings, strict=True)
            ]
            return Results(values, arguments, results)

        shapes = [port.shape for port in ports]
        build_main(self.builder, list(zip(shapes, permutations, strict=True)), body)

    def _refuse_float_networks(self) -> None:
        """A network without any quantisation gets one answer, not one about its first node."""
        names = {node.op for node in self.graph.nodes}
        if any(name.startswith(("QLinear", "QGemm", "Dequantize", "Quantize")) for name in names):
            return
        if any(port.element != "float" for port in self.graph.inputs):
            return
        dynamic = sorted(n for n in names if n.startswith("Dynamic") or n.endswith("Integer"))
        if dynamic:
            raise self.graph.error(
                f"the network is quantised dynamically ({', '.join(dynamic)})",
                hint="quantise statically, with onnxruntime.quantization.quantize_static",
            )
        raise self.graph.error("the network computes in float32", hint=HOW_TO_QUANTIZE)

    def _input(self, port: Port, activation: Activation, meaning: Meaning) -> Value:
        if len(port.shape) > 1 and port.shape[0] != 1:
            raise self.graph.error(
                f"input '{port.name}' has batch size {port.shape[0]}",
                hint="export the network for one sample (batch 1)",
            )
        if port.element in ("int8", "uint8"):
            return Integer(activation, port.element == "uint8", meaning)
        if port.element == "float":
            return FloatInput(activation, meaning)
        raise self.graph.error(
            f"input '{port.name}' has the type {port.element}",
            hint="inputs must be int8, uint8, or float with a QuantizeLinear",
        )

    def _import(self, node: Node) -> None:
        entry = OPERATORS.get((node.domain, node.op))
        with self.blame(node), ir.Location.name(node.name):
            outputs: Value | Sequence[Value] | None = evaluate(self, node)
            if outputs is None and entry is not None:
                outputs = entry.handler(self, node)
        if outputs is None:
            raise self.graph.error(
                f"operator {node.qualified_op} is not supported",
                node=node,
                hint="docs/operators.md lists what is",
            )
        values = outputs if isinstance(outputs, Sequence) else [outputs]
        for name, value in zip(node.outputs, values, strict=False):
            if math.prod(value.shape) > MAX_TENSOR_BYTES:
                raise self.graph.error(
                    f"{node.op}: the result has the absurd shape {list(value.shape)}",
                    node=node,
                    hint=f"tensors must stay under {MAX_TENSOR_BYTES >> 20} MiB",
                )
            self.values[name] = value
            if isinstance(value, Integer):
                name_result(name, value)

    def _results(self) -> tuple[list[ir.Value], list[ir.Attribute]]:
        results, attributes = [], []
        for name in self.graph.outputs:
            value = self.values.get(name)
            if isinstance(value, Integer):
                element, meaning = ("uint8" if value.unsigned else "int8"), value.meaning
            elif isinstance(value, Dequantized):
                element, meaning = "float", Meaning(value.quantization)
            elif isinstance(value, Deferred | Function):
                raise self.graph.error(
                    f"output '{name}' is computed in float: no QuantizeLinear follows",
                    node=self.graph.producer(name),
                    hint=HOW_TO_QUANTIZE,
                )
            else:
                raise self.graph.error(
                    f"output '{name}' is not computed by a quantised layer",
                    hint="remove it from the outputs, or quantise the network",
                )
            activation = value.activation
            if _is_argument(activation.value):
                raise self.graph.error(
                    f"output '{name}' is an input unchanged: there is nothing to compute",
                    hint="give a network with layers",
                )
            made, permutation = result(self.builder, name, activation)
            results.append(made)
            attributes.append(port_attributes(name, element, value.shape, permutation, meaning))
        return results, attributes


def _is_argument(value: ir.Value) -> bool:
    """Whether a value is a function argument, under views."""
    while not isinstance(value, ir.BlockArgument):
        if value.owner.name not in VIEWS:
            return False
        value = value.owner.operation.operands[0]
    return True
