"""Fused code beside layer by layer: arena, stack, and instructions on the simulator.

    python benchmarks/fused_code.py a.onnx b.tflite
    python benchmarks/fused_code.py a.tflite --target rv32imc --limits 1.0,1.2 --json
    python benchmarks/fused_code.py a.tflite --input-mode streamed --limits 1.0 --markdown

"over F" is the ratio of instructions over the multiply-accumulates that are made more than once:
what rows, rings and strips cost besides. Outputs on a random input must be those layer by layer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy.typing as npt
from harness import fixed_sample, publish

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.fusion.setting import InputMode
from tinymlir.pipelines import Fusion
from tinymlir.progress import progress
from tinymlir.simulators import simulate
from tinymlir.targets import Target, get_target
from tinymlir.tools.arguments import numbers
from tinymlir.tools.table import render_markdown, render_table


@dataclass(frozen=True)
class Run:
    """What one build takes."""

    report: dict[str, Any]
    instructions: int
    stack_bytes: int
    output: npt.NDArray[Any]


def run(model: Path, target: Target, fusion: Fusion | None) -> Run:
    """Compile, and run once on a random input."""
    compilation = compile_model(model, target, fusion=fusion)
    code = generate(compilation.module, target)
    report = artifact.report(compilation, code, {})
    done = simulate(report, code.object, fixed_sample(compilation))
    counts = done.counts
    instructions = sum(work.instructions for work in (*counts.layers, counts.invoke))
    return Run(report, instructions, done.stack_bytes, done.outputs[0])


def measure(
    model: Path, target: Target, mode: InputMode, limits: list[float]
) -> list[dict[str, Any]]:
    """A row for each limit of the overhead.

    Raises:
        TinymlirError: the model cannot be compiled, or fused code computes something else.
    """
    alone = run(model, target, None)
    rows = []
    for limit in progress(limits, len(limits), model.stem):
        fused = run(model, target, Fusion(max_overhead=limit, input=mode))
        if (fused.output != alone.output).any():
            raise TinymlirError(f"gives other outputs fused within {limit}", file=str(model))
        ratio = fused.instructions / alone.instructions
        rows.append(
            {
                "network": model.stem,
                "input_mode": mode,
                "limit": limit,
                "arena_bytes": fused.report["arena_bytes"],
                "ram_bytes": fused.report["ram_bytes"],
                "overhead": fused.report["overhead"],
                "instructions": fused.instructions,
                "ratio": ratio,
                "over_overhead": ratio / fused.report["overhead"],
                "stack_bytes": fused.stack_bytes,
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--input-mode", choices=get_args(InputMode), default="external")
    parser.add_argument("--limits", type=numbers, default=[1.0, 1.05, 1.36], metavar="F,F")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    args = parser.parse_args()

    def gather() -> list[dict[str, Any]]:
        target = get_target(args.target)
        mode, limits = args.input_mode, args.limits
        return [row for model in args.models for row in measure(model, target, mode, limits)]

    render = render_markdown if args.markdown else render_table
    return publish(gather, args.json, lambda found: print(_table(found, render)))


def _table(found: list[dict[str, Any]], render: Callable[[list[str], list[Any]], str]) -> str:
    header = ["network", "input", "F", "arena", "RAM", "stack", "instructions", "ratio", "over F"]
    table = [
        [
            row["network"],
            row["input_mode"],
            f"{row['overhead']:.3f}",
            row["arena_bytes"],
            row["ram_bytes"],
            row["stack_bytes"],
            row["instructions"],
            f"{row['ratio']:.3f}",
            f"{row['over_overhead']:.3f}",
        ]
        for row in found
    ]
    return render(header, table)


if __name__ == "__main__":
    sys.exit(main())
