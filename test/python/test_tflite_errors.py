"""TFLite files that cannot be compiled: each gets one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_models import TfliteModel

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.frontends import import_model
from tinymlir.frontends.tflite import schema

Build = Callable[[], "TfliteModel | bytes"]
CASES: list[tuple[str, Build]] = []


def case(*messages: str) -> Callable[[Build], Build]:
    """Decorator: the model that the function builds is refused with these words."""

    def register(build: Build) -> Build:
        CASES.extend((message, build) for message in messages)
        return build

    return register


def message_of(data: bytes, folder: Path, name: str = "model.tflite") -> str:
    path = folder / name
    path.write_bytes(data)
    with pytest.raises(TinymlirError) as caught:
        import_model(path, ir.Context())
    return str(caught.value)


@pytest.mark.parametrize(("message", "build"), CASES, ids=[f"{b.__name__}" for _, b in CASES])
def test_refused(message: str, build: Build, tmp_path: Path) -> None:
    model = build()
    text = message_of(model if isinstance(model, bytes) else model.build(), tmp_path)
    assert message in text
    assert "model.tflite" in text
    assert "\n" not in text


def conv(
    x: dict[str, Any] | None = None,
    weights: np.ndarray | None = None,
    w: dict[str, Any] | None = None,
    y: dict[str, Any] | None = None,
    shape: tuple[int, ...] = (1, 4, 4, 2),
    **fields: Any,
) -> TfliteModel:
    """A convolution that is fine but for what is given."""
    model = TfliteModel()
    source = model.activation(shape, **{"scale": 0.1, "name": "image", **(x or {})})
    values = np.ones((3, 1, 1, 2), np.int8) if weights is None else weights
    constant = model.constant(values, **{"scale": 0.02, **(w or {})})
    bias = model.constant(np.zeros(3, np.int32), 0.002)
    target = model.activation((*shape[:3], 3), **{"scale": 0.3, "name": "conv;bias", **(y or {})})
    options = {"Padding": 0, "StrideW": 1, "StrideH": 1, **fields}
    model.op("CONV_2D", [source, constant, bias], [target], "Conv2DOptions", **options)
    model.inputs, model.outputs = [source], [target]
    return model


def unary(name: str, result: tuple[int, ...] = (1, 4), **x: Any) -> TfliteModel:
    model = TfliteModel()
    source = model.activation((1, 4), **{"scale": 0.1, **x})
    target = model.activation(result, 0.1, name="result")
    model.op(name, [source], [target])
    model.inputs, model.outputs = [source], [target]
    return model


def test_the_model_to_vary_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "fine.tflite"
    path.write_bytes(conv().build())
    assert 'tiny.op = "conv2d"' in str(import_model(path, ir.Context()))


@case("node 'conv': operator 0 (CONV_2D): the padding scheme 7")
def node_and_operator_are_named() -> TfliteModel:
    return conv(Padding=7)


@case("operator 0 (CUMSUM): the operator is not supported")
def unknown_operator() -> TfliteModel:
    return unary("CUMSUM")


@case("operator 0 (CUSTOM 'Mine'): the operator is not supported")
def custom_operator() -> TfliteModel:
    model = TfliteModel()
    model.inputs, model.outputs = [model.activation((1, 4))], [model.activation((1, 4))]
    model.custom_op("Mine", model.inputs, model.outputs)
    return model


@case("input 'image' has a dynamic shape [1, -1, 4, 2]", "fixed input shape")
def dynamic_rows() -> TfliteModel:
    return conv(x={"signature": [1, -1, 4, 2]})


@case("input 'image' has a dynamic shape [1, 0, 4, 2]")
def empty_input() -> TfliteModel:
    return conv(shape=(1, 0, 4, 2))


@case("input 'image' has the absurd shape")
def absurd_input() -> TfliteModel:
    return conv(shape=(1, 2**14, 2**14, 2))


@case("the network computes in float32", "convert with full integer quantisation")
def float_network() -> TfliteModel:
    real = {"type": "float32", "scale": None}
    weights = np.ones((3, 1, 1, 2), np.float32)
    return conv(x=real, y=real, weights=weights, w={"scale": None})


@case("only the weights are quantised", "convert with full integer quantisation")
def hybrid_network() -> TfliteModel:
    real = {"type": "float32", "scale": None}
    return conv(x=real, y=real)


@case("operator 1 (CONV_2D): computes in float32")
def float_layer_in_an_int8_network() -> TfliteModel:
    model = TfliteModel()
    x, q = model.activation((1, 1, 1, 2), 0.1), model.activation((1, 1, 1, 2), 0.2)
    r = model.activation((1, 1, 1, 2), None, type="float32")
    y = model.activation((1, 1, 1, 3), None, type="float32")
    w = model.constant(np.ones((3, 1, 1, 2), np.int8), 0.1)
    model.op("DEQUANTIZE", [q], [r])
    model.op("CONV_2D", [r, w, -1], [y], "Conv2DOptions", StrideW=1, StrideH=1)
    model.inputs, model.outputs = [q], [y, x]
    model.op("RELU", [q], [x])
    return model


@case("input 'image' is int16 (16x8 quantisation)", "TFLITE_BUILTINS_INT8")
def int16_input() -> TfliteModel:
    return conv(x={"type": "int16"})


@case("activations are int16 (16x8 quantisation)")
def int16_result() -> TfliteModel:
    return conv(y={"type": "int16"})


@case("weights of type int4 are not supported")
def int4_weights() -> TfliteModel:
    return conv(w={"type": "int4"})


@case("weights of type float32 are not supported")
def float_weights() -> TfliteModel:
    return conv(weights=np.ones((3, 1, 1, 2), np.float32))


@case("input 'image' has the type bool")
def bool_input() -> TfliteModel:
    return conv(x={"type": "bool"})


@case("operator 0 (CONV_2D): computes in uint8")
def uint8_network() -> TfliteModel:
    return conv(x={"type": "uint8", "zero_point": 128})


@case("tensor 'conv;bias' has no scale")
def no_scale() -> TfliteModel:
    return conv(y={"scale": None})


@case("has the scale -1.0 and the zero point 0")
def negative_scale() -> TfliteModel:
    return conv(y={"scale": -1.0})


@case("has the scale 0.30000001192092896 and the zero point 200")
def zero_point_out_of_range() -> TfliteModel:
    return conv(y={"zero_point": 200})


@case("the scale 5e+09 is too large")
def absurd_scale() -> TfliteModel:
    return conv(w={"scale": 1e10}, y={"scale": 0.2})


@case("have no usable scales")
def weights_with_scales_along_another_axis() -> TfliteModel:
    return conv(w={"scale": [0.1, 0.2], "axis": 3})


@case("are not symmetric")
def weights_with_a_zero_point() -> TfliteModel:
    return conv(weights=np.full((3, 1, 1, 2), -100, np.int8), w={"zero_point": 60})


@case("weights [3, 1, 1, 3] do not fit the input [1, 4, 4, 2]")
def weights_that_do_not_fit() -> TfliteModel:
    return conv(weights=np.ones((3, 1, 1, 3), np.int8))


@case("the input has the shape [2, 4, 4, 2]", "batch 1")
def batch() -> TfliteModel:
    return conv(shape=(2, 4, 4, 2))


@case("the kernel [9, 9] does not fit the input [4, 4]")
def kernel_larger_than_the_input() -> TfliteModel:
    return conv(weights=np.ones((3, 9, 9, 2), np.int8), Padding=1)


@case("must be positive")
def stride_of_zero() -> TfliteModel:
    return conv(StrideW=0)


@case("the fused activation function 4 is not supported")
def fused_tanh() -> TfliteModel:
    return conv(FusedActivationFunction=4)


@case("the bias is float32 of shape [3], not int32 of 3")
def float_bias() -> TfliteModel:
    model = conv()
    bias = model.constant(np.zeros(3, np.float32))
    model.change_operator(0, inputs=[0, 1, bias])
    return model


@case("must be a constant")
def computed_weights() -> TfliteModel:
    model = conv()
    weights = model.activation((3, 1, 1, 2), 0.1)
    model.inputs.append(weights)
    model.change_operator(0, inputs=[0, weights, 2])
    return model


@case("input 1 is missing")
def missing_weights() -> TfliteModel:
    model = conv()
    model.change_operator(0, inputs=[0, -1, 2])
    return model


@case("takes the variable 'state'")
def variable() -> TfliteModel:
    model = conv()
    state = model.activation((1, 4, 4, 2), 0.1, name="state", variable=True)
    model.change_operator(0, inputs=[state, 1, 2])
    return model


@case("operands and result differ in scale or zero point")
def concatenation_of_other_scales() -> TfliteModel:
    model = TfliteModel()
    parts = [model.activation((1, 2), s) for s in (0.1, 0.2)]
    y = model.activation((1, 4), 0.1)
    model.op("CONCATENATION", parts, [y], "ConcatenationOptions", Axis=1)
    model.inputs, model.outputs = parts, [y]
    return model


@case("operands of the shapes [1, 2] and [1, 3] do not fit")
def sum_of_shapes_that_do_not_fit() -> TfliteModel:
    model = TfliteModel()
    parts = [model.activation((1, n), 0.1) for n in (2, 3)]
    y = model.activation((1, 3), 0.1)
    model.op("ADD", parts, [y], "AddOptions")
    model.inputs, model.outputs = parts, [y]
    return model


@case("the reference takes 1/256 and -128 only")
def softmax_of_another_scale() -> TfliteModel:
    return unary("SOFTMAX")


@case("below a 128th of the input's")
def hard_swish_of_a_fine_result() -> TfliteModel:
    return unary("HARD_SWISH", scale=100.0)


@case("[1, 4] cannot become [3, 3]")
def reshape_to_another_size() -> TfliteModel:
    model = unary("RESHAPE", (3, 3))
    model.change_operator(0, inputs=[0, model.constant(np.array([3, 3], np.int32))])
    return model


def placed(
    name: str, shape: tuple[int, ...], result: tuple[int, ...], *constants: Any, **fields: Any
) -> TfliteModel:
    """An operator with constant operands; its options are named after it."""
    model = TfliteModel()
    x, y = (model.activation(s, 0.1, name=n) for s, n in ((shape, "x"), (result, "result")))
    operands = [model.constant(np.array(c, np.int32)) for c in constants]
    options = f"{name.title().replace('_', '')}Options" if fields else None
    model.op(name, [x, *operands], [y], options, **fields)
    model.inputs, model.outputs = [x], [y]
    return model


@case("[2, 3] cannot be repeated [2] times")
def tile_of_another_rank() -> TfliteModel:
    return placed("TILE", (2, 3), (4, 3), [2])


@case("cannot be repeated [1000000, 1000000] times")
def absurd_tile() -> TfliteModel:
    return placed("TILE", (2, 3), (2, 3), [10**6, 10**6])


@case("[2, 3] cannot become [2, 4]")
def broadcast_that_does_not_fit() -> TfliteModel:
    return placed("BROADCAST_TO", (2, 3), (2, 4), [2, 4])


@case("indices do not fit a dimension of 3")
def gather_out_of_range() -> TfliteModel:
    return placed("GATHER", (2, 3), (2, 1), [3], Axis=1)


@case("batch dimensions are not supported")
def gather_by_batch() -> TfliteModel:
    return placed("GATHER", (2, 3), (2, 1), [0, 1], Axis=1, BatchDims=1)


@case("[[2, 0], [0, 0]] does not mirror [2, 3]")
def mirror_larger_than_the_image() -> TfliteModel:
    return placed("MIRROR_PAD", (2, 3), (4, 3), [[2, 0], [0, 0]], Mode=0)


@case("[1, 2, 2, 3] has no blocks of 2")
def depth_that_no_block_divides() -> TfliteModel:
    return placed("DEPTH_TO_SPACE", (1, 2, 2, 3), (1, 4, 4, 1), BlockSize=2)


@case("an ellipsis stands for no dimension")
def empty_ellipsis() -> TfliteModel:
    constants = [0, 0, 1], [2, 0, 3], [1, 1, 1]
    return placed("STRIDED_SLICE", (2, 3), (2, 2), *constants, EllipsisMask=2)


@case("[2, 3] cannot be resized to [4, 4]")
def resize_of_no_image() -> TfliteModel:
    return placed("RESIZE_BILINEAR", (2, 3), (4, 4), [4, 4])


@case("[1, 3, 2, 1] does not split into [1, 2, 2, 1]")
def split_that_does_not_divide() -> TfliteModel:
    return placed("SPACE_TO_BATCH_ND", (1, 3, 2, 1), (4, 1, 1, 1), [2, 2], [[0, 0], [0, 0]])


@case("the block [0, 2] with [0, 0, 0, 0] makes no sense")
def split_by_nothing() -> TfliteModel:
    return placed("SPACE_TO_BATCH_ND", (1, 2, 2, 1), (1, 2, 2, 1), [0, 2], [[0, 0], [0, 0]])


@case("follows no SPACE_TO_BATCH_ND")
def joined_before_it_is_split() -> TfliteModel:
    return placed("BATCH_TO_SPACE_ND", (1, 2, 2, 1), (1, 2, 2, 1), [1, 1], [[0, 0], [0, 0]])


@case("takes the parts of an image that SPACE_TO_BATCH_ND has split")
def activation_function_of_a_split_image() -> TfliteModel:
    model = placed("SPACE_TO_BATCH_ND", (1, 2, 2, 1), (4, 1, 1, 1), [2, 2], [[0, 0], [0, 0]])
    y = model.activation((4, 1, 1, 1), 0.1)
    model.op("TANH", model.outputs, [y])
    model.outputs = [y]
    return model


@case("mixes the phases of a split image")
def reshape_of_a_split_image() -> TfliteModel:
    model = placed("SPACE_TO_BATCH_ND", (1, 2, 2, 1), (4, 1, 1, 1), [2, 2], [[0, 0], [0, 0]])
    y = model.activation((2, 2), 0.1)
    model.op("RESHAPE", [*model.outputs, model.constant(np.array([2, 2], np.int32))], [y])
    model.outputs = [y]
    return model


@case("operands and result differ in scale or zero point")
def maximum_of_other_scales() -> TfliteModel:
    model = TfliteModel()
    x, y, z = (model.activation((4,), s) for s in (0.1, 0.1, 0.2))
    model.op("MAXIMUM", [x, y], [z])
    model.inputs, model.outputs = [x, y], [z]
    return model


@case("output 'exponential' is computed in float32")
def float_function_at_the_output() -> TfliteModel:
    model = TfliteModel()
    x = model.activation((4,), 0.1)
    real = model.activation((4,), None, type="float32")
    y = model.activation((4,), None, type="float32", name="exponential")
    model.op("DEQUANTIZE", [x], [real])
    model.op("EXP", [real], [y])
    model.inputs, model.outputs = [x], [y]
    return model


@case("operator 1 (ADD): input 1 is missing")
def float_sum_of_one_tensor() -> TfliteModel:
    model = TfliteModel()
    x, y = model.activation((4,), 0.1), model.activation((4,), 0.1)
    reals = [model.activation((4,), None, type="float32") for _ in range(2)]
    model.op("DEQUANTIZE", [x], reals[:1])
    model.op("ADD", reals[:1], reals[1:])
    model.op("QUANTIZE", reals[1:], [y])
    model.inputs, model.outputs = [x], [y]
    return model


@case("operator 2 (ADD): computes in float32")
def float_sum_of_two_tensors() -> TfliteModel:
    model = TfliteModel()
    operands = [model.activation((4,), 0.1) for _ in range(2)]
    reals = [model.activation((4,), None, type="float32") for _ in range(3)]
    y = model.activation((4,), 0.1)
    for operand, real in zip(operands, reals, strict=False):
        model.op("DEQUANTIZE", [operand], [real])
    model.op("ADD", reals[:2], [reals[2]])
    model.op("QUANTIZE", [reals[2]], [y])
    model.inputs, model.outputs = operands, [y]
    return model


@case("the input is quantised in two ways")
def float_input_with_two_scales() -> TfliteModel:
    model = TfliteModel()
    x = model.activation((1, 4), None, type="float32")
    made = [model.activation((1, 4), s) for s in (0.1, 0.2)]
    for y in made:
        model.op("QUANTIZE", [x], [y])
    model.inputs, model.outputs = [x], made
    return model


@case("is damaged or truncated: nothing computes the output 'lost'")
def output_that_nothing_computes() -> TfliteModel:
    model = conv()
    model.outputs = [model.activation((1, 4), 0.1, name="lost")]
    return model


@case("which nothing computes")
def operator_before_its_input() -> TfliteModel:
    model = conv()
    model.change_operator(0, inputs=[model.activation((1, 4, 4, 2), 0.1), 1, 2])
    return model


@case("refers to a tensor that does not exist")
def tensor_out_of_range() -> TfliteModel:
    model = conv()
    model.change_operator(0, inputs=[77, 1, 2])
    return model


@case("has 3 bytes for the shape [3, 1, 1, 2]")
def constant_cut_short() -> TfliteModel:
    model = conv()
    model.change_data(1, b"abc")
    return model


@case("not a TFLite model")
def another_file() -> bytes:
    return b"GIF89a not a network"


@case("not a TFLite model")
def empty_file() -> bytes:
    return b""


@case("is damaged or truncated")
def truncated() -> bytes:
    return conv().build()[:400]


@case("its version is")
def another_version() -> bytes:
    return TfliteModel(version=2).build()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TinymlirError, match=r"gone.tflite: cannot be read: No such file"):
        import_model(tmp_path / "gone.tflite", ir.Context())


def test_too_large_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAX_FILE_BYTES", 100)
    assert "more than 100 bytes" in message_of(conv().build(), tmp_path)


def test_too_many_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAX_OPERATORS", 0)
    assert "the network has 1 operators, more than 0" in message_of(conv().build(), tmp_path)


def test_content_tells_the_format(tmp_path: Path) -> None:
    text = message_of(conv(Padding=7).build(), tmp_path, "model.bin")
    assert "operator 0 (CONV_2D)" in text


def test_names_stay_on_one_line(tmp_path: Path) -> None:
    model = conv(y={"name": "a\nb" + "c" * 1000}, Padding=7)
    text = message_of(model.build(), tmp_path)
    assert "node 'a?bc" in text
    assert len(text) < 500
