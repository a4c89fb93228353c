"""Pooling operators and means against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx_cases import DTYPES, FORMS, SAMPLES, SEEDS, agree, quants, random_integers
from onnx_models import MICROSOFT, Agreement, ModelBuilder, Quant

pytest.importorskip("onnxruntime")


@dataclass(frozen=True)
class Pool:
    op: str
    form: str
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    x: Quant
    y: Quant
    seed: int


@st.composite
def pools(draw: st.DrawFn, op: str) -> Pool:
    spatial = draw(st.sampled_from([1, 2, 2]))
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    shape = (1, draw(st.integers(1, 6)), *(k + draw(st.integers(0, 6)) for k in kernel))
    form = "qdq" if op == "MaxPool" else draw(FORMS)
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in range(spatial)],
    }
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto.startswith("SAME"):
        # Where the window is narrower than its stride ONNX Runtime pads by less than nothing.
        attributes["strides"] = [
            min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)
        ]
    if auto == "NOTSET":
        ends = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
        attributes["pads"] = ends
        # The QLinear kernel counts a window's part beyond the padding; ONNX does not.
        attributes["ceil_mode"] = int(form == "qdq" and draw(st.booleans()))
    else:
        attributes["auto_pad"] = auto
    if op == "AveragePool":
        attributes["count_include_pad"] = int(draw(st.booleans()))
    dtype = draw(DTYPES)
    x = draw(quants(dtype))
    # With equal scales, as quantisers give pools, many means are ties.
    y = x if draw(st.booleans()) else draw(quants(dtype))
    return Pool(op, form, shape, attributes, x, y, draw(SEEDS))


def compare_pool(case: Pool, agreement: Agreement) -> int:
    b = ModelBuilder()
    x = b.input(case.shape, case.x.dtype)
    if case.form == "qdq":
        y = b.node(case.op, [b.dequantize(x, case.x)], **case.attributes)
        y = b.quantize(y, case.y)
    else:
        inputs = [x, *b.parameters(case.x), *b.parameters(case.y)]
        y = b.node(f"QLinear{case.op}", inputs, domain=MICROSOFT, **case.attributes)
    b.output(y, case.x.dtype)
    data = random_integers(case.seed, (SAMPLES, *case.shape), case.x.dtype)
    return agreement.add(b.model(), [data])


def test_max_pool() -> None:
    agree(pools("MaxPool"), compare_pool, examples=25)


def test_average_pool() -> None:
    agree(pools("AveragePool"), compare_pool, examples=40, least=1)


def test_max_pool_of_raw_integers() -> None:
    for dtype in ("int8", "uint8"):
        b = ModelBuilder()
        x = b.input([1, 3, 7, 7], dtype)
        y = b.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        b.output(y, dtype)
        agreement = Agreement()
        agreement.add(b.model(), [random_integers(1, (SAMPLES, 1, 3, 7, 7), dtype)])
        assert agreement.equal == agreement.total


@st.composite
def globals_(draw: st.DrawFn) -> Pool:
    shape = (1, draw(st.integers(1, 9)), *draw(st.lists(st.integers(1, 9), min_size=1, max_size=2)))
    op = draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool", "ReduceMean"]))
    attributes: dict[str, Any] = {}
    if op == "ReduceMean":
        attributes = {"axes": list(range(2, len(shape))), "keepdims": draw(st.integers(0, 1))}
    form = draw(FORMS) if op == "GlobalAveragePool" else "qdq"
    dtype = draw(DTYPES)
    return Pool(op, form, shape, attributes, draw(quants(dtype)), draw(quants(dtype)), draw(SEEDS))


def test_pools_of_everything() -> None:
    # Of a mean that lies between two integers, float32 sums in an order of their own decide.
    agree(globals_(), compare_pool, examples=30, least=0.99)


def test_means_over_other_axes() -> None:
    """Where the kept dimensions do not lie innermost, a transposing layer comes first."""
    for axes in ([1], [3], [1, 2], [2], [1, 2, 3]):
        b = ModelBuilder()
        x = b.dequantize(b.input([1, 4, 3, 5], "int8"), Quant(0.05, 3))
        b.output(b.quantize(b.node("ReduceMean", [x], axes=axes), Quant(0.031, -2)), "int8")
        agreement = Agreement()
        assert agreement.add(b.model(), [random_integers(5, (32, 1, 4, 3, 5))]) <= 1
        assert agreement.equal >= 0.99 * agreement.total


def test_channels_last_pool() -> None:
    """The QLinear pools have a layout of their own."""
    for op in ("QLinearAveragePool", "QLinearGlobalAveragePool"):
        b = ModelBuilder()
        x = b.input([1, 6, 5, 4], "int8")
        inputs = [x, *b.parameters(Quant(0.05, 3)), *b.parameters(Quant(0.04, 1))]
        window: dict[str, Any] = {"kernel_shape": [2, 3]} if op == "QLinearAveragePool" else {}
        b.output(b.node(op, inputs, domain=MICROSOFT, channels_last=1, **window), "int8")
        agreement = Agreement()
        assert agreement.add(b.model(), [random_integers(6, (32, 1, 6, 5, 4))]) <= 1
        assert agreement.equal >= 0.99 * agreement.total


def test_ties_of_an_average() -> None:
    """Equal scales and an even count: one result in 64 lies between two integers."""
    quant = Quant(0.127, -128)
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 8, 8, 8], "int8"), quant)
    pool = b.node("AveragePool", [x], kernel_shape=[8, 8])
    b.output(b.quantize(pool, quant), "int8")
    agreement = Agreement()
    data = np.random.default_rng(9).integers(-128, 30, (256, 1, 8, 8, 8)).astype(np.int8)
    agreement.add(b.model(), [data])
    assert agreement.worst <= 1
    assert agreement.equal >= 0.999 * agreement.total


@pytest.mark.parametrize("opset", [17, 19])
@pytest.mark.parametrize(("channels", "strides"), [(6, [2, 2]), (16, [1, 1]), (5, [2, 3])])
def test_averages_that_are_not_fused(opset: int, channels: int, strides: list[int]) -> None:
    """Beside a reader that keeps its input int8: ONNX Runtime adds floats, columns first mostly."""
    quant, b = Quant(0.0231, -128), ModelBuilder()
    x = b.dequantize(b.quantize(b.input([1, channels, 12, 14], "float32"), quant), quant)
    window: dict[str, Any] = {"kernel_shape": [3, 2], "strides": strides, "pads": [1, 0, 0, 1]}
    for op in ("AveragePool", "MaxPool"):
        y = b.quantize(b.node(op, [x], **window), quant)
        b.output(b.dequantize(y, quant), "float32")
    agreement = Agreement()
    data = random_integers(11, (8, 1, channels, 12, 14), "uint8").astype(np.float32)
    agreement.add(b.model(opset), [data * np.float32(0.0231)])
    assert agreement.equal == agreement.total


def test_padded_average_of_many_scales() -> None:
    """Windows over the border have scales of their own, here with a shift of 32 bits."""
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 2, 5, 6], "int8"), Quant(0.05, 3))
    pool = b.node("AveragePool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    b.output(b.quantize(pool, Quant(0.041, 2)), "int8")
    agreement = Agreement()
    agreement.add(b.model(), [random_integers(7, (32, 1, 2, 5, 6))])
    assert agreement.equal == agreement.total
