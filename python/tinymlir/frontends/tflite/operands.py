"""What operator handlers work with: the values so far, read as what an operator needs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NoReturn

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import ir
from tinymlir.errors import reported
from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.builder import Builder, Clamp
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.ports import name_layer
from tinymlir.frontends.canonical.tensors import Activation, Quantization, constant

from . import arithmetic
from .schema import Array, Graph, Node, Tensor
from .values import FloatInput, Integer, Padded, Phases, Real, Value

HOW_TO_QUANTIZE = (
    "convert with full integer quantisation: optimizations=[tf.lite.Optimize.DEFAULT],"
    " a representative_dataset, supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8]"
)
CONVERT_AGAIN = "convert the network again"

#: The limits that a fused activation puts on the real result, by its code.
ACTIVATIONS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}


class Operands:
    """The graph, the IR builder, and a value for every tensor computed so far.

    Methods raise `TinymlirError` about the node they are given where what it
    needs is not there.
    """

    def __init__(self, graph: Graph, context: ir.Context) -> None:
        self.graph = graph
        self.builder = Builder(context)
        self.values: dict[int, Value] = {}
        #: what QUANTIZE has said of float inputs
        self.input_quantization: dict[int, Quantization] = {}
        self._padded: dict[int, Activation] = {}

    def fail(self, node: Node, message: str, hint: str) -> NoReturn:
        """Raise an error about a node."""
        raise self.graph.error(f"{node}: {message}", node=node, hint=hint)

    def blame(self, node: Node) -> AbstractContextManager[None]:
        """Errors of the layer builders become errors about ``node``."""
        hint = "change or replace this operator"
        return reported(lambda text: self.graph.error(f"{node}: {text}", node=node, hint=hint))

    def tensor(self, node: Node, index: int) -> Tensor:
        """What the file says of an input."""
        if node.input(index) < 0:
            self.fail(node, f"input {index} is missing", CONVERT_AGAIN)
        return self.graph.tensors[node.input(index)]

    def has_input(self, node: Node, index: int) -> bool:
        return node.input(index) >= 0

    def value(self, node: Node, index: int) -> Value:
        """An input, whatever it is."""
        tensor = self.tensor(node, index)
        if tensor.variable:
            self.fail(
                node,
                f"takes the variable '{tensor.name}'",
                "networks with a state cannot be compiled",
            )
        if tensor.index in self.values:
            return self.values[tensor.index]
        if tensor.data is None:
            self.fail(node, f"input '{tensor.name}' is empty", CONVERT_AGAIN)
        return tensor.data

    def shape(self, node: Node, index: int = 0) -> tuple[int, ...]:
        """The logical shape of an input."""
        return tuple(self.value(node, index).shape)

    def constant(self, node: Node, index: int) -> Array:
        """A constant input, as the integers or floats that the file stores."""
        value = self.value(node, index)
        if isinstance(value, np.ndarray):
            return value
        self.fail(
            node,
            f"input '{self.tensor(node, index).name}' must be a constant",
            "only activations may be computed at run time",
        )

    def integers(self, node: Node, index: int) -> list[int]:
        """A constant list of integers."""
        array = self.constant(node, index)
        if array.dtype.kind not in "iu":
            self.fail(node, f"input {index} must hold integers, not {array.dtype}", CONVERT_AGAIN)
        return [int(n) for n in array.reshape(-1)]

    def axis(self, node: Node, axis: int, rank: int) -> int:
        """A dimension number, negative ones counted from the end."""
        if not -rank <= axis < rank:
            self.fail(node, f"axis {axis} does not exist in {rank} dimensions", CONVERT_AGAIN)
        return axis % rank

    def activation(self, node: Node, index: int = 0, *, unsigned: bool = False) -> Integer:
        """An int8 input; a constant becomes one.

        Args:
            unsigned: whether uint8 will do as well.
        """
        value = self.value(node, index)
        if isinstance(value, Real | FloatInput):
            self.fail(node, "computes in float32", HOW_TO_QUANTIZE)
        if isinstance(value, Phases):
            self.fail(
                node,
                "takes the parts of an image that SPACE_TO_BATCH_ND has split",
                "only convolutions may come before BATCH_TO_SPACE_ND",
            )
        if isinstance(value, np.ndarray):
            value = self.constant_activation(node, index)
        if isinstance(value, Padded):
            value = self._materialized(value)
        if value.unsigned and not unsigned:
            self.fail(node, "computes in uint8", "convert to int8; uint8 is taken at the borders")
        return value

    def constant_activation(self, node: Node, index: int, *, like: Layout | None = None) -> Integer:
        """A constant input as an int8 tensor.

        Args:
            like: the layout of what it is combined with, whose order it takes.
        """
        tensor, array = self.tensor(node, index), self.constant(node, index)
        if array.dtype not in (np.int8, np.uint8):
            hint = HOW_TO_QUANTIZE if array.dtype.kind == "f" else "quantise it to int8"
            self.fail(node, f"takes the constant '{tensor.name}' of type {tensor.type}", hint)
        unsigned = array.dtype == np.uint8
        carried = (array.astype(np.int16) - 128).astype(np.int8) if unsigned else array
        value = constant(self.builder, carried, like)
        return Integer(value, self.quantization(node, tensor), unsigned)

    def _materialized(self, value: Padded) -> Integer:
        """The padded tensor as one that exists."""
        key = value.node.outputs[0]
        if key not in self._padded:
            with ir.Location.name(value.node.name, context=self.builder.context):
                self._padded[key] = movement.pad(
                    self.builder,
                    value.node.name,
                    value.source.activation,
                    value.low,
                    value.high,
                    value.fill,
                )
        padded = Integer(self._padded[key], value.quantization, value.source.unsigned)
        self.name_result(key, padded)
        return padded

    def name_result(self, index: int, value: Integer) -> None:
        """Record which layer computes a tensor."""
        name, kind = self.graph.labels[index], self.graph.tensors[index].type
        name_layer(value.activation, name, kind, value.quantization)

    def quantization(self, node: Node, tensor: Tensor) -> Quantization:
        """Scale and zero point of an activation, the zero point as that of the i8 value."""
        if tensor.type not in ("int8", "uint8"):
            self._refuse_type(node, tensor)
        if len(tensor.scale) == 0:
            self.fail(node, f"tensor '{tensor.name}' has no scale", HOW_TO_QUANTIZE)
        if len(tensor.scale) > 1:
            self.fail(
                node,
                f"the activation '{tensor.name}' has a scale for each channel",
                "quantise activations per tensor; weights may be per channel",
            )
        scale = tensor.scale[0]
        zero_point = int(tensor.zero_point[0]) if len(tensor.zero_point) else 0
        carried = zero_point - (128 if tensor.type == "uint8" else 0)
        usable = np.isfinite(scale) and scale > 0
        if not usable or not numerics.I8_MIN <= carried <= numerics.I8_MAX:
            self.fail(
                node,
                f"tensor '{tensor.name}' has the scale {scale} and the zero point {zero_point}",
                CONVERT_AGAIN,
            )
        return Quantization(scale, carried)

    def output(self, node: Node, index: int = 0) -> Quantization:
        """The quantisation of a result, which must be int8."""
        tensor = self.graph.tensors[node.outputs[index]]
        if tensor.type == "uint8":
            self.fail(node, "computes in uint8", "convert to int8; uint8 is taken at the borders")
        return self.quantization(node, tensor)

    def _refuse_type(self, node: Node, tensor: Tensor) -> NoReturn:
        if tensor.type.startswith("float"):
            self.fail(node, f"computes in {tensor.type}", HOW_TO_QUANTIZE)
        if tensor.type == "int16":
            self.fail(
                node,
                "activations are int16 (16x8 quantisation)",
                "convert with int8 activations: supported_ops=[OpsSet.TFLITE_BUILTINS_INT8]",
            )
        self.fail(
            node,
            f"tensor '{tensor.name}' of type {tensor.type} is not supported",
            "activations must be int8",
        )

    def clamp(self, node: Node, target: Quantization) -> Clamp:
        """The int8 range that the fused activation function leaves.

        The reference quantises the limits in float32.
        """
        code = node.options["FusedActivationFunction"]
        if code not in ACTIVATIONS:
            self.fail(node, f"the fused activation function {code} is not supported", CONVERT_AGAIN)
        low, high = ACTIVATIONS[code]
        least = numerics.I8_MIN if np.isinf(low) else arithmetic.quantize(low, target)
        most = numerics.I8_MAX if np.isinf(high) else arithmetic.quantize(high, target)
        least, most = max(least, numerics.I8_MIN), min(most, numerics.I8_MAX)
        if least > most:
            self.fail(node, "the fused activation function leaves no value", CONVERT_AGAIN)
        return Clamp(least, most)
