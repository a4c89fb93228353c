"""A fitted line gives the reference's result at every accumulator there can be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymlir import numerics
from tinymlir.line_fit import Line, fit_line, fit_short_line, fold_biases, split_offsets

MODES = ("float32", "nearest_even", "nearest_up", "double")
REACH = 1 << 14


def results(line: Line, accumulators: np.ndarray, least: int, most: int) -> np.ndarray:
    products = accumulators * line.multipliers[:, None] + line.offsets[:, None]
    return np.clip(products >> line.shift, least, most)


def fitted(
    scales: list[float], mode: str, zero_point: int, least: int, most: int
) -> tuple[Line | None, np.ndarray, np.ndarray]:
    """The line, all accumulators, and what the reference makes of them."""
    pairs = [numerics.quantize_multiplier(float(np.float32(s))) for s in scales]
    m, s = (np.array(column, np.int64)[:, None] for column in zip(*pairs, strict=True))

    def reference(accumulators: np.ndarray) -> np.ndarray:
        scaled = numerics.scaled(accumulators, m, s, mode)
        return np.clip(scaled + zero_point, least, most)

    reach = np.full(len(scales), REACH)
    real = np.ldexp(m[:, 0].astype(float), -s[:, 0])
    line = fit_line(real, reference, -reach, reach, (zero_point, least, most))
    accumulators = np.arange(-REACH, REACH + 1)[None, :]
    return line, accumulators, reference(accumulators)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(2.0**-10, 2.0**-4), min_size=1, max_size=4),
    st.sampled_from(MODES),
    st.integers(-128, 127),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
def test_line_is_the_reference(
    scales: list[float], mode: str, zero_point: int, limits: tuple[int, int]
) -> None:
    least, most = sorted(limits)
    line, accumulators, wanted = fitted(scales, mode, zero_point, least, most)
    if line is not None:
        assert (results(line, accumulators, least, most) == wanted).all()


def test_positive_results_rounded_twice_are_a_line() -> None:
    line, accumulators, wanted = fitted([0.0073, 0.0211, 0.0052], "double", -128, -128, 127)
    assert line is not None
    assert (results(line, accumulators, -128, 127) == wanted).all()


def test_nearest_has_one_offset() -> None:
    line, _, _ = fitted([0.0073, 0.0211], "nearest_up", 3, -128, 127)
    assert line is not None
    assert (line.offsets == (3 << line.shift) + (1 << (line.shift - 1))).all()


def test_results_of_both_signs_rounded_away_from_zero_are_no_line() -> None:
    assert fitted([0.25], "double", 0, -128, 127)[0] is None


def test_scales_too_large_have_none() -> None:
    assert fitted([3.0], "nearest_up", 0, -128, 127)[0] is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(2.0**-10, 2.0**-4), min_size=1, max_size=4),
    st.sampled_from(MODES),
    st.integers(-128, 127),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
def test_a_line_of_high_words_is_the_line(
    scales: list[float], mode: str, zero_point: int, limits: tuple[int, int]
) -> None:
    least, most = sorted(limits)
    line, accumulators, wanted = fitted(scales, mode, zero_point, least, most)
    if line is None:
        return
    reach = np.full(len(scales), REACH)
    split = split_offsets(line, -reach, reach, (least, most))
    assert split is not None
    biases, words = (column[:, None] for column in split)
    high = ((accumulators + biases) * line.multipliers[:, None]) >> 32
    assert (np.clip((high + words) >> (line.shift - 32), least, most) == wanted).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(2.0**-9, 2.0**-4), min_size=1, max_size=4),
    st.sampled_from(MODES),
    st.integers(-128, 0),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
def test_a_line_with_its_offset_in_biases_is_the_line(
    scales: list[float], mode: str, zero_point: int, limits: tuple[int, int]
) -> None:
    least, most = sorted(limits)
    line, accumulators, wanted = fitted(scales, mode, zero_point, least, most)
    if line is None or least == most:
        return
    reach = np.full(len(scales), REACH)
    folded = fold_biases(line, -reach, reach, (least, most))
    assert folded is not None
    totals = (accumulators << folded.places) + folded.biases[:, None]
    assert (totals == totals.astype(np.int32)).all()
    high = (totals * folded.multipliers[:, None]) >> 32
    line_of_words = (high + folded.word) >> (folded.shift - 32)
    assert (np.clip(line_of_words, least, most) == wanted).all()


def test_biases_that_would_overflow_are_not_folded() -> None:
    line = Line(np.array([1 << 30]), np.array([3 << 37]), 37)
    reach = np.array([1 << 24])
    assert fold_biases(line, -(reach >> 4), reach >> 4, (-128, 127)) is not None
    assert fold_biases(line, -reach, reach, (-128, 127)) is None


def test_no_line_of_high_words_overflows() -> None:
    line = Line(np.array([1 << 30]), np.array([(1 << 62) + 12345]), 32)
    reach = np.array([REACH])
    assert split_offsets(line, -reach, reach, (-128, 127)) is not None
    assert split_offsets(line, -(reach << 17), (reach << 17) - 1, (-128, 127)) is None


def test_a_dead_channel_may_overflow() -> None:
    line = Line(np.array([1 << 30, 0]), np.array([(3 << 37) + 12345, 2 << 37]), 37)
    low, high = np.array([-REACH, (1 << 31) - 5]), np.array([REACH, (1 << 31) + 5])
    split = split_offsets(line, low, high, (-128, 127))
    assert split is not None
    biases, words = split
    assert biases[1] == 0 and words[1] >> (37 - 32) == 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.floats(2.0**-12, 2.0**2),
    st.sampled_from(MODES),
    st.integers(-128, 127),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)),
)
def test_short_line_is_the_reference_and_fits_32_bits(
    scale: float,
    mode: str,
    zero_point: int,
    limits: tuple[int, int],
    ends: tuple[int, int],
) -> None:
    least, most = sorted(limits)
    low, high = sorted(ends)
    multiplier, shift = numerics.quantize_multiplier(float(np.float32(scale)))
    accumulators = np.arange(low, high + 1)
    quotient = numerics.scaled(accumulators, multiplier, shift, mode)
    wanted = np.clip(quotient + zero_point, least, most)
    line = fit_short_line(scale, accumulators, wanted, (zero_point, least, most))
    limited = (wanted != quotient + zero_point).all()
    if mode == "nearest_up" and scale * max(-low, high) < 2**9 and not limited:
        assert line is not None
    if line is not None:
        products = accumulators * line.multipliers[0] + line.offsets[0]
        assert np.array_equal(products, products.astype(np.int32))
        assert (results(line, accumulators[None], least, most) == wanted).all()
