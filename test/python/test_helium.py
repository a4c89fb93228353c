"""Kernels of cores with vectors: every rounding on this machine, and all of it on QEMU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, everything, lower, lower_for_host, pinned
from simulated import needs_qemu

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import Compilation
from tinymlir.host import HostModel
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

M55 = get_target("cortex-m55")


def _has(compilation: Compilation, kernel: str) -> bool:
    return f'tiny.kernel = "{kernel}"' in compilation.stages["memref"]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(2, 20), st.integers(1, 9), st.integers(1, 3), st.booleans(), st.integers(0, 99))
@pytest.mark.parametrize("rounding", ["float32", "nearest_even", "nearest_up", "double"])
def test_roundings(
    rounding: str, depth: int, channels: int, columns: int, per_channel: bool, seed: int
) -> None:
    """Sums above and below zero, scales for which there is a line and others."""
    network = Network(seed)
    x = network.input(1, 2, columns, depth)
    window = Window((2, 2), pad=(1, 0, 0, 1))
    y = network.conv(x, channels, window, 1, 3, per_channel, rounding)
    compilation = lower_for_host(pinned(network.text(y), "helium-dot"), M55)
    assert (HostModel(compilation)(x.array)[0] == y.array).all()


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.integers(8, 40),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
    st.sampled_from(["float32", "nearest_even", "double"]),
    st.integers(0, 99),
)
def test_depthwise(
    channels: int, kernel: tuple[int, int], strided: bool, rounding: str, seed: int
) -> None:
    """Sums of halfwords as long as the weights allow, blocks of 16 channels and what is left."""
    network = Network(seed)
    x = network.negate(network.input(1, 4, 5, channels))
    stride = kernel if strided else (1, 1)
    window = Window(kernel, stride, pad=(kernel[0] - 1, 0, 0, kernel[1] // 2))
    y = network.conv(x, channels, window, channels, -7, rounding=rounding)
    text = pinned(network.text(network.negate(y)), "helium-depthwise")
    compilation = lower_for_host(text, M55)
    assert (HostModel(compilation)(network.inputs[0].array)[0] == -1 - y.array).all()


def _shapes() -> tuple[Network, list[Value]]:
    """One network of windows in one piece and in several, with odd numbers of everything."""
    network = Network(5)
    x = network.input(1, 7, 5, 16)
    wide = network.conv(x, 20, Window((3, 3), pad=(1, 1, 1, 1)), pad_value=-9)
    thin = network.conv(wide, 3, Window((5, 1), (2, 2), pad=(2, 0, 2, 0)), rounding="double")
    flat = network.reshape(thin, [1, thin.array[0].size])
    return network, [
        network.conv(x, 7, Window((1, 1), (2, 1)), rounding="nearest_even"),
        network.conv(x, 33, Window()),
        network.conv(wide, 5, Window((2, 3), dilation=(2, 1), pad=(0, 3, 1, 0)), pad_value=100),
        network.conv(wide, 6, Window((2, 3), dilation=(1, 3), pad=(0, 3, 1, 1)), pad_value=9),
        network.dense(flat, 10),
        network.conv(wide, 20, Window((3, 3), (2, 1), pad=(1, 1, 1, 1)), 20, 5),
    ]


@needs_qemu
@pytest.mark.parametrize("made", [everything, _shapes])
def test_on_the_simulated_core(made: object) -> None:
    assert callable(made)
    network, outputs = made()
    listed = [outputs] if isinstance(outputs, Value) else outputs
    compilation = lower(network.text(*listed), M55)
    assert _has(compilation, "helium-dot")
    code = generate(compilation.module, compilation.target)
    report = artifact.report(compilation, code, {})
    run = simulate(report, code.object, [v.array for v in network.inputs])
    for result, value in zip(run.outputs, listed, strict=True):
        assert (result.reshape(value.array.shape) == value.array).all()
    assert np.unique(listed[-1].array).size > 1


@needs_qemu
def test_float_scale_of_all_elements() -> None:
    """Sums too wide for a line in 32 bits, scaled as floats by one number."""
    network = Network(8)
    x = network.negate(network.input(1, 2, 3, 8))
    body = """%wide = arith.extsi %a0 : i8 to i32
        %factor = arith.constant 1000003 : i32
        %r = arith.muli %wide, %factor : i32"""
    identity = "affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>"
    sums = network.generic("", [(x.name, x.type, identity)], x.shape, body, "i32")
    y = network.requantize("scale", sums, x.array.astype(np.int64) * 1000003)
    compilation = lower(network.text(y), M55)
    code = generate(compilation.module, compilation.target)
    assert "vcvt" in code.assembly
    report = artifact.report(compilation, code, {})
    run = simulate(report, code.object, [v.array for v in network.inputs])
    assert (run.outputs[0].reshape(y.array.shape) == y.array).all()
