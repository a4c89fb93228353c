"""Dense layers, flattened images among them, against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, lower, lower_for_host, pinned

from tinymlir.artifact import report
from tinymlir.codegen import generate
from tinymlir.fusion.planner import Planner
from tinymlir.host import HostModel
from tinymlir.pipelines import Fusion
from tinymlir.simulators import simulate
from tinymlir.targets import get_target
from tinymlir.tools.plan import load_graph

cores = st.sampled_from(["cortex-m0", "cortex-m4", "rv32imc"])


def check(network: Network, y: Value, core: str) -> None:
    """That the kernel of dense layers computes ``y``."""
    compilation = lower_for_host(pinned(network.text(y), "dense"), get_target(core))
    assert compilation.layers[-1].kernel == "dense"
    (result,) = HostModel(compilation)(*(v.array for v in network.inputs))
    assert (result == y.array).all()


@settings(deadline=None, max_examples=20, derandomize=True)
@given(cores, st.integers(1, 50), st.integers(1, 15))
def test_operands_and_channels_left_over(core: str, depth: int, channels: int) -> None:
    network = Network(depth)
    check(network, network.dense(network.input(1, depth), channels), core)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(cores, *[st.integers(1, 5)] * 3, st.integers(1, 9))
def test_a_window_over_all_of_an_image(
    core: str, height: int, width: int, depth: int, channels: int
) -> None:
    """The operands of all rows are those of one pixel."""
    network = Network(depth)
    x = network.input(1, height, width, depth)
    check(network, network.conv(x, channels, Window((height, width))), core)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize(("depth", "channels"), [(9, 5), (24, 8)])
def test_on_the_core(core: str, depth: int, channels: int) -> None:
    """Weights of every block begin at a word, however many operands there are."""
    network = Network(depth)
    y = network.dense(network.input(1, depth), channels)
    target = get_target(core)
    compilation = lower(pinned(network.text(y), "dense"), target)
    code = generate(compilation.module, target)
    run = simulate(report(compilation, code, {}), code.object, [network.inputs[0].array[0]])
    assert (np.asarray(run.outputs[0]) == y.array[0]).all()


@pytest.mark.parametrize(
    ("core", "shape", "channels"),
    [("cortex-m4", (9, 3, 5), 6), ("cortex-m0", (11, 5, 3), 5), ("rv32imc", (8, 7, 5), 8)],
)
def test_rows_of_an_image_are_added_up_as_they_come(
    core: str, shape: tuple[int, int, int], channels: int, tmp_path: Path
) -> None:
    """Of the image that is flattened there is one row, and of the next layer a pixel."""
    network, target = Network(1), get_target(core)
    image = network.conv(network.input(1, *shape), shape[2], Window())
    flat = network.reshape(image, [1, image.array[0].size])
    y = network.dense(network.dense(flat, channels), 3)
    model = tmp_path / "flat.mlir"
    model.write_text(network.text(y))
    compilation = lower(network.text(y), target, fusion=Fusion(input="streamed"))
    planned = Planner(load_graph(model, target), "streamed").choose(None, None)
    assert compilation.arena_bytes == planned.bytes < image.array[0].size + 4 * channels
    layer = compilation.layers[1]
    assert (layer.op, layer.kernel) == ("fully_connected", "dense-rows")
    assert layer.executed_macs == layer.made_macs == layer.macs == flat.array[0].size * channels
    code = generate(compilation.module, target)
    run = simulate(report(compilation, code, {}), code.object, [network.inputs[0].array[0]])
    assert (np.asarray(run.outputs[0]).ravel() == y.array[0].ravel()).all()
