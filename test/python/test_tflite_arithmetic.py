"""Tables and sums over every input, against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_models import TfliteModel
from tflite_reference import SETTINGS, assert_equal, reference

from tinymlir import numerics
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.tensors import Quantization
from tinymlir.frontends.tflite import arithmetic
from tinymlir.frontends.tflite.rounding import single_rounding
from tinymlir.frontends.tflite.softmax import exponentials

pytest.importorskip("ai_edge_litert")

ALL = np.arange(-128, 128).astype(np.int8)
QUANTIZATIONS = st.builds(
    Quantization,
    st.floats(-6.0, 0.0).map(lambda e: np.float32(np.exp(e))),
    st.integers(-128, 127),
)
#: Scales that make ties.
ROUND_QUANTIZATIONS = st.builds(
    Quantization,
    st.integers(-8, 0).map(lambda e: np.float32(2.0**e)),
    st.integers(-128, 127),
)
ANY = st.one_of(QUANTIZATIONS, ROUND_QUANTIZATIONS)


def unary(
    name: str, source: Quantization, target: Quantization, *options: Any, **fields: Any
) -> TfliteModel:
    """A model with every int8 value as its input."""
    model = TfliteModel()
    x = model.activation(ALL.shape, float(source.scale), source.zero_point)
    y = model.activation(ALL.shape, float(target.scale), target.zero_point)
    model.op(name, [x], [y], *options, **fields)
    model.inputs, model.outputs = [x], [y]
    return model


RELUS = {"RELU": (0, np.inf), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}


@SETTINGS
@given(
    source=ANY,
    target=ANY,
    alpha=st.one_of(st.floats(-1, 2, width=32), st.sampled_from([-1.0, -0.5, -0.25, 0.5])),
)
def test_tables(source: Quantization, target: Quantization, alpha: float) -> None:
    def check(table: Any, name: str, *options: Any, **fields: Any) -> None:
        wanted = reference(unary(name, source, target, *options, **fields), [ALL])[0]
        np.testing.assert_array_equal(table, wanted, name)

    for name, (low, high) in RELUS.items():
        check(arithmetic.relu(source, target, low, high), name)
    check(arithmetic.rescaled(source, target), "QUANTIZE")
    check(arithmetic.absolute(source, target), "ABS")
    for name in ("TANH", "EXP", "LOG"):
        check(arithmetic.from_float(source, target, arithmetic.FUNCTIONS[name]), name)
    for approximate, function in ((False, arithmetic.gelu), (True, arithmetic.approximate_gelu)):
        table = arithmetic.from_float(source, target, function)
        check(table, "GELU", "GeluOptions", Approximate=approximate)
    table = arithmetic.leaky_relu(source, target, alpha)
    check(table, "LEAKY_RELU", "LeakyReluOptions", Alpha=alpha)


@SETTINGS
@given(source=ANY)
def test_logistic(source: Quantization) -> None:
    # The one quantisation of the result that the reference takes.
    target = Quantization(np.float32(1 / 256), -128)
    wanted = reference(unary("LOGISTIC", source, target), [ALL])[0]
    table = arithmetic.from_float(source, target, arithmetic.logistic)
    np.testing.assert_array_equal(table, wanted)


@SETTINGS
@given(source=ANY, target=ANY)
def test_hard_swish(source: Quantization, target: Quantization) -> None:
    if target.scale * 64 <= source.scale:
        # The reference takes no result so much finer than the input.
        with pytest.raises(ValueError, match="128th"):
            arithmetic.hard_swish(source, Quantization(source.scale / np.float32(300), 0))
        return
    wanted = reference(unary("HARD_SWISH", source, target), [ALL])[0]
    np.testing.assert_array_equal(arithmetic.hard_swish(source, target), wanted)


@SETTINGS
@given(x=ANY, y=ANY, target=ANY, subtract=st.booleans())
def test_sums(x: Quantization, y: Quantization, target: Quantization, subtract: bool) -> None:
    model, operands = TfliteModel(), []
    for q in (x, y, target):
        operands.append(model.activation((256, 256), float(q.scale), q.zero_point))
    name = "SUB" if subtract else "ADD"
    model.op(name, operands[:2], operands[2:], f"{name.title()}Options")
    model.inputs, model.outputs = operands[:2], operands[2:]
    pairs = [np.repeat(ALL, 256).reshape(256, 256), np.tile(ALL, (256, 1))]
    wanted = reference(model, pairs)[0]
    got = arithmetic.sums(x, y, target, subtract=subtract)
    np.testing.assert_array_equal(got.reshape(256, 256), wanted)


@pytest.mark.parametrize(
    "name",
    [*RELUS, *arithmetic.FUNCTIONS, "ABS", "GELU", "HARD_SWISH", "LEAKY_RELU", "QUANTIZE"],
)
@settings(SETTINGS, max_examples=4)
@given(source=ANY, target=ANY, same=st.booleans(), alpha=st.floats(-1, 2, width=32))
def test_compiled_tables(
    name: str, source: Quantization, target: Quantization, same: bool, alpha: float
) -> None:
    """All 256 inputs, whether they become a table, a clamp or nothing."""
    target = source if same else target
    if name == "LOGISTIC":
        target = Quantization(np.float32(1 / 256), -128)
    if name == "HARD_SWISH" and target.scale * 64 <= source.scale:
        target = source
    given_options: dict[str, dict[str, Any]] = {
        "LEAKY_RELU": {"Alpha": alpha},
        "GELU": {"Approximate": same},
    }
    options = given_options.get(name, {})
    kind = [f"{name.title().replace('_', '')}Options"] if options else []
    assert_equal(unary(name, source, target, *kind, **options), [ALL])


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("seed", range(6))
def test_compiled_pairs(name: str, seed: int) -> None:
    """All 65536 pairs."""
    rng, model = np.random.default_rng(seed), TfliteModel()
    scales = np.exp(rng.uniform(-6, -1, 2)).astype(np.float32)
    if seed == 0:
        scales[:] = 0.25
    suits = scales.prod() * 130 if name == "MUL" else scales.sum()
    y_scale = np.float32(suits * (1 if seed == 0 else np.exp(rng.uniform(-1, 1))))
    operands = [
        model.activation((256, 256), float(s), int(rng.integers(-128, 128)))
        for s in (*scales, y_scale)
    ]
    model.op(name, operands[:2], operands[2:], f"{name.title()}Options")
    model.inputs, model.outputs = operands[:2], operands[2:]
    assert_equal(model, [np.repeat(ALL, 256).reshape(256, 256), np.tile(ALL, (256, 1))])


def test_sum_that_no_weights_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the search for weights fails, the reference's own steps are taken."""
    from tinymlir.frontends.tflite import elementwise

    def unfitted(*arguments: Any) -> Any:
        import dataclasses

        from tinymlir.frontends.canonical.fitting import fit_sum

        return dataclasses.replace(fit_sum(*arguments), mismatches=1)

    monkeypatch.setattr(elementwise, "fit_sum", unfitted)
    for name in ("ADD", "SUB"):
        test_compiled_pairs(name, 3)


def test_exponentials() -> None:
    for scale, beta in ((0.5, 1.0), (0.01, 1.0), (0.03, 2.0)):
        table = exponentials(np.float32(scale), beta)
        real = np.exp(-scale * beta * np.arange(256)) * 2.0**31
        assert np.abs(table - np.minimum(real, 2**31 - 1)).max() < 512


@SETTINGS
@given(
    bits=st.integers(10, 31),
    spread=st.floats(-3, 3),
    zero_point=st.integers(-128, 127),
    limits=st.tuples(st.integers(-128, 0), st.integers(1, 127)),
    rng=st.integers(0, 2**32 - 1).map(np.random.default_rng),
)
def test_single_rounding(
    bits: int,
    spread: float,
    zero_point: int,
    limits: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """A double product rounded away from zero, at every boundary between two results."""
    high, low = 2**bits - 1, -(2**bits) + int(rng.integers(2**bits))
    scale = 255 * np.exp(spread) / (high - low)
    clamp = Clamp(*limits)
    made = single_rounding(np.array([scale]), zero_point, clamp, np.array([low]), np.array([high]))
    boundaries = (np.arange(-400, 400) + 0.5) / scale
    near = np.floor(boundaries)[:, None] + np.arange(-2, 4)
    given_ = np.clip(np.append(near, rng.integers(low, high + 1, 1000)), low, high).astype(np.int64)
    got = numerics.requantize(
        given_, made.multipliers, made.shifts, zero_point, *limits, made.rounding
    )
    for special in made.specials:
        got = np.where(given_ == special.accumulators, special.results, got)
    wanted = np.clip(numerics.round_away(given_ * scale) + zero_point, *limits)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dense_layer_with_results_of_their_own(per_channel: bool) -> None:
    """Scales so small that no multiplier of 31 bits will do."""
    model, units = TfliteModel(), 400
    x_scale, w_scale = np.float32(0.0213), np.float32(0.00071)
    y_scale = float(np.float32(x_scale * w_scale * np.float32(2.0**31 / 200)))
    rng = np.random.default_rng(5)
    scales = np.full(units, w_scale)
    if per_channel:
        scales[::2] *= np.float32(0.97)
        scales[0] = 0
    real = float(x_scale) * scales.astype(np.float64) / y_scale
    x = model.activation((1, 1), float(x_scale), 0)
    w = model.constant(np.zeros((units, 1), np.int8), scales if per_channel else w_scale)
    # Biases at the boundaries between two results.
    steps = rng.integers(-90, 90, units) + 0.5
    with np.errstate(divide="ignore"):
        bias = np.floor(np.where(real > 0, steps / real, 7)).astype(np.int64)
    bias += rng.integers(0, 2, units)
    b = model.constant(
        bias.astype(np.int32), x_scale * scales if per_channel else x_scale * w_scale
    )
    y = model.activation((1, units), y_scale, 3)
    model.op("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    model.inputs, model.outputs = [x], [y]
    assert_equal(model, [np.zeros((1, 1), np.int8)])
