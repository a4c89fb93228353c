"""Scales as integers, and the constants that make integers equal float32."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymlir import numerics
from tinymlir.frontends.canonical.fitting import fit, fit_sum

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
FLOATS = st.floats(2.0**-32, 2.0**30, width=32)


@SETTINGS
@given(FLOATS)
def test_a_float32_scale_is_exact(scale: float) -> None:
    multiplier, shift = numerics.quantize_multiplier(scale)
    assert Fraction(multiplier, 2**shift) == Fraction(scale)
    assert 2**30 <= multiplier < 2**31
    assert 0 <= shift <= numerics.MAX_SHIFT


@SETTINGS
@given(st.fractions(Fraction(1, 2**30), 2**20))
def test_any_scale_is_rounded_to_31_bits(scale: Fraction) -> None:
    multiplier, shift = numerics.quantize_multiplier(scale)
    assert abs(Fraction(multiplier, 2**shift) / scale - 1) <= Fraction(1, 2**31)


def test_scales_at_the_limits() -> None:
    assert numerics.quantize_multiplier(0.0) == (0, 62)
    assert numerics.quantize_multiplier(1e-45) == (0, 62)
    multiplier, shift = numerics.quantize_multiplier(2.0**-40)
    assert (multiplier, shift) == (2**22, 62)
    assert numerics.quantize_multiplier(1.0 - 2.0**-40) == (2**30, 30)
    for scale in (-1.0, math.inf, math.nan, 2.0**31, 2.0**31 - 2.0**-10):
        with pytest.raises(ValueError, match="scale"):
            numerics.quantize_multiplier(scale)


def _rounded(value: Fraction, rounding: str) -> int:
    if rounding == "nearest_even":
        return round(value)
    return math.floor(value + Fraction(1, 2))


@SETTINGS
@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    st.integers(0, 2**31 - 1),
    st.integers(0, 62),
    st.integers(-128, 127),
    st.sampled_from(["nearest_even", "nearest_up"]),
)
def test_requantize_rounds_the_exact_quotient(
    acc: list[int], multiplier: int, shift: int, zero_point: int, rounding: str
) -> None:
    got = numerics.requantize(acc, multiplier, shift, zero_point, rounding=rounding)
    for a, result in zip(acc, got, strict=True):
        quotient = _rounded(Fraction(a * multiplier, 2**shift), rounding)
        assert result == min(max(quotient + zero_point, -128), 127)


def test_requantize_on_ties() -> None:
    acc = np.array([-5, -3, -1, 1, 3, 5])
    half = (2**30, 31)
    even = numerics.requantize(acc, *half, 0, rounding="nearest_even")
    assert even.tolist() == [-2, -2, 0, 0, 2, 2]
    up = numerics.requantize(acc, *half, 0, rounding="nearest_up")
    assert up.tolist() == [-2, -1, 0, 1, 2, 3]
    away = numerics.requantize(2 * acc, 2**30, 32, 0, rounding="double")
    assert away.tolist() == [-3, -2, -1, 1, 2, 3]
    assert numerics.requantize([1000], *half, 0, -7, 6).tolist() == [6]
    with pytest.raises(ValueError, match="rounding"):
        numerics.requantize(acc, *half, 0, rounding="sideways")


def test_accumulator_range_is_reached() -> None:
    rng = np.random.default_rng(1)
    weights, bias = rng.integers(-128, 128, (5, 6)), rng.integers(-1000, 1000, 5)
    low, high = numerics.accumulator_range(weights, bias)
    least = np.where(weights > 0, -128, 127)
    most = np.where(weights > 0, 127, -128)
    assert np.array_equal(low, (weights * least).sum(axis=1) + bias)
    assert np.array_equal(high, (weights * most).sum(axis=1) + bias)


def _differences(scale: np.float32, bound: int, low: int, high: int) -> tuple[int, bool]:
    """Accumulators that the fit rounds otherwise than float32 does, and what the fit claims."""
    fitted = fit([scale], -bound, bound, low, high)
    acc = np.arange(-bound, bound + 1)
    wanted = np.clip(np.rint(acc.astype(np.float32) * scale), low, high)
    pair = (int(fitted.multipliers[0]), int(fitted.shifts[0]))
    got = numerics.requantize(acc, *pair, 0, low, high, fitted.rounding)
    return int((got != wanted).sum()), bool(fitted.exact[0])


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.floats(-4.5, 0.5), st.integers(1, 2**19))
def test_fit_is_exact_where_it_says_so(exponent: float, bound: int) -> None:
    differences, exact = _differences(np.float32(10.0**exponent), bound, -128, 127)
    assert exact == (differences == 0)
    assert differences <= 2


def test_fit_of_simple_scales() -> None:
    """Powers of two have true ties; decimal fractions have ties in float32 only."""
    for scale in (1.0, 0.5, 0.25, 2.0**-9, 0.75, 0.1, 0.05, 0.001, 3.0, 255.0, 1e-12):
        assert _differences(np.float32(scale), 2**17, -128, 127) == (0, True)


def test_fit_of_many_channels_at_once() -> None:
    rng = np.random.default_rng(3)
    scales = (10.0 ** rng.uniform(-3.5, -1.5, 64)).astype(np.float32)
    bounds = rng.integers(2**14, 2**20, 64)
    fitted = fit(scales, -bounds, bounds, 0, 255)
    for c in range(0, 64, 8):
        acc = np.arange(-bounds[c], bounds[c] + 1)
        wanted = np.clip(np.rint(acc.astype(np.float32) * scales[c]) - 128, -128, 127)
        pair = (int(fitted.multipliers[c]), int(fitted.shifts[c]))
        got = numerics.requantize(acc, *pair, -128, rounding=fitted.rounding)
        assert (got != wanted).sum() <= (0 if fitted.exact[c] else 2)


def _sum_of_all_pairs(
    scales: tuple[float, float], scale: float, zero_points: tuple[int, int, int]
) -> int:
    """The pairs of int8 operands that a fitted sum rounds otherwise than float32 does."""
    numbers = np.arange(-128, 128)
    p, q = (numbers - z for z in zero_points[:2])
    ratios = [np.float32(s) / np.float32(scale) for s in scales]
    real = p[:, None].astype(np.float32) * ratios[0] + q[None, :].astype(np.float32) * ratios[1]
    wanted = np.clip(np.rint(real + np.float32(zero_points[2])), -128, 127)
    fitted = fit_sum(scales, scale, zero_points, 1, wanted.astype(np.int64).reshape(-1))
    assert min(fitted.weights) >= 1
    acc = fitted.weights[0] * p[:, None] + fitted.weights[1] * q[None, :] + fitted.offset
    assert np.abs(acc).max() < 2**31
    pair = (fitted.multiplier, fitted.shift)
    got = numerics.requantize(acc, *pair, fitted.zero_point, rounding=fitted.rounding)
    differences = int((got != wanted).sum())
    assert differences == fitted.mismatches
    # Only what float32's own rounding decides: sums as near a tie as its errors are large.
    terms = [p[:, None] * float(ratios[0]), q[None, :] * float(ratios[1])]
    from_tie = np.abs((terms[0] + terms[1]) % 1.0 - 0.5)
    error = (np.abs(terms[0]) + np.abs(terms[1]) + 256) * 2.0**-22
    assert (from_tie <= error)[got != wanted].all()
    assert np.abs(got - wanted).max() <= 1
    return differences


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.tuples(*[st.floats(-2.0, 0.0).map(lambda e: float(np.float32(10.0**e)))] * 3),
    st.tuples(*[st.integers(-128, 127)] * 3),
)
def test_sums_of_all_pairs(
    scales: tuple[float, float, float], zero_points: tuple[int, int, int]
) -> None:
    _sum_of_all_pairs(scales[:2], scales[2], zero_points)


@pytest.mark.parametrize(
    "scales",
    [
        (1.0, 1.0, 2.0),
        (0.5, 0.25, 0.5),
        (1e-6, 1.0, 1.0),
        (1e-6, 1.0, 1e-6),
        (3.0, 1e-7, 0.1),
        (0.3, 0.3, 0.6),
    ],
)
@pytest.mark.parametrize("zero_points", [(0, 0, 0), (-128, 4, 3), (127, -128, -127)])
def test_sums_of_related_and_of_wild_scales(
    scales: tuple[float, float, float], zero_points: tuple[int, int, int]
) -> None:
    assert _sum_of_all_pairs(scales[:2], scales[2], zero_points) == 0
