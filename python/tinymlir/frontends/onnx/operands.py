"""What operator handlers work with: the values so far, read as what an operator needs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NoReturn

import numpy as np

from tinymlir.bindings import ir
from tinymlir.errors import reported
from tinymlir.frontends.canonical import elementwise
from tinymlir.frontends.canonical.builder import Builder, Clamp
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation, Quantization, constant

from .graph import Graph, Node
from .values import (
    Array,
    Deferred,
    Dequantized,
    FloatInput,
    Function,
    Integer,
    Meaning,
    QuantizedConstant,
    Value,
)

HOW_TO_QUANTIZE = (
    "quantise the network first, with 'tinymlir quantize' or with another tool that calls"
    " onnxruntime.quantization.quantize_static"
)
EXPORT_AGAIN = "export the model again"


class Operands:
    """The graph, the IR builder, and a value for every tensor computed so far.

    Methods raise `TinymlirError` about the node they are given where what it
    needs is not there.
    """

    def __init__(self, graph: Graph, context: ir.Context) -> None:
        self.graph = graph
        self.context = context
        self.builder = Builder(context)
        self.values: dict[str, Value] = dict(graph.constants)

    def fail(self, node: Node, message: str, hint: str) -> NoReturn:
        """Raise an error about a node."""
        raise self.graph.error(f"{node.op}: {message}", node=node, hint=hint)

    def blame(self, node: Node) -> AbstractContextManager[None]:
        """Errors of the layer builders become errors about ``node``."""
        hint = "change or replace this operator"
        return reported(lambda text: self.graph.error(f"{node.op}: {text}", node=node, hint=hint))

    def input(self, node: Node, index: int) -> Value | None:
        """An input, None where it is left out."""
        name = node.input(index)
        if name and name not in self.values:
            self.fail(node, f"input '{name}' is an output that is not supported", EXPORT_AGAIN)
        return self.values[name] if name else None

    def shape(self, node: Node, index: int = 0) -> tuple[int, ...]:
        """The logical shape of an input."""
        value = self.input(node, index)
        if value is None:
            self.fail(node, f"input {index} is missing", EXPORT_AGAIN)
        return tuple(value.shape)

    def constant(self, node: Node, index: int) -> Array | None:
        """A constant input in real terms, None where it is left out."""
        value = self.input(node, index)
        if isinstance(value, QuantizedConstant):
            return value.real()
        if value is None or isinstance(value, np.ndarray):
            return value
        self.fail(
            node,
            f"input '{node.input(index)}' must be a constant",
            "only activations may be computed at run time",
        )

    def scalar(self, node: Node, index: int, default: float) -> float:
        """A constant input of one element."""
        value = self.constant(node, index)
        if value is None:
            return default
        if value.size != 1:
            self.fail(node, f"input '{node.input(index)}' must be one number", EXPORT_AGAIN)
        return value.reshape(-1)[0].item()

    def integers(self, node: Node, index: int, attribute: str) -> list[int] | None:
        """A list of integers, from a constant input or the attribute of older opsets."""
        value = self.constant(node, index)
        if value is None:
            value = node.attribute(attribute, None)
        if value is None:
            return None
        return [int(n) for n in np.asarray(value).reshape(-1)]

    def axis(self, node: Node, axis: int, rank: int) -> int:
        """A dimension number, negative ones counted from the end."""
        if not -rank <= axis < rank:
            self.fail(node, f"axis {axis} does not exist in {rank} dimensions", EXPORT_AGAIN)
        return axis % rank

    def activation(self, node: Node, value: Value | None, what: str = "input") -> Dequantized:
        """``value`` as quantised reals."""
        if isinstance(value, Dequantized):
            return value
        if isinstance(value, Function) and value.linear:
            linear = Dequantized(value.activation, value.linear)
            if not value.limited:
                return linear
            # Limits that the integers have too are a layer of their own.
            table, known = value.quantized(value.linear, Clamp()), Function.of(linear)
            if np.array_equal(known.reals[table.astype(np.int64) + 128], value.reals):
                name = value.node.name if value.node else node.name
                limited = elementwise.tabulate(self.builder, name, value.activation, table)
                return Dequantized(limited, value.linear)
        if isinstance(value, Deferred | Function) and value.node:
            problem = f"takes the float result of node '{value.node.name}' ({value.node.op})"
        elif isinstance(value, FloatInput):
            problem = f"takes a float graph input as its {what}"
        elif isinstance(value, Integer):
            problem = f"takes raw integers as its {what}, without a DequantizeLinear"
        else:
            problem = f"has a constant or no {what} where an activation is expected"
        raise self.graph.error(f"{node.op} {problem}", node=node, hint=HOW_TO_QUANTIZE)

    def function(self, node: Node, value: Value | None) -> Function:
        """``value`` as reals that depend on one int8 number each."""
        return value if isinstance(value, Function) else Function.of(self.activation(node, value))

    def constant_activation(
        self, node: Node, value: QuantizedConstant, like: Layout
    ) -> Dequantized:
        """A quantised constant as an int8 tensor that lies like what it is combined with."""
        if value.array.dtype not in (np.int8, np.uint8) or value.scale.size != 1:
            self.fail(
                node,
                f"a constant operand of type {value.array.dtype} with {value.scale.size} scales",
                "quantise it to int8 or uint8, per tensor",
            )
        offset = 128 if value.array.dtype == np.uint8 else 0
        carried = (value.array.astype(np.int16) - offset).astype(np.int8)
        quantization = Quantization(value.scale[0], int(value.zero_point[0]) - offset)
        return Dequantized(constant(self.builder, carried, like), quantization)

    def quantizer(self, node: Node) -> Node | None:
        """The operator that quantises a node's result, maybe behind limits; a QLinear one does."""
        last: Node | None = node
        while last is not None and not last.op.startswith(("QLinear", "QuantizeLinear")):
            reader = next(self.graph.consumers(last.outputs[0]), None)
            through = reader is not None and reader.op in ("Clip", "Relu", "QuantizeLinear")
            last = reader if through else None
        return last

    def carrier_offset(self, node: Node) -> int:
        """What a node's quantised result has over the int8 numbers that carry it."""
        last = self.quantizer(node)
        if last is None:
            return 0
        index = 1 if last.op == "QuantizeLinear" else 6
        return 128 if self.quantization(last, index, index + 1)[1] else 0

    def deferred(self, node: Node, value: Value | None) -> Deferred:
        """Reals whose output quantisation is still open, or can be changed."""
        if isinstance(value, Deferred):
            return value
        known = self.function(node, value)

        named = known.node or node

        def build(target: Quantization, clamp: Clamp) -> Activation:
            table = known.quantized(target, clamp)
            return elementwise.tabulate(
                self.builder, named.name, known.activation, table, known.linear, target
            )

        return Deferred(named, known.shape, build)

    def parameters(self, node: Node, scale: int, zero_point: int) -> tuple[Array, Array | None]:
        """Scale and zero point inputs, constants both; the zero point may be left out."""
        for index in (scale, zero_point):
            value = self.input(node, index)
            if value is not None and not isinstance(value, np.ndarray):
                self.fail(
                    node,
                    f"'{node.input(index)}' is computed at run time (dynamic quantisation)",
                    "quantise statically, with calibration data",
                )
        s, z = self.constant(node, scale), self.constant(node, zero_point)
        usable = s is not None and s.dtype == np.float32 and s.size > 0
        if s is None or not usable or not np.isfinite(s).all() or not (s > 0).all():
            self.fail(
                node,
                f"the scale '{node.input(scale)}' is not a positive float32",
                "quantise the network again",
            )
        if node.attribute("block_size", 0):
            self.fail(
                node, "blockwise scales are not supported", "quantise per tensor or per channel"
            )
        return s, z

    def quantization(
        self, node: Node, scale: int, zero_point: int, *, unsigned: bool = True
    ) -> tuple[Quantization, bool]:
        """The quantisation of an activation, and whether it is unsigned.

        Args:
            unsigned: the type where no zero point tells it.
        """
        s, z = self.parameters(node, scale, zero_point)
        if z is None:
            z = np.zeros(1, np.uint8 if unsigned else np.int8)
        if s.size != 1 or z.size != 1:
            self.fail(
                node,
                "activations with a scale for each channel are not supported",
                "quantise activations per tensor; weights may be per channel",
            )
        if z.dtype not in (np.int8, np.uint8):
            self.fail(
                node,
                f"activations of type {z.dtype} are not supported",
                "quantise activations to int8 or uint8",
            )
        unsigned = z.dtype == np.uint8
        offset = 128 if unsigned else 0
        return Quantization(s.reshape(-1)[0], int(z.reshape(-1)[0]) - offset), unsigned

    def dequantize(
        self, node: Node, data: int, scale: int, zero_point: int, axis: int = 0
    ) -> Dequantized | QuantizedConstant:
        """An integer input as reals: what DequantizeLinear does, and QLinear operators imply."""
        value = self.input(node, data)
        if isinstance(value, np.ndarray):
            return self._dequantize_constant(node, value, scale, zero_point, axis)
        if not isinstance(value, Integer):
            self.fail(node, f"input '{node.input(data)}' is not int8 or uint8", HOW_TO_QUANTIZE)
        quantization, unsigned = self.quantization(node, scale, zero_point, unsigned=value.unsigned)
        if unsigned != value.unsigned:
            self.fail(
                node,
                f"the zero point's type differs from that of '{node.input(data)}'",
                "quantise the network again",
            )
        if value.meaning.quantization is None:
            value.meaning.quantization = quantization
        return Dequantized(value.activation, quantization)

    def _dequantize_constant(
        self, node: Node, array: Array, scale: int, zero_point: int, axis: int
    ) -> QuantizedConstant:
        s, z = self.parameters(node, scale, zero_point)
        z = np.zeros(1, array.dtype) if z is None else z
        if array.dtype not in (np.int8, np.uint8, np.int32) or z.dtype != array.dtype:
            self.fail(
                node,
                f"constants of type {array.dtype} with zero points of type {z.dtype}"
                " are not supported",
                "quantise weights to int8 or uint8 and biases to int32",
            )
        axis = axis + array.ndim if axis < 0 else axis
        along = array.shape[axis] if 0 <= axis < array.ndim else 1
        for values in (s, z):
            if values.size != 1 and (values.ndim != 1 or values.size != along):
                self.fail(
                    node,
                    f"{list(values.shape)} scales do not fit constants {list(array.shape)}"
                    f" along axis {axis}",
                    "quantise weights per tensor or per channel",
                )
        return QuantizedConstant(array, s.reshape(-1), z.reshape(-1).astype(np.int64), axis)

    def quantize(self, node: Node, value: Value | None, scale: int, zero_point: int) -> Integer:
        """Reals as an integer tensor: what QuantizeLinear does, and QLinear operators imply."""
        signed = node.attribute("output_dtype", 0) == 3  # TensorProto.INT8
        quantization, unsigned = self.quantization(node, scale, zero_point, unsigned=not signed)
        if isinstance(value, FloatInput):
            known = value.meaning.quantization
            if known not in (None, quantization):
                self.fail(
                    node, "a float graph input is quantised in two ways", "quantise each input once"
                )
            value.meaning.quantization = quantization
            return Integer(value.activation, unsigned, value.meaning)
        result = self.deferred(node, value)
        with self.blame(result.node):
            activation = result.emit(quantization)
        return Integer(activation, unsigned, Meaning(quantization))
