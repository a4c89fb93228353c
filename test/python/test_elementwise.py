"""Elementwise layers in one loop, against NumPy: in place, and of one input or two."""

from __future__ import annotations

import numpy as np
import pytest
from networks import HOST, Network, lower

from tinymlir.host import HostModel


@pytest.mark.parametrize("shape", [(1, 3, 5, 1), (1, 1, 2, 4), (1, 2, 4, 8), (1, 3, 3, 7)])
def test_elementwise(shape: tuple[int, ...]) -> None:
    network = Network(5)
    x, y = network.negate(network.input(*shape)), network.input(*shape)
    total = network.add(network.add(x, y), y)
    result = network.negate(total)
    compilation = lower(network.text(result), HOST)
    (found,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert np.array_equal(found, result.array)
    size = int(np.prod(shape))
    # The sums take the place of their first operand.
    assert compilation.arena_bytes < 2 * size + 4
