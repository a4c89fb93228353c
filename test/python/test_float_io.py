"""Objects that take and give float32 as the model does: equal to the references, on every core."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_models
import pytest
from onnx_models import ModelBuilder, Quant
from tflite_models import TfliteModel
from tflite_reference import reference

from tinymlir.bindings import ir
from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.frontends.canonical.float_io import thresholds
from tinymlir.frontends.canonical.tensors import Quantization
from tinymlir.frontends.onnx import import_onnx
from tinymlir.host import HostModel, compile_for_host
from tinymlir.numerics import quantize_float32
from tinymlir.targets import get_target

Floats = npt.NDArray[np.float32]
Tinymlir = Callable[..., subprocess.CompletedProcess[str]]
#: Scale, and zero point of int8.
QUANTIZATIONS = [(0.05, 3), (1 / 127.5, -1), (1 / 256, -128), (1e-30, 5), (1.0, 127), (1e35, 0)]


def telling(scale: float, zero_point: int) -> Floats:
    """Values next to every boundary between two results, and bits of all kinds."""
    steps = (np.arange(-129, 128) - zero_point + 0.5) * np.float32(scale)
    near = steps.astype(np.float32)
    bits = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32)
    special = [0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38, -3.4e38]
    infinity = np.float32(np.inf)
    values = [near, np.nextafter(near, infinity), np.nextafter(near, -infinity)]
    whole = np.concatenate([*values, bits.view(np.float32), np.array(special, np.float32)])
    return whole[~np.isnan(whole)]


def tflite_model(size: int, scale: float, zero_point: int) -> TfliteModel:
    """Quantised, rescaled and dequantised."""
    model = TfliteModel()
    x = model.activation((1, size), None, type="float32", name="x")
    q = model.activation((1, size), scale, zero_point)
    r = model.activation((1, size), scale * 1.5, zero_point // 2)
    y = model.activation((1, size), None, type="float32", name="y")
    model.op("QUANTIZE", [x], [q])
    model.op("QUANTIZE", [q], [r])
    model.op("DEQUANTIZE", [r], [y])
    model.inputs, model.outputs = [x], [y]
    return model


def onnx_model(size: int, quant: Quant) -> onnx.ModelProto:
    """Quantised, pooled over single elements and dequantised."""
    b = ModelBuilder()
    x = b.dequantize(b.quantize(b.input((1, 1, size), name="x"), quant), quant)
    y = b.node("MaxPool", [x], kernel_shape=[1])
    b.output(b.dequantize(b.quantize(y, quant), quant))
    return b.model()


def run(host: HostModel, values: Floats) -> Floats:
    assert [info.type for info in (*host.inputs, *host.outputs)] == ["float32", "float32"]
    result: Floats = host(values[None])[0].reshape(-1)
    assert result.dtype == np.float32
    return result


@pytest.mark.parametrize("rounding", ["nearest_even", "nearest_away"])
@pytest.mark.parametrize(("scale", "zero_point"), QUANTIZATIONS)
def test_thresholds(scale: float, zero_point: int, rounding: str) -> None:
    """Where the result changes, it is at the threshold and not before."""
    quantization = Quantization(np.float32(scale), zero_point)
    keys = thresholds(quantization, rounding).astype(np.int64)
    assert (np.diff(keys) >= 0).all() and len(keys) == 255
    for level, key in zip(range(-127, 128), keys.tolist(), strict=True):
        pair = np.array([key - 1, key])
        bits = np.where(pair < 0, pair ^ 0x7FFFFFFF, pair).astype(np.int32)
        given = quantize_float32(bits.view(np.float32), *quantization_of(quantization), rounding)
        assert given[0] < level <= given[1] or np.isnan(bits.view(np.float32)[0])


def quantization_of(q: Quantization) -> tuple[np.float32, int]:
    return q.scale, q.zero_point


@pytest.mark.parametrize(("scale", "zero_point"), QUANTIZATIONS[:-1])
def test_tflite(scale: float, zero_point: int, tmp_path: Path) -> None:
    values = telling(scale, zero_point)
    # Quotients beyond 32 bits are undefined in the reference, whose C++ converts them.
    with np.errstate(over="ignore"):
        defined = np.abs(values / np.float32(scale)) < 2.0**31
    model = tflite_model(int(defined.sum()), scale, zero_point).build()
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    wanted = reference(model, [values[defined][None]])[0].reshape(-1)
    got = run(compile_for_host(path, float_io=True), values[defined])
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("scale", "zero_point"), QUANTIZATIONS)
def test_onnx(scale: float, zero_point: int, dtype: str) -> None:
    """Infinities saturate, and what is no number is the least value."""
    values = np.append(telling(scale, zero_point), np.array([np.nan, -np.nan], np.float32))
    quant = Quant(scale, zero_point + (128 if dtype == "uint8" else 0), dtype)
    model = onnx_model(len(values), quant)
    module = import_onnx(model, file="m.onnx", context=ir.Context())
    wanted = onnx_models.reference(model, [values[None, None, None]])[0].reshape(-1)
    np.testing.assert_array_equal(run(compile_for_host(module, float_io=True), values), wanted)


def small_network(kind: str, folder: Path) -> Path:
    """A float32 input and output of two different scales, in a file."""
    path = folder / f"net.{kind}"
    if kind == "tflite":
        path.write_bytes(tflite_model(50, 0.05, 3).build())
    else:
        onnx.save(onnx_model(50, Quant(0.05, 131, "uint8")), path)
    return path


@pytest.mark.parametrize(
    ("kind", "target"), [("tflite", "cortex-m0"), ("onnx", "cortex-m4"), ("tflite", "rv32imc")]
)
def test_on_a_core(kind: str, target: str, tmp_path: Path, tinymlir: Tinymlir) -> None:
    """The same bytes as on this machine, from what the command wrote."""
    model, build = small_network(kind, tmp_path), tmp_path / "build"
    done = tinymlir("compile", model, "-o", build, "--target", target, "--float-io")
    assert done.returncode == 0, done.stderr
    samples = np.random.default_rng(0).normal(0, 4, (3, 50)).astype(np.float32)
    samples[0, :3] = np.inf, -np.inf, np.nan
    samples = samples if kind == "tflite" else samples[:, None]
    np.save(tmp_path / "x.npy", samples)
    done = tinymlir("run", build, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert done.returncode == 0, done.stderr
    given = np.load(tmp_path / "y.npy")
    assert given.dtype == np.float32
    wanted = compile_for_host(model, float_io=True)(samples)[0]
    np.testing.assert_array_equal(given, wanted.reshape(given.shape))
    assert tinymlir("profile", build).returncode == 0


def test_files(tmp_path: Path, tinymlir: Tinymlir) -> None:
    model = small_network("tflite", tmp_path)
    done = tinymlir("compile", model, "-o", tmp_path, "--float-io", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["options"]["float_io"] is True
    assert [t["type"] for t in (*report["inputs"], *report["outputs"])] == ["float32"] * 2
    assert report["io_bytes"] == 2 * 50 * 4
    assert [layer["op"] for layer in report["layers"]] == ["quantize", "lookup", "dequantize"]
    header = (tmp_path / "net.h").read_text()
    assert "int net_invoke(const float *input, float *output, void *arena);" in header
    assert "#define NET_INPUT_BYTES 200" in header and "SCALE" not in header


def test_integers_stay(tmp_path: Path) -> None:
    """Only what the model has as float32 becomes that."""
    model = TfliteModel()
    x, y = (model.activation((1, 4), 0.1, 5, type="int8") for _ in range(2))
    z = model.activation((1, 4), None, type="float32")
    model.op("RELU", [x], [y])
    model.op("DEQUANTIZE", [y], [z])
    model.inputs, model.outputs = [x], [y, z]
    path = tmp_path / "m.tflite"
    path.write_bytes(model.build())
    host = compile_for_host(path, float_io=True)
    assert [t.type for t in (*host.inputs, *host.outputs)] == ["int8", "int8", "float32"]
    given = np.array([[-128, 4, 6, 127]], np.int8)
    for got, wanted in zip(host(given), reference(model, [given]), strict=True):
        np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)


def test_model_without_floats(tmp_path: Path) -> None:
    model = TfliteModel()
    x, y = (model.activation((1, 4), 0.1, 5) for _ in range(2))
    model.op("RELU", [x], [y])
    model.inputs, model.outputs = [x], [y]
    path = tmp_path / "m.tflite"
    path.write_bytes(model.build())
    with pytest.raises(TinymlirError, match="takes and gives integers") as error:
        compile_model(path, get_target("cortex-m4"), float_io=True)
    assert error.value.file == str(path) and "--float-io" in str(error.value.hint)
