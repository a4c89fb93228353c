"""The forms in which quantised models come: opsets, borders, constants, functions, names."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_cases import SAMPLES, random_integers
from onnx_models import Agreement, Array, ModelBuilder, Quant, compiled, reference

from tinymlir.bindings import ir
from tinymlir.frontends.onnx import import_onnx
from tinymlir.host import compile_for_host

pytest.importorskip("onnxruntime")

X, Y, W = Quant(0.0471, 3), Quant(0.0623, -7), Quant(0.0113)
WEIGHTS = np.random.default_rng(1).integers(-64, 64, (4, 3, 3, 3)).astype(np.int8)


def _module(model: onnx.ModelProto) -> ir.Module:
    return import_onnx(model, file="test.onnx", context=ir.Context())


def _exact(model: onnx.ModelProto, *data: Array) -> None:
    agreement = Agreement()
    agreement.add(model, data, integer=True)
    assert agreement.equal == agreement.total > 0


def _images(dtype: str = "int8") -> Array:
    return random_integers(5, (SAMPLES, 1, 3, 8, 8), dtype)


def _network(opset: int) -> onnx.ModelProto:
    """Operators whose form changed between opsets."""
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 3, 8, 8], "int8"), X)
    ends = b.constant([0, 0, 1, 1, 0, 0, 1, 1], "int64")
    x = b.dequantize(b.quantize(b.node("Pad", [x, ends]), X), X)
    w = b.dequantize(b.constant(WEIGHTS), W)
    y = b.quantize(b.node("Clip", [b.node("Conv", [x, w]), b.constant(np.float32(0))]), Y)
    y = b.node("MaxPool", [b.dequantize(y, Y)], kernel_shape=[2, 2], strides=[2, 2])
    y = b.dequantize(b.quantize(y, Y), Y)
    if opset < 18:
        y = b.node("ReduceMean", [y], axes=[2, 3])
    else:
        y = b.node("ReduceMean", [y, b.constant([2, 3], "int64")])
    y = b.node("Squeeze", [b.quantize(y, Quant(0.0317, 1)), b.constant([2, 3], "int64")])
    b.output(y, "int8")
    return b.model(opset)


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 19, 20, 21, 22])
def test_opsets(opset: int) -> None:
    agreement = Agreement()
    assert agreement.add(_network(opset), [_images()], integer=True) <= 1
    assert agreement.equal >= 0.9 * agreement.total


def _conv(b: ModelBuilder, x: str, w: str) -> str:
    return b.quantize(b.node("Conv", [x, w], pads=[1, 1, 1, 1]), Y)


@pytest.mark.parametrize("form", ["constant node", "quantised here", "shared"])
def test_where_weights_come_from(form: str) -> None:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 3, 8, 8], "int8"), X)
    if form == "constant node":
        w = b.node("Constant", [], value=numpy_helper.from_array(WEIGHTS))
    elif form == "quantised here":
        w = b.quantize(b.constant(WEIGHTS.astype(np.float32) * np.asarray(W.scale, np.float32)), W)
    else:
        w = b.constant(WEIGHTS)
    b.output(_conv(b, x, b.dequantize(w, W)), "int8")
    if form == "shared":
        b.output(_conv(b, x, b.dequantize(w, Quant(0.0059))), "int8")
    _exact(b.model(), _images())


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_two_pairs_in_a_row_become_one(dtype: str) -> None:
    """As ONNX Runtime does it, over what both ranges have in common."""
    offset = 128 if dtype == "uint8" else 0
    quants = [Quant(s, z + offset, dtype) for s, z in ((0.0471, 3), (0.0393, -20), (0.0512, 7))]
    b = ModelBuilder()
    x = b.input([1, 500], name="x")
    for quant in quants:
        x = b.dequantize(b.quantize(x, quant), quant)
    y = Quant(0.005, 3 + offset, dtype)
    b.output(b.quantize(b.node("HardSigmoid", [x], alpha=0.05), y), dtype)
    model = b.model()
    assert str(_module(model)).count("tiny.layer =") == 1
    _exact(model, np.random.default_rng(3).normal(0, 3, (SAMPLES, 1, 500)).astype(np.float32))


def test_local_functions_are_inlined() -> None:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 3, 8, 8], "int8"), X)
    w = b.dequantize(b.constant(WEIGHTS), W)
    y = b.node("Block", [x, w], domain="local")
    b.output(b.quantize(y, Y), "int8", [1, 4, 6, 6])
    model = b.model()
    body = [helper.make_node("Conv", ["a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["d"])]
    opsets = [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("local", "Block", ["a", "b"], ["d"], body, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    _exact(model, _images())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_borders(dtype: str) -> None:
    """What is recorded of inputs and outputs, and that float borders cost nothing."""
    kind = "uint8" if dtype == "uint8" else "int8"
    offset = 128 if kind == "uint8" else 0
    x_quant, y_quant = (
        Quant(q.scale, int(np.asarray(q.zero_point)) + offset, kind) for q in (X, Y)
    )
    b = ModelBuilder()
    x = b.input([1, 3, 8, 8], dtype, name="image")
    x = b.quantize(x, x_quant) if dtype == "float32" else x
    w = b.dequantize(b.constant(WEIGHTS), W)
    y = b.quantize(b.node("Conv", [b.dequantize(x, x_quant), w]), y_quant)
    y = b.dequantize(y, y_quant) if dtype == "float32" else y
    b.output(y, dtype)
    model = b.model()
    host = compile_for_host(_module(model))
    taken, given = host.inputs[0], host.outputs[0]
    assert (taken.name, taken.model_type, taken.zero_point) == ("image", dtype, X.zero_point)
    assert taken.scale == np.asarray(X.scale, np.float32)
    assert (taken.shape, taken.model_shape) == ((1, 8, 8, 3), (1, 3, 8, 8))
    assert (given.model_type, given.zero_point) == (dtype, Y.zero_point)
    assert (given.shape, given.permutation) == ((1, 6, 6, 4), (0, 2, 3, 1))
    if dtype == "float32":
        images = np.random.default_rng(2).normal(0, 2, (SAMPLES, 1, 3, 8, 8)).astype(np.float32)
    else:
        images = _images(dtype)
    _exact(model, images)


def test_several_inputs_and_outputs() -> None:
    b = ModelBuilder()
    left, right = (b.dequantize(b.input([1, 3, 4, 4], "int8"), q) for q in (X, Y))
    total = b.quantize(b.node("Add", [left, right]), Quant(0.0917, 2))
    product = b.quantize(b.node("Mul", [left, right]), Quant(0.0317, 5))
    for name in (total, product, total):
        # The same tensor may be an output twice.
        b.output(b.node("Identity", [name]), "int8")
    _exact(b.model(), *(random_integers(s, (SAMPLES, 1, 3, 4, 4)) for s in (1, 2)))


def test_integers_that_nothing_scales() -> None:
    """A network of integers alone is taken at face value."""
    b = ModelBuilder()
    b.output(b.node("MaxPool", [b.input([1, 1, 4, 4], "uint8")], kernel_shape=[2, 2]), "uint8")
    info = compile_for_host(_module(b.model())).inputs[0]
    assert (info.scale, info.zero_point) == (1.0, -128)


def test_layers_and_locations_are_named_after_nodes() -> None:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 3, 8, 8], "int8"), X)
    w = b.dequantize(b.constant(WEIGHTS), W)
    y = b.dequantize(_conv(b, x, w), Y)
    b.output(b.quantize(b.node("Sigmoid", [y]), Quant(1 / 256, -128)), "int8")
    model = b.model()
    for node, name in zip(model.graph.node, ["", "", "conv", "", "", "", ""], strict=True):
        node.name = name
    text = _module(model).operation.get_asm(enable_debug_info=True)
    assert 'tiny.layer = "conv"' in text
    # A node without a name is known by its output.
    assert f'tiny.layer = "{model.graph.node[5].output[0]}"' in text
    assert 'loc("conv")' in text


def test_layers_of_one_name_are_told_apart() -> None:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 16], "int8"), X)
    for op in ("Sigmoid", "Tanh"):
        b.output(b.quantize(b.node(op, [x]), Y), "int8")
    model = b.model()
    for node in model.graph.node:
        node.name = "same"
    text = str(_module(model))
    assert 'tiny.layer = "same"' in text and 'tiny.layer = "same_1"' in text


def test_the_import_is_deterministic() -> None:
    model = _network(13)
    assert str(_module(model)) == str(_module(model))


def test_compiled_and_reference_see_the_same_layout() -> None:
    """One bright pixel stays where it is."""
    b = ModelBuilder()
    x = b.input([1, 2, 3, 5], "int8")
    b.output(b.node("MaxPool", [x], kernel_shape=[1, 1]), "int8")
    image = np.full((1, 1, 2, 3, 5), -128, np.int8)
    image[0, 0, 1, 2, 4] = 100
    ours, theirs = compiled(b.model(), [image])[0], reference(b.model(), [image])[0]
    assert ours[0, 0, 1, 2, 4] == 100
    assert np.array_equal(ours, theirs)
