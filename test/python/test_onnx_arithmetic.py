"""Sums, products, activation functions and softmax against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx_cases import DTYPES, FORMS, SAMPLES, SEEDS, agree, quants, random_integers
from onnx_models import MICROSOFT, Agreement, Array, ModelBuilder, Quant

from tinymlir.bindings import ir
from tinymlir.frontends.onnx import import_onnx

pytest.importorskip("onnxruntime")

SHAPES = st.one_of(
    st.tuples(st.just(1), st.integers(1, 8), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.just(1), st.integers(1, 40)),
    st.tuples(st.just(1), st.integers(1, 6), st.integers(1, 9)),
)


@dataclass(frozen=True)
class Binary:
    op: str
    form: str
    a: Quant
    b: Quant
    y: Quant
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    constant: bool
    seed: int


@st.composite
def binaries(draw: st.DrawFn, ops: tuple[str, ...]) -> Binary:
    dtype = draw(DTYPES)
    op = draw(st.sampled_from(ops))
    whole = draw(SHAPES)
    part = draw(
        st.sampled_from(
            [
                whole,
                tuple(n if d == 1 else 1 for d, n in enumerate(whole)),
                tuple(1 for _ in whole),
                whole[1:],
                (1, *whole[1:]),
            ]
        )
    )
    constant = op != "Mul" and draw(st.booleans())
    shapes = (whole, part) if constant or draw(st.booleans()) else (part, whole)
    if not constant and any(len(s) < len(whole) or s[0] != 1 for s in shapes):
        shapes = (whole, whole)
    form = "qdq" if op == "Sub" else draw(FORMS)
    y = draw(quants(dtype))
    return Binary(
        op,
        form,
        draw(quants(dtype)),
        draw(quants(dtype)),
        y,
        shapes,
        constant,
        draw(SEEDS),
    )


def compare_binary(case: Binary, agreement: Agreement) -> int:
    b = ModelBuilder()
    dtype = case.a.dtype
    data = [
        random_integers(case.seed + i, (SAMPLES, *shape), dtype)
        for i, shape in enumerate(case.shapes)
    ]
    x = b.input(case.shapes[0], dtype)
    y = b.constant(data[1][0]) if case.constant else b.input(case.shapes[1], dtype)
    if case.form == "qdq":
        inputs = [b.dequantize(x, case.a), b.dequantize(y, case.b)]
        result = b.quantize(b.node(case.op, inputs), case.y)
    else:
        inputs = [x, *b.parameters(case.a), y, *b.parameters(case.b), *b.parameters(case.y)]
        result = b.node(f"QLinear{case.op}", inputs, domain=MICROSOFT)
    b.output(result, dtype)
    return agreement.add(b.model(), data[:1] if case.constant else data)


def test_add_and_sub() -> None:
    agree(binaries(("Add", "Sub")), compare_binary, examples=40, least=1)


def test_mul() -> None:
    agree(binaries(("Mul",)), compare_binary, examples=20, least=1)


#: Ratios that make many ties, equal scales, and ones that have nothing to do with another.
RATIOS = (
    (0.1, 0.01, 0.1),
    (0.02, 0.2, 0.1),
    (0.05, 0.05, 0.1),
    (0.3, 0.1, 0.2),
    (0.23, 0.09, 0.24),
)


@pytest.mark.parametrize("scales", [*RATIOS, (0.5, 0.25, 0.5), (0.0317, 0.0623, 0.0917)])
@pytest.mark.parametrize("form", ["qlinear", "qdq", "relu", "sub"])
def test_all_pairs(scales: tuple[float, float, float], form: str) -> None:
    """Sums, differences and products of all 65536 pairs are those of ONNX Runtime."""
    rng = np.random.default_rng([len(form), *(int(s * 1000) for s in scales)])
    dtype = str(rng.choice(["int8", "uint8"]))
    limits = np.iinfo(dtype)
    zeros = rng.integers(limits.min, limits.max + 1, 3).tolist()
    quants_ = [Quant(s, z, dtype) for s, z in zip(scales, zeros, strict=True)]
    numbers = np.arange(limits.min, limits.max + 1).astype(dtype)
    b = ModelBuilder()
    tensors = [b.input([1, 65536], dtype) for _ in range(2)]
    for op in ("Sub",) if form == "sub" else ("Add", "Mul"):
        if form == "qlinear":
            operands = [[t, *b.parameters(q)] for t, q in zip(tensors, quants_, strict=False)]
            inputs = [*operands[0], *operands[1], *b.parameters(quants_[2])]
            y = b.node(f"QLinear{op}", inputs, domain=MICROSOFT)
        else:
            y = b.node(op, [b.dequantize(t, q) for t, q in zip(tensors, quants_, strict=False)])
            y = b.node("Relu", [y]) if form == "relu" and op == "Add" else y
            y = b.quantize(y, quants_[2])
        b.output(y, dtype)
    data = [np.repeat(numbers, 256), np.tile(numbers, 256)]
    agreement = Agreement()
    agreement.add(b.model(), [array[None, None] for array in data], integer=True)
    assert agreement.equal == agreement.total


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_one_quantized_number(op: str, dtype: str) -> None:
    """It is an operand of the fused operator, not part of a table."""
    limits = np.iinfo(dtype)
    numbers = np.arange(limits.min, limits.max + 1).astype(dtype)
    for scales in RATIOS:
        quants_ = [Quant(s, int(limits.max) // 2 - 9 * i, dtype) for i, s in enumerate(scales)]
        b = ModelBuilder()
        x = b.dequantize(b.input([1, 256], dtype), quants_[0])
        for number in numbers[::127]:
            y = b.node(op, [x, b.dequantize(b.constant(number), quants_[1])])
            b.output(b.quantize(y, quants_[2]), dtype)
        # The same goes for a tensor and itself.
        b.output(b.quantize(b.node(op, [x, x]), quants_[2]), dtype)
        agreement = Agreement()
        agreement.add(b.model(), [numbers[None, None]], integer=True)
        assert agreement.equal == agreement.total


def test_add_of_scales_that_differ_wildly() -> None:
    for small, large, out in ((1e-6, 1.0, 1.0), (1e-5, 0.3, 1e-5), (2.0, 1e-7, 0.5)):
        b = ModelBuilder()
        quants_ = [Quant(small, 5), Quant(large, -9), Quant(out, 3)]
        x, y = (b.dequantize(b.input([1, 4096], "int8"), q) for q in quants_[:2])
        b.output(b.quantize(b.node("Add", [x, y]), quants_[2]), "int8")
        agreement = Agreement()
        data = [random_integers(seed, (SAMPLES, 1, 4096)) for seed in (1, 2)]
        assert agreement.add(b.model(), data) <= 1
        assert agreement.equal >= 0.999 * agreement.total


@dataclass(frozen=True)
class Unary:
    op: str
    attributes: dict[str, Any]
    x: Quant
    y: Quant
    shape: tuple[int, ...]
    seed: int


@st.composite
def unaries(draw: st.DrawFn, ops: tuple[tuple[str, dict[str, Any]], ...]) -> Unary:
    op, attributes = draw(st.sampled_from(ops))
    dtype = draw(DTYPES)
    x = draw(quants(dtype))
    y = x if op and draw(st.booleans()) else draw(quants(dtype))
    if not op:
        # The same quantisation twice would be no layer at all.
        y = Quant(y.scale, y.zero_point if y != x else int(np.iinfo(dtype).max), dtype)
    return Unary(op, attributes, x, y, draw(SHAPES), draw(SEEDS))


def compare_unary(case: Unary, agreement: Agreement) -> int:
    b = ModelBuilder()
    x = b.dequantize(b.input(case.shape, case.x.dtype), case.x)
    inputs = [x]
    if case.op == "Clip":
        inputs += [b.constant(np.float32(v)) for v in (0.0, 6.0)]
    if case.op == "Div":
        inputs.append(b.constant(np.float32(3.0)))
    y = x if not case.op else b.node(case.op, inputs, **case.attributes)
    b.output(b.quantize(y, case.y), case.x.dtype)
    data = random_integers(case.seed, (SAMPLES, *case.shape), case.x.dtype)
    return agreement.add(b.model(), [data])


#: The empty name is a change of scale: DequantizeLinear, QuantizeLinear.
CLAMPS: tuple[tuple[str, dict[str, Any]], ...] = (("", {}), ("Relu", {}), ("Clip", {}), ("Div", {}))
TABLES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("LeakyRelu", {"alpha": 0.1}),
    ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    ("Elu", {}),
    ("Softplus", {}),
)


def test_rescaling_and_clamps() -> None:
    agree(unaries(CLAMPS), compare_unary, examples=30, least=1)


def test_functions_of_one_number() -> None:
    agree(unaries(TABLES), compare_unary, examples=20, least=1)


def test_qlinear_functions() -> None:
    def compare(case: Unary, agreement: Agreement) -> int:
        b = ModelBuilder()
        x = b.input(case.shape, case.x.dtype)
        inputs = [x, *b.parameters(case.x), *b.parameters(case.y)]
        y = b.node(f"QLinear{case.op}", inputs, domain=MICROSOFT, **case.attributes)
        b.output(y, case.x.dtype)
        data = random_integers(case.seed, (SAMPLES, *case.shape), case.x.dtype)
        return agreement.add(b.model(), [data])

    agree(unaries(TABLES[:1] + TABLES[2:3]), compare, examples=8, least=1)


@dataclass(frozen=True)
class Softmax:
    shape: tuple[int, ...]
    axis: int
    form: str
    x: Quant
    y: Quant
    seed: int


@st.composite
def softmaxes(draw: st.DrawFn) -> Softmax:
    # Over one element ONNX Runtime's table overflows, and its result is no number.
    shape = tuple(n + 1 if d else n for d, n in enumerate(draw(SHAPES)))
    dtype = draw(DTYPES)
    # The zero point at the least value and 1/256 or 1/255: what quantisers choose.
    low = int(np.iinfo(dtype).min)
    y = Quant(float(np.float32(1 / draw(st.sampled_from([256, 255, 170])))), low, dtype)
    return Softmax(
        shape,
        draw(st.integers(1, len(shape) - 1)),
        draw(FORMS),
        draw(quants(dtype)),
        y,
        draw(SEEDS),
    )


def compare_softmax(case: Softmax, agreement: Agreement) -> int:
    b = ModelBuilder()
    dtype = case.x.dtype
    x = b.input(case.shape, dtype)
    if case.form == "qdq":
        y = b.quantize(b.node("Softmax", [b.dequantize(x, case.x)], axis=case.axis), case.y)
    else:
        inputs = [x, *b.parameters(case.x), *b.parameters(case.y)]
        y = b.node("QLinearSoftmax", inputs, domain=MICROSOFT, axis=case.axis, opset=13)
    b.output(y, dtype)
    data = random_integers(case.seed, (SAMPLES, *case.shape), dtype)
    return agreement.add(b.model(), [data])


def test_softmax() -> None:
    agree(softmaxes(), compare_softmax, examples=40, least=0.99)


def _text(model: onnx.ModelProto) -> str:
    return str(import_onnx(model, file="test.onnx", context=ir.Context()))


def _conv_relu(*, shared: bool) -> onnx.ModelProto:
    """Conv, QuantizeLinear, DequantizeLinear, Relu, QuantizeLinear."""
    b = ModelBuilder()
    quant = Quant(0.0917, 7)
    x = b.dequantize(b.input([1, 2, 4, 4], "int8"), Quant(0.05))
    w = b.dequantize(b.constant(np.ones((3, 2, 1, 1), np.int8)), Quant(0.02))
    first = b.quantize(b.node("Conv", [x, w]), quant)
    b.output(b.quantize(b.node("Relu", [b.dequantize(first, quant)]), quant), "int8")
    if shared:
        b.output(first, "int8")
    return b.model()


def test_relu_becomes_the_clamp_of_the_layer_before() -> None:
    text = _text(_conv_relu(shared=False))
    assert "min = 7 : i32" in text
    assert 'tiny.op = "clamp"' not in text


def test_relu_stays_a_layer_where_its_input_is_read_elsewhere() -> None:
    text = _text(_conv_relu(shared=True))
    assert "min = -128 : i32" in text
    assert 'tiny.op = "clamp"' in text
    agreement = Agreement()
    agreement.add(_conv_relu(shared=True), [random_integers(3, (SAMPLES, 1, 2, 4, 4))])
    assert agreement.worst == 0


def test_limits_of_raw_integers() -> None:
    """Clip and Relu on quantised tensors themselves, as quantisers leave them."""
    b = ModelBuilder()
    x = b.input([1, 300], "uint8")
    b.output(b.node("Clip", [x, b.constant(np.uint8(20)), b.constant(np.uint8(220))]), "uint8")
    agreement = Agreement()
    agreement.add(b.model(), [random_integers(4, (SAMPLES, 1, 300), "uint8")])
    assert agreement.equal == agreement.total


def test_a_positive_factor_costs_nothing() -> None:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 64], "int8"), Quant(0.05))
    doubled = b.quantize(b.node("Mul", [x, b.constant(np.float32(2.0))]), Quant(0.1))
    y = b.node("Sigmoid", [b.dequantize(doubled, Quant(0.1))])
    b.output(b.quantize(y, Quant(1 / 256, -128)), "int8")
    assert _text(b.model()).count("tiny.layer") == 1


def constant_factor(array: Array) -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 3, 4, 4], "int8"), Quant(0.05, 9))
    factor = b.dequantize(b.constant(array), Quant(0.01, 3))
    b.output(b.quantize(b.node("Mul", [x, factor]), Quant(0.0231, -4)), "int8")
    return b.model()


def test_constant_factors() -> None:
    agreement = Agreement()
    factors = random_integers(5, (3, 1, 1))
    agreement.add(constant_factor(factors), [random_integers(6, (64, 1, 3, 4, 4))])
    assert agreement.equal == agreement.total
