"""Damaged TFLite files: an error of one line or a module, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from tflite_models import TfliteModel

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.frontends import import_model

MUTATIONS = 400
#: Seconds that one import may take.
PATIENCE = 5.0


def network() -> bytes:
    """A little of everything."""
    rng, model = np.random.default_rng(0), TfliteModel()
    x = model.activation((1, 6, 6, 2), None, type="float32")
    q = model.activation((1, 6, 6, 2), 0.1, 3)
    model.op("QUANTIZE", [x], [q])
    p = model.activation((1, 8, 8, 2), 0.1, 3)
    amounts = model.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    model.op("PAD", [q, amounts], [p])
    c = model.activation((1, 6, 6, 4), 0.2, -3)
    w = model.constant(rng.integers(-99, 99, (4, 3, 3, 2)).astype(np.int8), [0.01] * 4)
    b = model.constant(np.zeros(4, np.int32), [0.001] * 4)
    conv = {"Padding": 1, "StrideW": 1, "StrideH": 1, "FusedActivationFunction": 1}
    model.op("CONV_2D", [p, w, b], [c], "Conv2DOptions", **conv)
    halves = [model.activation((1, 6, 6, 2), 0.2, -3) for _ in range(2)]
    axis = model.constant(np.array(3, np.int32))
    model.op("SPLIT", [axis, c], halves, "SplitOptions", NumSplits=2)
    s = model.activation((1, 6, 6, 2), 0.3, 1)
    model.op("ADD", halves, [s], "AddOptions")
    up = model.activation((1, 12, 9, 2), 0.3, 1)
    size = model.constant(np.array([12, 9], np.int32))
    model.op("RESIZE_NEAREST_NEIGHBOR", [s, size], [up], "ResizeNearestNeighborOptions")
    m = model.activation((1, 2), 0.3, 1)
    model.op("MEAN", [up, model.constant(np.array([1, 2], np.int32))], [m], "ReducerOptions")
    d = model.activation((1, 3), 0.3, 1)
    dense = model.constant(rng.integers(-99, 99, (3, 2)).astype(np.int8), 0.02)
    model.op("FULLY_CONNECTED", [m, dense, -1], [d], "FullyConnectedOptions")
    y = model.activation((1, 3), 1 / 256, -128)
    model.op("SOFTMAX", [d], [y], "SoftmaxOptions", Beta=1.0)
    model.inputs, model.outputs = [x], [y]
    return model.build()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes or words changed, or a part cut out, doubled or lost."""
    bytes_ = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(bytes_) - 4))
        kind = int(rng.integers(6))
        if kind == 0:
            bytes_[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            bytes_[at] = (0, 1, 127, 128, 255)[int(rng.integers(5))]
        elif kind == 2:
            # Lengths and offsets are words, at multiples of four.
            words = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, int(rng.integers(2**12)))
            word = words[int(rng.integers(6))]
            at -= at % 4
            bytes_[at : at + 4] = word.to_bytes(4, "little")
        elif kind == 3:
            end = min(len(bytes_), at + int(rng.integers(1, 64)))
            bytes_[at:end] = rng.integers(0, 256, end - at).astype(np.uint8).tobytes()
        elif kind == 4:
            end = min(len(bytes_), at + int(rng.integers(1, 64)))
            bytes_[at:at] = bytes_[at:end]
        else:
            del bytes_[at : at + int(rng.integers(1, 64))]
        if len(bytes_) < 64:
            break
    # Otherwise the identifier would stop most of them.
    bytes_[4:8] = b"TFL3"
    return bytes(bytes_)


def outcome(data: bytes, folder: Path) -> str:
    path = folder / "model.tflite"
    path.write_bytes(data)
    start = time.perf_counter()
    try:
        import_model(path, ir.Context())
        text = "imported"
    except TinymlirError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 2000
    assert time.perf_counter() - start < PATIENCE
    return text


def test_the_network_is_fine(tmp_path: Path) -> None:
    assert outcome(network(), tmp_path) == "imported"


def test_mutations(tmp_path: Path) -> None:
    data, rng = network(), np.random.default_rng(1)
    outcomes = [outcome(mutated(data, rng), tmp_path) for _ in range(MUTATIONS)]
    imported = outcomes.count("imported")
    assert 0 < imported < MUTATIONS
    # The mutations get past the reader: many kinds of errors are met.
    assert len({text.split(": ", 3)[-1][:40] for text in outcomes}) > 25


@pytest.mark.parametrize("seed", range(4))
def test_truncations(seed: int, tmp_path: Path) -> None:
    data, rng = network(), np.random.default_rng(seed)
    for length in rng.integers(8, len(data), 50):
        assert outcome(data[: int(length)], tmp_path) != "imported"
