"""What is fuzzed: valid inputs to begin with, how they change, and what must become of them.

The tests run a few mutants of each subject, `benchmarks/fuzz.py` as many as it is given time for.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import onnx
from fuzzing import (
    Mutator,
    mutate_bytes,
    mutate_mlir,
    mutate_onnx,
    mutate_pipeline,
    mutate_tflite,
)
from linalg_models import FORMS, contraction
from networks import everything
from onnx_models import MICROSOFT, ModelBuilder, Quant
from tflite_models import TfliteModel
from tosa_models import TosaModel, scale_of

from tinymlir.bindings import ir
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.pipeline import run_pipeline
from tinymlir.targets import get_target


@dataclass(frozen=True)
class Subject:
    """``consume`` takes a file and raises nothing but a TinymlirError."""

    name: str
    suffix: str
    seeds: Callable[[], list[bytes]]
    mutate: Mutator
    consume: Callable[[Path], None]

    def mutant(self, data: bytes, random: Random) -> bytes:
        """``data`` changed by its structure; now and then its bytes as well."""
        data = self.mutate(data, random)
        return mutate_bytes(data, random) if random.random() < 0.1 else data

    def outcome(self, data: bytes, folder: Path) -> str:
        """The message that a user sees, or nothing; whatever else is raised is a finding.

        The input stays in ``folder``, where it is found if it ends the process.
        """
        path = folder / f"input{self.suffix}"
        path.write_bytes(data)
        try:
            self.consume(path)
        except TinymlirError as error:
            text = str(error)
            assert "\n" not in text, text
            return text
        return ""


def compile_file(path: Path) -> None:
    compilation = compile_model(path, get_target("cortex-m4"), "net")
    generate(compilation.module, compilation.target)


def run_pipeline_file(path: Path) -> None:
    """Run the pipeline in a file on an empty module."""
    context = _context()
    with context, ir.Location.unknown():
        run_pipeline(ir.Module.create(), path.read_bytes().decode(errors="replace"))


@functools.cache
def _context() -> ir.Context:
    context = ir.Context()
    register(context)
    return context


def tflite_network() -> bytes:
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


def onnx_network() -> onnx.ModelProto:
    """Small, with operators of every kind, so that most bytes matter."""
    quant = Quant(0.05, 3)
    b = ModelBuilder()
    x = b.dequantize(b.quantize(b.input([1, 2, 6, 6]), quant), quant)
    w = b.dequantize(b.constant(np.ones((4, 2, 3, 3), np.int8)), Quant([0.1] * 4, [0] * 4), axis=0)
    y = b.node("Conv", [x, w], pads=[1, 1, 1, 1])
    y = b.quantize(b.node("Relu", [y]), quant)
    pool = b.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2])
    pool = b.node("Pad", [pool, b.constant([0, 0, 1, 1, 0, 0, 0, 0], "int64")])
    z = b.node("Concat", [pool, pool], axis=1)
    z = b.node("AveragePool", [b.dequantize(z, quant)], kernel_shape=[2, 2], ceil_mode=1)
    z = b.node("Transpose", [b.quantize(z, quant)], perm=[0, 2, 3, 1])
    z = b.node("Reshape", [z, b.constant([1, -1], "int64")])
    z = b.node("Softmax", [b.dequantize(z, quant)], axis=1)
    z = b.quantize(z, Quant(1 / 256, -128))
    weights = b.constant(np.ones((72, 3), np.int8))
    inputs = [z, *b.parameters(quant), weights, *b.parameters(quant)]
    z = b.node("QGemm", [*inputs, "", *b.parameters(quant)], domain=MICROSOFT)
    last = b.quantize(b.node("Sigmoid", [b.dequantize(z, quant)]), quant)
    b.output(last, "int8")
    return b.model()


def tosa_network() -> str:
    """A convolution, a crop, a table, a mean, a dense layer and a sum."""
    rng, m = np.random.default_rng(0), TosaModel()
    x = m.input((1, 7, 6, 3))
    y = m.conv2d(x, rng.integers(-99, 99, (4, 3, 3, 3)), rng.integers(-9, 9, 4), 3, pad=[1] * 4)
    y = m.rescale(y, [scale_of(0.003)] * 4, 0, -5, rounding="DOUBLE_ROUND")
    y = m.op("slice", [y, (m.shape([0] * 4), 4), (m.shape([1, 6, 5, 4]), 4)], (1, 6, 5, 4))
    y = m.table(y, np.arange(-128, 128))
    y = m.avg_pool2d(y, (6, 5), (6, 5), zeros=(-5, -5))
    dense = m.conv2d(y, rng.integers(-99, 99, (5, 1, 1, 4)), rng.integers(-9, 9, 5), -5)
    y = m.reshape(m.rescale(dense, [scale_of(0.004)], 0, 2), (1, 5))
    wide = m.rescale(y, [(1 << 30, 20)], 2, 0, "i32")
    return m.text(m.rescale(m.binary("add", wide, wide), [scale_of(1e-4)], 0, 3))


def mlir_texts() -> list[bytes]:
    network, result = everything()
    texts = [tosa_network(), network.text(result)]
    rng = np.random.default_rng(1)
    texts += [contraction(name, form, "fill", rng) for name, form in FORMS.items()]
    return [text.encode() for text in texts]


def mlir_bytecodes() -> list[bytes]:
    found = []
    for text in mlir_texts():
        stream = io.BytesIO()
        ir.Module.parse(text.decode(), _context()).operation.write_bytecode(stream)
        found.append(stream.getvalue())
    return found


#: Of passes that have nothing to do in an empty module.
PIPELINES = (
    b"builtin.module(canonicalize{max-iterations=3 top-down=true},tiny-lower-dual-mac{dsp=true},"
    b"func.func(cse,tosa-infer-shapes),one-shot-bufferize{bufferize-function-boundaries=1"
    b" function-boundary-type-conversion=identity-layout-map})",
    b"any(cse),tiny-expand-multiply , finalize-memref-to-llvm{index-bitwidth=32}",
)


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("tflite", ".tflite", lambda: [tflite_network()], mutate_tflite, compile_file),
        Subject(
            "onnx",
            ".onnx",
            lambda: [onnx_network().SerializeToString()],
            mutate_onnx,
            compile_file,
        ),
        Subject("mlir", ".mlir", mlir_texts, mutate_mlir, compile_file),
        Subject("mlirbc", ".mlirbc", mlir_bytecodes, mutate_mlir, compile_file),
        Subject("pipeline", ".txt", lambda: [*PIPELINES], mutate_pipeline, run_pipeline_file),
    )
}
