"""Dense layers, flattened images among them, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, lower, lower_for_host, pinned

from tinymlir.artifact import report
from tinymlir.codegen import generate
from tinymlir.host import HostModel
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

cores = st.sampled_from(["cortex-m0", "cortex-m4", "rv32imc"])


def check(network: Network, y: Value, core: str) -> None:
    """That the kernel of dense layers computes ``y``."""
    compilation = lower_for_host(pinned(network.text(y), "dense"), get_target(core))
    assert compilation.layers[-1].kernel == "dense"
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()


@settings(deadline=None, max_examples=20, derandomize=True)
@given(cores, st.integers(1, 50), st.integers(1, 15))
def test_operands_and_channels_left_over(core: str, depth: int, channels: int) -> None:
    network = Network(depth)
    check(network, network.dense(network.input(1, depth), channels), core)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(cores, *[st.integers(1, 5)] * 3, st.integers(1, 9))
def test_a_window_over_all_of_an_image(
    core: str, height: int, width: int, depth: int, channels: int
) -> None:
    """The operands of all rows are those of one pixel."""
    network = Network(depth)
    x = network.input(1, height, width, depth)
    check(network, network.conv(x, channels, Window((height, width))), core)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize(("depth", "channels"), [(9, 5), (24, 8)])
def test_on_the_core(core: str, depth: int, channels: int) -> None:
    """Weights of every block begin at a word, however many operands there are."""
    network = Network(depth)
    y = network.dense(network.input(1, depth), channels)
    target = get_target(core)
    compilation = lower(pinned(network.text(y), "dense"), target)
    code = generate(compilation.module, target)
    run = simulate(report(compilation, code, {}), code.object, [network.inputs[0].array[0]])
    assert (np.asarray(run.outputs[0]) == y.array[0]).all()
