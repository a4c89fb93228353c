"""Layers that are no convolutions keep their values in registers."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Network, Window, lower

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

pytest.importorskip("unicorn")


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "rv32imc"])
def test_hot_loops_do_not_spill(target: str) -> None:
    network = Network(2)
    x, y = network.input(1, 9, 9, 64), network.input(1, 9, 9, 64)
    total = network.add(x, y)
    results = [
        network.pool(total, Window((3, 3), (2, 2), pad=(1, 1, 1, 1)), "max"),
        network.pool(total, Window((7, 6), (2, 2)), "sum"),
        network.concat([total, x], 3),
        network.pad(total, (1, 1, 1, 1), 5, layer=True),
    ]
    compilation = lower(network.text(*results), get_target(target))
    code = generate(compilation.module, compilation.target)
    report = artifact.report(compilation, code, {})
    run = simulate(report, code.object, [v.array[:1] for v in network.inputs])
    for found, value in zip(run.outputs, results, strict=True):
        assert np.array_equal(found[0], value.array[0])
    for layer, work in zip(compilation.layers, run.counts.layers, strict=True):
        # A few at the ends of loops around the hot ones.
        assert work.stack < work.instructions / 10, layer.name
