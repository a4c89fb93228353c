"""Whole networks against ONNX Runtime: the example and what its quantiser writes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import Agreement, Array, ModelBuilder

pytest.importorskip("onnxruntime")


def assert_equal_enough(agreement: Agreement) -> None:
    """The goal for whole networks."""
    assert agreement.worst <= 1
    assert agreement.equal >= 0.999 * agreement.total > 0


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_example(example: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(example))
    generator = importlib.import_module("generate")
    images = generator.as_model_input(generator.generate(60, seed=11)[0])
    agreement = Agreement()
    agreement.add(onnx.load(example / f"surface_{form}.onnx"), [images[:, None]], integer=True)
    assert_equal_enough(agreement)


def _float_network() -> onnx.ModelProto:
    """Convolutions, a depthwise one, a residual sum, pools, a dense layer, softmax."""
    rng = np.random.default_rng(2)
    b = ModelBuilder()

    def conv(x: str, inputs: int, outputs: int, **attributes: Any) -> str:
        groups = attributes.get("group", 1)
        w = rng.normal(0, 0.4, (outputs, inputs // groups, 3, 3)).astype(np.float32)
        bias = rng.normal(0, 0.1, outputs).astype(np.float32)
        operands = [x, b.constant(w), b.constant(bias)]
        return b.node("Conv", operands, pads=[1, 1, 1, 1], **attributes)

    x = b.node("Relu", [conv(b.input([1, 3, 16, 16], name="x"), 3, 8)])
    y = b.node("Relu", [conv(x, 8, 8, group=8)])
    y = b.node("Add", [conv(y, 8, 8), x])
    y = b.node("MaxPool", [b.node("Relu", [y])], kernel_shape=[2, 2], strides=[2, 2])
    y = b.node("Clip", [conv(y, 8, 12), *(b.constant(np.float32(v)) for v in (0.0, 6.0))])
    y = b.node("Concat", [y, conv(y, 12, 4)], axis=1)
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y])])
    w = rng.normal(0, 0.4, (16, 5)).astype(np.float32)
    y = b.node("Gemm", [y, b.constant(w), b.constant(np.zeros(5, np.float32))])
    b.output(b.node("Softmax", [y], axis=1))
    return b.model()


class _Calibration:
    """A calibration data reader of noise images."""

    def __init__(self, images: Array) -> None:
        self._images: Iterator[Array] = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        image = next(self._images, None)
        return None if image is None else {"x": image}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_the_quantiser_writes(
    form: str, dtype: str, per_channel: bool, tmp_path: Path
) -> None:
    """onnxruntime.quantization.quantize_static, in its main settings."""
    from onnxruntime import quantization

    source, target = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    source.write_bytes(_float_network().SerializeToString())
    images = np.random.default_rng(4).normal(0, 1, (40, 1, 3, 16, 16)).astype(np.float32)
    quantization.quantize_static(
        source,
        target,
        _Calibration(images[:8]),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[dtype],
        weight_type=quantization.QuantType.QInt8,
        per_channel=per_channel,
        # Seven bits: QGemm has no kernel that never saturates.
        reduce_range=True,
    )
    agreement = Agreement()
    agreement.add(onnx.load(target), [images], integer=True)
    assert_equal_enough(agreement)
