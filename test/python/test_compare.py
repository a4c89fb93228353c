"""``tinymlir compare``: differences are found at the layer that makes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import MICROSOFT, ModelBuilder, Quant
from tflite_models import TfliteModel

from tinymlir import comparison
from tinymlir.arrays import Int8Array
from tinymlir.comparison import Executable
from tinymlir.tools.main import main

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

Array = npt.NDArray[Any]

X = Quant(0.03, 4)
W = Quant(0.01)
Y = Quant(0.05, -3)


class Files:
    """Models and samples in a folder, and the command on them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def save(self, name: str, model: onnx.ModelProto | TfliteModel | bytes | str) -> Path:
        path = self.folder / name
        if isinstance(model, onnx.ModelProto):
            onnx.save(model, path)
        elif isinstance(model, str):
            path.write_text(model)
        else:
            path.write_bytes(model.build() if isinstance(model, TfliteModel) else model)
        return path

    def samples(self, **arrays: Array) -> Path:
        path = self.folder / "samples.npz"
        np.savez(path, allow_pickle=False, **arrays)
        return path

    def run(self, model: Path, *options: str | Path) -> tuple[int, str]:
        """Exit status, and what the command prints."""
        command = ["compare", str(model), "--input", str(self.folder / "samples.npz")]
        status = main([*command, *map(str, options)])
        printed = self._capsys.readouterr()
        return status, printed.out + printed.err

    def report(self, model: Path, *options: str | Path) -> dict[str, Any]:
        status, text = self.run(model, "--json", *options)
        report = json.loads(text)
        assert status == (0 if report["equal"] else 1)
        assert isinstance(report, dict)
        return report


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Files:
    return Files(tmp_path, capsys)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def integers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def weights(*shape: int, seed: int = 0) -> Array:
    """Of seven bits: ONNX Runtime computes exactly with them on older processors too."""
    return integers(*shape, seed=seed) // 2


def qdq_network() -> onnx.ModelProto:
    """Convolution, depthwise convolution and a sum of the two, with float ports."""
    b = ModelBuilder()
    x = b.dequantize(b.quantize(b.input([1, 3, 6, 5], name="image"), X), X)

    def conv(x: str, outputs: int, inputs: int, seed: int, **attributes: Any) -> str:
        w = b.constant(weights(outputs, inputs, 3, 3, seed=seed))
        y = b.node("Conv", [x, b.dequantize(w, W)], pads=[1, 1, 1, 1], **attributes)
        return b.dequantize(b.quantize(y, Y), Y)

    first = conv(x, 4, 3, 1)
    total = b.node("Add", [first, conv(first, 4, 1, 2, group=4)])
    b.output(b.dequantize(b.quantize(total, Y), Y))
    return b.model()


def qoperator_network() -> onnx.ModelProto:
    """Convolution and sum, int8 throughout."""
    b = ModelBuilder()
    x = b.input([1, 3, 6, 5], "int8", "image")
    w = b.constant(weights(3, 3, 1, 1, seed=1))
    scales = [*b.parameters(X), w, *b.parameters(W), *b.parameters(Y)]
    y = b.node("QLinearConv", [x, *scales])
    operands = [x, *b.parameters(X), y, *b.parameters(Y), *b.parameters(Y)]
    b.output(b.node("QLinearAdd", operands, MICROSOFT), "int8")
    return b.model()


def perturbed(model: onnx.ModelProto, constant: int) -> onnx.ModelProto:
    """The model with one weight changed: in the ``constant``-th tensor of more than one element."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    tensor = [t for t in other.graph.initializer if len(t.dims) == 4][constant]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = 60 if array.flat[0] < 0 else -60
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return other


def tflite_network(names: Sequence[str | None] = (None, None), weight: int = 1) -> TfliteModel:
    """A dense layer and, of its result, a table and a sum; ``weight`` is in the dense layer."""
    m = TfliteModel()
    x = m.activation([1, 8], 0.02, 3, type="float32", name="x")
    q = m.activation([1, 8], 0.02, 3)
    m.op("QUANTIZE", [x], [q])
    matrix = integers(6, 8, seed=3)
    matrix[2, 1] = weight
    bias = m.constant(np.zeros(6, np.int32), 0.0002)
    dense = m.activation([1, 6], 0.3, 5, name=names[0])
    inputs = [q, m.constant(matrix, 0.01), bias]
    m.op("FULLY_CONNECTED", inputs, [dense], "FullyConnectedOptions", FusedActivationFunction=0)
    squashed = m.activation([1, 6], 1 / 256, -128, name=names[1])
    m.op("LOGISTIC", [dense], [squashed])
    total = m.activation([1, 6], 0.2, 0)
    m.op("ADD", [dense, squashed], [total], "AddOptions", FusedActivationFunction=0)
    m.inputs, m.outputs = [x], [total]
    return m


@pytest.mark.parametrize(
    ("make", "samples", "layers"),
    [
        (qdq_network, floats(5, 3, 6, 5), ["conv2d", "depthwise_conv2d", "add"]),
        (qoperator_network, integers(5, 3, 6, 5), ["conv2d", "add"]),
    ],
)
def test_onnx_layers_equal_onnx_runtime(
    files: Files, make: Any, samples: Array, layers: list[str]
) -> None:
    files.samples(x=samples)
    report = files.report(files.save("model.onnx", make()))
    assert report["equal"] and report["first"] is None and report["samples"] == 5
    assert [layer["op"] for layer in report["layers"]] == layers
    assert all(layer["compared"] for layer in report["layers"])
    assert report["layers"][0]["elements"] == 5 * np.prod(report["layers"][0]["shape"])
    assert report["outputs"][0]["differing"] == 0 < report["outputs"][0]["elements"]
    assert "ONNX Runtime" in report["against"]


def test_onnx_runtime_is_taken_as_it_runs_by_default_where_that_is_equal(files: Files) -> None:
    """Its default session averages in float32 between a QLinear and a QDQ operator."""
    b = ModelBuilder()
    x = b.dequantize(b.quantize(b.input([1, 3, 16, 16], name="image"), X), X)
    pooled = b.node("AveragePool", [x], kernel_shape=[1, 2], strides=[1, 2])
    scales = [*b.parameters(X), b.constant(weights(3, 3, 1, 1)), *b.parameters(W)]
    b.output(b.node("QLinearConv", [b.quantize(pooled, X), *scales, *b.parameters(Y)]), "int8")
    files.samples(x=floats(8, 3, 16, 16))
    report = files.report(files.save("model.onnx", b.model()))
    assert report["equal"] and all(layer["compared"] for layer in report["layers"])
    assert "qdqisint8allowed" not in report["against"]


def test_tflite_layers_equal_litert(files: Files) -> None:
    """Inputs are halves of the scale, at which LiteRT rounds away from zero."""
    files.samples(x=integers(40, 8) * np.float32(0.01))
    report = files.report(files.save("model.tflite", tflite_network()))
    assert report["equal"]
    assert [layer["op"] for layer in report["layers"]] == ["fully_connected", "lookup", "add"]
    assert all(layer["compared"] for layer in report["layers"])
    assert "BUILTIN_REF" in report["against"]


def test_tensors_of_one_name_are_told_apart(files: Files) -> None:
    files.samples(x=floats(7, 8))
    report = files.report(files.save("model.tflite", tflite_network(("same", "same"))))
    assert report["equal"]
    assert len({layer["tensor"] for layer in report["layers"]}) == 3


def test_a_wrong_layer_of_an_onnx_network_is_found(files: Files) -> None:
    """The reference has another weight in the depthwise convolution."""
    files.samples(x=floats(3, 3, 6, 5))
    model = files.save("model.onnx", qdq_network())
    other = files.save("other.onnx", perturbed(qdq_network(), 1))
    report = files.report(model, "--against", other)
    first, second, third = report["layers"]
    assert first["differing"] == 0
    assert second["op"] == "depthwise_conv2d" and report["first"] == second["layer"]
    assert third["differing"] > 0
    # Only the channel whose weight it is differs: logical index, channels second.
    assert second["first"]["index"][:2] == [0, 0]
    assert 0 < second["differing"] <= 3 * 6 * 5
    assert second["max_difference"] >= abs(second["first"]["value"] - second["first"]["expected"])
    status, text = files.run(model, "--against", other)
    assert status == 1
    assert (
        text.splitlines()[-1] == f"first difference: layer '{second['layer']}' (depthwise_conv2d)"
    )
    where = second["first"]
    index = ", ".join(map(str, where["index"]))
    wanted = f"sample {where['sample']} at [{index}]: {where['value']}, expected"
    assert f"{wanted} {where['expected']}" in text


def test_a_wrong_layer_of_a_tflite_network_is_found(files: Files) -> None:
    files.samples(x=floats(3, 8))
    model = files.save("model.tflite", tflite_network())
    other = files.save("other.tflite", tflite_network(weight=100))
    report = files.report(model, "--against", other)
    assert report["layers"][0]["layer"] == report["first"]
    # Row 2 of the weights computes element 2.
    assert report["layers"][0]["first"]["index"] == [0, 2]


def test_layouts_are_put_back_into_the_models_order(files: Files) -> None:
    """Shuffled channels stay interleaved in the buffer of the sigmoid's result."""
    b = ModelBuilder()
    x = b.input([1, 4, 3, 2], "int8", "image")
    w = b.constant(weights(6, 4, 1, 1, seed=1))
    scales = [*b.parameters(X), w, *b.parameters(W), *b.parameters(Y)]
    y = b.dequantize(b.node("QLinearConv", [x, *scales]), Y)
    y = b.node("Reshape", [y, b.constant([1, 3, 2, 3, 2], "int64")])
    y = b.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    y = b.node("Reshape", [y, b.constant([1, 6, 3, 2], "int64")])
    table = Quant(1 / 256, -128)
    y = b.dequantize(b.quantize(b.node("Sigmoid", [y]), table), table)
    pooled = b.node("GlobalAveragePool", [y])
    b.output(b.quantize(pooled, table), "int8")
    files.samples(x=integers(4, 4, 3, 2))
    report = files.report(files.save("model.onnx", b.model()))
    assert report["equal"]
    sigmoid = next(layer for layer in report["layers"] if layer["op"] == "lookup")
    assert sigmoid["compared"] and sigmoid["shape"] == [1, 6, 3, 2]


def test_several_inputs_and_outputs(files: Files) -> None:
    b = ModelBuilder()
    left, right = (
        b.dequantize(b.quantize(b.input([1, 2, 3], name=name), X), X) for name in ("left", "right")
    )
    total = b.dequantize(b.quantize(b.node("Add", [left, right]), Y), Y)
    b.output(total)
    b.output(b.quantize(b.node("Relu", [b.node("Sub", [left, right])]), X), "int8")
    files.samples(left=floats(4, 2, 3), right=floats(4, 2, 3, seed=1))
    report = files.report(files.save("model.onnx", b.model()), "--samples", "3")
    assert report["equal"] and report["samples"] == 3
    assert [output["elements"] for output in report["outputs"]] == [18, 18]


def test_layers_that_are_no_tensor_of_the_model_are_said_so(files: Files) -> None:
    """A concatenation rescales its inputs in layers of its own."""
    b = ModelBuilder()
    left = b.dequantize(b.input([1, 2, 3], "int8", "left"), X)
    right = b.dequantize(b.input([1, 2, 3], "int8", "right"), Y)
    b.output(b.quantize(b.node("Concat", [left, right], axis=1), Y), "int8")
    files.samples(left=integers(4, 2, 3), right=integers(4, 2, 3, seed=1))
    model = files.save("model.onnx", b.model())
    report = files.report(model)
    assert report["equal"]
    assert [layer["compared"] for layer in report["layers"]] == [False, True]
    status, text = files.run(model)
    assert status == 0
    assert "not compared" in text and "1 more have no counterpart there" in text


MLIR = """
func.func @main(%x: tensor<1x8xi8>) -> tensor<1x8xi8> {
  %e = tensor.empty() : tensor<1x8xi8>
  %c = arith.constant dense<7> : tensor<1x8xi8>
  %a = linalg.max ins(%x, %c : tensor<1x8xi8>, tensor<1x8xi8>) outs(%e : tensor<1x8xi8>)
      -> tensor<1x8xi8>
  %b = linalg.sub ins(%a, %c : tensor<1x8xi8>, tensor<1x8xi8>) outs(%e : tensor<1x8xi8>)
      -> tensor<1x8xi8>
  return %b : tensor<1x8xi8>
}
"""


def test_simulator_against_host(files: Files) -> None:
    pytest.importorskip("unicorn")
    pytest.importorskip("ziglang")
    files.samples(x=integers(2, 8))
    report = files.report(files.save("model.mlir", MLIR), "--target", "cortex-m4")
    assert report["equal"] and report["against"] == "the host"
    assert [layer["op"] for layer in report["layers"]] == ["max", "sub"]
    assert all(layer["compared"] for layer in report["layers"])


def test_simulator_against_the_reference(files: Files) -> None:
    pytest.importorskip("unicorn")
    pytest.importorskip("ziglang")
    files.samples(x=integers(2, 3, 6, 5))
    report = files.report(files.save("model.onnx", qoperator_network()), "--target", "rv32imc")
    assert report["equal"] and report["target"] == "rv32imc"


def test_memory_that_layers_share_wrongly_is_told(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right layers, wrong outputs: the network as it is was executed wrongly."""
    make = comparison._executable

    def corrupting(compilation: Any, simulator: str | None) -> Executable:
        execute = make(compilation, simulator)

        def run(inputs: Sequence[Int8Array]) -> list[Int8Array]:
            results = execute(inputs)
            return [result ^ np.int8(1) for result in results] if len(results) == 1 else results

        return run

    monkeypatch.setattr(comparison, "_executable", corrupting)
    files.samples(x=floats(2, 3, 6, 5))
    status, text = files.run(files.save("model.onnx", qdq_network()))
    assert status == 1
    assert "no layer differs" in text.splitlines()[-1]


def _trouble(files: Files, *arguments: str | Path) -> str:
    status, text = files.run(*map(Path, arguments[:1]), *arguments[1:])
    assert status == 2
    assert "Traceback" not in text and text.startswith("tinymlir: error: ")
    assert len(text.splitlines()) == 1
    return text


def test_trouble_is_said(files: Files) -> None:
    files.samples(x=integers(2, 8))
    mlir = files.save("model.mlir", MLIR)
    assert "compared with itself" in _trouble(files, mlir)
    assert "no reference interpreter" in _trouble(files, mlir, "--against", "reference")
    assert "unknown target" in _trouble(files, mlir, "--target", "z80").lower()
    assert "not on a simulator" in _trouble(files, mlir, "--simulator", "qemu")
    model = files.save("model.onnx", qdq_network())
    assert "the model takes float32" in _trouble(files, model)
    files.samples(x=floats(2, 3, 6, 5))
    assert "fewer than --samples 3" in _trouble(files, model, "--samples", "3")
    assert "cannot be read" in _trouble(files, model, "--against", files.folder / "none.onnx")
    small = ModelBuilder()
    small.output(small.quantize(small.input([1, 3, 6, 5]), X), "int8")
    other = files.save("other.onnx", small.model())
    assert "elements" in _trouble(files, model, "--against", other)


@pytest.mark.parametrize(
    ("module", "extra", "name", "model"),
    [
        ("onnxruntime", "reference", "model.onnx", qdq_network()),
        ("ai_edge_litert", "litert", "model.tflite", tflite_network()),
    ],
)
def test_a_missing_interpreter_is_told(
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    extra: str,
    name: str,
    model: onnx.ModelProto | TfliteModel,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    files.samples(x=floats(1, 8) if name.endswith("tflite") else floats(1, 3, 6, 5))
    hint = f"pip install 'tinymlir[{extra}]'"
    assert hint in _trouble(files, files.save(name, model))
