"""Forms that PyTorch, Brevitas and other exporters leave in quantised networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_cases import random_integers
from onnx_models import Agreement, ModelBuilder, Quant

from tinymlir.bindings import ir
from tinymlir.frontends.onnx import import_onnx

pytest.importorskip("onnxruntime")

X, Y, W = Quant(0.0471, 3), Quant(0.0623, 131, "uint8"), Quant(0.0113)
RNG = np.random.default_rng(7)
WEIGHTS = RNG.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)
IMAGE = (1, 4, 12, 12)


def _layers(model: onnx.ModelProto) -> int:
    text = str(import_onnx(model, file="test.onnx", context=ir.Context()))
    return text.count("tiny.layer =")


def _agree(model: onnx.ModelProto, shape: tuple[int, ...] = IMAGE, dtype: str = "int8") -> None:
    """All results but those that float32 sums of the reference put across a tie."""
    agreement = Agreement()
    agreement.add(model, [random_integers(3, (16, *shape), dtype)], integer=True)
    assert agreement.worst <= 1
    assert agreement.equal >= 0.9998 * agreement.total > 0


def _floats(*shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def _batch_normalization(b: ModelBuilder, x: str, channels: int) -> str:
    """With factors of both signs, and one of zero."""
    scale = _floats(channels, low=-1.5, high=1.5)
    scale[1] = 0
    parameters = [scale, _floats(channels), _floats(channels), _floats(channels, low=0.5)]
    return b.node("BatchNormalization", [x, *map(b.constant, parameters)])


def _clipped_weights(b: ModelBuilder) -> str:
    """Brevitas: integer constants, limited in the graph."""
    limits = [b.constant(np.int8(v)) for v in (-127, 127)]
    return b.dequantize(b.node("Clip", [b.constant(WEIGHTS), *limits]), W)


def _quantized_weights(b: ModelBuilder) -> str:
    """PyTorch: float constants, quantised in the graph, per channel."""
    scales = _floats(8, low=0.005, high=0.015)
    quant = Quant([float(s) for s in scales], [0] * 8)
    reals = WEIGHTS.astype(np.float32) * scales[:, None, None, None]
    parameters = [
        b.node("Constant", [], value=numpy_helper.from_array(np.asarray(value, dtype)))
        for value, dtype in ((quant.scale, np.float32), (quant.zero_point, np.int8))
    ]
    w = b.node("QuantizeLinear", [b.node("Identity", [b.constant(reals)]), *parameters], axis=0)
    return b.node("DequantizeLinear", [w, *parameters], axis=0)


@pytest.mark.parametrize("weights", [_clipped_weights, _quantized_weights])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_training_with_quantization(
    weights: Callable[[ModelBuilder], str], bias: bool, normalized: bool
) -> None:
    """Float biases and a batch normalisation, behind the division that undoes its fusion."""
    b = ModelBuilder()
    inputs = [b.dequantize(b.input(IMAGE, "int8"), X), weights(b)]
    inputs += [b.constant(_floats(8))] if bias else []
    y = b.node("Conv", inputs, pads=[1, 1, 1, 1])
    if normalized:
        y = b.node("Div", [y, b.constant(_floats(1, 8, 1, 1, low=0.5))])
        y = _batch_normalization(b, y, 8)
    b.output(b.quantize(b.node("Relu", [y]), Y), "uint8")
    model = b.model()
    assert _layers(model) == 1
    _agree(model)


def test_integer_biases_limited_in_the_graph() -> None:
    b = ModelBuilder()
    x, w = b.dequantize(b.input(IMAGE, "int8"), X), _clipped_weights(b)
    unit = np.float32(0.0471) * np.float32(0.0113)
    bias = RNG.integers(-3000, 3000, 8).astype(np.int32)
    limits = [b.constant(np.int32(v)) for v in (-(2**31) + 1, 2**31 - 1)]
    quant = Quant(float(unit), 0, "int32")
    shift = b.dequantize(b.node("Clip", [b.constant(bias), *limits]), quant)
    b.output(b.quantize(b.node("Conv", [x, w, shift]), Y), "uint8")
    _agree(b.model())


@pytest.mark.parametrize("shape", [(1, 6, 5, 7), (1, 24), (1, 6, 9)])
def test_normalization_of_a_quantized_tensor(shape: tuple[int, ...]) -> None:
    b = ModelBuilder()
    x = b.dequantize(b.input(shape, "int8"), X)
    b.output(b.quantize(_batch_normalization(b, x, shape[1]), Quant(0.031, -4)), "int8")
    _agree(b.model(), shape)


@pytest.mark.parametrize("along", [(5, 1, 1), (1, 6, 1), (7,)])
def test_float_factors_and_addends_along_one_dimension(along: tuple[int, ...]) -> None:
    b = ModelBuilder()
    x = b.dequantize(b.input((1, 5, 6, 7), "int8"), X)
    y = b.node("Mul", [b.constant(_floats(*along)), x])
    y = b.node("Sub", [b.constant(_floats(*along)), y])
    b.output(b.quantize(y, Quant(0.031, -4)), "int8")
    model = b.model()
    assert _layers(model) <= 2
    _agree(model, (1, 5, 6, 7))


def test_addends_behind_a_product() -> None:
    """MatMul and Add, as linear layers are written for inputs of several rows."""
    b = ModelBuilder()
    x = b.dequantize(b.input((1, 9, 20), "int8"), X)
    w = b.dequantize(b.constant(RNG.integers(-127, 128, (20, 6)).astype(np.int8)), W)
    y = b.node("Add", [b.node("MatMul", [x, w]), b.constant(_floats(6))])
    b.output(b.quantize(y, Y), "uint8")
    model = b.model()
    assert _layers(model) == 1
    _agree(model, (1, 9, 20))


def test_a_float_bias_behind_a_reshape() -> None:
    """ONNX Runtime rounds a bias to steps of the accumulator only without one."""
    for reshaped in (False, True):
        b = ModelBuilder()
        x = b.dequantize(b.input((1, 12), "int8"), X)
        x = b.node("Flatten", [x]) if reshaped else x
        w = b.constant(RNG.integers(-7, 8, (12, 300)).astype(np.int8))
        bias = b.constant(_floats(300))
        y = b.node("Gemm", [x, b.dequantize(w, Quant(0.0913)), bias])
        b.output(b.quantize(y, Quant(0.0623, 4)), "int8")
        _agree(b.model(), (1, 12))


def _hard_swish(b: ModelBuilder, x: str) -> str:
    limits = [b.constant(np.float32(v)) for v in (0, 6)]
    gate = b.node("Clip", [b.node("Add", [x, b.constant(np.float32(3))]), *limits])
    return b.node("Div", [b.node("Mul", [x, gate]), b.constant(np.float32(6))])


def _swish(b: ModelBuilder, x: str) -> str:
    return b.node("Mul", [b.node("Sigmoid", [x]), x])


def _gelu(b: ModelBuilder, x: str) -> str:
    half, one, root = (b.constant(np.float32(v)) for v in (0.5, 1, np.sqrt(2)))
    inner = b.node("Add", [b.node("Erf", [b.node("Div", [x, root])]), one])
    return b.node("Mul", [b.node("Mul", [x, inner]), half])


def _softplus_squared(b: ModelBuilder, x: str) -> str:
    """A chain that a reshape interrupts."""
    y = b.node("Softplus", [b.node("Neg", [x])])
    y = b.node("Reshape", [y, b.constant([1, 64, -1], "int64")])
    return b.node("Pow", [y, b.constant(np.float32(2))])


@pytest.mark.parametrize("chain", [_hard_swish, _swish, _gelu, _softplus_squared])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_float_chains_are_one_table(chain: Callable[[ModelBuilder, str], str], dtype: str) -> None:
    """Equal for each of the 256 values, at several scales."""
    offset = 128 if dtype == "uint8" else 0
    numbers = np.arange(-128, 128) + offset
    for scale, zero_point in ((0.0471, 3), (0.11, -128), (0.0213, 100)):
        b = ModelBuilder()
        quant = Quant(scale, zero_point + offset, dtype)
        y = chain(b, b.dequantize(b.input((1, 64, 2, 2), dtype), quant))
        b.output(b.quantize(y, Quant(scale * 0.8, -90 + offset, dtype)), dtype)
        model = b.model()
        assert _layers(model) == 1
        agreement = Agreement()
        data = numbers.astype(dtype).reshape(1, 1, 64, 2, 2)
        agreement.add(model, [data], integer=True)
        assert agreement.equal == agreement.total == 256


def test_squeeze_and_excitation() -> None:
    """A gate for each channel, of a quantised hard sigmoid."""
    b = ModelBuilder()
    x = b.dequantize(b.input(IMAGE, "int8"), X)
    y = b.dequantize(b.quantize(b.node("GlobalAveragePool", [x]), Quant(0.013, 5)), Quant(0.013, 5))
    w = b.dequantize(b.constant(RNG.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8)), W)
    y = b.quantize(b.node("Conv", [y, w, b.constant(_floats(4))]), Quant(0.02, 9))
    y = b.node("HardSigmoid", [b.dequantize(y, Quant(0.02, 9))], alpha=1 / 6)
    gate = Quant(1 / 255, -128)
    y = b.dequantize(b.quantize(y, gate), gate)
    b.output(b.quantize(b.node("Mul", [x, y]), Quant(0.031, -4)), "int8")
    _agree(b.model())
