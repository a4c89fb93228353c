"""Between model arrays and object arrays: layout, type, and what does not fit."""

from __future__ import annotations

import io
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymlir import progress as progress_module
from tinymlir.arrays import from_object, to_object
from tinymlir.errors import TinymlirError
from tinymlir.network import TensorInfo
from tinymlir.progress import progress


def info(
    kind: str,
    shape: tuple[int, ...] = (1, 3, 4, 5),
    permutation: tuple[int, ...] = (0, 2, 3, 1),
    scale: float = 1.0,
    zero_point: int = 0,
) -> TensorInfo:
    permuted = tuple(shape[axis] for axis in permutation)
    return TensorInfo("image", permuted, scale, zero_point, kind, shape, permutation)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_integers_keep_their_order_and_come_back(kind: str) -> None:
    limits = np.iinfo(kind)
    given = np.random.default_rng(0).integers(limits.min, limits.max + 1, (7, 3, 4, 5), kind)
    array = to_object(given, info(kind))
    assert array.shape == (7, 1, 4, 5, 3)
    assert array.dtype == np.int8
    expected = given.astype(np.int64).transpose(0, 2, 3, 1) - (128 if kind == "uint8" else 0)
    assert np.array_equal(array[:, 0], expected)
    back = from_object(array, info(kind))
    assert back.dtype == given.dtype
    assert np.array_equal(back, given)


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    scale=st.floats(2**-10, 16.0, width=32),
    zero_point=st.integers(-128, 127),
)
def test_floats_are_quantised_as_onnx_does(
    values: list[float], scale: float, zero_point: int
) -> None:
    x = np.array(values, np.float32)
    node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    graph = onnx.helper.make_graph(
        [node],
        "quantise",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [len(x)])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT8, [len(x)])],
        [
            onnx.numpy_helper.from_array(np.float32(scale), "s"),
            onnx.numpy_helper.from_array(np.int8(zero_point), "z"),
        ],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tensor = info("float32", (1, len(x)), (0, 1), scale, zero_point)
    assert np.array_equal(to_object(x[None], tensor)[0, 0], session.run(None, {"x": x})[0])


def test_floats_come_back_as_multiples_of_the_scale() -> None:
    tensor = info("float32", (1, 4), (0, 1), scale=0.25, zero_point=3)
    back = from_object(np.array([[-128, 0, 3, 127]], np.int8), tensor)
    assert back.dtype == np.float32
    assert back.tolist() == [[-32.75, -0.75, 0.0, 31.0]]


def test_float64_is_a_float() -> None:
    tensor = info("float32", (1, 2), (0, 1), scale=0.5)
    assert to_object(np.array([[0.25, 0.75]]), tensor).tolist() == [[[0, 2]]]


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("int8", np.zeros((2, 3, 4, 5), np.uint8), "type uint8; the model takes int8"),
        ("uint8", np.zeros((2, 3, 4, 5), np.int64), "type int64; the model takes uint8"),
        ("float32", np.zeros((2, 3, 4, 5), np.uint8), "type uint8; the model takes float32"),
        ("int8", np.zeros((2, 4, 5, 3), np.int8), r"\(2, 4, 5, 3\); .* \(N, 3, 4, 5\), samples"),
        ("int8", np.zeros((3, 4, 5), np.int8), r"shape \(3, 4, 5\)"),
        ("int8", np.int8(3), r"shape \(\)"),
        ("float32", np.full((1, 3, 4, 5), np.nan), "not a number"),
    ],
)
def test_what_does_not_fit(kind: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(TinymlirError, match=message) as raised:
        to_object(np.asarray(array), info(kind))
    assert raised.value.node == "image"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_waits_then_draws_and_erases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE_SECONDS", 0.05)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for item in progress(range(4), 4, "simulating"):
        time.sleep(0.4 if item == 2 else 0.0)
    shown = terminal.getvalue()
    assert "simulating [###############---------------] 2/4, 0 s" in shown
    assert shown.endswith("\r\033[K")


def test_progress_says_nothing_of_short_work_or_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(progress("abc", 3, "simulating")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress("abc", 3, "simulating")) == ["a", "b", "c"]
    assert terminal.getvalue() == ""
