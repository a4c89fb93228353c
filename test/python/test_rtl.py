"""The RTL benchmark, on a network of all kinds of layers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from networks import Network, Window, everything

needs_verilator = pytest.mark.skipif(
    shutil.which("verilator") is None, reason="Verilator is not installed"
)


def benchmark(root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, root / "benchmarks" / "rtl.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, result = everything()
    path = tmp_path_factory.mktemp("rtl") / "net.mlir"
    path.write_text(network.text(result))
    return path


@needs_verilator
def test_both_cores_give_the_output_of_the_host(root: Path, model: Path) -> None:
    """The command compares outputs with the host's and instructions with the simulator's."""
    done = benchmark(root, model, "--core", "cv32e40p", "--core", "ibex-maxperf", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [figure["core"] for figure in figures] == ["cv32e40p", "ibex-maxperf"]
    for figure in figures:
        assert figure["cycles"] == sum(layer["cycles"] for layer in figure["layers"])
        for layer in figure["layers"]:
            # Neither core issues two instructions at once; 35 cycles are what a division takes.
            assert layer["instructions"] <= layer["cycles"] <= 35 * layer["instructions"]
    # The model of the first is exact but for divisions, which softmax has.
    parts = [layer for layer in figures[0]["layers"] if layer["op"] != "softmax"]
    assert len(parts) == len(figures[0]["layers"]) - 1
    modelled, cycles = (sum(part[k] for part in parts) for k in ("modelled_cycles", "cycles"))
    assert abs(modelled - cycles) <= 2


@needs_verilator
def test_packed_arithmetic_gives_the_output_of_the_host(
    root: Path, model: Path, tmp_path: Path
) -> None:
    """Of CORE-V's instructions, which no simulator runs, in all kernels that have them."""
    network = Network(6)
    value = network.input(1, 13, 26, 3)
    value = network.conv(value, 8, Window((3, 3), (1, 2), pad=(1, 1, 1, 1)), 1, pad_value=-9)
    value = network.conv(value, 8, Window((3, 3), pad=(1, 1, 1, 1)), 1, pad_value=4)
    value = network.conv(value, 8, Window((3, 3), pad=(1, 1, 1, 1)), 8, pad_value=70)
    value = network.pool(value, Window((2, 2), (2, 2)), "max")
    value = network.conv(value, 13, Window((1, 1)))
    value = network.conv(value, 13, Window((3, 5), pad=(1, 1, 1, 3)), 13, pad_value=-70)
    value = network.conv(value, 5, Window((2, 3), pad=(0, 1, 1, 0)), 1, pad_value=-128)
    value = network.dense(network.reshape(value, (1, value.array[0].size)), 11)
    kernels = tmp_path / "kernels.mlir"
    kernels.write_text(network.text(value))
    done = benchmark(root, model, kernels, "--core", "cv32e40p-pulp", "--json")
    assert done.returncode == 0, done.stderr
    _, figure = json.loads(done.stdout)
    used = Counter(str(layer["kernel"]).split("{")[0] for layer in figure["layers"])
    assert used["im2col-bytes"] >= 4 and used["depthwise-bytes"] == 2
    assert figure["modelled_cycles"] is None


def test_errors_are_one_line(root: Path, tmp_path: Path) -> None:
    done = benchmark(root, tmp_path / "none.onnx")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
