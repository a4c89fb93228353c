"""Stages in strips on simulated cores: the kernels by rows of each, over rings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from networks import Network, Value, Window
from simulated import needs_qemu

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.pipelines import Fusion
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

#: Cores, and the kernel by rows that depthwise convolutions have there.
CORES = {
    "cortex-m4": "depthwise-rows",
    "cortex-m0": "depthwise-rows",
    "rv32imc": "depthwise-rows",
    "cortex-m55": "helium-depthwise-rows",
    "rv32imc_zve32x": "vector-depthwise",
}
#: Kernels, strides and padding on each side of depthwise convolutions in a row.
CHAINS = {
    "even": [(3, 1, (1, 1, 1, 1)), (5, 2, (2, 1, 2, 2)), (7, 1, (3, 3, 3, 3))],
    "odd": [(3, 2, (0, 1, 1, 1)), (5, 1, (2, 2, 2, 2)), (7, 2, (3, 2, 3, 4))],
}


def chain(windows: list[tuple[int, int, tuple[int, int, int, int]]]) -> tuple[Network, Value]:
    """Depthwise convolutions of 20 channels and a sum between two of pixels."""
    network = Network(len(windows))
    y = network.conv(network.input(1, 15, 29, 5), 20, Window())
    for size, stride, pad in windows:
        window = Window((size, size), (stride, stride), pad=pad)
        y = network.conv(y, 20, window, groups=20, pad_value=-9)
    y = network.add(y, network.conv(y, 20, Window()))
    return network, network.conv(y, 6, Window())


@needs_qemu
@pytest.mark.parametrize(
    ("name", "target"),
    [
        *(("even", core) for core in ("cortex-m4", "cortex-m55", "rv32imc")),
        *(("odd", core) for core in ("cortex-m4", "cortex-m55", "cortex-m0", "rv32imc_zve32x")),
    ],
)
def test_strips(name: str, target: str, tmp_path: Path) -> None:
    network, result = chain(CHAINS[name])
    model, plan = tmp_path / "chain.mlir", tmp_path / "plan.json"
    model.write_text(text := network.text(result))
    layers = re.findall(r'tiny.layer = "(\w+)"', text)
    stage = {"first": layers[0], "last": layers[-1], "strips": 3}
    plan.write_text(json.dumps({"version": 1, "input": "external", "stages": [stage]}))
    compilation = compile_model(model, get_target(target), fusion=Fusion(plan=str(plan)))
    assert CORES[target] in [layer.kernel for layer in compilation.layers]
    code = generate(compilation.module, compilation.target)
    report = artifact.report(compilation, code, {})
    run = simulate(report, code.object, [value.array for value in network.inputs])
    assert (run.outputs[0].reshape(result.array.shape) == result.array).all()
    assert np.unique(result.array).size > 9
