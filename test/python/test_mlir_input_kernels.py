"""One network through ONNX, TFLite and TOSA: the same layers, kernels, constants and code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_models import ModelBuilder, Quant
from tflite_models import TfliteModel
from tosa_models import TosaModel, Value

from tinymlir.bindings import ir
from tinymlir.codegen import generate
from tinymlir.compiler import Compilation, compile_model
from tinymlir.dialects import register
from tinymlir.linalg_info import constant_array, constant_scalar
from tinymlir.targets import get_target

Array = npt.NDArray[Any]
#: How TOSA calls the rounding of a layer.
ROUNDING = {"nearest_up": "SINGLE_ROUND", "double": "DOUBLE_ROUND"}


@dataclass(frozen=True)
class Linear:
    """A layer's constants: weights OHWI (HWC1 where depthwise, OI where dense), and scales."""

    weights: Array
    bias: Array
    scales: npt.NDArray[np.float32]
    input_scale: float
    output_scale: float

    @staticmethod
    def random(
        seed: int, shape: Sequence[int], channels: int, output: float, given: float
    ) -> Linear:
        rng = np.random.default_rng(seed)
        # Small sums, which float32 products round as integers do: ONNX's layers take no
        # rounding mode of their own then.
        weights = rng.integers(-9, 10, shape).astype(np.int8)
        bias = rng.integers(-300, 300, channels).astype(np.int32)
        scales = (rng.uniform(0.02, 0.05, channels) * output / given).astype(np.float32)
        return Linear(weights, bias, scales, given, output)

    @property
    def unit(self) -> npt.NDArray[np.float32]:
        return np.float32(self.input_scale) * self.scales


class Network:
    """Convolution with ReLU, depthwise and pointwise convolution, pooling, dense layer."""

    zeros = (3, -128, -7, 11, 5)
    steps = (0.02, 0.03, 0.05, 0.07, 0.11)

    def __init__(self) -> None:
        s = self.steps
        self.first = Linear.random(1, (8, 3, 3, 3), 8, s[1], s[0])
        self.depthwise = Linear.random(2, (3, 3, 8, 1), 8, s[2], s[1])
        self.pointwise = Linear.random(3, (12, 1, 1, 8), 12, s[3], s[2])
        self.dense = Linear.random(4, (10, 108), 10, s[4], s[3])

    def onnx(self) -> onnx.ModelProto:
        """The QDQ form; ONNX's tensors are N×C×H×W."""
        b = ModelBuilder()
        quants = [Quant(s, z) for s, z in zip(self.steps, self.zeros, strict=True)]
        x = b.input([1, 3, 8, 8], "int8", "x")
        value = b.dequantize(x, quants[0])
        first = self.first.weights.transpose(0, 3, 1, 2)
        middle = self.depthwise.weights.transpose(2, 3, 0, 1)
        point = self.pointwise.weights.transpose(0, 3, 1, 2)
        for linear, weights, quant, attributes in (
            (self.first, first, quants[1], {"pads": [1, 1, 1, 1]}),
            (self.depthwise, middle, quants[2], {"group": 8}),
            (self.pointwise, point, quants[3], {}),
        ):
            operands = [value, *self._onnx_constants(b, linear, weights)]
            value = b.node("Conv", operands, **attributes)
            if linear is self.first:
                value = b.node("Relu", [value])
            value = b.dequantize(b.quantize(value, quant), quant)
        value = b.node("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
        value = b.dequantize(b.quantize(value, quants[3]), quants[3])
        value = b.node("Flatten", [value])
        # Flattened channels first, where the others flatten channels last.
        weights = self.dense.weights.reshape(10, 3, 3, 12).transpose(0, 3, 1, 2).reshape(10, 108)
        operands = [value, *self._onnx_constants(b, self.dense, weights)]
        value = b.quantize(b.node("Gemm", operands, transB=1), quants[4])
        b.output(value, "int8", [1, 10])
        return b.model()

    @staticmethod
    def _onnx_constants(b: ModelBuilder, linear: Linear, weights: Array) -> list[str]:
        count = len(linear.bias)
        zeros = [0] * count
        quants = Quant(linear.scales.tolist(), zeros), Quant(linear.unit.tolist(), zeros, "int32")
        return [
            b.dequantize(b.constant(array), quant, axis=0)
            for array, quant in zip((weights, linear.bias), quants, strict=True)
        ]

    def tflite(self) -> bytes:
        m = TfliteModel()
        shapes = [(1, 8, 8, 3), (1, 8, 8, 8), (1, 6, 6, 8), (1, 6, 6, 12), (1, 10)]
        x, a, c, p, y = (
            m.activation(shape, s, z)
            for shape, s, z in zip(shapes, self.steps, self.zeros, strict=True)
        )
        window = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
        pool = m.activation((1, 3, 3, 12), self.steps[3], self.zeros[3])
        flat = m.activation((1, 108), self.steps[3], self.zeros[3])
        depthwise = self.depthwise.weights.transpose(3, 0, 1, 2)
        m.inputs, m.outputs = [x], [y]
        m.op(
            "CONV_2D",
            [x, *self._tflite_constants(m, self.first, self.first.weights, 0)],
            [a],
            "Conv2DOptions",
            Padding=0,
            FusedActivationFunction=1,
            **window,
        )
        m.op(
            "DEPTHWISE_CONV_2D",
            [a, *self._tflite_constants(m, self.depthwise, depthwise, 3)],
            [c],
            "DepthwiseConv2DOptions",
            Padding=1,
            DepthMultiplier=1,
            **window,
        )
        m.op(
            "CONV_2D",
            [c, *self._tflite_constants(m, self.pointwise, self.pointwise.weights, 0)],
            [p],
            "Conv2DOptions",
            Padding=1,
            **window,
        )
        sizes = {"StrideW": 2, "StrideH": 2, "FilterWidth": 2, "FilterHeight": 2}
        m.op("MAX_POOL_2D", [p], [pool], "Pool2DOptions", Padding=1, **sizes)
        m.op("RESHAPE", [pool, m.constant(np.array([1, 108], np.int32))], [flat])
        m.op(
            "FULLY_CONNECTED",
            [flat, *self._tflite_constants(m, self.dense, self.dense.weights, 0)],
            [y],
            "FullyConnectedOptions",
        )
        return m.build()

    @staticmethod
    def _tflite_constants(m: TfliteModel, linear: Linear, weights: Array, axis: int) -> list[int]:
        return [
            m.constant(weights, linear.scales, axis=axis),
            m.constant(linear.bias, linear.unit),
        ]

    def tosa(self, scalings: Sequence[Scaling]) -> str:
        """With the multipliers that another frontend found for the scales, layer by layer."""
        m = TosaModel()
        z = self.zeros
        x = m.input((1, 8, 8, 3))

        def rescale(value: Value, index: int, zero: int) -> Value:
            found = scalings[index]
            return m.rescale(value, found.pairs, 0, zero, rounding=ROUNDING[found.rounding])

        y = m.conv2d(x, self.first.weights, self.first.bias, z[0], pad=(1, 1, 1, 1))
        y = m.clamp(rescale(y, 0, z[1]), z[1], 127)
        y = m.conv2d(y, self.depthwise.weights, self.depthwise.bias, z[1], depthwise=True)
        y = rescale(y, 1, z[2])
        y = m.conv2d(y, self.pointwise.weights, self.pointwise.bias, z[2])
        y = m.max_pool2d(rescale(y, 2, z[3]), (2, 2), (2, 2), (0, 0, 0, 0))
        y = m.reshape(y, (1, 1, 1, 108))
        y = m.conv2d(y, self.dense.weights.reshape(10, 1, 1, 108), self.dense.bias, z[3])
        return m.text(m.reshape(rescale(y, 3, z[4]), (1, 10)))


@dataclass(frozen=True)
class Scaling:
    """The multipliers and shifts of a layer's ``tiny.requantize``."""

    pairs: list[tuple[int, int]]
    rounding: str


def scalings(compilation: Compilation) -> list[Scaling]:
    """Those of each layer of a network that has them, in order."""
    context = ir.Context()
    register(context)
    module = ir.Module.parse(compilation.stages["linalg"], context)
    found = []
    for op in (o.operation for o in module.body.operations[0].regions[0].blocks[0].operations):
        if op.name != "linalg.generic":
            continue
        block = op.regions[0].blocks[0]
        scale = next(o for o in block.operations if o.operation.name == "tiny.requantize")
        numbers = []
        for value in list(scale.operation.operands)[1:]:
            if isinstance(value, ir.BlockArgument):
                numbers.append(np.asarray(constant_array(op.operands[value.arg_number])))
            else:
                numbers.append(np.array([constant_scalar(value)]))
        pairs = [(int(m), int(s)) for m, s in zip(*numbers, strict=True)]
        found.append(Scaling(pairs, scale.operation.attributes["rounding"].value))
    return found


def compiled(file: Path, content: bytes, target: str) -> Compilation:
    file.write_bytes(content)
    return compile_model(file, get_target(target), "net")


def layers(compilation: Compilation) -> list[tuple[str, int, int, int]]:
    return [
        (layer.op, layer.macs, layer.executed_macs, layer.constant_bytes)
        for layer in compilation.layers
    ]


def constants(compilation: Compilation) -> list[str]:
    """The packed weights, biases and scales, as the kernels read them."""
    lines = compilation.stages["memref"].splitlines()
    return [line.split(" : ", 1)[1] for line in lines if "memref.global" in line]


def code(compilation: Compilation) -> bytes:
    return generate(compilation.module, compilation.target).object


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0"])
def test_tosa_has_the_kernels_of_tflite(tmp_path: Path, target: str) -> None:
    network = Network()
    tflite = compiled(tmp_path / "net.tflite", network.tflite(), target)
    found = scalings(tflite)
    assert [s.rounding for s in found[:3]] == ["double"] * 3
    tosa = compiled(tmp_path / "net.mlir", network.tosa(found).encode(), target)
    assert layers(tosa) == layers(tflite)
    assert constants(tosa) == constants(tflite)
    assert code(tosa) == code(tflite)


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imc"])
def test_tosa_has_the_kernels_of_onnx(tmp_path: Path, target: str) -> None:
    network = Network()
    from_onnx = compiled(tmp_path / "net.onnx", network.onnx().SerializeToString(), target)
    found = scalings(from_onnx)
    tosa = compiled(tmp_path / "net.mlir", network.tosa(found).encode(), target)
    assert layers(tosa) == layers(from_onnx)
    assert constants(tosa) == constants(from_onnx)
    assert code(tosa) == code(from_onnx)


def test_all_three_have_the_same_layers_and_weights(tmp_path: Path) -> None:
    """Whatever their rounding: multipliers aside, everything is the same."""
    network = Network()
    tflite = compiled(tmp_path / "net.tflite", network.tflite(), "host")
    from_onnx = compiled(tmp_path / "net.onnx", network.onnx().SerializeToString(), "host")
    tosa = compiled(tmp_path / "net.mlir", network.tosa(scalings(tflite)).encode(), "host")
    expected = [
        ("conv2d", 13824),
        ("depthwise_conv2d", 2592),
        ("conv2d", 3456),
        ("max_pool2d", 0),
        ("fully_connected", 1080),
    ]
    weights = []
    for compilation in (tflite, from_onnx, tosa):
        assert [layer[:2] for layer in layers(compilation)] == expected
        weights.append([line for line in constants(compilation) if "xi8> =" in line])
    assert weights[0] == weights[1] == weights[2]
    # Those of the depthwise layer are words, among its biases.
    assert len(weights[0]) == 3
