"""Two pixels in a word: exact whatever activations and weights are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Array, Network, Value, Window, lower_for_host, pinned
from test_kernels import small, windows

from tinymlir.errors import TinymlirError
from tinymlir.host import HostModel
from tinymlir.kernels.chunks import best_chunks
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.swar import Swar
from tinymlir.targets import get_target


def check(network: Network, y: Value, core: str, kernel: str = "swar") -> None:
    """The kernel computes ``y`` in the last layer."""
    compilation = lower_for_host(pinned(network.text(y), kernel), get_target(core))
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.data(),
    st.sampled_from(["cortex-m3", "rv32imc"]),
    small,
    st.integers(3, 9),
    small,
    st.integers(4, 9),
    st.integers(0, 1000),
    st.booleans(),
)
def test_convolution(
    data: st.DataObject,
    core: str,
    height: int,
    width: int,
    depth: int,
    channels: int,
    seed: int,
    by_rows: bool,
) -> None:
    """Blocks that go on in the next row, and rows by themselves with pixels left over."""
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth))
    some = windows(height, width).filter(lambda w: np.prod(w.output(height, width)) > 2)
    window = data.draw(some)
    with pytest.MonkeyPatch.context() as patch:
        if by_rows:
            patch.setattr(Swar, "whole", Kernel.whole)
        check(network, network.conv(x, channels, window, 1, seed % 256 - 128), core)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.sampled_from(["cortex-m3", "rv32imc"]),
    small,
    st.sampled_from([2, 6, 8, 9]),
    small,
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.integers(0, 1000),
)
def test_depthwise_convolution(
    core: str,
    height: int,
    width: int,
    channels: int,
    kernel: tuple[int, int],
    pad: tuple[int, int, int, int],
    seed: int,
) -> None:
    network = Network(seed)
    before = (pad[0] % kernel[0], pad[1], pad[2], pad[3])
    window = Window(kernel, (1 + seed % kernel[0], 1), pad=before)
    rows = height + kernel[0]
    x = network.input(1, rows, width + kernel[1] - 1, channels + 1)
    y = network.conv(x, channels + 1, window, channels + 1, seed % 256 - 128)
    if y.shape[2] % 2 == 0 or y.shape[2] >= 8:
        check(network, y, core, "depthwise-swar")


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


class UnevenNetwork(Network):
    """A network of weights of which the first of each window is too much for its chunk."""

    def _weights(self, *shape: int) -> Array:
        weights: Array = super()._weights(*shape) // 2
        weights[..., 0] = -127
        return weights


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "rv32imc"])
@pytest.mark.parametrize(
    ("shape", "channels", "stride"),
    # One row of whole blocks, and of pixels left over; rows by themselves; operands left over.
    [((2, 4, 16), 6, 1), ((3, 3, 20), 4, 1), ((5, 9, 8), 8, 2), ((1, 5, 4), 4, 1)],
)
def test_pointwise_convolution_by_functions_of_any_size(
    core: str, shape: tuple[int, int, int], channels: int, stride: int
) -> None:
    network = UnevenNetwork(3)
    window = Window((1, 1), (stride, stride))
    check(network, network.conv(network.input(1, *shape), channels, window), core, "swar-shared")


@pytest.mark.parametrize("least", [-127, -128])
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "rv32imc"])
def test_sums_at_the_limits_do_not_carry(core: str, least: int) -> None:
    network = ExtremeNetwork(0)
    network.least_weight = least
    check(network, network.conv(network.input(1, 3, 7, 16), 31, Window((2, 2))), core)


def test_too_much_excess_goes_elsewhere() -> None:
    network = ExtremeNetwork(0)
    network.least_weight = -128
    y = network.conv(network.input(1, 2, 8, 512), 4, Window((2, 2)))
    with pytest.raises(TinymlirError, match="cannot be computed by kernel 'swar'"):
        check(network, y, "cortex-m3")


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
def test_chunks_and_excess_are_the_weights(window: int, channels: int, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(-128, 128, (channels, window), np.int8)
    weights[0] = -128
    chunks = best_chunks(weights)
    assert chunks is not None
    total = chunks.weights.reshape(channels, -1).astype(int)
    np.add.at(total, (np.arange(channels)[:, None], chunks.places), chunks.excess)
    assert (total[:, :window] == weights).all() and not total[:, window:].any()
    for part in (chunks.weights, chunks.excess):
        magnitudes = np.abs(part.astype(int)).sum(-1)
        assert (128 * magnitudes < 1 << 15).all()
