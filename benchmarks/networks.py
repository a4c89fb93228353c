"""Whole networks on every simulated core: instructions, modelled cycles, RAM, flash, compile time.

    python benchmarks/networks.py                             the example network
    python benchmarks/networks.py a.onnx b.onnx --targets cortex-m4,rv32imc
    python benchmarks/networks.py a.onnx --json > figures.json

Where `published.json` knows the network (by its MACs), the peers' instructions stand beside
ours, as a ratio: above 1 they need more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.progress import progress
from tinymlir.simulators import simulate
from tinymlir.targets import TARGETS, get_target
from tinymlir.tools.table import render_table

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "surface_inspection" / "surface_qdq.onnx"
SIMULATED = [name for name, target in TARGETS.items() if target.memory is not None]


def measure(model: Path, target_name: str) -> dict[str, Any]:
    """Compile ``model`` and run one inference on a fixed random sample."""
    target = get_target(target_name)
    begin = time.perf_counter()
    compilation = compile_model(model, target)
    code = generate(compilation.module, target)
    seconds = time.perf_counter() - begin
    report = artifact.report(compilation, code, {})
    random = np.random.default_rng(0)
    sample = [
        random.integers(-128, 128, (1, *info.shape), dtype=np.int8) for info in compilation.inputs
    ]
    run = simulate(report, code.object, sample)
    total = run.counts.total
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
        "peers": peers(report["macs"], target_name, total.instructions),
    }


def peers(macs: int, target_name: str, instructions: int) -> dict[str, float]:
    """Published instructions of peers on the same network and core, over ours."""
    published = json.loads((HERE / "published.json").read_text())
    return {
        entry["stack"]: entry["instructions"] / instructions
        for entry in published["instructions"]
        if entry["macs"] == macs and entry["target"] == target_name
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, default=[EXAMPLE], metavar="MODEL")
    parser.add_argument(
        "--targets", default=",".join(SIMULATED), help="comma-separated (default: all simulated)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    jobs = [(model, target) for model in args.models for target in args.targets.split(",")]
    try:
        figures = [measure(*job) for job in progress(jobs, len(jobs), "measuring")]
    except TinymlirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        json.dump(figures, sys.stdout, indent=2)
        print()
        return 0
    head = ["network", "target", "MACs", "instructions", "per MAC", "cycles", "per MAC", "arena"]
    rows = [
        [f["network"], f["target"], f["macs"], f["instructions"], f["instructions_per_mac"],
         f["cycles"], f["cycles_per_mac"], f["arena_bytes"], f["flash_bytes"], f["compile_seconds"],
         ", ".join(f"{stack} {ratio:.2f}" for stack, ratio in f["peers"].items()) or None]
        for f in figures
    ]  # fmt: skip
    print(render_table([*head, "flash", "compile s", "peers, over ours"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
