"""Significance and skipping, against direct computation in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from networks import CORES, Network, Window, lower_for_host

from tinymlir.bindings import ir
from tinymlir.exploration.evaluator import Evaluator
from tinymlir.exploration.levels import (
    FRACTIONS,
    Reduction,
    skippable_layers,
    sort_by_significance,
    with_constants,
)
from tinymlir.host import HostModel
from tinymlir.kernels.convolution import Convolution
from tinymlir.pipeline import run_pipeline
from tinymlir.skipping.annotations import skippable
from tinymlir.skipping.calibration import calibrate
from tinymlir.skipping.channels import channel_significance, depthwise_channels
from tinymlir.skipping.compensation import without
from tinymlir.skipping.layerwise import Layerwise
from tinymlir.skipping.removal import damped, refitted, removal_costs
from tinymlir.skipping.selection import skipped_macs
from tinymlir.skipping.significance import significance
from tinymlir.skipping.statistics import Accumulation, flat_weights, spread, windows
from tinymlir.skipping.units import units

#: Windows with all that changes what lies under them, and numbers of groups.
LAYERS = [
    (Window((3, 3)), 1),
    (Window((3, 2), stride=(2, 1), pad=(1, 0, 2, 1)), 1),
    (Window((2, 3), dilation=(2, 1), pad=(0, 1, 1, 1)), 2),
    (Window((3, 3), stride=(1, 2), pad=(1, 1, 1, 1)), 4),
]


pytestmark = pytest.mark.usefixtures("context")


def outlined(text: str) -> ir.Module:
    module = ir.Module.parse(text)
    run_pipeline(module, "builtin.module(tiny-outline-layers)")
    return module


def layer(window: Window, groups: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], str]:
    """Inputs of a convolution, the operands (N · positions, taps, channels), and its module."""
    network = Network(5)
    x = network.input(1, 6, 7, 4)
    y = network.conv(x, 4 * groups, window, groups, pad_value=9)
    top, left, bottom, right = window.pad
    around = [(0, 0), (0, 0), (top, bottom), (left, right), (0, 0)]
    padded = np.pad(x.array, around, constant_values=9 if any(window.pad) else 0)
    taps = [patch for _, patch in window.patches(padded.astype(np.int64))]
    return x.array, np.stack(taps, -2).reshape(-1, len(taps), 4), network.text(y)


def only(module: ir.Module, number: int = 0) -> Convolution:
    return list(skippable(module.operation))[number][1]


@pytest.mark.parametrize(("window", "groups"), LAYERS)
def test_windows(window: Window, groups: int) -> None:
    samples, operands, text = layer(window, groups)
    module = outlined(text)
    seen = windows(only(module), samples)
    for number, group in enumerate(np.split(operands, groups, -1)):
        assert (seen[number] == group.reshape(len(group), -1)).all()


@pytest.mark.parametrize("channels", [8, 16])
@pytest.mark.parametrize(("window", "groups"), [*LAYERS, (LAYERS[-1][0], 8)])
def test_constants_take_no_compiler(window: Window, groups: int, channels: int) -> None:
    """Sums by products of matrices, and a layer that takes them, give what the layer gives."""
    network = Network(6)
    x = network.input(1, 6, 7, 8)
    module = outlined(network.text(network.conv(x, channels, window, groups, pad_value=9)))
    conv, layers = only(module), Layerwise(module)
    (step,), samples = layers.steps, np.concatenate([x.array, x.array[:, ::-1], -1 - x.array])
    given = layers.run(step, [samples])
    assert (layers.run(step, [samples], (conv.weights, conv.bias)) == given).all()
    assert given.any()


@pytest.mark.parametrize("granularity", ["single", "pair", "word"])
@pytest.mark.parametrize(("window", "groups"), LAYERS[:3])
def test_scores_are_what_they_say(window: Window, groups: int, granularity: str) -> None:
    samples, operands, text = layer(window, groups)
    module = outlined(text)
    conv = only(module)
    accumulation = Accumulation(conv, zero_point=-3)
    for part in np.array_split(samples, 2):
        accumulation.add(part)
    statistics = accumulation.finish()
    weights = flat_weights(conv)
    share = significance(weights, statistics, "expected-share", granularity)  # type: ignore[arg-type]
    over = significance(weights, statistics, "rms-over-std", granularity)  # type: ignore[arg-type]
    table = units(weights.shape[-1], granularity)  # type: ignore[arg-type]
    for channel in range(4 * groups):
        group, number = divmod(channel, 4)
        x = np.split(operands, groups, -1)[group].reshape(len(operands), -1) + 3.0
        products = x * weights[group, number]
        sums = products.sum(1)
        there = sums != 0
        shares = np.abs(products[there] / sums[there, None]).mean(0)
        for unit, members in enumerate(table):
            inside = members[members >= 0]
            assert share[channel, unit] == pytest.approx(shares[inside].sum())
            rms = np.sqrt((products[:, inside].sum(1) ** 2).mean())
            assert over[channel, unit] == pytest.approx(rms / sums.std())


def related(count: int) -> npt.NDArray[np.float64]:
    """A covariance of operands that say something of each other."""
    random = np.random.default_rng(4)
    mixed = random.normal(size=(200, count)) @ random.normal(size=(count, count))
    return damped(np.cov(mixed.T))


def residual(
    weights: npt.NDArray[np.float64], covariance: npt.NDArray[np.float64], gone: list[int]
) -> float:
    """Variance of what the other operands cannot make up for."""
    kept = np.setdiff1d(np.arange(len(weights)), gone)
    inverse = np.linalg.inv(covariance).astype(np.float64)
    error = weights - refitted(weights, inverse, np.isin(np.arange(len(weights)), kept))
    return float(error @ covariance @ error)


def test_removal_costs_what_least_squares_cannot_make_up() -> None:
    covariance, table = related(11), units(11, "pair")
    weights = np.random.default_rng(5).normal(size=11)
    weights[[0, 2]] = 0
    costs = removal_costs(weights, np.linalg.inv(covariance).astype(np.float64), table)
    order = np.argsort(costs, kind="stable")
    assert order[0] == 0
    assert costs[0] == 0
    gone: list[int] = []
    for unit in order:
        inside = [int(o) for o in table[unit] if o >= 0]
        gone += inside
        assert costs[unit] == pytest.approx(residual(weights, covariance, gone))
    # The first with weights is the cheapest of all.
    firsts = [residual(weights, covariance, [0, 2, *u[u >= 0]]) for u in table[1:]]
    assert costs[order[1]] == pytest.approx(min(firsts))


def test_refit_beats_leaving_out() -> None:
    covariance = related(9)
    weights = np.random.default_rng(6).normal(size=9)
    kept = np.arange(9) % 3 > 0
    plain = np.where(kept, 0, weights)
    assert residual(weights, covariance, [0, 3, 6]) < plain @ covariance @ plain


@pytest.mark.parametrize("compensation", ["bias", "weights"])
def test_means_stay(compensation: str) -> None:
    samples, _, text = layer(LAYERS[1][0], 1)
    module = outlined(text)
    conv = only(module)
    accumulation = Accumulation(conv, 0)
    accumulation.add(samples)
    skipped = np.zeros((4, flat_weights(conv).shape[-1]), bool)
    skipped[:3, 5:15] = True
    weights, bias = without(conv, accumulation.finish(), skipped, compensation)  # type: ignore[arg-type]
    x = windows(conv, samples)[0].astype(np.int64)
    before = x @ flat_weights(conv)[0].T.astype(np.int64) + conv.bias
    after = x @ weights.reshape(4, -1).T.astype(np.int64) + bias
    assert np.abs(before.mean(0) - after.mean(0)).max() <= 0.5
    assert (weights.reshape(4, -1)[skipped] == 0).all()
    assert (weights[:, 3] == conv.weights[:, 3]).all(), "a channel that keeps all is as it was"
    assert (before != after)[:, :3].any()


def test_skipped_macs_are_those_of_whole_units() -> None:
    weights = np.array([[0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], np.int8).reshape(1, 2, 1, 6, 1)
    # Pairs (0, 2), (1, 3), (4), (5): four operands of the first channel, four of the second.
    assert skipped_macs(weights, units(6, "pair"), macs=12 * 7) == (4 + 4) * 7
    assert skipped_macs(weights, units(6, "single"), macs=12 * 7) == (5 + 5) * 7


def test_every_kernel_computes_what_is_left(tmp_path: Path) -> None:
    network = Network(3)
    x = network.input(1, 8, 8, 8)
    y = network.conv(x, 12, Window((3, 3), pad=(1, 1, 1, 1)), pad_value=3)
    y = network.conv(y, 12, Window((3, 3)), groups=12)
    output = network.conv(y, 6, Window())
    np.save(tmp_path / "samples.npy", x.array[:, 0])
    module = ir.Module.parse(network.text(output))
    run_pipeline(
        module,
        f"builtin.module(tiny-outline-layers,tiny-calibrate{{data={tmp_path}/samples.npy}},"
        "tiny-significance{granularity=pair},tiny-skip-macs{fraction=0.5})",
    )
    text = str(module)
    assert text.count("tiny.skipped_macs") == 3
    models = [lower_for_host(text, core) for core in CORES]
    models.append(lower_for_host(text, CORES[-1], "tiny-unpack-kernels"))
    results = [HostModel(model)(x.array)[0] for model in models]
    assert all((result == results[0]).all() for result in results)
    assert (results[0] != output.array).any()


def test_channels_of_depthwise_layers_go(tmp_path: Path) -> None:
    """As an exploration leaves them out and as its passes do: the same narrower network."""
    network = Network(3)
    x = network.input(1, 6, 6, 4)
    y = network.conv(x, 8, Window((3, 3), pad=(1, 1, 1, 1)), pad_value=3)
    y = network.conv(y, 8, Window((3, 3), pad=(1, 1, 1, 1)), groups=8)
    output = network.conv(y, 8, Window((2, 2)))
    samples = np.random.default_rng(1).integers(-128, 128, (40, 1, 6, 6, 4)).astype(np.int8)
    np.save(tmp_path / "samples.npy", samples[:, 0])
    text = network.text(output)
    module = outlined(text)
    statistics = calibrate(module, [samples])
    assert sort_by_significance(module, "impact", [samples], statistics)
    statistics = calibrate(module, [samples])
    ordered, layers = str(module), Layerwise(module)
    found = skippable_layers(
        module, lambda conv: conv.groups == 1, statistics, "impact", "pair", layers, [samples]
    )
    assert [layer.unit for layer in found] == ["pair", "channel", "pair"]
    convs = {layer.name.value: conv for layer, conv in skippable(module.operation)}
    reduction = Reduction(found, convs, statistics, "sequence", layers, [samples])
    levels = {"layer1": FRACTIONS.index(0.5), "layer2": FRACTIONS.index(0.25)}
    assert reduction.gone(levels)["layer0"].all(1).tolist() == [False] * 4 + [True] * 4
    narrow = with_constants(ordered, reduction(levels), {})
    shapes = [conv.weights.shape for _, conv in skippable(narrow.operation)]
    assert shapes == [(1, 4, 3, 3, 4), (4, 1, 3, 3, 1), (1, 8, 2, 2, 4)]

    data = f"data={tmp_path}/samples.npy"
    scored = f"tiny-calibrate{{{data}}},tiny-significance{{granularity=pair score=impact {data}}}"
    skip = f"per-layer=layer1:0.5,layer2:0.25 compensate=sequence {data}"
    passes = (
        f"tiny-outline-layers,{scored},tiny-sort-channels,{scored},"
        f"tiny-skip-macs{{{skip}}},tiny-drop-channels"
    )
    replayed = ir.Module.parse(text)
    run_pipeline(replayed, f"builtin.module({passes})")
    for (_, ours), (_, theirs) in zip(
        skippable(narrow.operation), skippable(replayed.operation), strict=True
    ):
        assert (ours.weights == theirs.weights).all() and (ours.bias == theirs.bias).all()
    expected = Evaluator(layers, reduction)([samples], levels)
    result = HostModel(lower_for_host(str(narrow), CORES[-1]))(samples)[0]
    assert (result.reshape(40, -1) == expected).all()


def test_channels_cost_what_their_readers_lose() -> None:
    network = Network(6)
    x = network.input(1, 9, 9, 3)
    y = network.conv(x, 6, Window((3, 3)))
    y = network.conv(y, 6, Window((3, 3)), groups=6)
    module = outlined(network.text(network.conv(y, 5, Window((2, 2)))))
    statistics = calibrate(module, [x.array])
    channels = depthwise_channels(module.operation)["layer1"]
    convs = {layer.name.value: conv for layer, conv in skippable(module.operation)}
    costs = channel_significance(channels, convs, statistics, {})[:, 0]
    weights, covariance = flat_weights(convs["layer2"])[0], statistics["layer2"].covariance[0]
    variance = statistics["layer2"].output_variance(weights[None].astype(np.float64))
    gone: list[int] = []
    for channel in np.argsort(costs):
        gone += [tap * 6 + int(channel) for tap in range(4)]
        # Small weights come to no bound.
        lost = [residual(w / 16, damped(covariance), gone) * 256 for w in weights]
        assert costs[channel] ** 2 == pytest.approx((lost / variance).sum())


def test_positions_of_large_images_are_spread() -> None:
    """A sample of them has the moments of all, as near as sampling brings it."""
    network = Network(8)
    x = network.input(1, 40, 40, 3)
    y = network.conv(x, 4, Window((3, 3)))
    conv = only(outlined(network.text(y)))
    accumulation = Accumulation(conv, 0)
    accumulation.add(x.array)
    assert accumulation.count == len(x.array) * 256
    every = windows(conv, x.array)[0].astype(np.float64)
    statistics = accumulation.finish()
    spread = np.sqrt(np.diagonal(statistics.covariance[0]) / accumulation.count)
    assert (np.abs(statistics.mean[0] - every.mean(0)) < 5 * spread).all()


def test_positions_prefer_no_column() -> None:
    """Evenly spaced along the rows, 17 of 1024 would all lie on a border."""
    network = Network(8)
    y = network.conv(network.input(1, 32, 32, 1), 1, Window())
    conv = only(outlined(network.text(network.conv(y, 1, Window((3, 3), pad=(1, 1, 1, 1))))), 1)
    columns = np.concatenate([spread(conv, 17, first) % 32 for first in range(0, 170, 17)])
    assert np.bincount(columns, minlength=32).max() <= 2 * len(columns) / 32
