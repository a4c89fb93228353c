"""What several test files share."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import HealthCheck, settings

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.tools.main import main

ROOT = Path(__file__).resolve().parents[2]

# Tests start many processes, each of which would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A result depends neither on how busy the machine is nor on chance.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def example() -> Path:
    """The folder of the surface inspection example."""
    return ROOT / "examples" / "surface_inspection"


@pytest.fixture(scope="session")
def tinymlir() -> Callable[..., CompletedProcess[str]]:
    """Runs ``tinymlir ARGUMENTS...`` as a shell would, but within this process."""

    def run(*arguments: str | Path) -> CompletedProcess[str]:
        command = [str(argument) for argument in arguments]
        printed, said = io.StringIO(), io.StringIO()
        with redirect_stdout(printed), redirect_stderr(said):
            try:
                status = main(command)
            except SystemExit as usage:
                status = int(usage.code or 0)
        return CompletedProcess(command, status, printed.getvalue(), said.getvalue())

    return run


@pytest.fixture
def context() -> Iterator[ir.Context]:
    """An MLIR context with the dialect, and a location, for all of a test."""
    with ir.Context() as made, ir.Location.unknown():
        register(made)
        yield made
