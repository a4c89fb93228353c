"""Whole networks on every simulated core: instructions, modelled cycles, RAM, flash, compile time.

    python benchmarks/networks.py                             the example network
    python benchmarks/networks.py a.onnx b.onnx --targets cortex-m4,rv32imc
    python benchmarks/networks.py a.onnx --json > figures.json     with a list of layers
    python benchmarks/networks.py a.onnx --markdown                as in docs/benchmarks.md

Where `published.json` knows the network (by its MACs), the peers' instructions stand beside
ours, as a ratio: above 1 they need more; and the cycles per MAC that are published of a board
with that core, beside ours, by the model: without wait states, and compiled for the flash of that
board where its timing is known.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import fixed_sample, grid_parser, over_grid, publish

from tinymlir import artifact
from tinymlir.compiler import compile_model
from tinymlir.fitting import generate_within
from tinymlir.pipelines import BALANCED
from tinymlir.simulators import simulate
from tinymlir.simulators.flash import parse_flash
from tinymlir.targets import get_target
from tinymlir.tools.table import render_markdown, render_table

HERE = Path(__file__).parent


def measure(model: Path, target_name: str) -> dict[str, Any]:
    """Compile ``model`` and run one inference on a fixed random sample."""
    begin = time.perf_counter()
    report, code, sample = compiled(model, target_name)
    seconds = time.perf_counter() - begin
    run = simulate(report, code, sample)
    total = run.counts.total
    boards = published("cycles", report["macs"], target_name)
    return {
        "network": model.stem,
        "target": target_name,
        "macs": report["macs"],
        "instructions": total.instructions,
        "instructions_per_mac": total.instructions / max(1, report["macs"]),
        "cycles": total.cycles,
        "cycles_per_mac": total.cycles / max(1, report["macs"]),
        "arena_bytes": report["arena_bytes"],
        "ram_bytes": report["ram_bytes"],
        "flash_bytes": report["flash_bytes"],
        "stack_bytes": run.stack_bytes,
        "compile_seconds": round(seconds, 2),
        "peers": {
            entry["stack"]: entry["instructions"] / total.instructions
            for entry in published("instructions", report["macs"], target_name)
        },
        "published_cycles": boards,
        "cycles_per_mac_on_the_board": on_the_board(model, target_name, boards),
        "layers": [
            {
                "name": layer["name"],
                "op": layer["op"],
                "macs": layer["macs"],
                "instructions": work.instructions,
                "cycles": work.cycles,
            }
            for layer, work in zip(report["layers"], run.counts.layers, strict=True)
        ],
    }


def compiled(
    model: Path, target_name: str, flash_timing: str | None = None
) -> tuple[dict[str, Any], bytes, list[Any]]:
    """The report, the object, and a fixed random sample; kernels are chosen for that flash."""
    target, aim = get_target(target_name), replace(BALANCED, flash_timing=flash_timing)
    compilation, code = generate_within(
        lambda selection: compile_model(model, target, selection=selection), aim
    )
    return artifact.report(compilation, code, {}), code.object, fixed_sample(compilation)


def on_the_board(model: Path, target_name: str, boards: list[dict[str, Any]]) -> float | None:
    """Modelled cycles per MAC on the board that figures are published of, with its flash."""
    timings = json.loads((HERE / "published.json").read_text())["flash_timings"]
    known = [timings[entry["board"]] for entry in boards if entry["board"] in timings]
    if not known:
        return None
    report, code, sample = compiled(model, target_name, known[0])
    run = simulate(report, code, sample, flash=parse_flash(known[0]))
    return run.counts.total.cycles / report["macs"]


def published(measure: str, macs: int, target_name: str) -> list[dict[str, Any]]:
    """What is published of the same network and core."""
    entries = json.loads((HERE / "published.json").read_text())[measure]
    return [e for e in entries if e["macs"] == macs and e["target"] == target_name]


def main() -> int:
    parser = grid_parser(__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the figures as JSON")
    form.add_argument("--markdown", action="store_true", help="print the table for a page")
    args = parser.parse_args()
    render = render_markdown if args.markdown else render_table
    return publish(
        lambda: over_grid(args, measure), args.json, lambda figures: print(_table(figures, render))
    )


def _table(figures: list[dict[str, Any]], render: Callable[[list[str], list[Any]], str]) -> str:
    head = ["network", "target", "instructions", "per MAC", "cycles", "per MAC", "on the board",
            "published", "arena", "flash", "peers, over ours"]  # fmt: skip
    rows = [
        [f["network"], f["target"], f["instructions"], f["instructions_per_mac"],
         f["cycles"], f["cycles_per_mac"], f["cycles_per_mac_on_the_board"],
         ", ".join(f"{e['per_mac']:.2f} {e['stack']}" for e in f["published_cycles"]) or None,
         f["arena_bytes"], f["flash_bytes"],
         ", ".join(f"{stack} {ratio:.2f}" for stack, ratio in f["peers"].items()) or None]
        for f in figures
    ]  # fmt: skip
    return render(head, rows)


if __name__ == "__main__":
    sys.exit(main())
