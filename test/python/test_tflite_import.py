"""What the canonical form of a TFLite network looks like, and its borders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_models import TfliteModel
from tflite_reference import assert_equal, compiled, random_int8, reference, run

from tinymlir.bindings import ir
from tinymlir.frontends import import_model

pytest.importorskip("ai_edge_litert")


def layers(model: TfliteModel, folder: Path) -> list[str]:
    """The kinds of the layers, in order."""
    path = folder / "model.tflite"
    path.write_bytes(model.build())
    module = import_model(path, ir.Context())
    main = module.body.operations[0]
    attributes = [op.operation.attributes for op in main.regions[0].blocks[0].operations]
    return [a["tiny.op"].value for a in attributes if "tiny.op" in a]


def convolution(
    model: TfliteModel, x: int, shape: tuple[int, ...], filters: int, scale: float, **fields: int
) -> int:
    """A 3×3 convolution of random weights on ``x`` of the given shape, valid padding."""
    rng = np.random.default_rng(filters)
    channels = shape[3]
    values = rng.integers(-127, 128, (filters, 3, 3, channels)).astype(np.int8)
    w = model.constant(values, [0.01] * filters)
    b = model.constant(rng.integers(-99, 99, filters).astype(np.int32), [0.001] * filters)
    y = model.activation((1, shape[1] - 2, shape[2] - 2, filters), scale, 3)
    options = {"Padding": 1, "StrideW": 1, "StrideH": 1, **fields}
    model.op("CONV_2D", [x, w, b], [y], "Conv2DOptions", **options)
    return y


def padded(model: TfliteModel, x: int, shape: tuple[int, ...], name: str = "PAD") -> int:
    """One pixel around an image; PADV2 pads with something else than zeros."""
    amounts = model.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    operands = [x, amounts]
    if name == "PADV2":
        operands.append(model.constant(np.array([42], np.int8), 0.1, zero_point=4))
    y = model.activation((1, shape[1] + 2, shape[2] + 2, shape[3]), 0.1, 4)
    model.op(name, operands, [y])
    return y


IMAGE = (1, 6, 5, 2)


@pytest.mark.parametrize("name", ["PAD", "PADV2"])
def test_padding_before_a_convolution(name: str, tmp_path: Path) -> None:
    """Zeros become the convolution's own padding, also where it pads on its own."""
    model = TfliteModel()
    x = model.activation(IMAGE, 0.1, 4)
    p = padded(model, x, IMAGE, name)
    y = convolution(model, p, (1, 8, 7, 2), 3, 0.4)
    rng = np.random.default_rng(0)
    z = model.activation((1, 8, 7, 2), 0.4, 3)
    w = model.constant(rng.integers(-9, 9, (1, 3, 3, 2)).astype(np.int8), 0.1, axis=3)
    b = model.constant(np.zeros(2, np.int32), 0.01)
    options = {"Padding": 0, "StrideW": 1, "StrideH": 1}
    model.op("DEPTHWISE_CONV_2D", [p, w, b], [z], "DepthwiseConv2DOptions", **options)
    model.inputs, model.outputs = [x], [y, z]
    own = ["pad"] if name == "PADV2" else []
    assert layers(model, tmp_path) == [*own, "conv2d", "depthwise_conv2d"]
    assert_equal(model, [random_int8(rng, IMAGE)])


def test_padding_that_others_read_too(tmp_path: Path) -> None:
    model = TfliteModel()
    x = model.activation(IMAGE, 0.1, 4)
    p = padded(model, x, IMAGE)
    y = convolution(model, p, (1, 8, 7, 2), 3, 0.4)
    model.inputs, model.outputs = [x], [y, p]
    assert sorted(layers(model, tmp_path)) == ["conv2d", "pad"]
    assert_equal(model, [random_int8(np.random.default_rng(0), IMAGE)])


@pytest.mark.parametrize("name", ["RELU", "RELU6"])
def test_activation_functions_are_folded(name: str, tmp_path: Path) -> None:
    model = TfliteModel()
    x = model.activation(IMAGE, 0.1, 4)
    c = convolution(model, x, IMAGE, 3, 0.4)
    y = model.activation((1, 4, 3, 3), 0.4, 3)
    model.op(name, [c], [y])
    model.inputs, model.outputs = [x], [y]
    assert layers(model, tmp_path) == ["conv2d"]
    assert_equal(model, [random_int8(np.random.default_rng(0), IMAGE)])


def test_layout_costs_nothing(tmp_path: Path) -> None:
    """A network that wants its rows last, as those from PyTorch do."""
    model = TfliteModel()
    x = model.activation((1, 2, 6, 5), 0.1, 4)
    last = model.activation(IMAGE, 0.1, 4)
    model.op("TRANSPOSE", [x, model.constant(np.array([0, 2, 3, 1], np.int32))], [last])
    c = convolution(model, last, IMAGE, 3, 0.4)
    back = model.activation((1, 3, 4, 3), 0.4, 3)
    model.op("TRANSPOSE", [c, model.constant(np.array([0, 3, 1, 2], np.int32))], [back])
    wide = model.activation((1, 1, 3, 4, 3), 0.4, 3)
    model.op("EXPAND_DIMS", [back, model.constant(np.array([0], np.int32))], [wide])
    flat = model.activation((3, 4, 3), 0.4, 3)
    model.op("SQUEEZE", [wide], [flat], "SqueezeOptions", SqueezeDims=[0, -4])
    model.inputs, model.outputs = [x], [flat]
    assert layers(model, tmp_path) == ["conv2d"]
    host = assert_equal(model, [random_int8(np.random.default_rng(0), (1, 2, 6, 5))])
    assert host.inputs[0].shape == IMAGE
    assert host.inputs[0].permutation == (0, 2, 3, 1)


def test_weights_follow_a_flattened_transposition(tmp_path: Path) -> None:
    model = TfliteModel()
    x = model.activation(IMAGE, 0.1, 4)
    c = convolution(model, x, IMAGE, 3, 0.4)
    first = model.activation((1, 3, 4, 3), 0.4, 3)
    model.op("TRANSPOSE", [c, model.constant(np.array([0, 3, 1, 2], np.int32))], [first])
    flat = model.activation((1, 36), 0.4, 3)
    model.op("RESHAPE", [first, model.constant(np.array([1, -1], np.int32))], [flat])
    rng = np.random.default_rng(1)
    w = model.constant(rng.integers(-127, 128, (5, 36)).astype(np.int8), 0.02)
    y = model.activation((1, 5), 2.0, -9)
    model.op("FULLY_CONNECTED", [flat, w, -1], [y], "FullyConnectedOptions")
    model.inputs, model.outputs = [x], [y]
    assert layers(model, tmp_path) == ["conv2d", "fully_connected"]
    assert_equal(model, [random_int8(rng, IMAGE)])


def test_float_borders_disappear(tmp_path: Path) -> None:
    model = TfliteModel()
    x = model.activation(IMAGE, None, type="float32", name="image")
    q = model.activation(IMAGE, 0.1, 4)
    model.op("QUANTIZE", [x], [q])
    c = convolution(model, q, IMAGE, 3, 0.4)
    y = model.activation((1, 4, 3, 3), None, type="float32")
    model.op("DEQUANTIZE", [c], [y])
    model.inputs, model.outputs = [x], [y]
    assert layers(model, tmp_path) == ["conv2d"]
    image = np.random.default_rng(0).uniform(-15, 15, IMAGE).astype(np.float32)
    host = assert_equal(model, [image])
    info = host.inputs[0]
    assert (info.model_type, info.name, info.zero_point) == ("float32", "image", 4)
    assert info.scale == np.float32(0.1)
    assert host.outputs[0].model_type == "float32"


def test_unsigned_borders_disappear(tmp_path: Path) -> None:
    model = TfliteModel()
    x = model.activation(IMAGE, 0.1, 132, type="uint8")
    q = model.activation(IMAGE, 0.1, 4)
    model.op("QUANTIZE", [x], [q])
    c = convolution(model, q, IMAGE, 3, 0.4)
    y = model.activation((1, 4, 3, 3), 0.4, 131, type="uint8")
    model.op("QUANTIZE", [c], [y])
    model.inputs, model.outputs = [x], [y]
    assert layers(model, tmp_path) == ["conv2d"]
    image = np.random.default_rng(0).integers(0, 256, IMAGE).astype(np.uint8)
    host = assert_equal(model, [image])
    assert (host.inputs[0].model_type, host.inputs[0].zero_point) == ("uint8", 4)
    assert host.outputs[0].model_type == "uint8"


@pytest.mark.parametrize("source", ["int8", "uint8"])
@pytest.mark.parametrize("target", ["int8", "uint8"])
def test_quantize_between_types(source: str, target: str) -> None:
    model = TfliteModel()
    x = model.activation((256,), 0.05, 100, type=source)
    y = model.activation((256,), 0.071, 93, type=target)
    model.op("QUANTIZE", [x], [y])
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [np.arange(256).astype(np.uint8).view(source)])


def test_dequantize_then_quantize() -> None:
    model = TfliteModel()
    x = model.activation((256,), 0.05, -3)
    r = model.activation((256,), None, type="float32")
    back = model.activation((16, 16), None, type="float32")
    y = model.activation((16, 16), 0.071, 9)
    model.op("DEQUANTIZE", [x], [r])
    model.op("RESHAPE", [r, model.constant(np.array([16, 16], np.int32))], [back])
    model.op("QUANTIZE", [back], [y])
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [np.arange(-128, 128).astype(np.int8)])


FLOAT_CHAINS: dict[str, list[tuple[str, list[Any], str | None]]] = {
    "silu": [("LOGISTIC", [0], None), ("MUL", [0, 1], "MulOptions")],
    "exponential": [("EXP", [0], None), ("SUB", [1, "one"], "SubOptions")],
    "clipped": [("MINIMUM", [0, "one"], None), ("RELU", [1], None), ("NEG", [2], None)],
    "reciprocal": [
        ("ABS", [0], None),
        ("ADD", [1, "one"], "AddOptions"),
        ("DIV", ["one", 2], None),
    ],
    "root": [("RELU6", [0], None), ("SQRT", [1], None), ("HARD_SWISH", [2], None)],
    "leaky": [("LEAKY_RELU", [0], "LeakyReluOptions"), ("TANH", [1], None), ("SQUARE", [2], None)],
}


@pytest.mark.parametrize("chain", FLOAT_CHAINS)
def test_float_functions_between_integers_are_a_table(chain: str, tmp_path: Path) -> None:
    """What converters leave in float32 for lack of an int8 kernel."""
    model, shape = TfliteModel(), (256,)
    x, y = model.activation(shape, 0.03, -20), model.activation(shape, 0.012, 11)
    values = [model.activation(shape, None, type="float32")]
    one = model.constant(np.array(1, np.float32))
    model.op("DEQUANTIZE", [x], [values[0]])
    for name, operands, options in FLOAT_CHAINS[chain]:
        values.append(model.activation(shape, None, type="float32"))
        fields = {"Alpha": 0.2} if name == "LEAKY_RELU" else {}
        inputs = [one if o == "one" else values[int(o)] for o in operands]
        model.op(name, inputs, [values[-1]], options, **fields)
    model.op("QUANTIZE", [values[-1]], [y])
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [np.arange(-128, 128).astype(np.int8)])
    assert layers(model, tmp_path) == ["lookup"]


def test_operator_codes_in_the_wide_field_only() -> None:
    model = TfliteModel(narrow_codes=False)
    x, y = model.activation((1, 6), 0.1, 5), model.activation((1, 6), 0.07, -3)
    model.op("QUANTIZE", [x], [y])
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [np.arange(-3, 3).astype(np.int8).reshape(1, 6)])


def test_several_inputs_and_outputs() -> None:
    """Outputs that are inputs, that come twice, and that others read."""
    model = TfliteModel()
    a, b = (model.activation((1, 8), 0.1, z) for z in (3, -9))
    total, least = model.activation((1, 8), 0.2, 1), model.activation((1, 8), 0.2, 1)
    model.op("ADD", [a, b], [total], "AddOptions")
    model.op("RELU", [total], [least])
    flat = model.activation((8,), 0.2, 1)
    model.op("RESHAPE", [total, model.constant(np.array([8], np.int32))], [flat])
    model.inputs, model.outputs = [b, a], [total, least, a, flat]
    rng = np.random.default_rng(0)
    assert_equal(model, [random_int8(rng, (1, 8)), random_int8(rng, (1, 8))])


def test_shape_arithmetic_is_evaluated(tmp_path: Path) -> None:
    """How converters flatten a batch of any size."""
    model = TfliteModel()
    x = model.activation((1, 4, 6), 0.1, 3, signature=[-1, 4, 6])
    shape = model.activation((3,), None, type="int32")
    model.op("SHAPE", [x], [shape], "ShapeOptions", OutType=2)
    batch = model.activation((), None, type="int32")
    bounds = [model.constant(np.array([n], np.int32)) for n in (0, 1, 1)]
    model.op("STRIDED_SLICE", [shape, *bounds], [batch], "StridedSliceOptions", ShrinkAxisMask=1)
    wanted = model.activation((2,), None, type="int32")
    count = model.constant(np.array(24, np.int32))
    model.op("PACK", [batch, count], [wanted], "PackOptions", ValuesCount=2)
    flat = model.activation((1, 24), 0.1, 3)
    model.op("RESHAPE", [x, wanted], [flat], "ReshapeOptions")
    y = model.activation((1, 24), 0.1, 3)
    model.op("RELU", [flat], [y])
    model.inputs, model.outputs = [x], [y]
    assert layers(model, tmp_path) == ["clamp"]
    assert_equal(model, [random_int8(np.random.default_rng(0), (1, 4, 6))])


@pytest.mark.parametrize(
    "scales",
    [[0.01, -0.02, 0.0, -1e-9, 0.005], [0.5, -0.5, -0.25, 0.25, -0.125]],
    ids=["any", "ties"],
)
def test_negative_weight_scales(scales: list[float]) -> None:
    """Folding a batch normalisation leaves them."""
    rng, model = np.random.default_rng(0), TfliteModel()
    shape = (1, 20, 20, 4)
    x = model.activation(shape, 1 / 16, 4)
    scale = np.array(scales, np.float32)
    w = model.constant(rng.integers(-9, 10, (5, 1, 1, 4)).astype(np.int8), scale)
    b = model.constant(rng.integers(-99, 99, 5).astype(np.int32), scale / np.float32(16))
    y = model.activation((1, 20, 20, 5), 1.0 if scales[0] == 0.5 else 0.05, 3)
    options = {"Padding": 1, "StrideW": 1, "StrideH": 1}
    model.op("CONV_2D", [x, w, b], [y], "Conv2DOptions", **options)
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


def test_accumulators_wrap_as_the_reference_s_do() -> None:
    """Converters clip the bias of a channel whose weights are next to nothing."""
    rng, model = np.random.default_rng(0), TfliteModel()
    x = model.activation((1, 1, 1, 4), 0.1, -128)
    scales = np.array([1e-7, 2e-7], np.float32)
    w = model.constant(rng.integers(100, 128, (2, 1, 1, 4)).astype(np.int8), scales)
    b = model.constant(np.array([2**31 - 1, -(2**31)], np.int32), scales * np.float32(0.1))
    y = model.activation((1, 1, 1, 2), 1.0, 3)
    options = {"Padding": 1, "StrideW": 1, "StrideH": 1}
    model.op("CONV_2D", [x, w, b], [y], "Conv2DOptions", **options)
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, (1, 1, 1, 4))])


def test_the_same_file_gives_the_same_module(tmp_path: Path) -> None:
    model = TfliteModel()
    x = model.activation(IMAGE, 0.1, 4)
    model.inputs, model.outputs = [x], [convolution(model, x, IMAGE, 3, 0.4)]
    path = tmp_path / "model.tflite"
    path.write_bytes(model.build())
    first, second = (str(import_model(path, ir.Context())) for _ in range(2))
    assert first == second


def test_builder_and_reference_agree_on_bytes() -> None:
    """A model that a user would write: bytes in, bytes out."""
    model = TfliteModel()
    x = model.activation((1, 4), 0.5, 0)
    y = model.activation((1, 4), 0.5, 0)
    model.op("RELU", [x], [y])
    model.inputs, model.outputs = [x], [y]
    data = model.build()
    given = [np.array([[-3, -1, 0, 5]], np.int8)]
    assert reference(data, given)[0].tolist() == [[0, 0, 0, 5]]
    assert run(compiled(data), given)[0].tolist() == [[0, 0, 0, 5]]
