"""The kernel that keeps activations in registers, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Array, Network, Value, Window, lower_for_host, pinned

from tinymlir.host import HostModel
from tinymlir.targets import get_target


class Sparse(Network):
    """A network of which a half of the weights are zero."""

    def _weights(self, *shape: int) -> Array:
        zeroed: Array = super()._weights(*shape) * self.random.integers(0, 2, shape)
        return zeroed.astype(np.int8)


def check(network: Network, y: Value) -> float:
    """That the last layer computes ``y``; the share of its MACs that it executes."""
    text = pinned(network.text(y), "stationary")
    compilation = lower_for_host(text, get_target("cortex-m4"))
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()
    layer = compilation.layers[-1]
    return layer.executed_macs / layer.macs


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        # One pixel, a block, blocks and what is left over.
        *[((1, width), (1, 1)) for width in (1, 2, 3, 8)],
        # Rows go on in one another, or stand alone.
        ((3, 5), (1, 1)),
        ((5, 7), (2, 2)),
        ((6, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("depth", [4, 8])
def test_convolution(depth: int, shape: tuple[int, int], stride: tuple[int, int]) -> None:
    network = Network(depth)
    x = network.negate(network.input(1, *shape, depth))
    y = network.conv(x, 5, Window((1, 1), stride))
    assert check(network, y) == 1


def test_pairs_of_zeros_are_left_out() -> None:
    network = Sparse(3)
    y = network.conv(network.negate(network.input(1, 4, 4, 8)), 12, Window())
    assert 0.5 < check(network, y) < 0.9


class Unbiased(Network):
    """A network without biases."""

    def _biases(self, *shape: int) -> Array:
        return np.zeros(shape, np.int64)


def test_no_biases() -> None:
    network = Unbiased(5)
    y = network.conv(network.negate(network.input(1, 4, 4, 8)), 12, Window())
    assert check(network, y) == 1
