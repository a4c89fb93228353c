"""Transposed convolutions against ONNX Runtime, which computes them in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx_cases import DTYPES, SAMPLES, SEEDS, agree, quants, random_integers
from onnx_models import Agreement, ModelBuilder
from test_onnx_linear import Weights

pytest.importorskip("onnxruntime")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    spatial = draw(st.sampled_from([1, 2, 2]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    strides = [draw(st.integers(1, 3)) for _ in range(spatial)]
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in range(spatial)]
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    size = [draw(st.integers(2, 5)) for _ in range(spatial)]
    if auto != "NOTSET":
        attributes["auto_pad"] = auto
    else:
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
        attributes["pads"] = [draw(st.integers(0, 1)) for _ in range(2 * spatial)]
        kernel = [max(k, 2) for k in kernel]
    # Where "same" would have to pad more than the kernel reaches.
    kernel = [
        max(k, s) if auto.startswith("SAME") else k for k, s in zip(kernel, strides, strict=True)
    ]
    dtype = draw(DTYPES)
    return {
        "attributes": attributes,
        "shape": (1, groups * draw(st.integers(1, 3)), *size),
        "kernel": kernel,
        "inner": draw(st.integers(1, 4)),
        "x": draw(quants(dtype)),
        "y": draw(quants(dtype)),
        "per_channel": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "seed": draw(SEEDS),
    }


def compare(case: dict[str, Any], agreement: Agreement) -> int:
    groups, inner = case["attributes"]["group"], case["inner"]
    shape = (inner, case["shape"][1], *case["kernel"])
    weights = Weights.random(
        case["seed"], shape, per_channel=case["per_channel"], with_bias=False, dtype="int8"
    )
    b = ModelBuilder()
    x = b.input(case["shape"], case["x"].dtype)
    w = b.constant(weights.array.swapaxes(0, 1))
    inputs = [b.dequantize(x, case["x"]), b.dequantize(w, weights.quant, axis=1)]
    if case["bias"]:
        rng = np.random.default_rng(case["seed"])
        inputs.append(b.constant(rng.normal(0, 1, inner * groups).astype(np.float32)))
    y = b.quantize(b.node("ConvTranspose", inputs, **case["attributes"]), case["y"])
    b.output(y, case["x"].dtype)
    data = random_integers(case["seed"], (SAMPLES, *case["shape"]), case["x"].dtype)
    return agreement.add(b.model(), [data], integer=True)


def test_conv_transpose() -> None:
    agree(cases(), compare, examples=40)
