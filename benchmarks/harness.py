"""What benchmarks have in common: arguments, a sample, how figures come out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tinymlir.compiler import Compilation
from tinymlir.errors import TinymlirError
from tinymlir.progress import progress
from tinymlir.targets import TARGETS

EXAMPLE = Path(__file__).parent.parent / "examples" / "surface_inspection" / "surface_qdq.onnx"
SIMULATED = [name for name, target in TARGETS.items() if target.simulated]

Figures = TypeVar("Figures")


def grid_parser(description: str | None) -> argparse.ArgumentParser:
    """For a benchmark of any models, the example if none is given, on any simulated targets."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, default=[EXAMPLE], metavar="MODEL")
    parser.add_argument(
        "--targets", default=",".join(SIMULATED), help="comma-separated (default: all simulated)"
    )
    return parser


def over_grid(args: argparse.Namespace, measure: Callable[[Path, str], Figures]) -> list[Figures]:
    """What ``measure`` finds of each model on each target, under a progress bar."""
    jobs = [(model, target) for model in args.models for target in args.targets.split(",")]
    return [measure(*job) for job in progress(jobs, len(jobs), "measuring")]


def fixed_sample(compilation: Compilation) -> list[npt.NDArray[np.int8]]:
    """The same random input of a network each time, each of its tensors with a batch of one."""
    random = np.random.default_rng(0)
    shapes = [(1, *info.shape) for info in compilation.inputs]
    return [random.integers(-128, 128, shape, dtype=np.int8) for shape in shapes]


def publish(gather: Callable[[], Sequence[Any]], as_json: bool, show: Callable[[Any], None]) -> int:
    """Print what ``gather`` finds, as JSON or by ``show``; the exit status, 1 after an error."""
    try:
        figures = gather()
    except TinymlirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if as_json:
        json.dump(figures, sys.stdout, indent=2)
        print()
    else:
        show(figures)
    return 0
