"""Two pixels in a word: exact whatever activations and weights are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Array, Network, Value, Window, lower_for_host
from test_kernels import small, windows

from tinymlir.host import HostModel
from tinymlir.targets import get_target


def check(network: Network, y: Value, core: str, kernel: str = "swar") -> None:
    """The last layer computes ``y`` by that kernel."""
    compilation = lower_for_host(network.text(y), get_target(core))
    assert f'tiny.kernel = "{kernel}"' in compilation.stages["memref"]
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.data(),
    st.sampled_from(["cortex-m3", "rv32imc"]),
    small,
    st.integers(2, 9),
    small,
    st.integers(4, 9),
    st.integers(0, 1000),
)
def test_convolution(
    data: st.DataObject, core: str, height: int, width: int, depth: int, channels: int, seed: int
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth))
    window = data.draw(windows(height, width).filter(lambda w: w.output(height, width)[1] > 1))
    check(network, network.conv(x, channels, window, 1, seed % 256 - 128), core)


class ExtremeNetwork(Network):
    """A network of inputs and weights that are large or small, nothing between."""

    least_weight = -127

    def input(self, *shape: int) -> Value:
        value = super().input(*shape)
        value.array[:] = np.where(value.array < 0, -128, 127)
        return value

    def _weights(self, *shape: int) -> Array:
        weights: Array = np.where(super()._weights(*shape) < 0, self.least_weight, 127)
        return weights.astype(np.int8)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "rv32imc"])
def test_sums_at_the_limits_do_not_carry(core: str) -> None:
    network = ExtremeNetwork(0)
    y = network.conv(network.input(1, 3, 8, 16), 32, Window((2, 2)))
    check(network, y, core)


def test_weights_that_would_carry_go_elsewhere() -> None:
    network = ExtremeNetwork(0)
    network.least_weight = -128
    y = network.conv(network.input(1, 3, 8, 16), 32, Window((2, 2)))
    check(network, y, "cortex-m3", "direct")
