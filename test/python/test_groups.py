"""Convolutions in groups, each by a kernel of dense ones, against NumPy."""

from __future__ import annotations

import pytest
from networks import Network, Window, lower_for_host, pinned

from tinymlir.host import HostModel
from tinymlir.targets import get_target

KERNELS = {
    "im2col-groups": "cortex-m4",
    "swar-groups": "cortex-m3",
    "swar-shared-groups": "rv32imc",
}
CASES = [
    # Padding on all sides; blocks that go on in the next row.
    (2, (3, 5, 5), 6, Window((3, 3), pad=(1, 1, 1, 1))),
    (3, (6, 7, 2), 4, Window((2, 3), (2, 1), pad=(0, 1, 1, 1))),
    # Taps apart.
    (2, (4, 9, 4), 5, Window((3, 3), (1, 2), (1, 2), pad=(1, 2, 1, 2))),
    (2, (4, 6, 20), 4, Window((3, 2))),
    # Pixels in functions that groups have in common.
    (4, (3, 5, 8), 8, Window()),
    (2, (5, 7, 8), 4, Window((1, 1), (2, 2))),
]


@pytest.mark.parametrize(("groups", "shape", "channels", "window"), CASES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_groups(
    kernel: str, groups: int, shape: tuple[int, int, int], channels: int, window: Window
) -> None:
    """``shape`` and ``channels`` are of a group."""
    if kernel == "swar-shared-groups":
        # It takes no others.
        window = Window((1, 1), window.stride)
        shape, channels = (*shape[:2], 8), 4
    height, width, depth = shape
    network = Network(groups)
    x = network.negate(network.input(1, height, width, groups * depth))
    y = network.conv(x, groups * channels, window, groups, pad_value=-7)
    core = get_target(KERNELS[kernel])
    compilation = lower_for_host(pinned(network.text(y), kernel), core)
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()
    layer = compilation.layers[-1]
    assert layer.kernel is not None and layer.kernel.startswith(kernel)
    assert layer.executed_macs == layer.macs
