"""Several levels of a network in one object, on simulated cores against this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from networks import Network, Window
from simulated import BOTH

from tinymlir import artifact
from tinymlir.bindings import ir
from tinymlir.codegen import generate
from tinymlir.compiler import Compilation, pin_kernels
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.fitting import generate_within
from tinymlir.host import compile_for_host
from tinymlir.kernels.convolution import replace_constants
from tinymlir.kernels.selection import Aim
from tinymlir.levels import levels_pipeline, lower_levels
from tinymlir.pipeline import run_pipeline
from tinymlir.pipelines import Selection
from tinymlir.simulators import Simulation, simulate
from tinymlir.simulators.elf import read_elf
from tinymlir.simulators.image import Entry
from tinymlir.skipping.annotations import skippable
from tinymlir.targets import get_target

SAMPLES = 5
Bytes = npt.NDArray[np.int8]
Lower = Callable[..., Compilation]


def network() -> str:
    made = Network(5)
    x = made.input(1, 6, 6, 4)
    y = made.conv(x, 8, Window((3, 3), pad=(1, 1, 1, 1)), pad_value=3)
    y = made.conv(y, 8, Window((3, 3)))
    return made.text(made.dense(made.reshape(y, [1, 128]), 4))


@dataclass(frozen=True)
class Levels:
    """A network with nothing, some and most of its products, in one object."""

    compilation: Compilation
    report: dict[str, Any]
    object: bytes
    samples: Bytes
    expected: list[Bytes]


@pytest.fixture(scope="module")
def lower() -> Iterator[Lower]:
    """Compiles levels of which the second layer, or two layers, skip half of their products.

    Each output channel leaves out every other input channel, and the next one the others: all are
    read, so none is dropped.
    """
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        exact = ir.Module.parse(network())
        run_pipeline(exact, "builtin.module(tiny-outline-layers)")

        def skipped(*which: int) -> ir.Module:
            module = ir.Module.parse(str(exact))
            for number, (_, conv) in enumerate(skippable(module.operation)):
                if number in which:
                    weights = conv.weights.copy()
                    weights[:, ::2, ..., ::2] = 0
                    weights[:, 1::2, ..., 1::2] = 0
                    replace_constants(conv, weights, conv.bias)
            return module

        made = [skipped(), skipped(1), skipped(0, 1)]

        def lower(core: str, **options: Any) -> Compilation:
            with context, ir.Location.unknown():
                return lower_levels(made, get_target(core), "net", **options)

        lower.expected = lambda samples: [  # type: ignore[attr-defined]
            compile_for_host(ir.Module.parse(str(module)))(samples)[0] for module in made
        ]
        yield lower


@pytest.fixture(scope="module", params=["cortex-m4", "rv32imc"])
def levels(request: pytest.FixtureRequest, lower: Lower) -> Levels:
    compilation = lower(request.param)
    code = generate(compilation.module, compilation.target)
    report = artifact.report(compilation, code, {})
    samples = np.random.default_rng(1).integers(-128, 128, (SAMPLES, 1, 6, 6, 4)).astype(np.int8)
    with compilation.module.context, ir.Location.unknown():
        expected = lower.expected(samples)  # type: ignore[attr-defined]
    return Levels(compilation, report, code.object, samples, expected)


def leads(scores: Bytes) -> npt.NDArray[np.int64]:
    ordered = np.sort(scores.reshape(len(scores), -1).astype(int), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def test_what_levels_share_is_there_once(levels: Levels) -> None:
    parts = levels.report["levels"]
    used = [[layer["symbol"] for layer in part["layers"]] for part in parts]
    assert used[0] == ["net_layer0", "net_layer1", "net_layer2"]
    assert used[1] == ["net_layer0", "net_level1_layer1", "net_layer2"]
    assert used[2] == ["net_level2_layer0", "net_level1_layer1", "net_layer2"]
    functions = [s.name for s in read_elf(levels.object).symbols if s.function]
    assert len(functions) == len(set(functions))
    assert {symbol for symbols in used for symbol in symbols} <= set(functions)
    own = [part["own_flash_bytes"] for part in parts]
    assert all(bytes_ > 0 for bytes_ in own)
    for part in parts:
        inside = sum(la["code_bytes"] + la["constant_bytes"] for la in part["layers"])
        assert inside < part["flash_bytes"] < levels.report["flash_bytes"]
    assert sum(own) + levels.report["shared_flash_bytes"] == levels.report["flash_bytes"]
    dense = levels.report["layers"][2]
    assert levels.report["shared_flash_bytes"] > dense["code_bytes"] + dense["constant_bytes"]
    assert levels.report["arena_bytes"] == max(part["arena_bytes"] for part in parts)


def run(levels: Levels, entry: Entry, simulator: str = "unicorn") -> Simulation:
    return simulate(levels.report, levels.object, [levels.samples], simulator, entry=entry)


def test_each_level_is_what_the_host_computes(levels: Levels) -> None:
    for level, expected in enumerate(levels.expected):
        done = run(levels, Entry(level))
        assert (done.outputs[0] == expected).all() and done.levels is None


@pytest.mark.parametrize("simulator", BOTH)
def test_gated_is_exact_where_scores_are_close(levels: Levels, simulator: str) -> None:
    close = leads(levels.expected[2])
    margin = int(np.median(close)) + 1
    again = close < margin
    assert again.any() and not again.all()
    done = run(levels, Entry(2, margin), simulator)
    assert done.levels is not None
    assert (done.levels == np.where(again, 0, 2)).all()
    exact, fast = (levels.expected[k].reshape(SAMPLES, -1) for k in (0, 2))
    assert (done.outputs[0].reshape(SAMPLES, -1) == np.where(again[:, None], exact, fast)).all()


def test_a_gate_costs_what_it_runs(levels: Levels) -> None:
    def cost(*entry: int) -> int:
        done = run(levels, Entry(*entry))
        assert len(done.counts.layers) == len(Entry(*entry).layers(levels.report))
        return done.counts.total.instructions

    exact, fast, checked, both = cost(0), cost(2), cost(2, 0), cost(2, 256)
    assert fast < checked < fast + 200
    assert exact + fast < both < exact + checked + 50
    # What is exact is not run again.
    assert cost(0, 256) < exact + 200


SOURCE = """
#include "net.h"
typedef char levels_are[NET_LEVELS == 3 ? 1 : -1];
typedef char margin_is[NET_LEVEL1_MARGIN == 7 ? 1 : -1];
int use(int8_t *scores);
int use(int8_t *scores) {
  static const int8_t image[NET_INPUT_BYTES] = {0};
  levels_are a = {0}; margin_is b = {0};
  return classify(image, scores, a[0]) + b[0];
}
"""


@pytest.mark.parametrize("language", ["c", "c++"])
def test_header(levels: Levels, language: str, tmp_path: Path, root: Path) -> None:
    """With what the documentation does with it, which declares it twice."""
    page = (root / "docs/skipping.md").read_text()
    (shown,) = re.findall(r"```c\n(.*?)```", page, re.S)
    declared = "int classify(const int8_t *image, int8_t *scores, int hurry);\n"
    report = json.loads(json.dumps(levels.report))
    report["levels"][1] |= {"name": "1%", "gate": {"promised": 0.99, "margin": 7}}
    code = generate(levels.compilation.module, levels.compilation.target)
    artifact.write(tmp_path, levels.compilation, code, report, ("obj",))
    (tmp_path / f"use.{language}").write_text(f'#include "net.h"\n{declared}{shown}{SOURCE}')
    standard = {"c": "-std=c99", "c++": "-std=c++98"}[language]
    target = levels.compilation.target
    compiler = [sys.executable, "-m", "ziglang", "cc", "-x", language, standard]
    flags = ["-target", str(target.zig_target), "-Wall", "-Wextra", "-Werror", "-Wpedantic"]
    command = [*compiler, *flags, "-c", str(tmp_path / f"use.{language}")]
    subprocess.run([*command, "-o", str(tmp_path / "use.o")], check=True)


def test_levels_of_vectors_look_closer_near_ties() -> None:
    """Lanes go both ways of a branch: they find the function that it calls in their own level."""
    target = get_target("rv32imc_zve32x")
    pipeline = levels_pipeline(target, "net", gated=False)
    fitted = "tiny-fit-requantize{lanes=true},"
    assert fitted in pipeline
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(f"module {{ {network()} }} module {{ {network()} }}")
        run_pipeline(module, pipeline.replace(fitted, ""))
        assert "round_near_tie" in str(module)


def test_levels_fit_the_flash(lower: Lower) -> None:
    """As one level does: the least is named, and enough."""

    def flash(aim: Aim, budget: int | None) -> int:
        compilation, code = generate_within(
            lambda selection: lower("cortex-m4", selection=selection), Selection(aim, budget)
        )
        kernels = [[layer.kernel for layer in level.layers] for level in compilation.levels]
        assert kernels[0][2] == kernels[1][2] == kernels[2][2]
        return int(artifact.report(compilation, code, {})["flash_bytes"])

    with pytest.raises(TinymlirError, match="--max-flash") as refused:
        flash("size", 100)
    least = int(str(refused.value).split()[-1])
    assert flash("size", least) == least
    roomy = flash("speed", None)
    assert least < flash("speed", roomy - 1) < roomy


def test_pipeline_is_what_runs(lower: Lower) -> None:
    """The levels' modules and the pipeline that is shown give the same IR."""
    compilation = lower("cortex-m4")
    with compilation.module.context, ir.Location.unknown():
        module = ir.Module.parse(compilation.stages["linalg"])
        run_pipeline(module, levels_pipeline(compilation.target, "net"))
    assert str(module) == compilation.stages["llvm"]


def test_kernels_of_layers_that_are_functions() -> None:
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(network())
        run_pipeline(module, "builtin.module(tiny-outline-layers)")
        layer, _ = next(iter(skippable(module.operation)))
        attributes = layer.operation.attributes
        pin_kernels(module, {attributes["tiny.layer"].value: "direct"}, "net.mlir")
        assert attributes["tiny.kernel"].value == "direct"
        with pytest.raises(TinymlirError, match="has no layer 'nowhere' to give a kernel"):
            pin_kernels(module, {"nowhere": "direct"}, "net.mlir")
