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


def evaluation(tinymlir: Tinymlir, model: Path, folder: Path, *options: str) -> dict[str, str]:
    """The rows that evaluating prints, after compiling as the demo does."""
    pytest.importorskip("onnxruntime")
    done = tinymlir("compile", model, "--name", "surface", "-o", folder)
    assert done.returncode == 0, done.stderr
    script = model.with_name("evaluate.py")
    command = [sys.executable, *map(str, (script, folder, "--model", model)), *options]
    printed = subprocess.run(command, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    rows = re.findall(r"^  (\S.*?)  +(\S.*)$", printed.stdout, re.M)
    assert len(rows) == 11
    return dict(rows)


def test_operators_of_integers_evaluate_to_the_same(
    tinymlir: Tinymlir, example: Path, tmp_path: Path
) -> None:
    model = example / "surface_qoperator.onnx"
    assert model.stat().st_size < 300_000
    rows = evaluation(tinymlir, model, tmp_path, "--samples", str(SAMPLES))
    accuracies = {value for label, value in rows.items() if label.startswith("accuracy")}
    assert len(accuracies) == 1 and number(accuracies.pop()) >= 90
    assert rows["outputs equal to ONNX Runtime's"].startswith("100.00%")
    header = (tmp_path / "surface.h").read_text()
    assert hashlib.sha256(model.read_bytes()).hexdigest() in header
    assert "#define SURFACE_INPUT_SCALE 1.0f" in header
    assert "#define SURFACE_INPUT_ZERO_POINT (-128)" in header


def test_readme_shows_what_the_demo_prints(
    tinymlir: Tinymlir, root: Path, example: Path, tmp_path: Path
) -> None:
    table = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (root / "README.md").read_text(), re.M))
    for label, value in evaluation(tinymlir, example / "surface_qdq.onnx", tmp_path).items():
        if label.startswith(("accuracy", "outputs", "arena", "MACs", "input")):
            assert table[label] == value, label
        else:
            # Code differs a little between versions of LLVM.
            assert number(table[label]) == pytest.approx(number(value), rel=0.05), label


def number(text: str) -> float:
    return float(re.match(r"[\d.,]+", text)[0].replace(",", ""))  # type: ignore[index]
