"""Operators that move or regroup elements: right, and free where they can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import SAMPLES, SEEDS, agree, quants, random_integers
from onnx_models import MICROSOFT, Agreement, ModelBuilder, Quant

from tinymlir.bindings import ir
from tinymlir.frontends.canonical.layout import Layout, refine
from tinymlir.frontends.onnx import import_onnx

pytest.importorskip("onnxruntime")

X, Y = Quant(0.05, 3), Quant(0.04, -7)


def _text(model: onnx.ModelProto) -> str:
    return str(import_onnx(model, file="test.onnx", context=ir.Context()))


def _exact(model: onnx.ModelProto, *shapes: Sequence[int], seed: int = 1) -> None:
    agreement = Agreement()
    data = [random_integers(seed + i, (SAMPLES, *shape)) for i, shape in enumerate(shapes)]
    agreement.add(model, data)
    assert agreement.equal == agreement.total > 0


def _conv(b: ModelBuilder, x: str, channels: int, outputs: int, **attributes: Any) -> str:
    """A QLinearConv 3x3 with random weights."""
    rng = np.random.default_rng(channels * 100 + outputs)
    per_group = channels // attributes.get("group", 1)
    w = b.constant(rng.integers(-64, 64, (outputs, per_group, 3, 3)).astype(np.int8))
    inputs = [x, *b.parameters(X), w, *b.parameters(Quant(0.0123)), *b.parameters(X)]
    return b.node("QLinearConv", inputs, pads=[1, 1, 1, 1], **attributes)


def _dense(b: ModelBuilder, x: str, depth: int, outputs: int) -> str:
    rng = np.random.default_rng(depth)
    w = b.constant(rng.integers(-64, 64, (depth, outputs)).astype(np.int8))
    inputs = [x, *b.parameters(X), w, *b.parameters(Quant(0.0123)), *b.parameters(Y)]
    return b.node("QLinearMatMul", inputs)


def test_flatten_before_a_dense_layer_is_absorbed_by_its_weights() -> None:
    b = ModelBuilder()
    y = _conv(b, b.input([1, 3, 6, 5], "int8"), 3, 4)
    b.output(_dense(b, b.node("Flatten", [y]), 4 * 6 * 5, 7), "int8")
    model = b.model()
    assert "linalg.transpose" not in _text(model)
    _exact(model, (1, 3, 6, 5))


def test_a_network_that_takes_nhwc_keeps_it() -> None:
    b = ModelBuilder()
    x = b.node("Transpose", [b.input([1, 6, 5, 3], "int8")], perm=[0, 3, 1, 2])
    b.output(b.node("Transpose", [_conv(b, x, 3, 4)], perm=[0, 2, 3, 1]), "int8")
    text = _text(b.model())
    assert "linalg.transpose" not in text
    assert "tensor<1x6x5x3xi8> {tiny.model_shape = array<i64: 1, 6, 5, 3>" in text
    _exact(b.model(), (1, 6, 5, 3))


def test_channel_shuffle_costs_nothing() -> None:
    """Reshape, Transpose, Reshape between a grouped, a depthwise and a plain convolution."""
    b = ModelBuilder()
    y = _conv(b, b.input([1, 6, 5, 4], "int8"), 6, 6, group=3)
    y = b.node("Reshape", [y, b.constant([1, 3, 2, 5, 4], "int64")])
    y = b.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    y = b.node("Reshape", [y, b.constant([1, 6, 5, 4], "int64")])
    y = _conv(b, y, 6, 6, group=6)
    b.output(_conv(b, y, 6, 4), "int8")
    assert "linalg.transpose" not in _text(b.model())
    _exact(b.model(), (1, 6, 5, 4))


def test_a_grouped_convolution_of_shuffled_channels_has_them_put_in_order() -> None:
    b = ModelBuilder()
    y = b.node("Reshape", [b.input([1, 6, 5, 4], "int8"), b.constant([1, 3, 2, 5, 4], "int64")])
    y = b.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    y = b.node("Reshape", [y, b.constant([1, 6, 5, 4], "int64")])
    b.output(_conv(b, y, 6, 4, group=2), "int8")
    assert _text(b.model()).count('tiny.op = "transpose"') == 1
    _exact(b.model(), (1, 6, 5, 4))


def test_shuffled_channels_at_the_output_are_put_in_order() -> None:
    b = ModelBuilder()
    y = _conv(b, b.input([1, 4, 3, 3], "int8"), 4, 6)
    y = b.node("Reshape", [y, b.constant([1, 2, 3, 3, 3], "int64")])
    y = b.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    b.output(b.node("Reshape", [y, b.constant([0, -1, 3, 3], "int64")]), "int8")
    assert _text(b.model()).count('tiny.op = "transpose"') == 1
    _exact(b.model(), (1, 4, 3, 3))


def test_flattened_output_comes_in_the_models_order() -> None:
    b = ModelBuilder()
    y = _conv(b, b.input([1, 3, 4, 5], "int8"), 3, 4)
    b.output(b.node("Flatten", [y]), "int8")
    _exact(b.model(), (1, 3, 4, 5))


def test_a_dense_layer_then_a_convolution() -> None:
    b = ModelBuilder()
    y = _dense(b, b.input([1, 8], "int8"), 8, 4 * 3 * 3)
    y = b.node("Reshape", [y, b.constant([1, 4, 3, 3], "int64")])
    w = b.constant(random_integers(3, (2, 4, 1, 1)))
    inputs = [y, *b.parameters(Y), w, *b.parameters(Quant(0.0123)), *b.parameters(X)]
    b.output(b.node("QLinearConv", inputs), "int8")
    _exact(b.model(), (1, 8))


def test_operands_in_different_arrangements() -> None:
    """A sum of a convolution's result and of one that comes from a dense layer."""
    b = ModelBuilder()
    left = _conv(b, b.input([1, 3, 4, 4], "int8"), 3, 2)
    right = _dense(b, b.input([1, 9], "int8"), 9, 2 * 4 * 4)
    right = b.node("Reshape", [right, b.constant([1, 2, 4, 4], "int64")])
    inputs = [left, *b.parameters(X), right, *b.parameters(Y), *b.parameters(Quant(0.0917, 1))]
    b.output(b.node("QLinearAdd", inputs, domain=MICROSOFT), "int8")
    _exact(b.model(), (1, 3, 4, 4), (1, 9))


def test_squeeze_and_unsqueeze() -> None:
    b = ModelBuilder()
    x = b.node("Unsqueeze", [b.input([1, 3, 8], "int8"), b.constant([2], "int64")])
    y = _conv(b, x, 3, 4)
    b.output(b.node("Squeeze", [y, b.constant([-2], "int64")]), "int8")
    assert "linalg.transpose" not in _text(b.model())
    _exact(b.model(), (1, 3, 8))


def test_dropout_and_identity_vanish() -> None:
    b = ModelBuilder()
    y = b.node("Identity", [_conv(b, b.input([1, 3, 4, 4], "int8"), 3, 4)])
    y = b.quantize(b.node("Dropout", [b.dequantize(y, X)]), X)
    b.output(y, "int8")
    assert _text(b.model()).count("tiny.layer") == 1


def test_shape_arithmetic_is_evaluated() -> None:
    """Shape, Gather, Concat and Constant nodes, as exporters write a flatten."""
    b = ModelBuilder()
    y = _conv(b, b.input([1, 3, 4, 4], "int8"), 3, 4)
    batch = b.node("Gather", [b.node("Shape", [y]), b.constant(0, "int64")], axis=0)
    batch = b.node("Unsqueeze", [batch, b.constant([0], "int64")])
    rest = b.node("Constant", [], value=onnx.numpy_helper.from_array(np.array([-1])))
    shape = b.node("Concat", [batch, rest], axis=0)
    b.output(_dense(b, b.node("Reshape", [y, shape]), 64, 5), "int8")
    _exact(b.model(), (1, 3, 4, 4))


def test_weights_may_be_arranged_behind_their_dequantization() -> None:
    """DequantizeLinear, Transpose, MatMul: the scales' axis follows the weights."""
    rng = np.random.default_rng(5)
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 12], "int8"), X)
    w = b.constant(rng.integers(-64, 64, (5, 12)).astype(np.int8))
    quant = Quant(rng.uniform(0.001, 0.02, 5).tolist(), [0] * 5)
    w = b.node("Transpose", [b.dequantize(w, quant, axis=0)], perm=[1, 0])
    b.output(b.quantize(b.node("MatMul", [x, w]), Y), "int8")
    agreement = Agreement()
    assert agreement.add(b.model(), [random_integers(6, (64, 1, 12))]) <= 1


@dataclass(frozen=True)
class Join:
    shapes: tuple[tuple[int, ...], ...]
    axis: int
    quants: tuple[Quant, ...]
    out: Quant
    form: str
    seed: int


@st.composite
def joins(draw: st.DrawFn) -> Join:
    rank = draw(st.integers(2, 4))
    axis = draw(st.integers(1, rank - 1))
    whole = [1, *(draw(st.integers(1, 5)) for _ in range(rank - 1))]
    parts = draw(st.integers(2, 3))
    shapes = tuple(
        tuple(draw(st.integers(1, 5)) if d == axis else n for d, n in enumerate(whole))
        for _ in range(parts)
    )
    out = draw(quants("uint8"))
    given_ = [out if draw(st.booleans()) else draw(quants("uint8")) for _ in shapes]
    form = draw(st.sampled_from(["qdq", "qoperator", "raw"]))
    return Join(shapes, axis, tuple(given_), out, form, draw(SEEDS))


def compare_join(case: Join, agreement: Agreement) -> int:
    b = ModelBuilder()
    parts = [b.input(shape, "uint8") for shape in case.shapes]
    if case.form == "qdq":
        reals = [b.dequantize(p, q) for p, q in zip(parts, case.quants, strict=True)]
        y = b.quantize(b.node("Concat", reals, axis=case.axis), case.out)
    elif case.form == "raw":
        y = b.node("Concat", parts, axis=case.axis)
    else:
        inputs = b.parameters(case.out)
        for part, quant in zip(parts, case.quants, strict=True):
            inputs += [part, *b.parameters(quant)]
        y = b.node("QLinearConcat", inputs, domain=MICROSOFT, axis=case.axis)
    b.output(y, "uint8")
    data = [
        random_integers(case.seed + i, (SAMPLES, *shape), "uint8")
        for i, shape in enumerate(case.shapes)
    ]
    return agreement.add(b.model(), data)


def test_concat() -> None:
    agree(joins(), compare_join, examples=30)


@dataclass(frozen=True)
class Pad:
    shape: tuple[int, ...]
    pads: tuple[int, ...]
    value: float
    x: Quant
    y: Quant
    seed: int


@st.composite
def pads(draw: st.DrawFn) -> Pad:
    shape = (1, *draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    ends = [0 if d % len(shape) == 0 else draw(st.integers(0, 3)) for d in range(2 * len(shape))]
    # At least one element, so that there is a layer.
    ends[-1] += 1
    x = draw(quants("int8"))
    y = x if draw(st.booleans()) else draw(quants("int8"))
    value = draw(st.sampled_from([0.0, 1.0, -3.3, 1000.0]))
    return Pad(shape, tuple(ends), value, x, y, draw(SEEDS))


def compare_pad(case: Pad, agreement: Agreement) -> int:
    b = ModelBuilder()
    x = b.dequantize(b.input(case.shape, "int8"), case.x)
    y = b.node("Pad", [x, b.constant(case.pads, "int64"), b.constant(np.float32(case.value))])
    b.output(b.quantize(y, case.y), "int8")
    return agreement.add(b.model(), [random_integers(case.seed, (SAMPLES, *case.shape))])


def test_pad() -> None:
    agree(pads(), compare_pad, examples=30)


def test_pad_of_raw_integers() -> None:
    b = ModelBuilder()
    x = b.input([1, 2, 3, 3], "uint8")
    ends = b.constant([0, 0, 1, 2, 0, 0, 2, 1], "int64")
    b.output(b.node("Pad", [x, ends, b.constant(np.uint8(200))]), "uint8")
    agreement = Agreement()
    agreement.add(b.model(), [random_integers(2, (SAMPLES, 1, 2, 3, 3), "uint8")])
    assert agreement.equal == agreement.total


def _buffer(layout: Layout, logical: np.ndarray) -> np.ndarray:
    """The flat buffer that holds ``logical`` in ``layout``."""
    atoms = [atom for dim in layout.dims for atom in dim]
    shaped = logical.reshape([atom.size for atom in atoms])
    return shaped.transpose([atoms.index(atom) for atom in layout.order]).reshape(-1)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=4),
    st.data(),
)
def test_layouts_follow_transposes_and_reshapes(shape: list[int], data: st.DataObject) -> None:
    """The buffer never changes, and always holds the logical tensor."""
    layout = Layout.of(shape, data.draw(st.permutations(range(len(shape)))))
    logical = np.arange(np.prod(shape)).reshape(shape)
    buffer = _buffer(layout, logical)
    for _ in range(3):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(logical.ndim)))
            layout, logical = layout.transposed(order), logical.transpose(order)
        else:
            rest, wanted = logical.size, []
            for size in (2, 3, 4):
                if rest % size == 0 and data.draw(st.booleans()):
                    wanted.append(size)
                    rest //= size
            wanted.insert(data.draw(st.integers(0, len(wanted))), rest)
            moved = layout.reshaped(wanted)
            if moved is None:
                continue
            layout, logical = moved, logical.reshape(wanted)
        assert layout.shape == logical.shape
        assert np.array_equal(_buffer(layout, logical), buffer)
        permutation = layout.dim_order()
        if permutation is not None:
            assert np.array_equal(logical.transpose(permutation).reshape(-1), buffer)


def test_layouts_refine_to_common_atoms() -> None:
    wide, split = Layout.of((12,)), Layout.of((3, 4)).reshaped((12,))
    assert split is not None
    both = refine(wide, split)
    assert both is not None
    assert both[0].dims == both[1].dims
    assert refine(Layout.of((2, 3)).transposed((1, 0)), Layout.of((3, 2))) is not None
