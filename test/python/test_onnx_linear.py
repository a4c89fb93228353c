"""Convolutions and dense layers against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx_cases import DTYPES, FORMS, SAMPLES, SEEDS, agree, quants, random_integers
from onnx_models import MICROSOFT, Agreement, Array, ModelBuilder, Quant

pytest.importorskip("onnxruntime")


@dataclass(frozen=True)
class Weights:
    """Quantised weights, output channels first, and their int32 bias."""

    array: Array
    quant: Quant
    bias: Array | None

    @staticmethod
    def random(
        seed: int, shape: tuple[int, ...], *, per_channel: bool, with_bias: bool, dtype: str
    ) -> Weights:
        rng = np.random.default_rng(seed)
        # Within the range that the 8-bit kernels of older processors take without saturating.
        array = rng.integers(-64, 64, shape)
        count = shape[0] if per_channel else 1
        scales = np.float32(10.0 ** rng.uniform(-3, -1.5, count))
        zero = 128 if dtype == "uint8" else 0
        values = [float(s) for s in scales]
        quant = (
            Quant(values, [zero] * count, dtype) if per_channel else Quant(values[0], zero, dtype)
        )
        bias = rng.integers(-2000, 2000, shape[0]).astype(np.int32) if with_bias else None
        return Weights((array + zero).astype(dtype), quant, bias)

    def bias_quant(self, scale: float) -> Quant:
        """The bias is at the accumulator's scale."""
        units = np.float32(scale) * np.asarray(self.quant.scale, np.float32)
        zeros = np.zeros(units.shape, int).tolist()
        return Quant(units.tolist(), zeros, "int32")


@dataclass(frozen=True)
class Conv:
    channels: int
    outputs_per_group: int
    groups: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    attributes: dict[str, Any]
    form: str
    x: Quant
    y: Quant
    seed: int
    per_channel: bool
    with_bias: bool
    unsigned_weights: bool


@st.composite
def convs(draw: st.DrawFn, spatial: int = 2) -> Conv:
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    depthwise = groups > 1 and draw(st.booleans())
    channels = groups * (1 if depthwise else draw(st.integers(1, 5)))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(spatial))
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in range(spatial)]
    size = tuple(
        d * (k - 1) + draw(st.integers(1, 7)) for k, d in zip(kernel, dilations, strict=True)
    )
    attributes: dict[str, Any] = {
        "strides": [draw(st.integers(1, 3)) for _ in range(spatial)],
        "dilations": dilations,
    }
    if groups > 1:
        attributes["group"] = groups
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * spatial)]
    else:
        attributes["auto_pad"] = auto
        if auto != "VALID":
            attributes["dilations"] = [1] * spatial
    dtype = draw(DTYPES)
    per_channel = draw(st.booleans())
    return Conv(
        channels,
        draw(st.integers(1, 6)),
        groups,
        size,
        kernel,
        attributes,
        draw(FORMS),
        draw(quants(dtype)),
        draw(quants(dtype)),
        draw(SEEDS),
        per_channel,
        draw(st.booleans()),
        not per_channel and dtype == "uint8" and draw(st.booleans()),
    )


def compare_conv(case: Conv, agreement: Agreement) -> int:
    outputs = case.groups * case.outputs_per_group
    weights = Weights.random(
        case.seed,
        (outputs, case.channels // case.groups, *case.kernel),
        per_channel=case.per_channel,
        with_bias=case.with_bias,
        dtype="uint8" if case.unsigned_weights else "int8",
    )
    b = ModelBuilder()
    x = b.input([1, case.channels, *case.size], case.x.dtype)
    w = b.constant(weights.array)
    if case.form == "qdq":
        inputs = [b.dequantize(x, case.x), b.dequantize(w, weights.quant, axis=0)]
        if weights.bias is not None:
            quant = weights.bias_quant(float(np.asarray(case.x.scale, np.float32)))
            inputs.append(b.dequantize(b.constant(weights.bias), quant, axis=0))
        y = b.quantize(b.node("Conv", inputs, **case.attributes), case.y)
    else:
        inputs = [x, *b.parameters(case.x), w, *b.parameters(weights.quant)]
        inputs += b.parameters(case.y)
        if weights.bias is not None:
            inputs.append(b.constant(weights.bias))
        y = b.node("QLinearConv", inputs, **case.attributes)
    b.output(y, case.x.dtype)
    data = random_integers(case.seed, (SAMPLES, 1, case.channels, *case.size), case.x.dtype)
    return agreement.add(b.model(), [data])


def test_conv_2d() -> None:
    agree(convs(), compare_conv, examples=40)


def test_conv_1d() -> None:
    agree(convs(spatial=1), compare_conv)


@dataclass(frozen=True)
class Dense:
    rows: int
    depth: int
    outputs: int
    op: str
    x: Quant
    y: Quant
    seed: int
    transposed: bool
    per_channel: bool
    with_bias: bool


@st.composite
def denses(draw: st.DrawFn) -> Dense:
    op = draw(st.sampled_from(["Gemm", "MatMul", "QGemm", "QLinearMatMul"]))
    dtype = draw(DTYPES)
    gemm = op.endswith("Gemm")
    return Dense(
        1 if op == "QGemm" else draw(st.integers(1, 3)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 12)),
        op,
        draw(quants(dtype)),
        draw(quants(dtype)),
        draw(SEEDS),
        gemm and draw(st.booleans()),
        draw(st.booleans()),
        gemm and draw(st.booleans()),
    )


def compare_dense(case: Dense, agreement: Agreement) -> int:
    weights = Weights.random(
        case.seed,
        (case.outputs, case.depth),
        per_channel=case.per_channel,
        with_bias=case.with_bias,
        dtype="int8",
    )
    b = ModelBuilder()
    # The batch is one: further rows are a dimension of their own.
    rows = [case.rows] if case.rows > 1 else []
    x = b.input([1, *rows, case.depth], case.x.dtype)
    flat = x
    if case.rows > 1 and case.op == "Gemm":
        flat = b.node("Reshape", [x, b.constant([case.rows, case.depth], "int64")])
    w = b.constant(weights.array if case.transposed else weights.array.T)
    axis = 0 if case.transposed else 1
    attributes: dict[str, Any] = {"transB": 1} if case.transposed else {}
    if case.op.startswith("Q"):
        inputs = [flat, *b.parameters(case.x), w, *b.parameters(weights.quant)]
        if case.op == "QGemm":
            inputs += ["" if weights.bias is None else b.constant(weights.bias)]
        domain = MICROSOFT if case.op == "QGemm" else ""
        y = b.node(case.op, [*inputs, *b.parameters(case.y)], domain=domain, **attributes)
    else:
        inputs = [b.dequantize(flat, case.x), b.dequantize(w, weights.quant, axis=axis)]
        if weights.bias is not None:
            quant = weights.bias_quant(float(np.asarray(case.x.scale, np.float32)))
            inputs.append(b.dequantize(b.constant(weights.bias), quant, axis=0))
        y = b.quantize(b.node(case.op, inputs, **attributes), case.y)
    b.output(y, case.x.dtype)
    data = random_integers(case.seed, (SAMPLES, 1, *rows, case.depth), case.x.dtype)
    return agreement.add(b.model(), [data])


def test_dense() -> None:
    agree(denses(), compare_dense, examples=40)


def test_weights_off_centre_by_what_still_fits() -> None:
    """uint8 weights around a zero point other than 128."""
    rng = np.random.default_rng(7)
    quant = Quant(0.02, 100, "uint8")
    x, y = Quant(0.05, 3), Quant(0.1, -5)
    b = ModelBuilder()
    tensor = b.input([1, 3, 5, 5], "int8")
    w = b.constant(rng.integers(0, 220, (4, 3, 3, 3)).astype(np.uint8))
    inputs = [b.dequantize(tensor, x), b.dequantize(w, quant)]
    b.output(b.quantize(b.node("Conv", inputs), y), "int8")
    agreement = Agreement()
    agreement.add(b.model(), [random_integers(1, (SAMPLES, 1, 3, 5, 5))])
    assert agreement.worst == 0


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("zero_point", [20, 255])
def test_weights_of_nine_bits(groups: int, zero_point: int) -> None:
    """uint8 weights far off centre, as asymmetric quantisation of weights gives them."""
    rng = np.random.default_rng(9)
    quant = Quant(0.0113, zero_point, "uint8")
    x, y = Quant(0.05, 130, "uint8"), Quant(3.17, 120, "uint8")
    b = ModelBuilder()
    tensor = b.dequantize(b.input([1, 4, 5, 5], "uint8"), x)
    # Seven bits, as kernels of processors without VNNI need them.
    arrays = [
        zero_point + (-1) ** (zero_point > 128) * rng.integers(0, 128, shape)
        for shape in ((8, 4 // groups, 3, 3), (8, 6))
    ]
    w, v = (b.dequantize(b.constant(a.astype(np.uint8)), quant) for a in arrays)
    t = b.quantize(b.node("Conv", [tensor, w], group=groups), y)
    flat = b.node("GlobalMaxPool", [b.dequantize(t, y)])
    flat = b.node("Reshape", [flat, b.constant([1, 8], "int64")])
    b.output(b.quantize(b.node("MatMul", [flat, v]), Quant(7.31, 128, "uint8")), "uint8")
    agreement = Agreement()
    agreement.add(b.model(), [random_integers(1, (SAMPLES, 1, 4, 5, 5), "uint8")])
    assert agreement.equal == agreement.total


def test_bias_added_by_a_node_of_its_own() -> None:
    """MatMul and Add without a QuantizeLinear between are one layer; so is float bias."""
    rng = np.random.default_rng(8)
    x, y, w = Quant(0.05, 3), Quant(0.2, -5), Quant(0.01)
    b = ModelBuilder()
    tensor = b.dequantize(b.input([1, 20], "int8"), x)
    weights = b.dequantize(b.constant(rng.integers(-64, 64, (20, 6)).astype(np.int8)), w)
    product = b.node("MatMul", [tensor, weights])
    bias = b.constant(rng.uniform(-2, 2, 6).astype(np.float32))
    b.output(b.quantize(b.node("Relu", [b.node("Add", [product, bias])]), y), "int8")
    agreement = Agreement()
    agreement.add(b.model(), [random_integers(2, (64, 1, 20))])
    assert agreement.equal == agreement.total
