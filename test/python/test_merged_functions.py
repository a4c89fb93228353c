"""Layers of one shape are one function; budgets of flash are kept by code, not prices alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import Network, Value, Window, pinned
from numpy.typing import NDArray

from tinymlir.artifact import measure, report
from tinymlir.bindings import ir
from tinymlir.compiler import Compilation, lower_module
from tinymlir.dialects import register
from tinymlir.fitting import generate_within
from tinymlir.pipelines import BALANCED, Selection
from tinymlir.simulators import simulate
from tinymlir.targets import get_target


class Repeating(Network):
    """Every layer has the same limits and zero point, but its own weights and scales."""

    def requantize(
        self, op: str, acc: str, array: NDArray, per_channel: bool = False, rounding: str = ""
    ) -> Value:
        kept, self.random = self.random, np.random.default_rng(3)
        try:
            return super().requantize(op, acc, array, per_channel, "nearest_up")
        finally:
            self.random = kept


def three_alike() -> tuple[Network, str, Value]:
    # As networks are quantised: with -128, weights of two channels may not fit a halfword.
    network = Repeating(1, least_weight=-127)
    y = network.input(1, 6, 6, 8)
    for _ in range(3):
        y = network.conv(y, 8, Window((3, 3), pad=(1, 1, 1, 1)))
    return network, network.text(y), y


def lowered(text: str, core: str, selection: Selection) -> Compilation:
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        return lower_module(ir.Module.parse(text), get_target(core), "network", selection=selection)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_layers_of_one_shape_are_one_function(core: str) -> None:
    network, text, y = three_alike()
    compilation, code = generate_within(lambda choice: lowered(text, core, choice), BALANCED)
    found = report(compilation, code, {})
    run = simulate(found, code.object, [v.array[0] for v in network.inputs])
    assert (run.outputs[0] == y.array[0]).all()
    first, *others = [layer["code_bytes"] for layer in found["layers"]]
    # Loops depend on the weights on cores without SIMD, so two of the three may be alike.
    assert min(others) < 40 < 200 < first
    # What is shared still counts for the layer that runs.
    counts = [layer.instructions for layer in run.counts.layers]
    assert max(counts) < 1.2 * min(counts)


def test_depthwise_layers_of_any_size_are_one_function() -> None:
    network = Repeating(1)
    y = network.input(1, 6, 8, 8)
    for pad in ((1, 1, 1, 1), (1, 1, 2, 1), (0, 1, 1, 0)):
        y = network.conv(y, 8, Window((3, 3), pad=pad), 8)
    text = pinned(network.text(y), "depthwise-shared")
    compilation, code = generate_within(lambda choice: lowered(text, "cortex-m4", choice), BALANCED)
    found = report(compilation, code, {})
    run = simulate(found, code.object, [v.array[0] for v in network.inputs])
    assert (run.outputs[0] == y.array[0]).all()
    first, *others = [layer["code_bytes"] for layer in found["layers"]]
    assert max(others) < 40 < 800 < first


def test_code_that_misses_the_budget_is_chosen_again() -> None:
    _, text, _ = three_alike()
    asked: list[int | None] = []

    def lower(selection: Selection) -> Compilation:
        """By prices the budget is kept, by the code it is not until less room is left."""
        asked.append(selection.beyond_prices)
        compilation = lowered(text, "cortex-m3", selection)
        compilation.flash_budget = 10 if selection.beyond_prices is None else 1 << 20
        return compilation

    compilation, code = generate_within(lower, BALANCED)
    priced = sum(layer.price.flash_bytes for layer in compilation.layers if layer.price)
    sizes = measure(code.object)
    assert asked == [None, sum(dataclasses.astuple(sizes)) - priced]
