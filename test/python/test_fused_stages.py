"""Networks that run row by row: the same outputs, in the memory that is planned."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from networks import HOST, Network, Value, Window, lower

from tinymlir import compiler
from tinymlir.artifact import report
from tinymlir.codegen import generate
from tinymlir.compiler import Compilation, facts
from tinymlir.fusion.costs import Stage, strip_counts
from tinymlir.fusion.planner import Planner
from tinymlir.fusion.setting import DEFAULT_SCHEMES, Block, InputMode, to_json
from tinymlir.host import HostModel
from tinymlir.pipelines import (
    BALANCED,
    Fusion,
    to_arena,
)
from tinymlir.simulators import simulate
from tinymlir.targets import Target, get_target
from tinymlir.tools.main import main
from tinymlir.tools.plan import load_graph

#: from making nothing twice to the least memory
OVERHEADS = (1.0, 1.4, 9.0)
SAME = (1, 1, 1, 1)


def blocks(seed: int) -> tuple[Network, Value]:
    """Borders, strides, residual sums, joined channels, pooling over all rows, in odd sizes."""
    network = Network(seed)
    height, width = network.random.integers(9, 15, 2)
    x = network.input(1, int(height), int(width), 3)
    x = network.conv(x, 6, Window((3, 3), (2, 2), pad=SAME), pad_value=-7)
    wide = network.conv(x, 9, Window())
    deep = network.conv(wide, 9, Window((3, 3), pad=SAME), groups=9, pad_value=5)
    y = network.add(network.conv(deep, 6, Window()), x)
    z = network.conv(y, 5, Window((1, 3), pad=(0, 1, 0, 1)), pad_value=2)
    both = network.concat([y, z], 3)
    deep = network.conv(both, 11, Window((5, 5), (1, 1), pad=(2, 2, 2, 2)), groups=11)
    pooled = network.pool(deep, Window((2, 2), (2, 2)), "max")
    last = network.conv(pooled, 7, Window((3, 3), pad=SAME), pad_value=-1)
    return network, network.conv(last, 8, Window())


def fused(
    text: str, core: Target, fusion: Fusion | None, monkeypatch: pytest.MonkeyPatch
) -> Compilation:
    """Compiled for this machine with the plan and the kernels of ``core``."""
    passes = to_arena(core, BALANCED, fusion)
    arithmetic = tuple(e for e in HOST.extensions if core.has(e))
    host = dataclasses.replace(HOST, extensions=arithmetic, vector_bits=core.vector_bits)
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "to_arena", lambda *_: passes)
        return lower(text, host)


@pytest.mark.parametrize(
    ("seed", "name"),
    [
        (0, "cortex-m4"),
        (1, "cortex-m0"),
        (0, "rv32imc_xcv"),
        (1, "rv32imc"),
    ],
)
def test_rows_over_rings_give_the_same(
    seed: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = get_target(name)
    network, result = blocks(seed)
    arrays = [value.array for value in network.inputs]
    alone = fused(network.text(result), core, None, monkeypatch)
    arenas = [alone.arena_bytes]
    for overhead in OVERHEADS:
        compilation = fused(network.text(result), core, Fusion(max_overhead=overhead), monkeypatch)
        (given,) = HostModel(compilation)(*arrays)
        assert (given == result.array).all(), (overhead, core.name)
        assert facts(compilation)["overhead"] <= overhead
        arenas.append(compilation.arena_bytes)
    assert arenas == sorted(arenas, reverse=True)
    assert arenas[1] < arenas[0]


@pytest.mark.parametrize("overhead", OVERHEADS)
def test_arena_and_macs_are_those_of_the_plan(
    overhead: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, result = blocks(3)
    model = tmp_path / "blocks.mlir"
    model.write_text(network.text(result))
    limit = ["--max-overhead", str(overhead)]
    assert main(["plan", str(model), *limit, "--json", "-o", str(tmp_path / "plan.json")]) == 0
    planned = json.loads((tmp_path / "plan.json").read_text())["predicted"]
    capsys.readouterr()
    for how in (limit, ["--plan", str(tmp_path / "plan.json")]):
        command = ["compile", str(model), "-o", str(tmp_path / "out"), *how, "--json"]
        assert main(command) == 0
        written = json.loads(capsys.readouterr().out)
        assert written["arena_bytes"] == planned["arena_bytes"]
        assert written["overhead"] == planned["macs"] / written["macs"]


@pytest.mark.parametrize(("core", "every"), [("cortex-m4", 1), ("cortex-m0", 2)])
def test_strips_keep_columns(core: str, every: int, tmp_path: Path) -> None:
    """Of all tensors that two strips need, or of every other one: less is made, and the same."""
    network, result = blocks(6)
    target, model, plan = get_target(core), tmp_path / "blocks.mlir", tmp_path / "plan.json"
    model.write_text(network.text(result))
    graph = load_graph(model, target)
    planner, last = Planner(graph, "external"), len(graph.layers) - 1
    strips = strip_counts(graph.tensors[-1].columns)[-1]
    stage = Stage(graph, last, [strips], cached=range(last))
    while stage.grow():
        pass
    useful = [p for p in range(stage.first, last) if p not in stage.needless_caches()]
    assert len(useful) > 3
    cached = tuple(useful[::every])
    alone = [Block(p, p, 0) for p in range(stage.first)]
    again = planner.price([*alone, Block(stage.first, last, strips)])
    setting = planner.price([*alone, Block(stage.first, last, strips, cached=cached)])
    assert setting.macs < again.macs
    plan.write_text(json.dumps(to_json(graph, "external", setting)))
    compilation = lower(network.text(result), target, fusion=Fusion(plan=str(plan)))
    code = generate(compilation.module, target)
    summary = report(compilation, code, {})
    assert summary["arena_bytes"] == setting.bytes
    assert summary["overhead"] == setting.macs / graph.macs
    run = simulate(summary, code.object, [value.array[0] for value in network.inputs])
    assert (np.asarray(run.outputs[0]).ravel() == result.array[0].ravel()).all()


@pytest.mark.parametrize("core", ["cortex-m55", "rv32imc_zve32x"])
def test_rows_of_operands_are_vectors_and_a_rest(
    core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """35 operands a row, of which Helium multiplies 16 at once; 11 channels, 8 of them in lanes."""
    network = Network(3)
    image = network.conv(network.input(1, 9, 7, 5), 5, Window())
    result = network.dense(network.reshape(image, [1, image.array[0].size]), 11)
    fusion = Fusion(input="streamed")
    compilation = fused(network.text(result), get_target(core), fusion, monkeypatch)
    assert compilation.layers[-1].kernel == "dense-rows"
    (given,) = HostModel(compilation)(*(value.array for value in network.inputs))
    assert (given.reshape(result.array.shape) == result.array).all()


def test_a_layer_by_itself_may_be_lean(tmp_path: Path) -> None:
    """It takes the kernel of the least work space, here none, and the plan says so."""
    network, target = Network(2), get_target("cortex-m4")
    result = network.conv(network.input(1, 6, 6, 16), 8, Window((3, 3), pad=SAME))
    model, plan = tmp_path / "conv.mlir", tmp_path / "plan.json"
    model.write_text(network.text(result))
    graph = load_graph(model, target)
    (layer,), planner = graph.layers, Planner(graph, "external", (*DEFAULT_SCHEMES, "lean"))
    assert planner.vanilla().bytes == layer.scratch_bytes > 0
    _, setting = planner.best(planner.io_bytes, None)
    assert setting == planner.price([Block(0, 0, 0, lean=True)]) and setting.bytes == 0
    plan.write_text(json.dumps(to_json(graph, "external", setting)))
    compilation = lower(network.text(result), target, fusion=Fusion(plan=str(plan)))
    assert (compilation.layers[0].kernel, compilation.arena_bytes) == ("direct", 0)
    code = generate(compilation.module, target)
    run = simulate(report(compilation, code, {}), code.object, [network.inputs[0].array[0]])
    assert (run.outputs[0] == result.array[0]).all()


def test_rows_arrive_without_the_columns_that_nothing_needs() -> None:
    network = Network(1)
    x = network.input(1, 11, 16, 3)
    x = network.conv(x, 4, Window((3, 3), (2, 2), pad=(0, 1, 1, 0)))
    result = network.pool(x, Window((3, 3), (2, 2)), "max")
    target = get_target("cortex-m4")
    compilation = lower(network.text(result), target, fusion=Fusion(input="streamed"))
    code, summary = generate(compilation.module, target), facts(compilation)
    assert summary["overhead"] < 1
    run = simulate(report(compilation, code, {}), code.object, [network.inputs[0].array[0]])
    assert (np.asarray(run.outputs[0]).ravel() == result.array[0].ravel()).all()


def test_a_stage_reads_what_is_no_image_as_one(tmp_path: Path) -> None:
    network = Network(2)
    x = network.conv(network.input(1, 8, 12, 2), 16, Window((3, 3), pad=SAME))
    parts = network.negate(network.reshape(x, (8, 12, 2, 8)))
    y = network.conv(network.reshape(parts, (1, 16, 12, 8)), 12, Window((3, 3), pad=SAME))
    result = network.conv(y, 3, Window((3, 3), pad=SAME))
    model = tmp_path / "parts.mlir"
    model.write_text(network.text(result))
    target = get_target("cortex-m4")
    (least, *_) = Planner(load_graph(model, target), "external").front
    assert least.blocks[-1].first == 2 and least.blocks[-1].strips
    compilation = lower(network.text(result), target, fusion=Fusion(max_overhead=9.0))
    code = generate(compilation.module, target)
    run = simulate(report(compilation, code, {}), code.object, [network.inputs[0].array[0]])
    assert compilation.arena_bytes == least.bytes
    assert (np.asarray(run.outputs[0]).ravel() == result.array[0].ravel()).all()


@pytest.mark.parametrize("rows", [24000, 70000])
def test_long_series(rows: int) -> None:
    """More rows than a halfword tells apart: steps of the one, counters of the other."""
    network = Network(1)
    x = network.input(1, rows, 1, 1)
    for kernel, stride in ((3, 2 if rows < 1 << 16 else 1), (5, 2)):
        pad = (kernel // 2, 0, kernel // 2, 0)
        x = network.conv(x, 1, Window((kernel, 1), (stride, 1), pad=pad))
    target = get_target("cortex-m4")
    mode: InputMode = "streamed" if rows < 1 << 16 else "external"
    compilation = lower(network.text(x), target, fusion=Fusion(input=mode))
    code = generate(compilation.module, target)
    run = simulate(report(compilation, code, {}), code.object, [network.inputs[0].array[0]])
    assert (np.asarray(run.outputs[0]).ravel() == x.array[0].ravel()).all()


def test_layers_stay_alone_where_they_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, result = blocks(4)
    model = tmp_path / "blocks.mlir"
    model.write_text(network.text(result))
    arenas = []
    for options in ([], ["--max-ram", "1M"]):
        assert main(["compile", str(model), "-o", str(tmp_path / "out"), "--json", *options]) == 0
        arenas.append(json.loads(capsys.readouterr().out)["arena_bytes"])
    assert arenas[0] == arenas[1]


def test_ram_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The least that is named is enough, and no byte less is; nothing is written then."""
    network, result = blocks(5)
    model, out = tmp_path / "blocks.mlir", tmp_path / "out"
    model.write_text(network.text(result))
    command = ["compile", str(model), "-o", str(out), "--json", "--max-ram"]
    assert main([*command, "10"]) == 1
    found = re.search(r"needs (\d+) bytes of RAM at the least", capsys.readouterr().err)
    assert found is not None
    least = int(found[1])
    assert main([*command, str(least - 1)]) == 1
    assert not out.exists()
    capsys.readouterr()
    assert main([*command, str(least)]) == 0
    assert json.loads(capsys.readouterr().out)["ram_bytes"] == least
