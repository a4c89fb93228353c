"""``tinymlir quantize``: from a float network to one that compiles and equals ONNX Runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tinymlir.arrays import from_object, to_object
from tinymlir.host import compile_for_host
from tinymlir.tools.main import main

onnxruntime = pytest.importorskip("onnxruntime")

Array = npt.NDArray[Any]

#: ONNX Runtime computes exactly on older processors too.
EXACT = "--reduce-range"


class FloatNetwork:
    """A float ONNX graph under construction, seeded weights and all."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(7)

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self._random.normal(0, 0.4, shape).astype(np.float32))

    def positive(self, size: int) -> str:
        return self.constant(self._random.uniform(0.5, 1.5, size).astype(np.float32))

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], f"{op}_{output}", **attributes))
        return output

    def norm(self, x: str, channels: int) -> str:
        parameters = [self.positive(channels), self.weights(channels), self.weights(channels)]
        return self.node("BatchNormalization", [x, *parameters, self.positive(channels)])

    def model(
        self,
        inputs: dict[str, Sequence[int | str]],
        outputs: dict[str, Sequence[int | str]],
        *,
        opset: int = 17,
        kind: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "float",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
            self.constants,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )


def classifier(batch: int | str = "batch", opset: int = 17) -> onnx.ModelProto:
    """Convolution, norm, pools and dense layer."""
    n = FloatNetwork()
    x = n.node("Conv", ["image", n.weights(8, 3, 3, 3)], pads=[1, 1, 1, 1])
    x = n.node("Relu", [n.norm(x, 8)])
    x = n.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = n.node("Conv", [x, n.weights(12, 8, 3, 3), n.weights(12)], strides=[2, 2])
    x = n.node("Flatten", [n.node("GlobalAveragePool", [n.node("Relu", [x])])])
    n.node("Gemm", [x, n.weights(12, 5), n.weights(5)], "logits")
    return n.model({"image": [batch, 3, 12, 12]}, {"logits": [batch, 5]}, opset=opset)


def images(count: int = 24, *shape: int) -> Array:
    return np.random.default_rng(1).normal(0.2, 1, (count, *(shape or (3, 12, 12)))).astype("f4")


class Folder:
    """The command in a folder."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self._capsys = path, capsys

    def write(self, model: onnx.ModelProto, **arrays: Array) -> None:
        onnx.save(model, self.path / "float.onnx")
        np.savez(self.path / "data.npz", allow_pickle=False, **arrays)

    def run(self, *options: str) -> tuple[int, str]:
        files = ["float.onnx", "--calibration", "data.npz", "-o", "int8.onnx"]
        before = Path.cwd()
        os.chdir(self.path)
        try:
            status = main(["quantize", *files, *options])
        finally:
            os.chdir(before)
        printed = self._capsys.readouterr()
        return status, printed.out + printed.err

    def summary(self, *options: str) -> dict[str, Any]:
        status, text = self.run("--json", *options)
        assert status == 0, text
        summary = json.loads(text)
        assert isinstance(summary, dict)
        return summary

    def refused(self, *options: str) -> str:
        status, text = self.run(*options)
        assert status == 1
        assert text.startswith("tinymlir: error: ") and len(text.splitlines()) == 1
        assert not (self.path / "int8.onnx").exists()
        return text

    def assert_equals_onnx_runtime(self, *samples: Array) -> None:
        """Compiled for the host, the result gives the bits of ONNX Runtime's default session."""
        path = str(self.path / "int8.onnx")
        host = compile_for_host(path)
        given = [to_object(x, info) for x, info in zip(samples, host.inputs, strict=True)]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        wanted = [
            session.run(None, {i.name: x[None] for i, x in zip(host.inputs, row, strict=True)})
            for row in zip(*samples, strict=True)
        ]
        for index, (array, info) in enumerate(zip(host(*given), host.outputs, strict=True)):
            ours = from_object(array, info)
            theirs = np.stack([row[index] for row in wanted]).reshape(ours.shape)
            np.testing.assert_array_equal(ours, theirs)
            assert len(np.unique(ours)) > 3


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, capsys)


def test_a_float_classifier_compiles_and_equals_onnx_runtime(folder: Folder) -> None:
    folder.write(classifier(), x=images(), y=np.arange(24) % 5)
    summary = folder.summary(EXACT)
    assert summary["samples"] == 24
    assert summary["bytes_after"] == (folder.path / "int8.onnx").stat().st_size
    assert summary["bytes_before"] == (folder.path / "float.onnx").stat().st_size
    (output,) = summary["outputs"]
    assert output["name"] == "logits" and output["snr_db"] > 25
    assert output["top1_agreement"] >= 0.8
    assert 0 <= summary["accuracy_before"] <= 1 and 0 <= summary["accuracy_after"] <= 1
    folder.assert_equals_onnx_runtime(images(50))
    model = onnx.load(folder.path / "int8.onnx")
    assert {node.op_type for node in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    shape = model.graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 3, 12, 12]


@pytest.mark.parametrize(
    "options",
    [["--activations", "int8"], ["--per-tensor"], ["--reduce-range"], ["--samples", "5"]],
    ids=" ".join,
)
def test_options_change_the_network(folder: Folder, options: list[str]) -> None:
    folder.write(classifier(), x=images())
    folder.summary()
    usual = (folder.path / "int8.onnx").read_bytes()
    folder.summary(*options)
    assert (folder.path / "int8.onnx").read_bytes() != usual
    assert compile_for_host(folder.path / "int8.onnx").outputs[0].shape == (1, 5)


def test_percentile_leaves_outliers_out(folder: Folder) -> None:
    x = images()
    x[7, 1, 2, 3] = 400
    folder.write(classifier(), x=x)
    folder.summary()
    usual = compile_for_host(folder.path / "int8.onnx").inputs[0].scale
    folder.summary("--method", "percentile")
    assert compile_for_host(folder.path / "int8.onnx").inputs[0].scale < usual


def test_the_same_command_gives_the_same_bytes(folder: Folder) -> None:
    folder.write(classifier(), x=images())
    written = []
    for seed in ("1", "2"):
        command = ["-m", "tinymlir.tools.main", "quantize", "float.onnx"]
        files = ["--calibration", "data.npz", "-o", f"{seed}.onnx"]
        subprocess.run(
            [sys.executable, *command, *files],
            check=True,
            cwd=folder.path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
        )
        written.append((folder.path / f"{seed}.onnx").read_bytes())
    assert written[0] == written[1]


def test_norms_without_a_convolution_are_folded_too(folder: Folder) -> None:
    """Before an activation function, as in pre-activation networks, and at the input."""
    n = FloatNetwork()
    x = n.node("Conv", [n.norm("image", 3), n.weights(6, 3, 3, 3)])
    y = n.node("Relu", [n.norm(x, 6)])
    n.node("Add", [n.node("Conv", [y, n.weights(6, 6, 1, 1)]), x], "sum")
    model = n.model({"image": [1, 3, 8, 8]}, {"sum": [1, 6, 6, 6]})
    folder.write(model, x=images(8, 3, 8, 8))
    summary = folder.summary(EXACT)
    assert summary["outputs"][0]["snr_db"] > 25
    assert summary["outputs"][0]["top1_agreement"] is None
    folder.assert_equals_onnx_runtime(images(8, 3, 8, 8))


def test_functions_between_and_behind_quantised_layers(folder: Folder) -> None:
    """Whatever the quantiser itself knows nothing of: the output is quantised all the same."""
    n = FloatNetwork()
    x = n.node("HardSwish", [n.node("Conv", ["image", n.weights(4, 3, 1, 1)])])
    y = n.node("Conv", [x, n.weights(4, 4, 1, 1)])
    y = n.node("Elu", [n.node("Sub", [y, x])])
    y = n.node("AveragePool", [y], kernel_shape=[2, 2], strides=[2, 2])
    mean = n.node("ReduceMean", [n.node("Conv", [y, n.weights(4, 4, 1, 1)])], axes=[2, 3])
    n.node("Flatten", [n.node("Tanh", [mean])], "out")
    model = n.model({"image": ["n", 3, 6, 6]}, {"out": ["n", 4]})
    folder.write(model, x=images(16, 3, 6, 6))
    assert folder.summary(EXACT)["outputs"][0]["snr_db"] > 25
    folder.assert_equals_onnx_runtime(images(16, 3, 6, 6))


def test_several_inputs_of_unknown_shape(folder: Folder) -> None:
    """Shapes follow from the samples."""
    n = FloatNetwork()
    left = n.node("Conv", ["left", n.weights(4, 2, 3, 3)])
    n.node("Add", [left, n.node("Conv", ["right", n.weights(4, 1, 3, 3)])], "sum")
    inputs: dict[str, Sequence[int | str]] = {
        "left": ["n", 2, "h", "w"],
        "right": ["n", 1, "h", "w"],
    }
    left_data, right_data = images(6, 2, 7, 5), images(6, 1, 7, 5)
    folder.write(n.model(inputs, {"sum": ["n", 4, "h2", "w2"]}), left=left_data, right=right_data)
    folder.summary(EXACT)
    folder.assert_equals_onnx_runtime(left_data, right_data)


def test_an_old_opset_is_converted(folder: Folder) -> None:
    folder.write(classifier(opset=11), x=images())
    folder.summary(EXACT)
    folder.assert_equals_onnx_runtime(images(12))


def test_the_table_is_for_people(folder: Folder) -> None:
    folder.write(classifier(), x=images().astype(np.float64), y=np.zeros(24, np.uint8))
    status, text = folder.run()
    assert status == 0
    for words in ("bytes before", "SNR", "same class", "accuracy after", "tinymlir compile"):
        assert words in text
    assert "WARNING" not in text


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": images(4, 12, 12, 3)}, "transpose the array to (3, 12, 12)"),
        ({"x": images(4, 3, 12, 11)}, "the model takes (N, 3, 12, 12), samples first"),
        ({"x": np.zeros((4, 3, 12, 12), np.uint8)}, "is of type uint8; the model takes float32"),
        ({"x": images(0)}, "no samples"),
        ({"z": images()}, "expects 'x'"),
        ({"x": images(4), "y": np.zeros(3, np.int64)}, "labels"),
        ({"x": np.where(np.arange(4) == 2, np.nan, images(12, 4, 12)[..., :4].max())}, "shape"),
    ],
)
def test_samples_that_do_not_fit(folder: Folder, arrays: dict[str, Array], words: str) -> None:
    folder.write(classifier(), **arrays)
    text = folder.refused()
    assert words in text and "data.npz" in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(folder: Folder, value: float) -> None:
    x = images()
    x[5, 0, 0, 0] = value
    folder.write(classifier(), x=x)
    assert "sample 5 has values that are not finite numbers" in folder.refused()


def test_models_that_are_refused(folder: Folder) -> None:
    folder.write(classifier(), x=images())
    assert "fewer than --samples 99" in folder.refused("--samples", "99")
    folder.write(classifier(batch=4), x=images())
    assert "batch size 4" in folder.refused()
    halves = FloatNetwork()
    halves.node("Relu", ["image"], "out")
    shapes: dict[str, Sequence[int | str]] = {"image": [1, 4]}
    model = halves.model(shapes, {"out": [1, 4]}, kind=TensorProto.FLOAT16)
    folder.write(model, x=images(4, 4))
    assert "input 'image' is of type float16" in folder.refused()
    constant = FloatNetwork()
    constant.node("Relu", [constant.weights(4)], "out")
    folder.write(constant.model({}, {"out": [4]}), x=images())
    assert "no inputs" in folder.refused()
    damaged = classifier().SerializeToString().replace(b"Relu", b"Re\xffu")
    (folder.path / "float.onnx").write_bytes(damaged)
    assert "not a valid ONNX model" in folder.refused()
    (folder.path / "float.onnx").write_bytes(b"no model")
    assert "not an ONNX model" in folder.refused()
    (folder.path / "float.onnx").unlink()
    assert "cannot be read" in folder.refused()


def test_a_quantised_network_is_refused(folder: Folder) -> None:
    folder.write(classifier(), x=images())
    folder.summary()
    (folder.path / "int8.onnx").rename(folder.path / "float.onnx")
    assert "quantised already" in folder.refused()


def test_an_operator_that_does_not_compile_is_named(folder: Folder) -> None:
    n = FloatNetwork()
    x = n.node("Conv", ["image", n.weights(4, 3, 3, 3)])
    n.node("Relu", [n.node("Det", [x], "determinants")], "out")
    shapes: dict[str, Sequence[int | str]] = {"image": [1, 3, 6, 6]}
    folder.write(n.model(shapes, {"out": [1, 4]}), x=images(4, 3, 6, 6))
    text = folder.refused()
    assert "node 'Det_determinants'" in text and "operator Det is not supported" in text


def test_what_was_there_stays_where_it_cannot_be_written(folder: Folder) -> None:
    folder.write(classifier(), x=images())
    (folder.path / "int8.onnx").mkdir()
    status, text = folder.run()
    assert status == 1 and "is a directory" in text
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "data.npz",
        "float.onnx",
        "int8.onnx",
    ]


def test_a_missing_quantiser_is_told(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(classifier(), x=images())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'tinymlir[reference]'" in folder.refused()
