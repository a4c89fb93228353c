"""Every TFLite operator against LiteRT's reference kernels, byte for byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tflite_models import TfliteModel
from tflite_reference import SETTINGS, assert_equal, random_int8

from tinymlir.host import HostModel

pytest.importorskip("ai_edge_litert")

SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)

Rng = np.random.Generator
Shape = tuple[int, ...]

RNGS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
PADDINGS = st.sampled_from([SAME, VALID])
ACTIVATIONS = st.sampled_from([NONE, RELU, RELU_N1_TO_1, RELU6])
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def scale(rng: Rng, low: float = -6.0, high: float = -1.0) -> float:
    return float(np.float32(np.exp(rng.uniform(low, high))))


def zero_point(rng: Rng) -> int:
    return [-128, 0, int(rng.integers(-128, 128))][int(rng.integers(3))]


def positions(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else (size - reach) // stride + 1


def weighted(
    model: TfliteModel,
    rng: Rng,
    x_scale: float,
    shape: Shape,
    axis: int,
    per_channel: bool = True,
) -> tuple[int, int, float]:
    """Random weights with their bias, and a scale that suits what a layer makes of them.

    Args:
        axis: where the output channels of the weights are.
    """
    channels = shape[axis]
    scales = np.exp(rng.uniform(-8, -3, channels if per_channel else 1)).astype(np.float32)
    values = rng.integers(-127, 128, shape).astype(np.int8)
    weights = model.constant(values, scales, axis=axis if per_channel else 0)
    offsets = rng.integers(-(2**13), 2**13, channels).astype(np.int32)
    bias = model.constant(offsets, np.float32(x_scale) * scales)
    spread = 1600 * math.sqrt(math.prod(shape) / channels) * x_scale * float(scales.mean())
    return weights, bias, float(np.float32(spread / rng.uniform(20, 120)))


@SETTINGS
@given(
    rng=RNGS,
    size=pairs(3, 9),
    kernel=pairs(1, 3),
    stride=pairs(1, 3),
    dilation=st.integers(1, 2),
    padding=PADDINGS,
    groups=st.integers(1, 3),
    activation=ACTIVATIONS,
    per_channel=st.booleans(),
)
def test_conv_2d(
    rng: Rng,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: int,
    padding: int,
    groups: int,
    activation: int,
    per_channel: bool,
) -> None:
    dilation = dilation if padding == SAME else 1
    model, x_scale = TfliteModel(), scale(rng)
    depth, filters = int(rng.integers(1, 5)), groups * int(rng.integers(1, 6))
    shape = (1, *size, depth * groups)
    out = [
        positions(n, k, s, padding, dilation) for n, k, s in zip(size, kernel, stride, strict=True)
    ]
    x = model.activation(shape, x_scale, zero_point(rng))
    w, b, y_scale = weighted(model, rng, x_scale, (filters, *kernel, depth), 0, per_channel)
    y = model.activation((1, *out, filters), y_scale, zero_point(rng))
    model.op(
        "CONV_2D",
        [x, w, b],
        [y],
        "Conv2DOptions",
        Padding=padding,
        StrideH=stride[0],
        StrideW=stride[1],
        DilationHFactor=dilation,
        DilationWFactor=dilation,
        FusedActivationFunction=activation,
    )
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@SETTINGS
@given(
    rng=RNGS,
    size=pairs(3, 9),
    kernel=pairs(1, 4),
    stride=st.integers(1, 3),
    padding=PADDINGS,
    channels=st.integers(1, 6),
    multiplier=st.integers(1, 3),
    activation=ACTIVATIONS,
    per_channel=st.booleans(),
)
def test_depthwise_conv_2d(
    rng: Rng,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    channels: int,
    multiplier: int,
    activation: int,
    per_channel: bool,
) -> None:
    kernel = (min(kernel[0], size[0]), min(kernel[1], size[1]))
    model, x_scale = TfliteModel(), scale(rng)
    shape, filters = (1, *size, channels), channels * multiplier
    out = [positions(n, k, stride, padding) for n, k in zip(size, kernel, strict=True)]
    x = model.activation(shape, x_scale, zero_point(rng))
    w, b, y_scale = weighted(model, rng, x_scale, (1, *kernel, filters), 3, per_channel)
    y = model.activation((1, *out, filters), y_scale, zero_point(rng))
    model.op(
        "DEPTHWISE_CONV_2D",
        [x, w, b],
        [y],
        "DepthwiseConv2DOptions",
        Padding=padding,
        StrideH=stride,
        StrideW=stride,
        DilationHFactor=1,
        DilationWFactor=1,
        DepthMultiplier=multiplier,
        FusedActivationFunction=activation,
    )
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@SETTINGS
@given(
    rng=RNGS,
    size=pairs(1, 6),
    kernel=pairs(1, 5),
    stride=pairs(1, 3),
    padding=PADDINGS,
    with_bias=st.booleans(),
    activation=st.sampled_from([NONE, RELU]),
)
def test_transpose_conv(
    rng: Rng,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    with_bias: bool,
    activation: int,
) -> None:
    model, x_scale = TfliteModel(), scale(rng)
    channels, filters = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    shape = (1, *size, channels)
    out = [
        n * s if padding == SAME else (n - 1) * s + k
        for n, k, s in zip(size, kernel, stride, strict=True)
    ]
    x = model.activation(shape, x_scale, zero_point(rng))
    w, b, y_scale = weighted(model, rng, x_scale, (filters, *kernel, channels), 0)
    y = model.activation((1, *out, filters), y_scale, zero_point(rng))
    wanted = model.constant(np.array([1, *out, filters], np.int32))
    model.op(
        "TRANSPOSE_CONV",
        [wanted, w, x, b][: 4 if with_bias else 3],
        [y],
        "TransposeConvOptions",
        Padding=padding,
        StrideH=stride[0],
        StrideW=stride[1],
        FusedActivationFunction=activation,
    )
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@SETTINGS
@given(
    rng=RNGS,
    leading=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    depth=st.integers(1, 70),
    units=st.integers(1, 9),
    keep=st.booleans(),
    with_bias=st.booleans(),
    per_channel=st.booleans(),
    activation=ACTIVATIONS,
)
def test_fully_connected(
    rng: Rng,
    leading: list[int],
    depth: int,
    units: int,
    keep: bool,
    with_bias: bool,
    per_channel: bool,
    activation: int,
) -> None:
    model, x_scale = TfliteModel(), scale(rng)
    shape = (*leading, depth)
    x = model.activation(shape, x_scale, zero_point(rng))
    w, b, y_scale = weighted(model, rng, x_scale, (units, depth), 0, per_channel)
    result = (*leading, units) if keep else (math.prod(leading), units)
    y = model.activation(result, y_scale, zero_point(rng))
    model.op(
        "FULLY_CONNECTED",
        [x, w, b if with_bias else -1],
        [y],
        "FullyConnectedOptions",
        KeepNumDims=keep,
        FusedActivationFunction=activation,
    )
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@SETTINGS
@given(
    rng=RNGS,
    name=st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]),
    size=pairs(1, 9),
    kernel=pairs(1, 5),
    stride=pairs(1, 3),
    padding=PADDINGS,
    activation=ACTIVATIONS,
)
def test_pools(
    rng: Rng,
    name: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    activation: int,
) -> None:
    if padding == VALID:
        kernel = (min(kernel[0], size[0]), min(kernel[1], size[1]))
    model, shape = TfliteModel(), (1, *size, int(rng.integers(1, 6)))
    out = [positions(n, k, s, padding) for n, k, s in zip(size, kernel, stride, strict=True)]
    quantization = (scale(rng, -4, 0), zero_point(rng))
    x = model.activation(shape, *quantization)
    y = model.activation((1, *out, shape[3]), *quantization)
    model.op(
        name,
        [x],
        [y],
        "Pool2DOptions",
        Padding=padding,
        StrideH=stride[0],
        StrideW=stride[1],
        FilterHeight=kernel[0],
        FilterWidth=kernel[1],
        FusedActivationFunction=activation,
    )
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@SETTINGS
@given(rng=RNGS, shape=SHAPES, keep=st.booleans(), same=st.booleans())
def test_mean(rng: Rng, shape: Shape, keep: bool, same: bool) -> None:
    model, rank = TfliteModel(), len(shape)
    axes = rng.permutation(rank)[: int(rng.integers(1, rank + 1))]
    negative = rng.integers(0, 2, len(axes)) * rank
    source = (scale(rng), zero_point(rng))
    target = source if same else (source[0] * float(np.exp(rng.uniform(-2, 1))), zero_point(rng))
    x = model.activation(shape, *source)
    result = np.empty(shape).sum(axis=tuple(axes.tolist()), keepdims=keep).shape
    y = model.activation(result, *target)
    axis = model.constant((axes - negative).astype(np.int32))
    model.op("MEAN", [x, axis], [y], "ReducerOptions", KeepDims=keep)
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@pytest.mark.parametrize("count", [49, 1000, 40000])
def test_mean_of_many(count: int) -> None:
    rng, model = np.random.default_rng(count), TfliteModel()
    x = model.activation((1, count, 1, 2), 0.037, 11)
    y = model.activation((1, 2), 0.0041, -3)
    axis = model.constant(np.array([1, 2], np.int32))
    model.op("MEAN", [x, axis], [y], "ReducerOptions")
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, (1, count, 1, 2))])


def softmax_model(shape: Shape, x_scale: float, beta: float) -> TfliteModel:
    model = TfliteModel()
    x = model.activation(shape, x_scale, 7)
    y = model.activation(shape, 1 / 256, -128)
    model.op("SOFTMAX", [x], [y], "SoftmaxOptions", Beta=beta)
    model.inputs, model.outputs = [x], [y]
    return model


@SETTINGS
@given(rng=RNGS, shape=SHAPES, beta=st.sampled_from([1.0, 0.5, 2.0]))
def test_softmax(rng: Rng, shape: Shape, beta: float) -> None:
    assert_equal(softmax_model(shape, scale(rng, -5, 0), beta), [random_int8(rng, shape)])


@pytest.mark.parametrize("depth", [2, 3, 100])
def test_softmax_of_many_rows(depth: int) -> None:
    shape = (4000, depth)
    rng = np.random.default_rng(depth)
    assert_equal(softmax_model(shape, 0.11, 1.0), [random_int8(rng, shape)])


@SETTINGS
@given(
    rng=RNGS,
    name=st.sampled_from(["ADD", "SUB", "MUL"]),
    shape=SHAPES,
    broadcast=st.sampled_from(["none", "left", "right", "both", "rank"]),
    constant=st.sampled_from([None, 0, 1]),
    activation=ACTIVATIONS,
)
def test_pairwise(
    rng: Rng,
    name: str,
    shape: Shape,
    broadcast: str,
    constant: int | None,
    activation: int,
) -> None:
    model, shapes = TfliteModel(), [list(shape), list(shape)]
    sides = {"left": [0], "right": [1], "both": [0, 1]}.get(broadcast, [])
    for side in sides:
        for d in rng.permutation(len(shape))[: 1 + len(shape) // 2]:
            shapes[side][d] = 1
    if broadcast == "rank":
        shapes[1] = shapes[1][1:] or [1]
    scales = [scale(rng), scale(rng)]
    if rng.integers(3) == 0:
        scales[1] = scales[0]
    fitting = scales[0] * scales[1] * 100 if name == "MUL" else sum(scales)
    operands, inputs = [], []
    for i in (0, 1):
        values = random_int8(rng, tuple(shapes[i]))
        if constant == i:
            operands.append(model.constant(values, scales[i], zero_point=zero_point(rng)))
        else:
            operands.append(model.activation(shapes[i], scales[i], zero_point(rng)))
            model.inputs.append(operands[-1])
            inputs.append(values)
    result = np.broadcast_shapes(*map(tuple, shapes))
    y_scale = float(np.float32(fitting * np.exp(rng.uniform(-1, 1))))
    y = model.activation(result, y_scale, zero_point(rng))
    options = f"{name.title()}Options"
    model.op(name, operands, [y], options, FusedActivationFunction=activation)
    model.outputs = [y]
    assert_equal(model, inputs)


def one_output(
    model: TfliteModel, name: str, operands: list[int], result: Shape, *options: Any, **fields: Any
) -> None:
    """An operator on the first operand, whose quantisation the result has as well."""
    quantization = model.quantization(operands[0])
    y = model.activation(result, *quantization)
    model.op(name, operands, [y], *options, **fields)
    model.inputs, model.outputs = [operands[0]], [y]


def ramp(shape: Shape) -> npt.NDArray[np.int8]:
    """Every element another, as far as int8 goes."""
    return (np.arange(math.prod(shape)) % 251 - 125).astype(np.int8).reshape(shape)


def placed(
    name: str, shape: Shape, result: Shape, constants: list[Any], *options: Any, **fields: Any
) -> HostModel:
    """An operator that only moves elements."""
    model = TfliteModel()
    x = model.activation(shape, 0.1, 5)
    operands = [model.constant(np.array(c, np.int32)) for c in constants]
    one_output(model, name, [x, *operands], result, *options, **fields)
    return assert_equal(model, [ramp(shape)])


@SETTINGS
@given(rng=RNGS, shape=SHAPES)
def test_transpose(rng: Rng, shape: Shape) -> None:
    order = rng.permutation(len(shape)).tolist()
    placed("TRANSPOSE", shape, tuple(shape[d] for d in order), [order])


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_slice(shape: Shape, data: st.DataObject) -> None:
    begin = [data.draw(st.integers(0, n - 1)) for n in shape]
    size = [data.draw(st.integers(1, n - b)) for n, b in zip(shape, begin, strict=True)]
    rest = [data.draw(st.booleans()) for _ in shape]
    result = [n - b if r else s for n, b, s, r in zip(shape, begin, size, rest, strict=True)]
    given_size = [-1 if r else s for s, r in zip(size, rest, strict=True)]
    placed("SLICE", shape, tuple(result), [begin, given_size])


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_strided_slice(shape: Shape, data: st.DataObject) -> None:
    rank = len(shape)
    masks = {name: data.draw(st.integers(0, 2**rank - 1)) for name in ("BeginMask", "EndMask")}
    shrink = data.draw(st.integers(0, 2**rank - 1))
    begin, end, stride, ranges = [], [], [], []
    for d, n in enumerate(shape):
        step = 1 if shrink >> d & 1 else data.draw(st.sampled_from([1, 2, 3, -1, -2]))
        first = data.draw(st.integers(0, n - 1))
        last = data.draw(st.integers(first + 1, n) if step > 0 else st.integers(-n - 1, -n + first))
        negative = data.draw(st.booleans())
        begin.append(first - n if negative else first)
        end.append(last)
        stride.append(step)
        known = slice(
            None if masks["BeginMask"] >> d & 1 else begin[-1],
            None if masks["EndMask"] >> d & 1 else last,
            step,
        )
        if shrink >> d & 1:
            first = known.indices(n)[0]
            ranges.append(range(first, first + 1))
        else:
            ranges.append(range(*known.indices(n)))
    result = [len(r) for d, r in enumerate(ranges) if not shrink >> d & 1]
    if 0 in result:
        return
    placed(
        "STRIDED_SLICE",
        shape,
        tuple(result),
        [begin, end, stride],
        "StridedSliceOptions",
        ShrinkAxisMask=shrink,
        **masks,
    )


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_pad(shape: Shape, data: st.DataObject) -> None:
    shape = shape[:4]
    amounts = [[data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))] for _ in shape]
    result = tuple(n + sum(a) for n, a in zip(shape, amounts, strict=True))
    placed("PAD", shape, result, [amounts])


def test_padv2_with_another_value() -> None:
    model = TfliteModel()
    x = model.activation((1, 2, 2, 1), 0.1, 5)
    amounts = model.constant(np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32))
    value = model.constant(np.array([-77], np.int8), 0.1, zero_point=5)
    one_output(model, "PADV2", [x, amounts, value], (1, 3, 4, 1))
    assert_equal(model, [ramp((1, 2, 2, 1))])


@SETTINGS
@given(
    size=pairs(1, 6),
    result=pairs(1, 13),
    variant=st.sampled_from([{}, {"AlignCorners": True}, {"HalfPixelCenters": True}]),
)
def test_resize_nearest_neighbor(
    size: tuple[int, int], result: tuple[int, int], variant: dict[str, bool]
) -> None:
    shape = (1, *size, 3)
    options = "ResizeNearestNeighborOptions"
    placed("RESIZE_NEAREST_NEIGHBOR", shape, (1, *result, 3), [list(result)], options, **variant)


@SETTINGS
@given(rng=RNGS, shape=SHAPES, parts=st.integers(1, 3))
def test_concatenation(rng: Rng, shape: Shape, parts: int) -> None:
    model, axis = TfliteModel(), int(rng.integers(len(shape)))
    operands, inputs, length = [], [], 0
    for part in range(parts):
        size = list(shape)
        size[axis] = int(rng.integers(1, 4))
        length += size[axis]
        values = random_int8(rng, tuple(size))
        if part == 1:
            operands.append(model.constant(values, 0.25, zero_point=-3))
        else:
            operands.append(model.activation(size, 0.25, -3))
            model.inputs.append(operands[-1])
            inputs.append(values)
    whole = list(shape)
    whole[axis] = length
    y = model.activation(whole, 0.25, -3)
    negative = axis - len(shape) if rng.integers(2) else axis
    model.op("CONCATENATION", operands, [y], "ConcatenationOptions", Axis=negative)
    model.outputs = [y]
    assert_equal(model, inputs)


@SETTINGS
@given(rng=RNGS, shape=SHAPES.filter(lambda s: len(s) < 5))
def test_split_and_unpack_and_pack(rng: Rng, shape: Shape) -> None:
    """Split in two, both halves unpacked, and everything packed in another order."""
    model, axis = TfliteModel(), int(rng.integers(len(shape)))
    whole = list(shape)
    whole[axis] *= 2
    x = model.activation(whole, 0.1, 5)
    halves = [model.activation(shape, 0.1, 5) for _ in range(2)]
    place = model.constant(np.array(axis, np.int32))
    model.op("SPLIT", [place, x], halves, "SplitOptions", NumSplits=2)
    left = [n for d, n in enumerate(shape) if d != axis]
    pieces = []
    for half in halves:
        made = [model.activation(left, 0.1, 5) for _ in range(shape[axis])]
        model.op("UNPACK", [half], made, "UnpackOptions", Num=shape[axis], Axis=axis)
        pieces += made
    order = rng.permutation(len(pieces)).tolist()
    at = int(rng.integers(len(left) + 1))
    packed = model.activation([*left[:at], len(order), *left[at:]], 0.1, 5)
    operands = [pieces[i] for i in order]
    model.op("PACK", operands, [packed], "PackOptions", ValuesCount=len(order), Axis=at)
    model.inputs, model.outputs = [x], [packed]
    assert_equal(model, [ramp(tuple(whole))])


def test_split_v() -> None:
    model = TfliteModel()
    x = model.activation((1, 7, 2), 0.1, 5)
    made = [model.activation((1, n, 2), 0.1, 5) for n in (2, 4, 1)]
    sizes = model.constant(np.array([2, -1, 1], np.int32))
    axis = model.constant(np.array(1, np.int32))
    model.op("SPLIT_V", [x, sizes, axis], made, "SplitVOptions", NumSplits=3)
    model.inputs, model.outputs = [x], made
    assert_equal(model, [ramp((1, 7, 2))])
