"""How many instructions of each layer go to the stack, since registers ran out.

    python benchmarks/spills.py                               the example network
    python benchmarks/spills.py a.onnx b.tflite --targets cortex-m4,rv32imc
    python benchmarks/spills.py a.onnx --least 1 --json

Arguments and saved registers are counted as well, but a layer with more than a percent or two has
a hot loop that spills.
"""

from __future__ import annotations

import argparse
import json
import sys
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

EXAMPLE = Path(__file__).parent.parent / "examples" / "surface_inspection" / "surface_qdq.onnx"
SIMULATED = [name for name, target in TARGETS.items() if target.memory is not None]


def measure(model: Path, target_name: str) -> list[dict[str, Any]]:
    """The layers of ``model`` on a core, in one inference on a fixed random sample."""
    target = get_target(target_name)
    compilation = compile_model(model, target)
    code = generate(compilation.module, target)
    report = artifact.report(compilation, code, {})
    random = np.random.default_rng(0)
    sample = [
        random.integers(-128, 128, (1, *info.shape), dtype=np.int8) for info in compilation.inputs
    ]
    layers = simulate(report, code.object, sample).counts.layers
    return [
        {
            "network": model.stem,
            "target": target_name,
            "layer": layer.name,
            "kernel": layer.kernel or layer.op,
            "instructions": work.instructions,
            "stack": work.stack,
            "percent": 100 * work.stack / max(1, work.instructions),
        }
        for layer, work in zip(compilation.layers, layers, strict=True)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, default=[EXAMPLE], metavar="MODEL")
    parser.add_argument(
        "--targets", default=",".join(SIMULATED), help="comma-separated (default: all simulated)"
    )
    parser.add_argument(
        "--least", type=float, default=2, metavar="PERCENT", help="which layers (default: 2)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    jobs = [(model, target) for model in args.models for target in args.targets.split(",")]
    try:
        groups = [measure(*job) for job in progress(jobs, len(jobs), "measuring")]
    except TinymlirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = [row for rows in groups for row in rows if row["percent"] >= args.least]
    if args.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return 0
    head = ["network", "target", "layer", "kernel", "instructions", "stack", "percent"]
    print(render_table(head, [[row[name] for name in head] for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
