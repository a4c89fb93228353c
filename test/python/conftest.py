"""What several test files share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tinymlir.bindings import ir
from tinymlir.dialects import register

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def example() -> Path:
    """The folder of the surface inspection example."""
    return ROOT / "examples" / "surface_inspection"


@pytest.fixture(scope="session")
def tinymlir() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``tinymlir ARGUMENTS...`` as a process of its own, as a shell would."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tinymlir.tools.main", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    return run


@pytest.fixture
def context() -> Iterator[ir.Context]:
    """An MLIR context with the dialect, and a location, for all of a test."""
    with ir.Context() as made, ir.Location.unknown():
        register(made)
        yield made
