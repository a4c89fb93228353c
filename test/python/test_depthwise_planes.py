"""Depthwise convolutions over rings of rows, two and four MACs at a time, against NumPy."""

from __future__ import annotations

import pytest
from networks import Network, Window, lower_for_host, pinned

from tinymlir.host import HostModel
from tinymlir.targets import get_target


@pytest.mark.parametrize(
    ("kernel", "core"),
    [
        ("depthwise", "cortex-m4"),
        ("depthwise-pairs", "cortex-m4"),
        ("depthwise-rows{bytes=1}", "cortex-m4"),
        ("depthwise-bytes", "rv32imc_xcv"),
    ],
)
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        # A row as one group of outputs, in groups with and without a rest.
        *[((3, width, 4), Window((3, 3), pad=(1, 1, 1, 1))) for width in (1, 2, 5, 6, 7, 8, 9, 11)],
        # Padding that ends within a word, on either side, and is all of some words.
        ((4, 7, 4), Window((2, 3), pad=(0, 3, 0, 0))),
        ((4, 6, 4), Window((2, 4), pad=(1, 2, 0, 3))),
        # Channels that are no whole block, a block and a rest.
        ((3, 5, 3), Window((3, 3), pad=(1, 1, 1, 1))),
        ((3, 5, 9), Window((3, 2))),
        # Strides: windows begin at even columns only, or at odd ones too; rows move on by two.
        ((9, 11, 8), Window((3, 3), (2, 2), pad=(1, 1, 1, 1))),
        ((9, 14, 4), Window((3, 3), (1, 3))),
        ((5, 11, 4), Window((1, 4), (1, 2), pad=(0, 1, 0, 1))),
        # Kernels of one column, and wide ones.
        ((6, 5, 4), Window((3, 1), pad=(1, 0, 1, 0))),
        ((7, 13, 4), Window((5, 5), pad=(2, 2, 2, 2))),
        ((8, 9, 4), Window((7, 7), pad=(3, 3, 3, 3))),
        ((2, 3, 4), Window((2, 3))),
    ],
)
def test_depthwise_convolution(
    shape: tuple[int, int, int], window: Window, kernel: str, core: str
) -> None:
    network = Network(4)
    x = network.negate(network.input(1, *shape))
    y = network.conv(x, shape[2], window, shape[2], pad_value=-7)
    text = pinned(network.text(y), kernel)
    compilation = lower_for_host(text, get_target(core))
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()
    layer = compilation.layers[-1]
    assert layer.executed_macs == layer.macs > 0


@pytest.mark.parametrize(
    ("shape", "pad"),
    [
        # One band or several, of blocks of rows that overlap or not.
        *[((height, 6, 4), (1, 1, 1, 1)) for height in (3, 4, 6, 7, 8, 13, 25)],
        # Columns by twos, or one left over; the last of the image in a pair by itself, or not.
        *[((6, width, 8), (1, 1, 1, 1)) for width in (3, 4, 5, 9, 12)],
        *[((5, width, 4), (0, 0, 0, 0)) for width in (4, 5, 6)],
        # Rows and pairs of columns that are all padding; rows and columns that no window reaches.
        ((4, 5, 4), (2, 2, 5, 2)),
        ((9, 7, 4), (0, 2, 2, 7)),
        ((1, 3, 4), (2, 1, 2, 0)),
    ],
)
def test_bands(shape: tuple[int, int, int], pad: tuple[int, int, int, int]) -> None:
    """Between two layers in the arena, so that results may replace what they are made of."""
    network = Network(5)
    x = network.negate(network.input(1, *shape))
    y = network.negate(network.conv(x, shape[2], Window((3, 3), pad=pad), shape[2], pad_value=-7))
    compilation = lower_for_host(
        pinned(network.text(y), "depthwise-shared"), get_target("cortex-m4")
    )
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()
    assert compilation.layers[1].kernel == "depthwise-shared"
