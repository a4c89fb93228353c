"""The RAM that fusion needs: arena bytes of whole networks at several overheads.

    python benchmarks/fusion.py a.onnx b.tflite
    python benchmarks/fusion.py a.tflite --target cortex-m0 --limits 1.0,1.2 --json
    python benchmarks/fusion.py a.tflite --markdown                as in docs/fusion.md

Networks for it: `benchmarks/mobilenet.py`, MCUNet.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from harness import publish

from tinymlir.fusion.planner import Planner
from tinymlir.fusion.setting import InputMode
from tinymlir.targets import get_target
from tinymlir.tools.arguments import numbers
from tinymlir.tools.plan import load_graph
from tinymlir.tools.table import render_markdown, render_table


def measure(model: Path, target: str, limits: list[float]) -> list[dict[str, Any]]:
    """The least arena within each overhead, and the least of all, for each place of the input."""
    graph = load_graph(model, get_target(target))
    rows = []
    for mode in get_args(InputMode):
        begin = time.process_time()
        planner = Planner(graph, mode)
        front = planner.front
        seconds = time.process_time() - begin
        within = [next((s for s in front if planner.overhead(s) <= f), None) for f in limits]
        rows.append(
            {
                "network": model.stem,
                "input_mode": mode,
                "vanilla": planner.vanilla().bytes,
                "arena_bytes": {str(f): s and s.bytes for f, s in zip(limits, within, strict=True)},
                "least": front[0].bytes,
                "least_overhead": planner.overhead(front[0]),
                "seconds": round(seconds, 2),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--limits", type=numbers, default=[1.0, 1.05, 1.4], metavar="F,F")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    render = render_markdown if args.markdown else render_table
    return publish(
        lambda: [row for m in args.models for row in measure(m, args.target, args.limits)],
        args.json,
        lambda rows: print(_table(rows, args.limits, render)),
    )


def _table(
    rows: list[dict[str, Any]],
    overheads: list[float],
    render: Callable[[list[str], list[Any]], str],
) -> str:
    limits = [f"F ≤ {limit:g}" for limit in overheads]
    head = ["network", "input", "layer by layer", *limits, "least", "at F", "CPU seconds"]
    table = [
        [
            row["network"],
            row["input_mode"],
            row["vanilla"],
            *row["arena_bytes"].values(),
            row["least"],
            row["least_overhead"],
            row["seconds"],
        ]
        for row in rows
    ]
    return render(head, table)


if __name__ == "__main__":
    sys.exit(main())
