"""TOSA networks against upstream's own lowering of them, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlir_inputs import agrees, compiled
from tosa_models import TosaModel, Value, scale_of

from tinymlir.errors import TinymlirError

quick = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

ROUNDINGS = st.sampled_from(["SINGLE_ROUND", "DOUBLE_ROUND"])
BYTES = st.integers(-128, 127)
RNG = np.random.default_rng(0)
UNIT = [(2**30, 30)]


def weights(*shape: int) -> np.ndarray:
    return RNG.integers(-128, 128, shape)


def biases(*shape: int) -> np.ndarray:
    return RNG.integers(-10_000, 10_000, shape)


def scales(count: int, typical: float) -> list[tuple[int, int]]:
    return [scale_of(float(typical * 2.0 ** RNG.uniform(-2, 2))) for _ in range(count)]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A convolution, its rescale, perhaps padding before and a clamp after; what it becomes."""
    m = TosaModel()
    depthwise = draw(st.booleans())
    channels = draw(st.integers(2, 5))
    outputs = channels * draw(st.integers(1, 2)) if depthwise else draw(st.integers(1, 6))
    kernel, stride, dilation = ([draw(st.integers(1, 3)) for _ in range(2)] for _ in range(3))
    pad = [draw(st.integers(0, 1)) for _ in range(4)]
    size = []
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        positions = draw(st.integers(2, 5))
        size.append(reach + positions * stride[axis] - pad[2 * axis] - pad[2 * axis + 1])
    zero = draw(BYTES)
    x = m.input((1, *size, channels))
    source = x
    if draw(st.booleans()):
        # Either the convolution's own zero point, or not.
        fill = zero if draw(st.booleans()) else draw(BYTES)
        source = m.pad(x, (0, 0, stride[0], 0, 0, stride[1], 0, 0), fill)
    shape = (*kernel, channels, outputs // channels) if depthwise else (outputs, *kernel, channels)
    bias = biases(draw(st.sampled_from([1, outputs])))
    y = m.conv2d(
        source,
        weights(*shape),
        bias,
        zero,
        pad=pad,
        stride=stride,
        dilation=dilation,
        depthwise=depthwise,
    )
    typical = 30 / (2000 * np.sqrt(np.prod(shape) / outputs))
    given_scales = scales(draw(st.sampled_from([1, outputs])), typical)
    y = m.rescale(y, given_scales, 0, draw(BYTES), rounding=draw(ROUNDINGS))
    if draw(st.booleans()):
        y = m.clamp(y, *sorted((draw(BYTES), draw(BYTES))))
    kind = "depthwise_conv2d" if depthwise else "conv2d"
    pixel = not depthwise and kernel == [1, 1] and source.shape[1:3] == (1, 1) and not any(pad)
    return m.text(y), ["fully_connected" if pixel else kind]


@quick
@given(convolutions())
def test_convolutions(tmp_path: Path, case: tuple[str, list[str]]) -> None:
    text, kinds = case
    found = agrees(text, tmp_path)
    # Padding with another value than the zero point is a layer of its own.
    assert found in (kinds, ["pad", *kinds])


def test_padding_with_the_zero_point_goes_into_the_convolution(tmp_path: Path) -> None:
    for fill, kinds in ((3, ["conv2d"]), (4, ["pad", "conv2d"])):
        m = TosaModel()
        padded = m.pad(m.input((1, 5, 5, 2)), (0, 0, 1, 1, 2, 0, 0, 0), fill)
        y = m.conv2d(padded, weights(3, 3, 3, 2), biases(3), 3)
        assert agrees(m.text(m.rescale(y, scales(3, 0.01))), tmp_path) == kinds


@quick
@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 12), BYTES, ROUNDINGS, st.booleans())
def test_dense(
    tmp_path: Path,
    rows: int,
    depth: int,
    outputs: int,
    zero: int,
    rounding: str,
    as_convolution: bool,
) -> None:
    m = TosaModel()
    each = scales(outputs, 0.3 / (100 * np.sqrt(depth)))
    if as_convolution:
        x = m.input((rows, 1, 1, depth))
        y = m.conv2d(x, weights(outputs, 1, 1, depth), biases(outputs), zero)
    else:
        x = m.input((1, rows, depth))
        product = m.matmul(x, m.constant(weights(1, depth, outputs), "i8"), zero)
        y = m.binary("add", product, m.constant(biases(1, 1, outputs), "i32"))
    kinds = agrees(m.text(m.rescale(y, each, 0, 5, rounding=rounding)), tmp_path)
    assert kinds == ["fully_connected"]


def test_the_shape_of_a_product_may_change_before_its_rescale(tmp_path: Path) -> None:
    m = TosaModel()
    product = m.matmul(m.input((1, 4, 6)), m.constant(weights(1, 6, 5), "i8"), 7, 2)
    y = m.rescale(m.reshape(product, (1, 20)), scales(1, 0.01), 0, -4)
    assert agrees(m.text(y), tmp_path) in (["fully_connected"], ["generic"])


@pytest.mark.parametrize("out_pad", [(0, 0, 0, 0), (-1, 0, 0, -1), (0, 1, 0, 2)])
def test_transposed_convolution(tmp_path: Path, out_pad: tuple[int, ...]) -> None:
    m = TosaModel()
    size = [(4 - 1) * 2 + 3 + out_pad[2 * d] + out_pad[2 * d + 1] for d in (0, 1)]
    operands = [
        m.input((1, 4, 4, 3)),
        m.constant(weights(5, 3, 3, 3), "i8"),
        m.constant(biases(5), "i32"),
        m.constant(3, "i8"),
        m.constant(0, "i8"),
    ]
    y = m.op(
        "transpose_conv2d",
        operands,
        (1, *size, 5),
        "i32",
        acc_type="i32",
        out_pad=f"array<i64: {', '.join(map(str, out_pad))}>",
        stride="array<i64: 2, 2>",
    )
    assert "conv2d" in agrees(m.text(m.rescale(y, scales(5, 1e-3))), tmp_path)


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), BYTES, BYTES)
def test_pooling(
    tmp_path: Path, kernel: int, stride: int, pad: int, zero: int, output_zero: int
) -> None:
    m = TosaModel()
    size = kernel + 3 * stride - 2 * pad * (kernel > 1)
    pads = [pad * (kernel > 1)] * 4
    x = m.input((1, size, size, 3))
    mean = m.avg_pool2d(x, (kernel, kernel), (stride, stride), pads, (zero, output_zero))
    largest = m.max_pool2d(x, (kernel, kernel), (stride, stride), pads)
    kinds = agrees(m.text(mean, largest), tmp_path)
    assert kinds == ["average_pool2d", "max_pool2d"]


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2), (3,)])
def test_means(tmp_path: Path, axes: Sequence[int]) -> None:
    m = TosaModel()
    y = m.rescale(m.input((1, 5, 7, 4)), UNIT, 9, 0, "i32")
    for axis in axes:
        y = m.reduce("sum", y, axis)
    kinds = agrees(m.text(m.rescale(y, [scale_of(0.04)], 0, -3)), tmp_path)
    assert kinds == (["generic"] if 3 in axes else ["average_pool2d"])


@quick
@given(
    st.sampled_from(["add", "sub", "mul", "maximum", "minimum"]),
    st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.2, 3.0)),
    st.tuples(BYTES, BYTES, BYTES),
    st.sampled_from([((1, 4, 5, 3), (1, 4, 5, 3)), ((1, 1, 1, 3), (1, 4, 5, 3))]),
    ROUNDINGS,
    st.booleans(),
)
def test_two_operands(
    tmp_path: Path,
    name: str,
    factors: tuple[float, float, float],
    zeros: tuple[int, int, int],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    rounding: str,
    constant: bool,
) -> None:
    """As TFLite's converter writes them: widened by 20 bits, or not at all for products."""
    m = TosaModel()
    bits = 0 if name == "mul" else 20
    first: Value = m.constant(weights(*shapes[0]), "i8") if constant else m.input(shapes[0])
    sides = [
        m.rescale(
            value, [scale_of(factor * 2**bits) if bits else UNIT[0]], zero, 0, "i32", rounding
        )
        for value, factor, zero in zip((first, m.input(shapes[1])), factors, zeros, strict=False)
    ]
    last = scale_of(factors[2] * (2.0**-bits if bits else 0.01))
    y = m.rescale(m.binary(name, sides[0], sides[1]), [last], 0, zeros[2], rounding=rounding)
    assert agrees(m.text(y), tmp_path) == [name]


def functions() -> dict[str, Callable[[TosaModel, Value], Value]]:
    """Chains of operations on one int8 tensor, with what the layer is called."""

    def hard_swish(m: TosaModel, x: Value) -> Value:
        wide = m.rescale(x, [(1_777_777_777, 20)], 2, 0, "i32")
        gate = m.op(
            "clamp", [wide], wide.shape, "i32", min_val="-2000 : i32", max_val="20000 : i32"
        )
        parts = [m.rescale(v, [(2**30, s)], 0, 0, "i32") for v, s in ((wide, 40), (gate, 35))]
        return m.rescale(m.binary("mul", parts[0], parts[1]), [scale_of(0.01)], 0, 3)

    def doubled(m: TosaModel, x: Value) -> Value:
        wide = m.rescale(x, UNIT, 0, 0, "i32")
        return m.rescale(m.binary("add", wide, wide), [scale_of(0.7)], 0, 3)

    def shifted(m: TosaModel, x: Value) -> Value:
        wide = m.rescale(x, UNIT, -5, 0, "i32")
        amount = m.constant(11, "i32", (1, 1, 1, 1))
        up = m.binary("logical_left_shift", wide, amount)
        down = m.op(
            "arithmetic_right_shift",
            [up, m.constant(3, "i32", (1, 1, 1, 1))],
            up.shape,
            "i32",
            round="true",
        )
        return m.rescale(m.op("abs", [down], down.shape, "i32"), [scale_of(0.003)], 0, -128)

    return {
        "table": lambda m, x: m.table(x, weights(256)),
        "rescale": lambda m, x: m.rescale(x, [scale_of(0.7)], 3, -9),
        "larger": lambda m, x: m.rescale(x, [scale_of(7.5)], 3, -9, rounding="DOUBLE_ROUND"),
        "hard_swish": hard_swish,
        "doubled": doubled,
        "shifted": shifted,
        "negate": lambda m, x: m.op(
            "negate", [x, m.constant(3, "i8"), m.constant(-4, "i8")], x.shape
        ),
    }


@pytest.mark.parametrize("name", functions())
def test_functions_of_one_value_become_tables(tmp_path: Path, name: str) -> None:
    m = TosaModel()
    y = functions()[name](m, m.input((1, 4, 5, 3)))
    assert agrees(m.text(y), tmp_path) == ["lookup"]


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_limit_is_a_clamp_and_goes_into_the_layer_before(tmp_path: Path, name: str) -> None:
    m = TosaModel()
    y = m.rescale(m.conv2d(m.input((1, 4, 4, 2)), weights(3, 1, 1, 2), biases(3)), scales(3, 0.01))
    y = m.binary(name, y, m.constant(17, "i8", (1, 1, 1, 1)), "i8")
    assert agrees(m.text(y), tmp_path) == ["conv2d"]


def test_a_rescale_that_changes_nothing_is_no_layer(tmp_path: Path) -> None:
    m = TosaModel()
    same = m.rescale(m.input((1, 4, 5, 3)), UNIT, 3, 3)
    assert agrees(m.text(m.clamp(same, -100, 50)), tmp_path) == ["clamp"]


def test_moving_elements(tmp_path: Path) -> None:
    m = TosaModel()
    x = m.input((1, 6, 4, 3))
    part = m.op("slice", [x, (m.shape([0, 1, 2, 0]), 4), (m.shape([1, 3, 2, 3]), 4)], (1, 3, 2, 3))
    turned = m.op("reverse", [part], part.shape, axis="1 : i32")
    tiled = m.op("tile", [turned, (m.shape([1, 2, 2, 1]), 4)], (1, 6, 4, 3))
    joined = m.concat([x, tiled], 3)
    padded = m.pad(joined, (0, 0, 1, 0, 0, 2, 0, 0), 7)
    y = m.reshape(m.transpose(padded, (0, 3, 1, 2)), (6, 42))
    kinds = agrees(m.text(y), tmp_path)
    assert kinds == ["slice", "reverse", "tile", "concat", "pad"]


@pytest.mark.parametrize("offset", [(0, 0), (-1, 1)])
def test_nearest_neighbour_resizing(tmp_path: Path, offset: tuple[int, int]) -> None:
    m = TosaModel()
    # The border follows from the sizes.
    border = [(8 - 1) * 2 - 3 * 4 + offset[0], (15 - 1) * 2 - 4 * 6 + offset[1]]
    shapes = [(m.shape(n), len(n)) for n in ([4, 2, 6, 2], list(offset), border)]
    y = m.op("resize", [m.input((1, 4, 5, 3)), *shapes], (1, 8, 15, 3), mode="NEAREST_NEIGHBOR")
    assert agrees(m.text(y), tmp_path) == ["resize_nearest"]


@pytest.mark.parametrize("element", ["i8", "ui8"])
def test_unsigned_inputs_and_outputs(tmp_path: Path, element: str) -> None:
    """Whether the type says so, or only the rescale that reads them."""
    m = TosaModel()
    x = m.rescale(
        m.input((1, 5, 5, 2), element),
        UNIT,
        -128 if element == "i8" else 128,
        0,
        input_unsigned=True,
    )
    y = m.rescale(m.conv2d(x, weights(3, 3, 3, 2), biases(3)), scales(3, 0.004), 0, 5)
    y = m.rescale(y, UNIT, 5, 120, element, output_unsigned=True)
    text = m.text(y)
    assert agrees(text, tmp_path) == ["conv2d"]
    model = compiled(text, tmp_path)
    assert [t.model_type for t in (*model.inputs, *model.outputs)] == ["uint8", "uint8"]
    assert model.inputs[0].zero_point == -128


def test_transposes_go_into_the_borders_or_cancel(tmp_path: Path) -> None:
    """A network of channels-first tensors, as other producers wrap TOSA's operations."""
    to_nhwc, to_nchw = (0, 2, 3, 1), (0, 3, 1, 2)
    m = TosaModel()
    x = m.transpose(m.input((1, 3, 6, 6)), to_nhwc)
    y = m.rescale(
        m.conv2d(x, weights(4, 3, 3, 3), biases(4), 3, pad=(1, 1, 1, 1)), scales(4, 0.002)
    )
    y = m.transpose(m.clamp(m.transpose(y, to_nchw), -20, 100), to_nhwc)
    y = m.rescale(m.conv2d(y, weights(5, 3, 3, 4), biases(5), 3), scales(5, 0.002))
    text = m.text(m.transpose(y, to_nchw))
    assert agrees(text, tmp_path) == ["conv2d", "conv2d"]
    model = compiled(text, tmp_path)
    assert model.inputs[0].shape == (1, 6, 6, 3)
    assert model.inputs[0].model_shape == (1, 3, 6, 6)
    assert model.outputs[0].permutation == to_nhwc


def test_what_makes_no_layer_is_lowered_by_upstream(tmp_path: Path) -> None:
    """Scores by a reduced maximum, three operands, scales along a dimension, a free product."""
    m = TosaModel()
    x, y, z = (m.input((1, 3, 4, 2)) for _ in range(3))
    peak = m.rescale(m.reduce("max", x, 3), [(1_777_777_777, 24)], 0, 0, "i32")
    wide = [m.rescale(v, [(1_666_666_666, 24)], 1, 0, "i32") for v in (x, y, z)]
    total = m.binary("add", m.binary("sub", wide[0], peak), m.binary("add", wide[1], wide[2]))
    summed = m.rescale(total, [scale_of(0.01)], 0, 3)
    each = m.rescale(x, scales(2, 0.6), 2, 3)
    product = m.matmul(m.reshape(x, (1, 6, 4)), m.reshape(y, (1, 4, 6)), 3, -5)
    free = m.rescale(product, [scale_of(1e-3)], 0, 1)
    assert agrees(m.text(summed, each, free), tmp_path, samples=6)


def test_a_tensor_read_signed_and_unsigned_is_refused(tmp_path: Path) -> None:
    m = TosaModel()
    x = m.input((1, 2, 2, 2))
    y = m.rescale(x, UNIT, -128, 0, input_unsigned=True)
    with pytest.raises(TinymlirError, match=r"model\.mlir:\d+:\d+: .*unsigned tensor as signed"):
        compiled(m.text(m.concat([x, y], 3)), tmp_path)


def test_a_batch_is_refused(tmp_path: Path) -> None:
    m = TosaModel()
    y = m.conv2d(m.input((2, 4, 4, 2)), weights(3, 3, 3, 2), biases(3))
    with pytest.raises(TinymlirError, match=r"'tosa.conv2d' op: a batch of 2"):
        compiled(m.text(m.rescale(y, UNIT)), tmp_path)
