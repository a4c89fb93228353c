"""Walks the ONNX graph and builds the module; operators are in the ``operators`` modules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinymlir.bindings import func, ir
from tinymlir.dialects import tiny
from tinymlir.errors import TinymlirError
from tinymlir.frontends.canonical import elementwise
from tinymlir.frontends.canonical.builder import Builder, Clamp
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation, Quantization, row_major

from .graph import Graph, Node, Port
from .ports import input_permutation, port_attributes
from .values import (
    Array,
    Deferred,
    Dequantized,
    FloatInput,
    Integer,
    Meaning,
    QuantizedConstant,
    Value,
)

HOW_TO_QUANTIZE = (
    "quantise the network first, for example with onnxruntime.quantization.quantize_static"
    "(IN, OUT, calibration_data_reader)"
)

Handler = Callable[["Importer", Node], "Value | Sequence[Value]"]
#: (domain, operator) to its handler.
HANDLERS: dict[tuple[str, str], Handler] = {}


def operator(name: str, domain: str = "") -> Callable[[Handler], Handler]:
    """Decorator: the function imports this operator."""

    def register(handler: Handler) -> Handler:
        HANDLERS[domain, name] = handler
        return handler

    return register


class Importer:
    """The state of one import."""

    def __init__(self, graph: Graph, context: ir.Context) -> None:
        self.graph = graph
        self.context = context
        self.builder = Builder(context)
        self.values: dict[str, Value] = {"": np.zeros(0), **graph.constants}

    def run(self) -> ir.Module:
        """Build the module.

        Raises:
            TinymlirError: naming the node that cannot be compiled.
        """
        tiny.register(self.context)
        with self.context, ir.Location.name("main"):
            module = ir.Module.create()
            with ir.InsertionPoint(module.body):
                self._main()
            if not module.operation.verify():
                raise self.graph.error("the import built IR that does not verify")
        return module

    def _main(self) -> None:
        inputs = self.graph.inputs
        permutations = [input_permutation(self.graph, port) for port in inputs]
        layouts = [Layout.of(p.shape, q) for p, q in zip(inputs, permutations, strict=True)]
        types = [
            self.builder.tensor_type([port.shape[d] for d in permutation] or [1], self.builder.i8)
            for port, permutation in zip(inputs, permutations, strict=True)
        ]
        function = func.FuncOp("main", (types, []))
        block = function.add_entry_block()
        meanings = [Meaning() for _ in inputs]
        with ir.InsertionPoint(block):
            for port, layout, argument, meaning in zip(
                inputs, layouts, block.arguments, meanings, strict=True
            ):
                self.values[port.name] = self._input(port, Activation(argument, layout), meaning)
            for node in self.graph.nodes:
                self._import(node)
            results, attributes = self._results()
            func.ReturnOp(results)
        function.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get(types, [value.type for value in results])
        )
        function.attributes["arg_attrs"] = ir.ArrayAttr.get(
            [
                port_attributes(port.name, port.element, port.shape, permutation, meaning)
                for port, permutation, meaning in zip(inputs, permutations, meanings, strict=True)
            ]
        )
        function.attributes["res_attrs"] = ir.ArrayAttr.get(attributes)

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
            hint="inputs must be int8, uint8, or float that a QuantizeLinear takes",
        )

    def _results(self) -> tuple[list[ir.Value], list[ir.Attribute]]:
        results, attributes = [], []
        for name in self.graph.outputs:
            value = self.values[name]
            if isinstance(value, Integer):
                element, meaning = ("uint8" if value.unsigned else "int8"), value.meaning
            elif isinstance(value, Dequantized):
                element, meaning = "float", Meaning(value.quantization)
            elif isinstance(value, Deferred):
                raise self.graph.error(
                    f"output '{name}' is computed in float: no QuantizeLinear follows",
                    node=value.node,
                    hint=HOW_TO_QUANTIZE,
                )
            else:
                raise self.graph.error(
                    f"output '{name}' is not computed from the inputs by a quantised layer",
                    hint="remove it from the outputs",
                )
            activation = value.activation
            permutation = activation.layout.dim_order()
            if permutation is None:
                activation = row_major(self.builder, name, activation)
                permutation = tuple(range(activation.layout.rank))
            shape = activation.layout.shape
            physical = [shape[d] for d in permutation] or [1]
            results.append(self.builder.reshape(activation.value, physical))
            attributes.append(port_attributes(name, element, shape, permutation, meaning))
        return results, attributes

    @contextlib.contextmanager
    def blame(self, node: Node) -> Iterator[None]:
        """Errors of the layer builders become errors about ``node``."""
        try:
            yield
        except TinymlirError:
            raise
        except (ValueError, OverflowError, NotImplementedError) as error:
            raise self.graph.error(f"{node.op}: {error}", node=node) from error

    def _import(self, node: Node) -> None:
        handler = HANDLERS.get((node.domain, node.op))
        if handler is None:
            raise self.graph.error(
                f"operator {node.qualified_op} is not supported",
                node=node,
                hint="docs/operators.md lists what is",
            )
        with self.blame(node), ir.Location.name(node.name):
            outputs = handler(self, node)
        if not isinstance(outputs, list | tuple):
            outputs = [outputs]
        for name, value in zip(node.outputs, outputs, strict=False):
            self.values[name] = value

    # What handlers ask for

    def input(self, node: Node, index: int) -> Value | None:
        """An input, None where it is left out."""
        name = node.input(index)
        return self.values[name] if name else None

    def constant(self, node: Node, index: int) -> Array | None:
        """A constant input in real terms, None where it is left out.

        Raises:
            TinymlirError: it is computed at run time.
        """
        value = self.input(node, index)
        if isinstance(value, QuantizedConstant):
            return value.real()
        if value is None or isinstance(value, np.ndarray):
            return value
        raise self.graph.error(
            f"{node.op}: input '{node.input(index)}' must be a constant",
            node=node,
            hint="only activations may be computed at run time",
        )

    def activation(self, node: Node, value: Value | None, what: str = "input") -> Dequantized:
        """``value`` as quantised reals.

        Raises:
            TinymlirError: it is not quantised.
        """
        if isinstance(value, Dequantized):
            return value
        if isinstance(value, Deferred):
            problem = f"takes the float result of node '{value.node.name}' ({value.node.op})"
        elif isinstance(value, FloatInput):
            problem = f"takes a float graph input as its {what}"
        elif isinstance(value, Integer):
            problem = f"takes raw integers as its {what}, without a DequantizeLinear"
        else:
            problem = f"has a constant or no {what} where an activation is expected"
        raise self.graph.error(f"{node.op} {problem}", node=node, hint=HOW_TO_QUANTIZE)

    def parameters(self, node: Node, scale: int, zero_point: int) -> tuple[Array, Array]:
        """Scale and zero point inputs, as constants; the zero point may be left out."""
        s = self.constant(node, scale)
        z = self.constant(node, zero_point)
        if s is None or s.dtype != np.float32 or not np.isfinite(s).all() or not (s > 0).all():
            raise self.graph.error(
                f"{node.op}: the scale '{node.input(scale)}' must be positive float32 constants",
                node=node,
                hint="quantise the network again",
            )
        if z is None:
            z = np.zeros(s.shape, np.uint8)
        return s, z

    def quantization(self, node: Node, scale: int, zero_point: int) -> tuple[Quantization, bool]:
        """The quantisation of an activation, and whether it is unsigned."""
        s, z = self.parameters(node, scale, zero_point)
        if s.size != 1 or z.size != 1:
            raise self.graph.error(
                f"{node.op}: activations with a scale per channel are not supported",
                node=node,
                hint="quantise activations per tensor; weights may be per channel",
            )
        return self.per_tensor(node, s, z)

    def per_tensor(self, node: Node, scale: Array, zero_point: Array) -> tuple[Quantization, bool]:
        if zero_point.dtype not in (np.int8, np.uint8):
            raise self.graph.error(
                f"{node.op}: activations of type {zero_point.dtype} are not supported",
                node=node,
                hint="quantise activations to int8 or uint8",
            )
        unsigned = zero_point.dtype == np.uint8
        offset = 128 if unsigned else 0
        return Quantization(scale.reshape(-1)[0], int(zero_point.reshape(-1)[0]) - offset), unsigned

    def dequantize(self, node: Node, data: int, scale: int, zero_point: int, axis: int) -> Value:
        """An integer input as reals: what DequantizeLinear does, and QLinear operators imply."""
        value = self.input(node, data)
        if isinstance(value, np.ndarray):
            s, z = self.parameters(node, scale, zero_point)
            if not node.input(zero_point):
                z = z.astype(value.dtype)
            return self._constant(node, value, s, z, axis)
        if not isinstance(value, Integer):
            raise self.graph.error(
                f"{node.op}: input '{node.input(data)}' is not int8 or uint8",
                node=node,
                hint=HOW_TO_QUANTIZE,
            )
        quantization, unsigned = self.quantization(node, scale, zero_point)
        if node.input(zero_point) and unsigned != value.unsigned:
            raise self.graph.error(
                f"{node.op}: the zero point's type differs from that of '{node.input(data)}'",
                node=node,
                hint="quantise the network again",
            )
        if value.meaning.quantization is None:
            value.meaning.quantization = quantization
        return Dequantized(value.activation, quantization)

    def _constant(self, node: Node, array: Array, s: Array, z: Array, axis: int) -> Value:
        if array.dtype not in (np.int8, np.uint8, np.int32):
            raise self.graph.error(
                f"{node.op}: constants of type {array.dtype} are not supported",
                node=node,
                hint="quantise weights to int8 or uint8 and biases to int32",
            )
        axis = axis + array.ndim if axis < 0 else axis
        for values in (s, z):
            along = array.shape[axis] if 0 <= axis < array.ndim else 1
            if values.size != 1 and (values.ndim != 1 or values.size != along):
                raise self.graph.error(
                    f"{node.op}: {list(values.shape)} scales do not fit weights {list(array.shape)}"
                    f" along axis {axis}",
                    node=node,
                    hint="quantise weights per tensor or per channel",
                )
        return QuantizedConstant(array, s.reshape(-1), z.reshape(-1).astype(np.int64), axis)

    def quantize(self, node: Node, value: Value | None, scale: int, zero_point: int) -> Integer:
        """Reals as an integer tensor: what QuantizeLinear does, and QLinear operators imply."""
        quantization, unsigned = self.quantization(node, scale, zero_point)
        if isinstance(value, FloatInput):
            known = value.meaning.quantization
            if known not in (None, quantization):
                raise self.graph.error(
                    "a float graph input is quantised in two ways",
                    node=node,
                    hint="quantise each input once",
                )
            value.meaning.quantization = quantization
            return Integer(value.activation, unsigned, value.meaning)
        if isinstance(value, Dequantized):
            value = self.rescaled(node, value)
        if not isinstance(value, Deferred):
            raise self.graph.error(
                f"{node.op}: nothing to quantise", node=node, hint=HOW_TO_QUANTIZE
            )
        with self.blame(value.node):
            activation = value.emit(quantization)
        return Integer(activation, unsigned, Meaning(quantization))

    def rescaled(self, node: Node, value: Dequantized) -> Deferred:
        """Known reals, free to take any quantisation."""

        def build(target: Quantization, clamp: Clamp) -> Activation:
            source = value.quantization
            if target != source:
                return elementwise.rescale(
                    self.builder, node.name, value.activation, source, target, clamp
                )
            if clamp.trivial:
                return value.activation
            return elementwise.clamp(self.builder, node.name, value.activation, clamp)

        return Deferred(node, value.shape, build)

    def deferred(self, node: Node, value: Value | None) -> Deferred:
        """Reals whose output quantisation is still open, or can be changed."""
        if isinstance(value, Deferred):
            return value
        return self.rescaled(node, self.activation(node, value))


def attribute_pair(node: Node, name: str, default: int, rank: int) -> list[Any]:
    """An integer list attribute, one for each spatial dimension."""
    value = node.attribute(name, None)
    return [default] * rank if value is None else list(value)
