"""Pooling of blocks of channels, against NumPy: by words and by bytes."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Network, Window, lower_for_host

from tinymlir.host import HostModel
from tinymlir.targets import get_target


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "cortex-m0"])
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((6, 8, 4), Window((2, 2), (2, 2))),
        ((7, 7, 8), Window((3, 3), (2, 2))),
        ((7, 5, 21), Window((3, 2), (1, 3))),
        ((9, 9, 14), Window((3, 3), (2, 1), dilation=(2, 3))),
        ((6, 7, 20), Window((3, 3), (2, 2), pad=(1, 1, 1, 1))),
        ((5, 6, 5), Window((4, 4), pad=(3, 0, 1, 2), dilation=(2, 1))),
        # Windows wholly beside the image, and none without padding.
        ((2, 4, 5), Window((2, 3), pad=(3, 0, 2, 0))),
        ((2, 3, 4), Window((3, 3), pad=(1, 1, 1, 1))),
        # More taps than halfwords hold the sum of.
        ((19, 18, 9), Window((19, 17))),
        ((2, 300, 4), Window((1, 290))),
    ],
)
def test_pooling(shape: tuple[int, int, int], window: Window, target: str) -> None:
    network = Network(3)
    x = network.negate(network.input(1, *shape))
    results = [network.negate(network.pool(x, window, kind)) for kind in ("max", "sum")]
    model = HostModel(lower_for_host(network.text(*results), get_target(target)))
    for found, value in zip(model(*(v.array for v in network.inputs)), results, strict=True):
        assert np.array_equal(found, value.array)
