"""Kernels chosen by their prices: the choice itself, and the prices."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, lower, lower_for_host

from tinymlir.artifact import report
from tinymlir.bindings import ir
from tinymlir.codegen import generate
from tinymlir.dialects import register
from tinymlir.host import HostModel
from tinymlir.kernels.price import Price, line, loop
from tinymlir.kernels.selection import choose
from tinymlir.passes.tiny_select_kernels import layer_candidates
from tinymlir.pipeline import run_pipeline
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

prices = st.builds(Price, st.just(0), st.integers(0, 60), st.integers(0, 40).map(lambda w: 4 * w))


@settings(deadline=None, derandomize=True)
@given(st.lists(st.lists(prices, min_size=1, max_size=4), max_size=4), st.integers(0, 500))
def test_speed_within_flash_is_the_best_of_all(layers: list[list[Price]], room: int) -> None:
    chosen = choose(layers, "speed", room)
    taken = [layer[i] for layer, i in zip(layers, chosen, strict=True)]
    sets = list(itertools.product(*layers))
    flash = [sum(p.flash_bytes for p in s) for s in sets]
    fitting = [s for s, bytes_ in zip(sets, flash, strict=True) if bytes_ <= room]
    if fitting:
        assert sum(p.flash_bytes for p in taken) <= room
        assert sum(p.cycles for p in taken) == min(sum(p.cycles for p in s) for s in fitting)
    else:
        assert sum(p.flash_bytes for p in taken) == min(flash)


def test_balance_spends_flash_on_what_takes_long() -> None:
    """The same bytes for the same share of a layer: worth it in the long one alone."""
    long = [Price(0, 1_000_000, 1000), Price(0, 900_000, 1100)]
    short = [Price(0, 1000, 1000), Price(0, 900, 1100)]
    assert choose([long, short], "balanced") == [1, 0]
    assert choose([long, short], "speed") == [1, 1]
    assert choose([long, short], "size") == [0, 0]


def test_balance_keeps_to_the_room_where_that_costs_little() -> None:
    """One percent of speed for four of flash: in the room, but not where no room would do."""
    layer = [Price(0, 1000, 1000), Price(0, 990, 1040), Price(0, 980, 1080)]
    chosen = [choose([layer], "balanced", room=room) for room in (2000, 1050, 900)]
    assert chosen == [[2], [1], [0]]


def test_functions_that_layers_share_are_paid_for_once() -> None:
    own, shared = Price(0, 1000, 1300), Price(0, 1000, 1900, shared={"f": 900})
    # 1300 bytes a layer, or 1000 and 900 once.
    assert [choose([[own, shared]] * n, "size") for n in (1, 2, 4)] == [[0], [0, 0], [1] * 4]
    fast = Price(0, 900, 3000, shared={"g": 1900})
    room = 4 * 1000 + 900
    assert choose([[own, shared, fast]] * 4, "speed", room) == [1] * 4
    assert choose([[own, shared, fast]] * 4, "speed", 4 * 1100 + 1900) == [2] * 4


def test_functions_may_take_the_place_of_others() -> None:
    """Where one function coming or going is worse, as good as the best of all sets of them."""
    draw = np.random.default_rng(1)
    for _ in range(40):
        sizes = {name: 4 * int(draw.integers(1, 60)) for name in "fghij"}
        layers = []
        for _ in range(5):
            own, calls = draw.integers(1, 30, 3), draw.random((3, len(sizes))) < 0.4
            shared = [{n: sizes[n] for n, c in zip(sizes, row, strict=True) if c} for row in calls]
            flash = [4 * int(o) + sum(s.values()) for o, s in zip(own, shared, strict=True)]
            layers.append([Price(0, 1, f, shared=s) for f, s in zip(flash, shared, strict=True)])

        def size(picked: Sequence[Price]) -> int:
            called = {name: size for price in picked for name, size in price.shared.items()}
            own = sum(price.flash_bytes - sum(price.shared.values()) for price in picked)
            return own + sum(called.values())

        chosen = [layer[i] for layer, i in zip(layers, choose(layers, "size"), strict=True)]
        assert size(chosen) == min(map(size, itertools.product(*layers)))


def test_a_loop_runs_often_and_lies_in_flash_once() -> None:
    body = line(load=3, mac=2)
    mix = loop(body, 10, unroll=4)
    # Two turns of four, and two trips after them.
    assert (mix.runs["mac"], mix.runs["load"], mix.runs["load_next"]) == (20, 10, 20)
    assert (mix.runs["branch"], mix.code["branch"], mix.code["mac"]) == (2, 1, 12)
    assert loop(body, 1).runs == body.runs and not loop(body, 0).runs.get("mac")


def _candidates(text: str, core: str) -> list[str]:
    """The kernels of the last layer, in the order of their prices."""
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(text)
        run_pipeline(module, "builtin.module(tiny-outline-layers,tiny-fit-requantize)")
        _, kernels = layer_candidates(module.operation, get_target(core))[-1]
        priced = sorted(kernels, key=lambda kernel: kernel.price().instructions)
        return [kernel.label for kernel in priced]


def _forced(text: str, y: Value, kernel: str) -> str:
    """The network whose last layer is computed by ``kernel``."""
    before, _, after = text.rpartition("{tiny.layer")
    return f'{before}{{tiny.kernel = "{kernel}", tiny.layer{after}'


SHAPES = st.tuples(*[st.integers(1, most) for most in (7, 7, 7, 9, 3, 2)])


@settings(max_examples=6, deadline=None, derandomize=True)
@given(SHAPES, st.booleans(), st.integers(0, 99))
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m3", "rv32imc_xcv"])
def test_every_candidate_computes_the_same(
    core: str, shape: tuple[int, int, int, int, int, int], depthwise: bool, seed: int
) -> None:
    height, width, depth, channels, size, stride = shape
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth))
    window = Window((size, size), (stride, stride), pad=(size - 1, 0, size - 1, size - 1))
    groups = depth if depthwise else 1
    y = network.conv(x, depth if depthwise else channels, window, groups, pad_value=seed)
    text = network.text(y)
    for kernel in _candidates(text, core):
        model = HostModel(lower_for_host(_forced(text, y, kernel), get_target(core)))
        assert (model(x.array ^ -1)[0] == y.array).all(), kernel
        assert model.compilation.layers[-1].kernel == kernel


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m3", "rv32imc"])
@pytest.mark.parametrize(
    ("shape", "channels", "window", "groups"),
    [
        ((8, 8, 16), 16, Window((3, 3), pad=(1, 1, 1, 1)), 1),
        ((9, 6, 24), 12, Window(), 1),
        ((9, 9, 8), 8, Window((3, 3), pad=(1, 1, 1, 1)), 8),
    ],
)
def test_the_cheapest_by_price_is_the_fastest_on_the_core(
    shape: tuple[int, int, int], channels: int, window: Window, groups: int, core: str
) -> None:
    """And others are in the order of their prices, where these are a fifth apart."""
    network = Network(1)
    y = network.conv(network.input(1, *shape), channels, window, groups, pad_value=3)
    text, target = network.text(y), get_target(core)
    found: list[tuple[int, int]] = []
    first, *others = _candidates(text, core)
    # Of those that differ in how far loops are unrolled, every other one.
    for kernel in (first, *others[::2]):
        compilation = lower(_forced(text, y, kernel), target)
        code = generate(compilation.module, target)
        sample = [v.array[0] for v in network.inputs]
        run = simulate(report(compilation, code, {}), code.object, sample)
        assert (run.outputs[0] == y.array[0]).all()
        layer = compilation.layers[-1]
        assert layer.price is not None
        found.append((layer.price.instructions, run.counts.layers[-1].instructions))
    assert len(found) > 1
    for (price, taken), (other, more) in itertools.permutations(found, 2):
        assert taken < more or 1.2 * price > other
    least = min(taken for _, taken in found)
    assert min(found)[1] <= 1.1 * least


def test_flash_is_kept_exactly(
    tinymlir: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Between the smallest and the fastest; kernels of a report are what another one gets."""
    network, model = Network(3), tmp_path / "net.mlir"
    x = network.conv(network.input(1, 9, 8, 4), 8, Window((3, 3), pad=(1, 1, 1, 1)))
    x = network.conv(x, 8, Window((3, 3), pad=(1, 1, 1, 1)), groups=8)
    model.write_text(network.text(network.conv(x, 12, Window())))

    def compiled(*options: str) -> dict[str, object]:
        done = tinymlir("compile", model, "-o", tmp_path, "--json", *options)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    small, fast = (compiled("--optimize", aim)["flash_bytes"] for aim in ("size", "speed"))
    assert isinstance(small, int) and isinstance(fast, int) and small < fast
    limit = (small + fast) // 2
    between = compiled("--max-flash", str(limit))
    assert small <= int(np.asarray(between["flash_bytes"])) <= limit
    done = tinymlir("compile", model, "-o", tmp_path / "none", "--max-flash", str(small - 1))
    assert done.returncode == 1 and f"--max-flash {small}" in done.stderr
    assert not (tmp_path / "none").exists()
    kernels = tmp_path / "kernels.json"
    kernels.write_text(json.dumps(between))
    again = compiled("--kernels", str(kernels), "--optimize", "size")
    assert again["layers"] == between["layers"]
