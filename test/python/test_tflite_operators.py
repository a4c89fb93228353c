"""Every TFLite operator against LiteRT's reference kernels, byte for byte."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tflite_models import TfliteModel
from tflite_reference import (
    RNGS,
    SETTINGS,
    SHAPES,
    Rng,
    Shape,
    assert_equal,
    pairs,
    random_int8,
    scale,
    zero_point,
)

pytest.importorskip("ai_edge_litert")

SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)

PADDINGS = st.sampled_from([SAME, VALID])
ACTIVATIONS = st.sampled_from([NONE, RELU, RELU_N1_TO_1, RELU6])


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
    size=pairs(5, 9),
    kernel=pairs(1, 3),
    stride=pairs(1, 3),
    dilation=pairs(1, 2),
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
    dilation: tuple[int, int],
    padding: int,
    groups: int,
    activation: int,
    per_channel: bool,
) -> None:
    model, x_scale = TfliteModel(), scale(rng)
    depth, filters = int(rng.integers(1, 5)), groups * int(rng.integers(1, 6))
    shape = (1, *size, depth * groups)
    windows = zip(size, kernel, stride, dilation, strict=True)
    out = [positions(n, k, s, padding, d) for n, k, s, d in windows]
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
        DilationHFactor=dilation[0],
        DilationWFactor=dilation[1],
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
    dilation=pairs(1, 2),
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
    dilation: tuple[int, int],
    padding: int,
    channels: int,
    multiplier: int,
    activation: int,
    per_channel: bool,
) -> None:
    if padding == VALID:
        size = (size[0] + 6, size[1] + 6)
    model, x_scale = TfliteModel(), scale(rng)
    shape, filters = (1, *size, channels), channels * multiplier
    windows = zip(size, kernel, dilation, strict=True)
    out = [positions(n, k, stride, padding, d) for n, k, d in windows]
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
        DilationHFactor=dilation[0],
        DilationWFactor=dilation[1],
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


@SETTINGS
@given(
    rng=RNGS,
    size=pairs(4, 9),
    kernel=pairs(1, 3),
    steps=pairs(1, 3),
    border=st.tuples(pairs(0, 3), pairs(0, 3)),
    depthwise=st.booleans(),
)
def test_convolution_of_the_phases_of_an_image(
    rng: Rng,
    size: tuple[int, int],
    kernel: tuple[int, int],
    steps: tuple[int, int],
    border: tuple[tuple[int, int], tuple[int, int]],
    depthwise: bool,
) -> None:
    """As converters write dilated convolutions; here with borders and crops of any size."""
    model, x_scale = TfliteModel(), scale(rng)
    channels, shape = int(rng.integers(1, 4)), (1, *size, 0)
    shape = (*shape[:3], channels)
    pads = [list(pair) for pair in border]
    for d in (0, 1):
        reach = (kernel[d] - 1) * steps[d] + 1
        missing = max(0, reach - size[d] - sum(pads[d]))
        pads[d][1] += missing + -(size[d] + sum(pads[d]) + missing) % steps[d]
    split = [(n + sum(p)) // s for n, p, s in zip(size, pads, steps, strict=True)]
    left = [n - k + 1 for n, k in zip(split, kernel, strict=True)]
    whole = [n * s for n, s in zip(left, steps, strict=True)]
    crops = [[int(rng.integers(0, 1 + (n > 1))), int(rng.integers(0, 1 + (n > 2)))] for n in whole]
    quantization = (x_scale, zero_point(rng))
    x = model.activation(shape, *quantization)
    batch, filters = math.prod(steps), channels if depthwise else int(rng.integers(1, 5))
    phases = model.activation((batch, *split, channels), *quantization)
    block = model.constant(np.array(steps, np.int32))
    model.op("SPACE_TO_BATCH_ND", [x, block, model.constant(np.array(pads, np.int32))], [phases])
    weights = (1, *kernel, filters) if depthwise else (filters, *kernel, channels)
    w, b, y_scale = weighted(model, rng, x_scale, weights, 3 if depthwise else 0)
    target = (y_scale, zero_point(rng))
    made = model.activation((batch, *left, filters), *target)
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    fields = {"DepthMultiplier": 1} if depthwise else {}
    model.op(
        name,
        [phases, w, b],
        [made],
        "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
        Padding=VALID,
        StrideH=1,
        StrideW=1,
        DilationHFactor=1,
        DilationWFactor=1,
        **fields,
    )
    result = [n - sum(c) for n, c in zip(whole, crops, strict=True)]
    y = model.activation((1, *result, filters), *target)
    model.op("BATCH_TO_SPACE_ND", [made, block, model.constant(np.array(crops, np.int32))], [y])
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


def test_convolution_of_the_phases_of_a_sequence() -> None:
    """One spatial dimension: the convolution's second one comes and goes between."""
    rng, model = np.random.default_rng(0), TfliteModel()
    x = model.activation((1, 30, 3), 0.05, -7)
    phases = model.activation((4, 10, 3), 0.05, -7)
    block = model.constant(np.array([4], np.int32))
    model.op(
        "SPACE_TO_BATCH_ND", [x, block, model.constant(np.array([[4, 6]], np.int32))], [phases]
    )
    image = model.activation((4, 1, 10, 3), 0.05, -7)
    model.op("EXPAND_DIMS", [phases, model.constant(np.array(-3, np.int32))], [image])
    w, b, y_scale = weighted(model, rng, 0.05, (5, 1, 3, 3), 0)
    made = model.activation((4, 1, 8, 5), y_scale, 11)
    model.op("CONV_2D", [image, w, b], [made], "Conv2DOptions", Padding=VALID, StrideH=1, StrideW=1)
    flat = model.activation((4, 8, 5), y_scale, 11)
    shape = model.constant(np.array([-1, 8, 5], np.int32))
    model.op("RESHAPE", [made, shape], [flat], "ReshapeOptions", NewShape=[-1, 8, 5])
    y = model.activation((1, 30, 5), y_scale, 11)
    model.op("BATCH_TO_SPACE_ND", [flat, block, model.constant(np.array([[0, 2]], np.int32))], [y])
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, (1, 30, 3))])


@SETTINGS
@given(
    rng=RNGS,
    name=st.sampled_from(["REDUCE_MAX", "REDUCE_MIN"]),
    shape=SHAPES,
    keep=st.booleans(),
)
def test_extrema_over_dimensions(rng: Rng, name: str, shape: Shape, keep: bool) -> None:
    model, rank = TfliteModel(), len(shape)
    axes = rng.permutation(rank)[: int(rng.integers(1, rank + 1))]
    result = np.empty(shape).sum(axis=tuple(axes.tolist()), keepdims=keep).shape
    quantization = (scale(rng), zero_point(rng))
    x, y = (model.activation(s, *quantization) for s in (shape, result))
    axis = model.constant(axes.astype(np.int32))
    model.op(name, [x, axis], [y], "ReducerOptions", KeepDims=keep)
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@SETTINGS
@given(
    rng=RNGS,
    name=st.sampled_from(["MAXIMUM", "MINIMUM"]),
    shape=SHAPES.filter(lambda s: len(s) < 5),
    broadcast=st.sampled_from(["none", "left", "right", "scalar"]),
    constant=st.booleans(),
)
def test_extrema_of_pairs(
    rng: Rng, name: str, shape: Shape, broadcast: str, constant: bool
) -> None:
    model, quantization = TfliteModel(), (scale(rng), zero_point(rng))
    other = tuple(1 if rng.integers(2) else n for n in shape) if broadcast != "none" else shape
    other = () if broadcast == "scalar" else other
    values = random_int8(rng, other)
    x, inputs = model.activation(shape, *quantization), [random_int8(rng, shape)]
    model.inputs = [x]
    if constant or not other:
        o = model.constant(values, quantization[0], zero_point=quantization[1])
    else:
        o = model.activation(other, *quantization)
        model.inputs.append(o)
        inputs.append(values)
    y = model.activation(shape, *quantization)
    options = "MaximumMinimumOptions"
    model.op(name, [o, x] if broadcast == "left" else [x, o], [y], options)
    model.outputs = [y]
    assert_equal(model, inputs)


@SETTINGS
@given(rng=RNGS, size=pairs(1, 5), channels=st.integers(1, 5), shared=st.booleans())
def test_prelu(rng: Rng, size: tuple[int, int], channels: int, shared: bool) -> None:
    model, shape = TfliteModel(), (1, *size, channels)
    source, target = ((scale(rng), zero_point(rng)) for _ in range(2))
    x, y = model.activation(shape, *source), model.activation(shape, *target)
    slopes = random_int8(rng, (1, 1, channels) if shared else shape[1:])
    slope = model.constant(slopes, scale(rng, -7, -4), zero_point=zero_point(rng))
    model.op("PRELU", [x, slope], [y])
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [random_int8(rng, shape)])


@pytest.mark.parametrize("x_scale", [15.9, 16.0, 40.0, 3000.0])
def test_softmax_of_coarse_steps(x_scale: float) -> None:
    """One step is so large that only the greatest elements count."""
    rng = np.random.default_rng(3)
    assert_equal(softmax_model((200, 5), x_scale, 1.0), [random_int8(rng, (200, 5)) // 32])
