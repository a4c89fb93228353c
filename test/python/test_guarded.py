"""Between guard pages: code that strays from its buffers or constants ends the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz_subjects import onnx_network, tflite_network, tosa_network
from networks import Network, Window, everything

from tinymlir.bindings import ir
from tinymlir.frontends import import_model

EXAMPLE = Path(__file__).parents[2] / "examples/surface_inspection/surface_qdq.onnx"


def run(*cases: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__).parent / "guarded.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
    )


def random_network(seed: int) -> str | None:
    """A convolution of any kind and a pool; sizes, strides and padding at random."""
    rng, network = np.random.default_rng(seed), Network(seed)
    depth = int(rng.integers(1, 9))
    x = network.input(1, *(int(n) for n in rng.integers(1, 10, 2)), depth)
    kernel, stride, dilation = (
        (int(rng.integers(1, most)), int(rng.integers(1, most))) for most in (4, 3, 3)
    )
    top, left, bottom, right = (int(n) for n in rng.integers(0, 4, 4))
    window = Window(kernel, stride, dilation, (top, left, bottom, right))
    if min(window.output(*x.shape[1:3])) < 1:
        return None
    channels = int(rng.integers(1, 8))
    groups = depth if seed % 2 else 1
    y = network.conv(x, channels * groups, window, groups)
    return network.text(network.pool(y, Window((1, 1), (2, 2)), "max"))


def imported(folder: Path) -> list[str]:
    """The frontends' networks: reductions, softmax, tables, resizing, concatenation."""
    files = {
        "a.tflite": tflite_network(),
        "a.onnx": onnx_network().SerializeToString(),
        "a.mlir": tosa_network().encode(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [
        str(import_model(path, ir.Context())) for path in (*map(folder.joinpath, files), EXAMPLE)
    ]


def test_networks_stay_inside(tmp_path: Path) -> None:
    network, result = everything()
    random = [text for text in map(random_network, range(5)) if text is not None]
    assert len(random) > 3
    texts = [network.text(result), *random, *imported(tmp_path)]
    done = run(*((text, "") for text in texts))
    assert done.returncode == 0, (done.stdout[-100:], done.stderr[-2000:])
    assert done.stdout.split()[-2:] == ["ends", str(len(texts) - 1)]


@pytest.mark.parametrize("short", ["arena", "input", "output", "constant"])
def test_strays_are_seen(short: str) -> None:
    """With a word less of anything than it says it needs, a network is caught."""
    network, result = everything()
    done = run((network.text(result), short))
    assert done.returncode < 0
    assert done.stdout.split() == ["begins", "0"]
