"""Lines that are late at a few accumulators: the fit, and kernels at these accumulators."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, lower_for_host, pinned

from tinymlir import numerics
from tinymlir.host import HostModel
from tinymlir.kernels import stationary, unpacked
from tinymlir.kernels.late_steps import LateSteps
from tinymlir.late_lines import NEVER, fit_late_line
from tinymlir.line_fit import common_shift
from tinymlir.targets import get_target

REACH = 1 << 12
#: The first channel of a block of four, and two of another.
TIED = [4, 17, 18]
DENSE = ("im2col", "im2col{unroll=4 pixels=2}", "im2col-wide", "im2col-shared", "unpacked")
DEPTHWISE = (
    "depthwise",
    "depthwise-shared",
    "depthwise-pairs",
    "depthwise-rows",
    "depthwise-rows{bytes=1}",
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    # Few bits of a scale make many exact ties.
    st.lists(st.integers(1, 63), min_size=1, max_size=4),
    st.integers(9, 13),
    st.integers(-128, 127),
)
def test_a_late_line_is_the_reference_past_its_late_accumulators(
    odd: list[int], places: int, zero_point: int
) -> None:
    scales = np.ldexp(np.array(odd, float), -places)
    pairs = [numerics.quantize_multiplier(float(scale)) for scale in scales]
    m, s = (np.array(column, np.int64)[:, None] for column in zip(*pairs, strict=True))

    def reference(accumulators: np.ndarray) -> np.ndarray:
        scaled = numerics.scaled(accumulators, m, s, "float32")
        return np.clip(scaled + zero_point, -128, 127)

    ends, shift = np.full(len(odd), REACH), common_shift(scales)
    assert shift is not None
    found = fit_late_line(scales, reference, -ends, ends, (-128, 127), shift, 1000)
    if found is None:
        return
    line, late = found
    accumulators = np.arange(-REACH, REACH + 1)[None, :]
    past = accumulators + (accumulators[None] == late[:, :, None]).any(axis=0)
    products = past * line.multipliers[:, None] + line.offsets[:, None]
    results = np.clip(products >> line.shift, -128, 127)
    assert (results == reference(accumulators)).all()


def test_late_accumulators_are_as_few_as_asked_for() -> None:
    scales = np.array([5 / 512, 0.0073])
    pairs = [numerics.quantize_multiplier(float(np.float32(scale))) for scale in scales]
    m, s = (np.array(column, np.int64)[:, None] for column in zip(*pairs, strict=True))

    def reference(accumulators: np.ndarray) -> np.ndarray:
        return np.clip(numerics.scaled(accumulators, m, s, "float32"), -128, 127)

    ends, shift = np.full(2, REACH), common_shift(scales)
    assert shift is not None
    found = fit_late_line(scales, reference, -ends, ends, (-128, 127), shift, 1000)
    assert found is not None
    count = int((found[1] != NEVER).sum())
    # Ties are 512 apart, every other one of them goes down.
    assert 1 < count <= 2 * REACH // 512
    assert (found[1][:, 1] == NEVER).all()
    for most in (count - 1, count):
        some = fit_late_line(scales, reference, -ends, ends, (-128, 127), shift, most)
        assert (some is None) == (most < count)


class Tied(Network):
    """Some channels have scales of few bits, and sums are small, so that many are at ties."""

    def input(self, *shape: int) -> Value:
        value = super().input(*shape)
        self.inputs[-1] = small = Value(value.name, value.array >> 3)
        return small

    def _biases(self, *shape: int) -> np.ndarray:
        return self.random.integers(-200, 200, shape)

    def _weights(self, *shape: int) -> np.ndarray:
        return self.random.integers(-3, 4, shape).astype(np.int8)

    def scales(self, count: int, spread: int) -> np.ndarray:
        scales = self.random.uniform(0.1, 0.2, count)
        scales[TIED] = np.array([45, 47, 49]) / 256
        return scales


ROW = Window((3, 3), pad=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("kernel", "depth", "window", "size"),
    [
        *[(kernel, 12, Window(), 21) for kernel in DENSE],
        ("stationary", 8, Window(), 40),
        ("im2col-groups", 24, Window(), 21),
        *[(kernel, 64, ROW, 21) for kernel in DEPTHWISE],
        # Few pixels, whose biases are folded (tiny-fold-biases).
        ("im2col-shared", 12, ROW, 8),
        ("depthwise-rows", 64, ROW, 12),
    ],
)
def test_kernels_at_late_accumulators(
    kernel: str, depth: int, window: Window, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Tied(7)
    x = network.negate(network.input(1, size, size, depth))
    groups = {64: 64, 24: 2}.get(depth, 1)
    y = network.conv(x, 64, window, groups, pad_value=-7)
    text = pinned(network.text(y), kernel)
    inputs = [value.array for value in network.inputs]
    compilation = lower_for_host(text, get_target("cortex-m4"))
    (result,) = HostModel(compilation)(*inputs)
    assert (result == y.array).all()

    def none(self: LateSteps, *arguments: Any, **others: Any) -> np.ndarray:
        return pack(dataclasses.replace(self, table=self.table[:0]), *arguments, **others)

    # Some are there: without what steps over them, their results are other ones.
    pack = LateSteps.pack
    monkeypatch.setattr(LateSteps, "pack", none)
    for straight in (stationary, unpacked):
        monkeypatch.setattr(straight, "late_literals", lambda conv: [[]] * len(conv.bias))
    (other,) = HostModel(lower_for_host(text, get_target("cortex-m4")))(*inputs)
    wrong = np.unique(np.nonzero(other != y.array)[-1])
    assert set(wrong) <= set(TIED) and len(wrong) > 0
