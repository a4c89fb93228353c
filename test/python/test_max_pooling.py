"""Max-pooling of words of channels, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Network, Window, lower_for_host

from tinymlir.host import HostModel
from tinymlir.targets import get_target


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((6, 8, 4), Window((2, 2), (2, 2))),
        ((7, 7, 8), Window((3, 3), (2, 2))),
        ((7, 5, 20), Window((3, 2), (1, 3))),
        ((9, 9, 12), Window((3, 3), (2, 1), dilation=(2, 3))),
        ((4, 4, 16), Window((4, 4))),
        # Padding, and channels that are no whole words, go another way.
        ((6, 6, 4), Window((3, 3), (2, 2), pad=(1, 1, 1, 1))),
        ((6, 6, 6), Window((2, 2), (2, 2))),
    ],
)
def test_max_pooling(shape: tuple[int, int, int], window: Window) -> None:
    network = Network(3)
    x = network.negate(network.input(1, *shape))
    y = network.negate(network.pool(x, window, "max"))
    model = HostModel(lower_for_host(network.text(y), get_target("cortex-m4")))
    (result,) = model(*(v.array for v in network.inputs))
    assert np.array_equal(result, y.array)
