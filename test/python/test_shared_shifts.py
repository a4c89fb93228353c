"""Requantisations that take a shift in common with other layers."""

from __future__ import annotations

import numpy as np
from networks import Array, Network, Window, lower_for_host

from tinymlir.host import HostModel
from tinymlir.targets import get_target


class LoudThenQuiet(Network):
    """The first layer's sums are multiplied by so much that the second one's shift is too great."""

    ranges: tuple[tuple[float, float], ...] = ((1e-5, 900), (1e-6, 1e-5))

    def scales(self, count: int, spread: int) -> Array:
        first, self.ranges = self.ranges[0], self.ranges[1:]
        return np.geomspace(*first, count)


def test_a_layer_that_cannot_have_the_shift_of_others() -> None:
    network = LoudThenQuiet(2)
    x = network.conv(network.negate(network.input(1, 9, 9, 8)), 16, Window())
    y = network.conv(x, 12, Window())
    compilation = lower_for_host(network.text(x, y), get_target("cortex-m4"))
    results = HostModel(compilation)(*(v.array for v in network.inputs))
    assert all((a == v.array).all() for a, v in zip(results, (x, y), strict=True))
