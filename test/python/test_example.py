"""The example: its data, its committed networks, and what the demo prints."""

from __future__ import annotations

import hashlib
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SAMPLES = 24

Tinymlir = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def generator(example: Path) -> ModuleType:
    sys.path.insert(0, str(example))
    try:
        return importlib.import_module("generate")
    finally:
        sys.path.pop(0)


def test_images_are_deterministic_and_balanced(generator: ModuleType) -> None:
    images, labels = generator.generate(12, seed=5)
    again, _ = generator.generate(24, seed=5)
    other, _ = generator.generate(12, seed=6)
    assert images.shape == (12, 64, 64)
    assert images.dtype == np.uint8
    assert (images == again[:12]).all()
    assert (images != other).any(axis=(1, 2)).all()
    assert (np.bincount(labels) == 2).all()
    # The whole range, by which calibration finds an input scale of one.
    assert (images.min(axis=(1, 2)) == 0).all()
    assert (images.max(axis=(1, 2)) == 255).all()


def test_the_picture_is_what_the_generator_makes(generator: ModuleType, example: Path) -> None:
    sheet = generator.contact_sheet(6, 1)
    assert sheet.startswith(b"\x89PNG")
    committed = (example / "classes.png").read_bytes()
    assert sheet[16:24] == committed[16:24]  # width and height


@pytest.mark.parametrize("form", ["surface_qdq.onnx", "surface_qoperator.onnx"])
def test_networks_are_small_and_compile(
    tinymlir: Tinymlir, example: Path, tmp_path: Path, form: str
) -> None:
    model = example / form
    assert model.stat().st_size < 300_000
    done = tinymlir("compile", model, "--name", "surface", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    header = (tmp_path / "surface.h").read_text()
    assert hashlib.sha256(model.read_bytes()).hexdigest() in header
    assert "#define SURFACE_INPUT_SCALE 1.0f" in header
    assert "#define SURFACE_INPUT_ZERO_POINT (-128)" in header


@pytest.mark.parametrize("form", ["surface_qdq.onnx", "surface_qoperator.onnx"])
def test_evaluation_equals_onnx_runtime(
    tinymlir: Tinymlir, example: Path, tmp_path: Path, form: str
) -> None:
    pytest.importorskip("onnxruntime")
    model = example / form
    done = tinymlir("compile", model, "--name", "surface", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    evaluate = [sys.executable, str(example / "evaluate.py"), str(tmp_path), "--model", str(model)]
    command = [*evaluate, "--samples", str(SAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracies = re.findall(r"^  accuracy.*  (\S+) \((\d+) of \d+\)$", done.stdout, re.M)
    assert len(accuracies) == 3
    assert len(set(accuracies)) == 1
    assert int(accuracies[0][1]) >= 0.9 * SAMPLES
    assert re.search(r"^  outputs equal to ONNX Runtime's +100\.00%", done.stdout, re.M)
    for row in ("arena bytes", "flash bytes", "instructions per inference", "instructions per MAC"):
        assert re.search(rf"^  {row} +[\d,.]+$", done.stdout, re.M), row


def test_readme_shows_what_the_demo_prints(
    tinymlir: Tinymlir, root: Path, example: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    table = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (root / "README.md").read_text(), re.M))
    done = tinymlir("compile", example / "surface_qdq.onnx", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    evaluate = [sys.executable, str(example / "evaluate.py"), str(tmp_path)]
    printed = subprocess.run(evaluate, check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"^  (\S.*?)  +(\S.*)$", printed, re.M)
    assert len(rows) == 11
    for label, value in rows:
        if label.startswith(("accuracy", "arena", "MACs", "input")):
            assert table[label] == value, label
        else:
            # Code differs a little between versions of LLVM.
            assert number(table[label]) == pytest.approx(number(value), rel=0.05), label


def number(text: str) -> float:
    return float(re.match(r"[\d.,]+", text)[0].replace(",", ""))  # type: ignore[index]
