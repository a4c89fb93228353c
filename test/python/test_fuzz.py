"""Damaged models and pipelines: an error of one line or a result, and nothing else.

`benchmarks/fuzz.py` looks for longer; what it finds is kept in `findings/`.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest
from fuzz_subjects import SUBJECTS, Subject

FINDINGS = sorted((Path(__file__).parent / "findings").iterdir())
#: Seconds that one input may take.
PATIENCE = 30.0
MUTANTS = {"tflite": 40, "onnx": 40, "mlir": 120, "mlirbc": 40, "pipeline": 400}

pytest.importorskip("ai_edge_litert")


def outcome(subject: Subject, data: bytes, folder: Path) -> str:
    begin = time.perf_counter()
    text = subject.outcome(data, folder)
    assert time.perf_counter() - begin < PATIENCE
    return text


@pytest.mark.parametrize("name", SUBJECTS)
def test_undamaged_inputs_are_fine(name: str, tmp_path: Path) -> None:
    for data in SUBJECTS[name].seeds():
        assert outcome(SUBJECTS[name], data, tmp_path) == ""


@pytest.mark.parametrize("name", SUBJECTS)
def test_mutants(name: str, tmp_path: Path) -> None:
    subject = SUBJECTS[name]
    seeds, outcomes = subject.seeds(), []
    for seed in range(MUTANTS[name]):
        random = Random(seed)
        mutant = subject.mutant(random.choice(seeds), random)
        outcomes.append(outcome(subject, mutant, tmp_path))
    # They get past the first check: many kinds of errors are met, and some mutants are fine,
    # though hardly any of bytecode.
    assert name == "mlirbc" or "" in outcomes
    assert len(set(outcomes)) > 10


@pytest.mark.parametrize("name", ["tflite", "onnx", "mlirbc"])
def test_truncations(name: str, tmp_path: Path) -> None:
    data = SUBJECTS[name].seeds()[0]
    for length in range(0, len(data), len(data) // 20):
        assert outcome(SUBJECTS[name], data[:length], tmp_path) != ""


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.name)
def test_findings_are_refused(path: Path, tmp_path: Path) -> None:
    (subject,) = (s for s in SUBJECTS.values() if s.suffix == path.suffix)
    assert outcome(subject, path.read_bytes(), tmp_path) != ""
