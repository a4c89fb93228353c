"""Damaged models: an error message or a module, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import MICROSOFT, ModelBuilder, Quant

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.frontends import import_model

pytest.importorskip("onnxruntime")

X = Quant(0.05, 3)
#: Damaged copies of each model.
COPIES = 200


def _network() -> onnx.ModelProto:
    """Small, with operators of every kind, so that most bytes matter."""
    b = ModelBuilder()
    x = b.dequantize(b.quantize(b.input([1, 2, 6, 6]), X), X)
    w = b.dequantize(b.constant(np.ones((4, 2, 3, 3), np.int8)), Quant([0.1] * 4, [0] * 4), axis=0)
    y = b.node("Conv", [x, w], pads=[1, 1, 1, 1])
    y = b.quantize(b.node("Relu", [y]), X)
    pool = b.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2])
    pool = b.node("Pad", [pool, b.constant([0, 0, 1, 1, 0, 0, 0, 0], "int64")])
    z = b.node("Concat", [pool, pool], axis=1)
    z = b.node("AveragePool", [b.dequantize(z, X)], kernel_shape=[2, 2], ceil_mode=1)
    z = b.node("Transpose", [b.quantize(z, X)], perm=[0, 2, 3, 1])
    z = b.node("Reshape", [z, b.constant([1, -1], "int64")])
    z = b.node("Softmax", [b.dequantize(z, X)], axis=1)
    z = b.quantize(z, Quant(1 / 256, -128))
    inputs = [z, *b.parameters(X), b.constant(np.ones((72, 3), np.int8)), *b.parameters(X)]
    z = b.node("QGemm", [*inputs, "", *b.parameters(X)], domain=MICROSOFT)
    last = b.quantize(b.node("Sigmoid", [b.dequantize(z, X)]), X)
    b.output(last, "int8")
    return b.model()


def _damaged(data: bytes, seed: int) -> Iterator[bytes]:
    """Copies with a few bytes changed, removed or repeated."""
    rng = np.random.default_rng(seed)
    for _ in range(COPIES):
        copy = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            at, kind = int(rng.integers(len(copy))), rng.integers(4)
            if kind == 0:
                copy[at] = int(rng.integers(256))
            elif kind == 1:
                copy[at] ^= 1 << int(rng.integers(8))
            elif kind == 2:
                del copy[at : at + int(rng.integers(1, 9))]
            else:
                copy[at:at] = copy[at : at + int(rng.integers(1, 9))]
            if not copy:
                break
        yield bytes(copy)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_models(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    refused = 0
    for data in _damaged(_network().SerializeToString(), seed):
        path.write_bytes(data)
        try:
            assert import_model(path, ir.Context()).operation.verify()
        except TinymlirError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 0


def test_the_undamaged_network_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_network().SerializeToString())
    assert import_model(path, ir.Context()).operation.verify()
