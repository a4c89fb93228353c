"""Kernels that leave out zero weights, against NumPy and against the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Array, Network, Value, Window, lower, lower_for_host, pinned

from tinymlir.artifact import report
from tinymlir.codegen import generate
from tinymlir.compiler import Compilation
from tinymlir.host import HostModel
from tinymlir.kernels.blocks import Blocks
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.pairs import operand_pairs
from tinymlir.simulators import simulate
from tinymlir.simulators.trace import Work
from tinymlir.targets import get_target

CORE = get_target("cortex-m4")
#: pixels that each kernel computes together, on cores with SMLAD and without
PIXELS = {("unpacked", "cortex-m4"): 2, ("compact", "cortex-m4"): 4, ("unpacked", "cortex-m3"): 4}
Kind = tuple[str, str]
kinds = st.sampled_from(list(PIXELS))
quick = settings(max_examples=15, deadline=None, derandomize=True)
small = st.integers(1, 9)


class SparseNetwork(Network):
    """A network of which all but a share ``kept`` of the weights are zero."""

    def __init__(self, seed: int, kept: float) -> None:
        super().__init__(seed)
        self.kept = kept
        self.pairs = self.singles = 0

    def _weights(self, *shape: int) -> Array:
        weights = super()._weights(*shape)
        zeroed: Array = np.where(self.random.random(shape) < self.kept, weights, 0)
        # Output channels first, as windows.
        rows = zeroed.T if len(shape) == 2 else zeroed.reshape(shape[0] * shape[1], -1)
        self.singles = int(np.count_nonzero(rows))
        pairs = operand_pairs(rows.shape[1])
        filled = np.pad(rows, [(0, 0), (0, pairs.size - rows.shape[1])])
        self.pairs = int((filled[:, pairs] != 0).any(-1).sum())
        return zeroed


def asking_for(kernel: str, core: str) -> str:
    return f"tiny-unpack-kernels{{target={core} kernel={kernel}}}"


def check(network: SparseNetwork, y: Value, kind: Kind) -> Compilation:
    """The last layer computes ``y``; its MACs are those of weights that are not zero."""
    compilation = lower_for_host(network.text(y), get_target(kind[1]), asking_for(*kind))
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()
    pixels = int(np.prod(y.shape[:-1]))
    products = network.singles if kind[1] == "cortex-m3" else 2 * network.pairs
    if pixels >= 3:
        pixels = -(-pixels // PIXELS[kind]) * PIXELS[kind]
        assert compilation.layers[-1].executed_macs == pixels * products
    return compilation


@quick
@given(kinds, small, small, small, small, small, st.integers(0, 2), st.floats(0, 1), st.booleans())
def test_convolution(
    kind: Kind,
    height: int,
    width: int,
    depth: int,
    channels: int,
    seed: int,
    pad: int,
    kept: float,
    by_rows: bool,
) -> None:
    """Blocks that go on in the next row, and rows by themselves with a pixel left over."""
    network = SparseNetwork(seed, kept)
    x = network.negate(network.input(1, height, width, depth))
    size = (min(3, height + pad), min(2, width + pad))
    dilation = (1, min(3, width + pad - 1) if seed % 5 == 0 and size[1] > 1 else 1)
    window = Window(size, (1 + seed % 2, 1), dilation, (pad, 0, 0, pad))
    y = network.conv(x, channels, window, 1, pad_value=seed)
    with pytest.MonkeyPatch.context() as patch:
        if by_rows:
            patch.setattr(Blocks, "whole", Kernel.whole)
        check(network, y, kind)


@quick
@given(kinds, st.integers(1, 5), st.integers(1, 40), st.integers(1, 20), st.floats(0, 1))
def test_dense(kind: Kind, rows: int, depth: int, channels: int, kept: float) -> None:
    network = SparseNetwork(depth, kept)
    check(network, network.dense(network.negate(network.input(rows, depth)), channels), kind)


@pytest.mark.parametrize("rows", [1, 2])
def test_more_literals_and_operands_than_an_offset_reaches(rows: int) -> None:
    network = SparseNetwork(3, 0.4)
    check(network, network.dense(network.input(rows, 700), 5), ("unpacked", CORE.name))


def test_a_gap_wider_than_a_distance() -> None:
    network = SparseNetwork(3, 0.02)
    check(network, network.dense(network.input(2, 300), 5), ("compact", CORE.name))


@pytest.mark.parametrize("kind", PIXELS)
def test_nothing_kept(kind: Kind) -> None:
    """Every output is its bias."""
    network = SparseNetwork(0, 0.0)
    y = network.conv(network.input(1, 3, 3, 4), 5, Window((2, 2)))
    assert check(network, y, kind).layers[0].executed_macs == 0


def simulated(network: Network, y: Value, kernel: str) -> Work:
    """What the last layer takes on the core; checks the result."""
    compilation = lower(pinned(network.text(y), kernel), CORE)
    code = generate(compilation.module, CORE)
    sample = [v.array[0] for v in network.inputs]
    done = simulate(report(compilation, code, {}), code.object, sample)
    assert (done.outputs[0] == y.array[0]).all()
    return done.counts.layers[-1]


def test_on_the_core() -> None:
    """Fewer instructions than loops take where nothing is zero, half where half of it is."""
    ratios = {}
    for kept, kernels in ((1.0, ["unpacked"]), (0.25, ["unpacked", "compact"])):
        network = SparseNetwork(1, kept)
        x = network.input(1, 6, 7, 24)
        y = network.conv(x, 12, Window((3, 3), pad=(1, 1, 1, 1)), pad_value=3)
        loops = simulated(network, y, "im2col")
        for kernel in kernels:
            work = simulated(network, y, kernel)
            ratios[kernel, kept] = work.instructions / loops.instructions
    assert ratios["unpacked", 1.0] < 0.9
    assert ratios["unpacked", 0.25] < 0.55
    assert ratios["compact", 0.25] < 0.75
