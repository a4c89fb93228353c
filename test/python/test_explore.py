"""``tinymlir explore`` and ``compile --max-accuracy-drop``."""

from __future__ import annotations

import argparse
import html.parser
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import Network, Window

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.exploration import memory
from tinymlir.exploration.cluster import Cluster
from tinymlir.exploration.confidence import (
    drop_interval,
    most_drop,
    most_mean,
    paired_drop,
    samples_for,
    share_interval,
    wilson,
)
from tinymlir.exploration.data import Files, Part, load_data, require_knowledge
from tinymlir.exploration.gate import leads
from tinymlir.exploration.guide import Guide, doubt
from tinymlir.exploration.losses import Loss, measure_loss, scores_shape
from tinymlir.exploration.memory import Memory
from tinymlir.exploration.prices import Prices
from tinymlir.exploration.result import Exploration, faster
from tinymlir.exploration.search import Evaluated, Promise, confirm, front, search
from tinymlir.exploration.study import Settings, Study, require_samples
from tinymlir.host import compile_for_host
from tinymlir.network import TensorInfo
from tinymlir.pipeline import run_pipeline
from tinymlir.simulators import simulate
from tinymlir.targets import get_target
from tinymlir.tools import explore
from tinymlir.tools import main as tinymlir_main
from tinymlir.tools.arguments import share

SAMPLES = 260


def losing(loss: float, most: float | None = None, least: float = 0, samples: int = 1000) -> Loss:
    """What is measured of a network that loses so much, and at most ``most``."""
    return Loss(1 - loss, loss, loss, loss if most is None else most, least, samples)


def candidate(number: int, loss: float, instructions: float) -> Evaluated:
    return Evaluated((number,), losing(loss), loss, instructions)


HOPELESS = Promise((9,), 0.4, losing(0.3, 0.4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, and samples of which the first output channel is mostly the label."""
    folder = tmp_path_factory.mktemp("explore")
    network = Network(3)
    x = network.input(1, 6, 6, 4)
    y = network.conv(x, 8, Window((3, 3), pad=(1, 1, 1, 1)), pad_value=3)
    y = network.conv(y, 8, Window((3, 3)))
    scores = network.dense(network.reshape(y, [1, 128]), 4)
    (folder / "net.mlir").write_text(network.text(scores))
    random = np.random.default_rng(1)
    samples = random.integers(-128, 128, (SAMPLES, 6, 6, 4)).astype(np.int8)
    host = compile_for_host(folder / "net.mlir")
    labels = host(samples[:, None])[0].reshape(SAMPLES, -1).argmax(1)
    wrong = random.random(SAMPLES) < 0.1
    np.savez(folder / "data.npz", x=samples, y=np.where(wrong, (labels + 1) % 4, labels))
    return folder


def explored(folder: Path, directory: Path | None, **settings: Any) -> tuple[Study, Exploration]:
    study = Study(
        folder / "net.mlir",
        "net",
        get_target("cortex-m4"),
        Settings(trials=10, **settings),
        Files(folder / "data.npz"),
        directory,
    )
    return study, study.run()


@pytest.fixture(scope="module")
def found(folder: Path) -> Iterator[tuple[Study, Exploration]]:
    yield explored(folder, folder / "explored")


def test_front_is_measured_and_bit_exact(found: tuple[Study, Exploration]) -> None:
    """A point is what its pipeline makes, on the simulated core as on this machine."""
    study, result = found
    fastest = result.front[0]
    assert fastest.levels and fastest.macs_skipped > 0
    assert fastest.measured.report["instructions"] < result.exact.measured.report["instructions"]
    inputs = [array[:3] for array in study.data.reporting.inputs]
    with study.context, ir.Location.unknown():
        expected = study.evaluator(inputs, fastest.levels)
        host = compile_for_host(study.prices.build(fastest.levels, {}))(*inputs)[0]
    done = simulate(fastest.measured.report, fastest.measured.object, inputs)
    assert (host.reshape(3, -1) == expected).all()
    assert (done.outputs[0].reshape(3, -1) == expected).all()
    assert done.counts.total.instructions == fastest.measured.report["instructions"]


def test_pipeline_makes_the_point_again(found: tuple[Study, Exploration], tmp_path: Path) -> None:
    study, result = found
    point = result.front[0]
    np.savez(tmp_path / "calibration.npz", **study.calibration())  # type: ignore[arg-type]
    text = point.pipeline.replace("calibration.npz", f"{tmp_path}/calibration.npz")
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(study.text)
        run_pipeline(module, text)
        replayed = compile_for_host(module)
    inputs = [array[:20] for array in study.data.reporting.inputs]
    with study.context, ir.Location.unknown():
        expected = study.evaluator(inputs, point.levels)
    assert (replayed(*inputs)[0].reshape(20, -1) == expected).all()


def test_stopped_search_goes_on(
    found: tuple[Study, Exploration], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured already is not measured again, and gives the same front."""
    _, first = found
    monkeypatch.setattr(Memory, "add", lambda *_: pytest.fail("measured again"))
    _, again = explored(folder, folder / "explored")
    assert again.to_json() == first.to_json()


def test_what_other_code_measured_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(tmp_path, ["data"]).add("key", 1.0)
    assert Memory(tmp_path, ["data"])["key"] == [1.0]
    assert "key" not in Memory(tmp_path, ["other data"])
    monkeypatch.setattr(memory, "_sources", lambda: "those of another day")
    assert "key" not in Memory(tmp_path, ["data"])


def test_nearest_accuracy_is_named(found: tuple[Study, Exploration]) -> None:
    _, result = found
    assert result.within(1.0) is result.front[0]
    with pytest.raises(Exception, match=r"no point of the front loses .*the nearest does with"):
        replace(result, front=[replace(result.front[0], promise=HOPELESS)]).within(0.1)


def test_nothing_slower_than_exact_is_found(found: tuple[Study, Exploration]) -> None:
    _, result = found
    exact, points = result.exact, result.front
    assert faster(points, exact, "instructions") == points
    slow = replace(points[-1], measured=exact.measured)
    assert faster([*points[:-1], slow], exact, "instructions") == [*points[:-1], exact]


def test_kernels_fit_the_flash(
    found: tuple[Study, Exploration], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = found
    levels = {layer.symbol: 1 for layer in study.layers}
    with study.context, ir.Location.unknown():
        roomy = study.prices.choose(levels)
        monkeypatch.setattr(study.prices, "max_flash", 1)
        small = study.prices.choose(levels)
    assert small.flash_bytes < roomy.flash_bytes
    assert small.latency > roomy.latency


def test_latency_in_cycles(found: tuple[Study, Exploration]) -> None:
    """Straight-line code executes less and waits more."""
    study, _ = found
    with study.context, ir.Location.unknown():
        made = (study._build, study._unfitted)
        prices = Prices(*made, "net", study.target, study.layers, "cycles", None)
        choice = prices.choose({})
        measured = prices.measure({}, choice.kernels)
    cycles = measured.report["cycles"]
    assert measured.report["instructions"] < cycles
    assert choice.latency == pytest.approx(cycles, rel=0.2)


@pytest.fixture
def ready(found: tuple[Study, Exploration], monkeypatch: pytest.MonkeyPatch) -> Study:
    """Commands find the study done."""
    study, result = found
    monkeypatch.setattr(explore, "make_study", lambda *_: study)
    monkeypatch.setattr(study, "run", lambda *_: result)
    return study


def test_command_prints_the_front(
    ready: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = ready.run()
    command = ["explore", "net.mlir", "--data", "data.npz", "-o", str(tmp_path / "out")]
    assert tinymlir_main.main(command) == 0
    printed = capsys.readouterr().out
    assert all(f"{p.measured.report['instructions']:,}" in printed for p in result.front)
    assert (tmp_path / "out/report.html").exists()
    assert tinymlir_main.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["front"] == json.loads(
        json.dumps([p.to_json() for p in result.front])
    )


def test_targets_without_a_simulator(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explore", folder / "net.mlir", "--data", folder / "data.npz", "--target", "host"]
    assert tinymlir_main.main(list(map(str, command))) == 1
    assert "target 'host' is not simulated" in capsys.readouterr().err


def test_search_library_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    command = ["explore", folder / "net.mlir", "--data", folder / "data.npz"]
    assert tinymlir_main.main(list(map(str, command))) == 1
    assert "needs Optuna; pip install 'tinymlir[explore]'" in capsys.readouterr().err


def test_cluster_evaluates_the_same(found: tuple[Study, Exploration]) -> None:
    distributed = pytest.importorskip("distributed")
    study, result = found
    fastest, inputs = result.front[0], study.data.confirming.inputs
    local = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    )
    with local, study.context, ir.Location.unknown():
        cluster = Cluster(local.scheduler_address, inputs)
        cluster.send(study.text)
        reduced = study.reduction(fastest.levels)
        there = cluster(reduced)
        with pytest.raises(TinymlirError, match="a worker of the cluster failed"):
            cluster({symbol: (w[..., :1], b) for symbol, (w, b) in reduced.items()})
        cluster.close()
        assert (there == study.evaluator(inputs, fastest.levels, raw=True)).all()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "a cluster takes the package distributed; pip install 'tinymlir[dask]'"),
        ("tcp://127.0.0.1:9", "no Dask scheduler answers at 'tcp://127.0.0.1:9'"),
    ],
)
def test_clusters_that_are_not_there(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str | None,
    message: str,
) -> None:
    monkeypatch.setattr("tinymlir.exploration.cluster._PATIENCE", 0.5)
    if address is None:
        monkeypatch.setitem(sys.modules, "distributed", None)
    else:
        pytest.importorskip("distributed")
    command = ["explore", folder / "net.mlir", "--data", folder / "data.npz", "--dask", address]
    assert tinymlir_main.main(list(map(str, command))) == 1
    assert message in capsys.readouterr().err


def test_flash_that_nothing_fits(
    found: tuple[Study, Exploration], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, result = found
    roomy = min(point.measured.flash_bytes for point in result.front)
    for budget in (100, 2 * roomy):
        monkeypatch.setattr(study, "settings", replace(study.settings, max_flash=budget))
        monkeypatch.setattr(study.prices, "max_flash", budget)
        if budget == 100:
            with pytest.raises(Exception, match=r"bytes of flash, more than --max-flash .*\(100\)"):
                study._affordable(result.tried)
        else:
            assert result.tried[0].levels == (0, 0, 0)
            assert study._affordable(result.tried)


def test_cores_that_cannot_skip(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explore", folder / "net.mlir", "--data", folder / "data.npz"]
    assert tinymlir_main.main([*map(str, command), "--target", "cortex-m0"]) == 1
    assert "no layer has a kernel for cortex-m0 that leaves out" in capsys.readouterr().err


class _Tags(html.parser.HTMLParser):
    """That tags are balanced, and nothing is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {name for name, _ in attrs} & {"src", "href"}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_compile_picks_the_fastest_within(
    ready: Study, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    build = tmp_path / "build"
    arguments = ["compile", folder / "net.mlir", "-o", build, "--data", folder / "data.npz"]
    arguments += ["--max-accuracy-drop", "0.2", "--json"]
    assert tinymlir_main.main(list(map(str, arguments))) == 0
    summary = json.loads(capsys.readouterr().out)
    page = (build / "exploration/report.html").read_text()
    parser = _Tags()
    parser.feed(page)
    assert not parser.open
    result = json.loads((build / "exploration/explore.json").read_text())
    for known in (result["input_sha256"], result["data_sha256"], "--max-accuracy-drop 0.2"):
        assert known in page
    skipping = summary["skipping"]
    chosen = next(p for p in result["front"] if p["promised_drop"] <= 0.2)
    assert skipping["instructions"] == chosen["instructions"]
    assert tinymlir_main.main(["profile", str(build), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instructions"] == skipping["instructions"]


def test_compile_several_levels(
    ready: Study, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the report says of levels and gates is what simulators do."""
    build = tmp_path / "build"
    arguments = ["compile", folder / "net.mlir", "-o", build, "--data", folder / "data.npz"]
    arguments += ["--levels", "exact,5%,0.2", "--agreement", "0.9", "--json"]
    assert tinymlir_main.main(list(map(str, arguments))) == 0
    summary = json.loads(capsys.readouterr().out)
    result, levels = ready.run(), summary["levels"]
    assert [level["name"] for level in levels] == ["exact", "5%", "0.2"]
    fastest = result.within(0.2)
    assert levels[2]["skipping"]["macs_skipped"] == fastest.macs_skipped > 0
    gate = levels[2]["gate"]
    assert levels[0]["gate"] is None and gate["promised"] == 0.9
    cycles = gate["cycles"]
    assert levels[2]["cycles"] < cycles["trusted"] <= cycles["mean"] <= cycles["worst"]

    with np.load(folder / "data.npz") as data:
        samples = data["x"]
    with ready.context, ir.Location.unknown():
        exact, fast = (ready.evaluator([samples[:, None]], n) for n in ({}, fastest.levels))
    again = leads(fast) < gate["margin"]
    output = build / "y.npy"
    run = ["run", build, "--level", 2, "--gated", "--input", folder / "data.npz"]
    assert tinymlir_main.main([*map(str, run), "--output", str(output), "--json"]) == 0
    ran = json.loads(capsys.readouterr().out)
    assert (ran["level"], ran["margin"]) == (2, gate["margin"])
    assert ran["rerun"] == again.sum()
    mean = np.where(again, cycles["worst"], cycles["trusted"]).mean()
    assert ran["cycles"] == pytest.approx(mean, rel=0.01)
    assert (np.load(output) == np.where(again[:, None], exact, fast)).all()

    profile = ["profile", str(build), "--level", "2", "--json"]
    assert tinymlir_main.main(profile) == 0
    profiled = json.loads(capsys.readouterr().out)
    assert profiled["instructions"] == pytest.approx(levels[2]["instructions"], rel=0.01)
    assert tinymlir_main.main(profile[:-1]) == 0
    assert "(other levels)" in capsys.readouterr().out

    page = (build / "exploration/report.html").read_text()
    parser = _Tags()
    parser.feed(page)
    assert not parser.open
    for known in ("Run again where not sure", "--levels exact,5%,0.2 --agreement 0.9"):
        assert known in page
    header = (build / "net.h").read_text()
    assert f"#define NET_LEVEL2_MARGIN {gate['margin']}" in header


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--levels", "exact,1%"], "give both --data and --levels"),
        (["--agreement", "0.9"], "is a promise of --levels"),
        (["--test", "test.npz"], "reports on what --data chose; add --data"),
        (["--fit", "fit.npz"], "fits what --data measures; add --data"),
        (["--levels", "exact,9%", "--input-mode", "in-arena"], "levels take their input from the"),
        (["--levels", "exact,9%", "--max-accuracy-drop", "0.1"], "are those of --levels"),
        (["--levels", "exact,1%", "--data"], "a loss under 0.01 shows on 300 samples or more; 78"),
        (["--levels", "exact,9%", "--data"], "an agreement of 0.99 shows on 299 samples or more"),
        (["--levels", "exact,9%", "--float-io", "--agreement", "0.9", "--data"], "one vector"),
    ],
)
def test_promises_of_levels_that_cannot_be_kept(
    ready: Study,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    floats = tuple(replace(info, model_type="float32") for info in ready.outputs)
    monkeypatch.setattr(ready, "outputs", floats)
    data = [str(folder / "data.npz")] if arguments[-1] == "--data" else []
    command = ["compile", str(folder / "net.mlir"), "-o", str(tmp_path / "b"), *arguments, *data]
    assert tinymlir_main.main(command) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_flash_that_levels_share(found: tuple[Study, Exploration]) -> None:
    """The exact network goes there first; its layers take nothing more in other levels."""
    study, _ = found

    def prices(max_flash: int) -> Prices:
        with study.context, ir.Location.unknown():
            made = (study._build, study._unfitted)
            layers = study.layers
            return Prices(*made, "net", study.target, layers, "instructions", max_flash, beside=2)

    with pytest.raises(TinymlirError, match=r"more than --max-flash allows \(100\)") as refused:
        prices(100)
    least = int(str(refused.value).split()[-1])
    assert prices(least + 2001).max_flash == 1000
    full = prices(least)
    with study.context, ir.Location.unknown():
        assert full.choose({}).flash_bytes == 0
        assert full.choose({study.layers[0].symbol: 1}).flash_bytes > 0


def test_skipping_inside_fused_stages(
    ready: Study, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Layers that skip compute the same row by row, in less memory."""
    result = ready.run()
    point = result.within(0.2)
    command = ["compile", folder / "net.mlir", "-o", tmp_path, "--data", folder / "data.npz"]
    command += ["--max-accuracy-drop", "0.2", "--max-overhead", "3", "--json"]
    assert tinymlir_main.main(list(map(str, command))) == 0
    report = json.loads(capsys.readouterr().out)
    explored = json.loads((tmp_path / "exploration/explore.json").read_text())
    assert "--max-accuracy-drop 0.2 --max-overhead 3.0" in explored["command"]
    assert (
        explored["front"][explored["chosen"]]["instructions"]
        == point.measured.report["instructions"]
    )
    assert report["ram_bytes"] < point.measured.report["ram_bytes"]
    inputs = [array[:3] for array in ready.data.reporting.inputs]
    done = simulate(report, (tmp_path / "net.o").read_bytes(), inputs)
    with ready.context, ir.Location.unknown():
        expected = ready.evaluator(inputs, point.levels)
    assert (done.outputs[0].reshape(3, -1) == expected).all()


INFO = (TensorInfo("x", (1, 4), 1.0, 0, "int8", (1, 4), (0, 1)),)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((200, 5), 3, r"is of shape \(200, 5\); the model takes \(N, 4\)"),
        ((200, 4), 7, "has the label 7; the network has 4 classes, 0 to 3"),
        ((200, 4), -1, "has the label -1; the network has 4 classes, 0 to 3"),
        ((90, 4), 3, "has 90 samples; give at least 179"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, x: tuple[int, ...], y: int, message: str) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, x=np.zeros(x, np.int8), y=np.full(len(np.zeros(x)), y))
    with pytest.raises(Exception, match=message):
        load_data(Files(file), INFO, 4, 0)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 255, r"node 'x': is from 0 to 255, \d+% of the values beyond; .* takes -1.28 to 1.27"),
        (-0.01, 0.02, "is from -0.01 to 0.02; the model takes"),
        (-1, np.inf, "is from -1 to inf, "),
    ],
)
def test_samples_of_another_range(tmp_path: Path, low: float, high: float, message: str) -> None:
    """As of pixels that nobody scaled; a few values that are cut off are usual."""
    info = replace(INFO[0], model_type="float32", scale=0.01)
    samples = np.random.default_rng(0).normal(0, 0.4, (200, 4))
    np.savez(tmp_path / "a.npz", x=samples)
    load_data(Files(tmp_path / "a.npz"), (info,), 4, 0)
    samples[:] = np.linspace(0, low, 800).reshape(200, 4)
    samples[:150] = high
    np.savez(tmp_path / "a.npz", x=samples)
    with pytest.raises(Exception, match=message):
        load_data(Files(tmp_path / "a.npz"), (info,), 4, 0)


def test_both_files_have_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((130, 4), np.int8), y=np.zeros(130, int))
    np.savez(tmp_path / "b.npz", x=np.zeros((130, 4), np.int8))
    with pytest.raises(Exception, match=r"b.npz: has no labels 'y', the other file has"):
        load_data(Files(tmp_path / "a.npz", tmp_path / "b.npz"), INFO, 4, 0)
    data = load_data(Files(tmp_path / "b.npz", tmp_path / "b.npz"), INFO, 4, 0)
    assert data.confirming.labels is None


def test_samples_to_fit_to(tmp_path: Path) -> None:
    """A file of them leaves all others to confirm; as the test it makes another search."""
    for name, value, count in (("data", 1, 200), ("other", 2, 60)):
        x = np.full((count, 4), value, np.int8)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.zeros(count, int))
    data, other = tmp_path / "data.npz", tmp_path / "other.npz"
    fit = load_data(Files(data, fit=other), INFO, 4, 0)
    assert (fit.fitting.inputs[0] == 2).all()
    assert (len(fit.fitting), len(fit.confirming), len(fit.reporting)) == (60, 140, 60)
    test = load_data(Files(data, test=other), INFO, 4, 0)
    assert (test.reporting.inputs[0] == 2).all()
    assert (len(test.fitting), len(test.confirming), len(test.reporting)) == (80, 120, 60)
    assert fit.sha256 != test.sha256
    both = load_data(Files(data, test=other, fit=other), INFO, 4, 0)
    assert (len(both.fitting), len(both.confirming), len(both.reporting)) == (60, 200, 60)
    with pytest.raises(Exception, match=r"other.npz: has 60 samples; give at least 167"):
        load_data(Files(other, fit=data), INFO, 4, 0)


def test_labels_of_something_else(tmp_path: Path) -> None:
    """What is right by chance loses nothing, whatever is left out."""
    file, inputs = tmp_path / "a.npz", [np.zeros((50, 4), np.int8)]
    scores = np.eye(4, dtype=np.int8)[np.arange(50) % 4]
    for labels in (None, np.arange(50) % 4, np.arange(50) // 2 % 4):
        require_knowledge(Part(inputs, labels), scores, file)
    with pytest.raises(Exception, match=r"a.npz: the exact network is right on 0.0% of .* 25.0%"):
        require_knowledge(Part(inputs, (np.arange(50) + 1) % 4), scores, file)


def test_too_few_samples_for_the_promise(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((400, 4), np.int8), y=np.zeros(400, int))
    data = load_data(Files(tmp_path / "a.npz"), INFO, 4, 0)
    require_samples(data, 0.05)
    with pytest.raises(Exception, match=r"a loss under 0.01 shows on 300 samples or more; 120"):
        require_samples(data, 0.01)


@pytest.mark.parametrize(
    "arguments",
    [["--data", "d.npz"], ["--max-accuracy-drop", "0.1"], ["--max-accuracy-drop", "2"]],
)
def test_half_a_promise(folder: Path, tmp_path: Path, arguments: list[str]) -> None:
    command = ["compile", str(folder / "net.mlir"), "-o", str(tmp_path / "b"), *arguments]
    if "2" in arguments:
        with pytest.raises(SystemExit):
            tinymlir_main.main(command)
    else:
        assert tinymlir_main.main(command) == 1
    assert not (tmp_path / "b").exists()


def test_share() -> None:
    assert share("0.25") == 0.25
    for text in ("1.5", "nan", "one"):
        with pytest.raises(argparse.ArgumentTypeError):
            share(text)


def test_confidence() -> None:
    # Brown, Cai and DasGupta (2001) have these for 0 of 10 and 5 of 10.
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert samples_for(0.01) == 300
    before, after = np.ones(1000, bool), np.arange(1000) >= 30
    drop, low, high = paired_drop(before, after)
    assert drop == pytest.approx(0.03)
    assert low < drop < high < 0.045
    # Far narrower than the two intervals by themselves.
    assert high - low < wilson(970, 1000)[1] - wilson(970, 1000)[0] + 0.002
    # What is exceeded in one case of twenty is between the middle and what is in one of forty.
    assert drop < most_drop(30, 0, 1000) < high
    assert most_drop(0, 0, 300) == pytest.approx(0.0054, abs=1e-4)
    draws = np.random.default_rng(0).normal(0.01, 0.1, (400, 300))
    missed = np.mean([most_mean(values) < 0.01 for values in draws])
    assert 0.02 < missed < 0.09


class KnownProblem:
    """Three layers, of which the second bears everything; the guide takes the first for it."""

    def propose(self, rate: float, weights: Sequence[float]) -> tuple[int, ...]:
        guess = np.array([0.001, 0.01, 0.01]) * weights
        return tuple(int(n) for n in np.clip(np.rint(rate / guess), 0, 4))

    def path(self) -> dict[tuple[int, ...], float]:
        rates = np.geomspace(1e-4, 0.1, 40)
        found: dict[tuple[int, ...], float] = {(0, 0, 0): 1e-5}
        for rate in rates:
            found.setdefault(self.propose(float(rate), [1, 1, 1]), float(rate))
        return found

    def evaluate(self, levels: tuple[int, ...]) -> Evaluated:
        loss = float(np.dot([0.02, 0.0, 0.01], levels))
        return Evaluated(levels, losing(loss), loss, 300 - 10 * sum(levels))


def test_search_finds_the_front_of_a_known_problem() -> None:
    problem = KnownProblem()

    def searched() -> list[Evaluated]:
        return list(search(problem.evaluate, problem, [0.0, 0.05], 40, seed=1))

    tried = searched()
    assert tried == searched()
    assert tried[0].levels == (0, 0, 0)

    def best(candidates: list[Evaluated]) -> float:
        return min(one.latency for one in candidates if one.loss.within(0.05))

    on_path = [problem.evaluate(c) for c in problem.path()]
    assert best(tried) < best(on_path), "weights make up for a wrong guide"


def test_guide_goes_from_exact_to_all(found: tuple[Study, Exploration]) -> None:
    """A layer whose errors are small is reduced first, and weights change that."""
    study, _ = found
    alike = [{4: 0.01, 15: 0.5}] * len(study.layers)
    guide = Guide([{4: 1e-4, 15: 0.01}, *alike[1:]], study.prices)
    path = list(guide.path())
    assert path[0] == (0,) * len(study.layers)
    assert all(sum(a) <= sum(b) for a, b in itertools.pairwise(path))
    first = next(levels for levels in path if any(levels))
    assert first[0] > 0
    rate = guide.path()[first]
    assert guide.propose(rate, [1e6, *[1.0] * (len(study.layers) - 1)])[0] == 0


def test_doubt_counts_what_comes_nearer_to_other_classes() -> None:
    random = np.random.default_rng(0)
    exact = random.integers(-60, 60, (400, 5)).astype(np.int8)
    little, much = (
        (exact + random.normal(0, spread, exact.shape)).clip(-128, 127).astype(np.int8)
        for spread in (3, 12)
    )
    assert doubt(exact, exact) == 0
    assert doubt(exact, 2 * exact) == pytest.approx(0, abs=1e-3), "to shrink is no error"
    assert 0 < doubt(exact, little) < doubt(exact, much)


def test_front_drops_what_is_beaten() -> None:
    a, b, c = candidate(1, 0.1, 10), candidate(2, 0.2, 5), candidate(3, 0.3, 7)
    assert front([a, b, c]) == [b, a]


def test_promises_are_of_samples_that_nothing_was_fitted_to() -> None:
    """Chance favours a fast candidate in the search; its loss elsewhere is another."""
    searched = [candidate(n, loss, 100 - 10 * n) for n, loss in enumerate((0, 0.01, 0.02, 0.03))]
    elsewhere: dict[tuple[int, ...], Loss] = {
        (0,): losing(0),
        (1,): losing(0.002, 0.009),
        (2,): losing(0.04, 0.06),
        (3,): losing(0.01, 0.02),
    }
    asked: list[tuple[int, ...]] = []

    def measure(levels: tuple[int, ...]) -> Loss:
        asked.append(levels)
        return elsewhere[levels]

    def price(levels: tuple[int, ...]) -> float:
        return 100 - 10 * levels[0]

    def fitted(levels: tuple[int, ...]) -> Loss:
        return losing(0)

    found = confirm(searched, [0.0, 0.02, 0.05], measure, fitted, price)
    assert [(one.levels, one.loss) for one in found] == [((1,), 0.0)]
    assert asked == [(0,), (1,), (2,)], "the first that fails ends the sequence"
    found = confirm(searched, [0.0, 0.1], measure, fitted, price)
    assert [(one.levels, one.loss) for one in found] == [((3,), 0.1), ((1,), 0.0)]
    far = confirm([searched[0], searched[3]], [0.0, 0.02], measure, fitted, price)
    assert [(one.levels, one.loss) for one in far] == [((1,), 0.0)], "a step between"
    (least,) = confirm(searched[2:], [0.0], measure, fitted, price)
    assert (least.levels, least.loss) == ((2,), 0.06), "where none passes"


def test_no_loss_is_likely_small_and_surely_not_great() -> None:
    assert losing(0.002, 0.009).within(0)
    assert not losing(0.004, 0.009).within(0)
    assert not losing(0.002, 0.015).within(0)
    assert losing(0.004, 0.009).within(0.01)
    assert not losing(0.03, 0.04).within(0.035), "its limit counts, not its middle"
    assert losing(0.004, 0.009, samples=400).within(0), "two samples"
    assert not losing(0.002, 0.009, least=0.001).within(0), "surely a loss, by count"
    assert losing(0.002, 0.009, least=0.001).within(0.01)
    assert not losing(0.002, 0.009, least=0.011).within(0.01)


def test_no_loss_is_looked_for_as_long_as_a_great_one_is_ruled_out() -> None:
    searched = [candidate(n, n / 100, 100 - 10 * n) for n in range(5)]
    tests = [losing(0), losing(0.004, 0.008), losing(0.002, 0.006), losing(0.004, 0.012), losing(0)]

    def confirmed(losses: list[float], fitted: float = 0) -> list[tuple[int, float]]:
        found = confirm(
            searched,
            losses,
            lambda one: tests[one[0]],
            lambda one: losing(fitted if one[0] else 0),
            lambda one: 100 - 10 * one[0],
        )
        return [(one.levels[0], one.loss) for one in found]

    assert confirmed([0.0]) == [(2, 0.0)]
    assert confirmed([0.0, 0.007]) == [(2, 0.0)], "nothing is lost, though the first loses more"
    assert confirmed([0.0, 0.02]) == [(4, 0.02), (2, 0.0)]
    assert confirmed([0.0, 0.02], 0.015) == [(4, 0.02), (0, 0.0)], "samples of the search lose more"


def test_losses_of_few_samples() -> None:
    """The smooth measure says what accuracy says of many, and surer."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 5, 20000)
    clean = random.normal(0, 22, (len(labels), 5))
    clean[np.arange(len(labels)), labels] += 35
    exact = clean.clip(-128, 127).astype(np.int8)
    after = (clean + random.normal(0, 4, clean.shape)).clip(-128, 127).astype(np.int8)
    many = measure_loss(exact, after, labels)
    assert many.mean == pytest.approx(many.drop, abs=0.005)
    parts = [slice(start, start + 400) for start in range(0, len(labels), 400)]
    few = [measure_loss(exact[p], after[p], labels[p]) for p in parts]
    assert np.std([one.mean for one in few]) < 0.75 * np.std([one.drop for one in few])
    assert measure_loss(exact, exact, labels).most == 0
    agreement = measure_loss(exact, after, None)
    assert agreement.drop == pytest.approx(1 - agreement.accuracy)
    assert agreement.drop < agreement.most


def test_classes_of_positions() -> None:
    """Positions of a sample stand or fall together, so a sample counts once, by their share."""
    random = np.random.default_rng(0)
    exact = random.integers(-99, 99, (300, 16, 3)).astype(np.int8)
    spoilt = exact.copy()
    spoilt[:6] = -spoilt[:6]
    loss = measure_loss(exact, spoilt, None)
    assert loss.drop == pytest.approx(6 / 300) and loss.accuracy == pytest.approx(1 - 6 / 300)
    assert loss.most > most_drop(6 * 16, 0, 300 * 16), "as if 16 times as many had been seen"
    right = spoilt.argmax(-1) == exact.argmax(-1)
    low, high = share_interval(right)
    assert low < loss.accuracy < high
    assert drop_interval(np.ones_like(right), right)[0] == pytest.approx(loss.drop)
    assert doubt(exact, exact) == 0 < doubt(exact, spoilt)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 1, 10), (10,)), ((1, 7), (7,)), ((8, 6, 3), (48, 3)), ((5, 2), (5, 2))],
)
def test_where_scores_are(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert scores_shape(replace(INFO[0], shape=shape), "net.onnx") == expected
    with pytest.raises(TinymlirError, match=r"net.onnx: node .x.: is one number, and no scores"):
        scores_shape(replace(INFO[0], shape=(1, 1)), "net.onnx")
    with pytest.raises(TinymlirError, match="is one number at each position"):
        scores_shape(replace(INFO[0], shape=(8, 6, 1)), "net.onnx")
