"""The kernels of two and of four MACs at a time, against NumPy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from networks import Network, Value, Window, lower_for_host, pinned

from tinymlir.host import HostModel
from tinymlir.kernels.channel_pairs import fit_halfwords, in_halfwords
from tinymlir.kernels.convolution import Convolution
from tinymlir.targets import get_target

KERNELS = pytest.mark.parametrize(
    ("kernel", "core"),
    [
        ("im2col", "cortex-m4"),
        ("im2col-wide", "cortex-m4"),
        ("im2col-shared", "cortex-m4"),
        ("im2col-bytes", "rv32imc_xcv"),
    ],
)


def check(network: Network, y: Value, kernel: str, core: str) -> None:
    """That the last layer computes ``y``, padding and all."""
    compilation = lower_for_host(pinned(network.text(y), kernel), get_target(core))
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()
    layer = compilation.layers[-1]
    assert layer.executed_macs == layer.macs > 0


@KERNELS
@pytest.mark.parametrize(
    ("shape", "channels", "window"),
    [
        # Rows of every length after blocks of four, or as one block: 1 to 9 pixels.
        *[((2, width, 4), 4, Window((3, 3), pad=(1, 1, 1, 1))) for width in range(1, 10)],
        # A row that ends in a pixel by itself, after many blocks.
        ((1, 21, 8), 6, Window((1, 1))),
        # Channels in blocks of two and a last one.
        ((3, 6, 8), 7, Window((2, 3), pad=(0, 2, 1, 0))),
        # Columns that windows share at a stride, and columns apart.
        ((7, 11, 4), 8, Window((5, 3), (2, 2), pad=(2, 1, 2, 1))),
        ((7, 11, 12), 8, Window((1, 1), (2, 2))),
        ((7, 11, 4), 8, Window((3, 1), (2, 3), pad=(1, 0, 1, 0))),
        # Windows one by one: a stride beyond the kernel, padding beside single columns.
        ((7, 11, 4), 8, Window((1, 2), (1, 3))),
        ((7, 11, 8), 8, Window((1, 1), (2, 2), pad=(1, 1, 1, 1))),
        # Pixels that are no whole words: gathered at once, and in a loop.
        ((6, 9, 3), 5, Window((3, 3), (2, 2), pad=(1, 1, 0, 0))),
        ((6, 9, 7), 4, Window((4, 3), pad=(1, 1, 1, 1))),
        # Kernel rows of whole words, of pixels that are not.
        ((13, 11, 1), 8, Window((10, 8), (2, 2), pad=(4, 3, 5, 4))),
        # Rows apart; columns apart: of whole words, gathered at once, and in a loop.
        ((9, 6, 4), 4, Window((3, 3), dilation=(2, 1), pad=(2, 1, 2, 1))),
        ((9, 11, 8), 4, Window((2, 3), dilation=(1, 4), pad=(0, 4, 0, 4))),
        ((7, 9, 3), 5, Window((3, 3), dilation=(2, 2), pad=(2, 2, 2, 2))),
        ((7, 9, 7), 4, Window((4, 3), dilation=(1, 3), pad=(1, 3, 1, 2))),
        # Dot products of several turns, and something over; of so many columns that fewer pixels
        # are within reach.
        ((3, 6, 76), 4, Window((1, 3), pad=(0, 1, 0, 1))),
        ((5, 9, 128), 4, Window((5, 1))),
    ],
)
def test_convolution(
    shape: tuple[int, int, int], channels: int, window: Window, kernel: str, core: str
) -> None:
    # Two channels are in a halfword.
    network = Network(1, least_weight=-127)
    x = network.negate(network.input(1, *shape))
    y = network.conv(x, channels, window, 1, pad_value=-7)
    check(network, y, kernel, core)


@pytest.mark.parametrize("least_weight", [-127, -128])
@pytest.mark.parametrize("kernel", ["im2col", "im2col-shared"])
def test_pixels_by_twos(kernel: str, least_weight: int) -> None:
    """Four channels of two pixels, then of what is left of both; in halfwords, or not."""
    network = Network(3, least_weight)
    x = network.negate(network.input(1, 3, 7, 12))
    x = network.conv(x, 11, Window((3, 3), pad=(1, 1, 1, 1)), 1, pad_value=-7)
    y = network.conv(x, 7, Window((2, 3)), 1)
    check(network, y, f"{kernel}{{unroll=4 pixels=2}}", "cortex-m4")


def test_halfwords_of_two_channels() -> None:
    random = np.random.default_rng(4)
    weights = random.integers(-127, 128, (6, 12)).astype(np.int8)
    stored = in_halfwords(weights)
    for low, high, both in zip(weights[::2], weights[1::2], stored[1::2], strict=True):
        halfwords = np.stack([low, both], axis=1).view("<i2")[:, 0]
        assert (halfwords == low + 256 * high.astype(int)).all()


@pytest.mark.parametrize(
    ("weights", "bias", "fits"),
    [
        ([[-1, 5], [-127, -127]], 0, True),
        ([[-1, 5], [-128, 0]], 0, False),
        ([[-1, 5], [0, -128]], 0, True),
        ([[-1, 5], [-128, 0], [-1, 0]], 0, False),
        # The last of an odd number is by itself.
        ([[-1, 5], [0, 0], [-128, -128]], 1 << 30, True),
        ([[0, 0], [1, -1]], (1 << 23) - 257, True),
        ([[0, 0], [1, -1]], (1 << 23) - 256, False),
        ([[0, 0], [1, -1]], 256 - (1 << 23), False),
    ],
)
def test_channels_fit_halfwords(weights: list[list[int]], bias: int, fits: bool) -> None:
    kernel = np.array(weights, np.int8).reshape(1, len(weights), 1, 1, 2)
    biases = np.full(len(weights), bias, np.int32)
    if len(weights) % 2:
        biases[1] = 0
    conv = cast(
        Convolution, SimpleNamespace(weights=kernel, bias=biases, out_per_group=len(kernel[0]))
    )
    assert fit_halfwords(conv) == fits


@KERNELS
@pytest.mark.parametrize(("rows", "depth", "channels"), [(1, 40, 11), (1, 260, 4), (5, 9, 6)])
def test_dense(rows: int, depth: int, channels: int, kernel: str, core: str) -> None:
    network = Network(2)
    y = network.dense(network.negate(network.input(rows, depth)), channels)
    check(network, y, kernel, core)
