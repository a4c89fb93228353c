"""How many instructions of each layer go to the stack, since registers ran out.

    python benchmarks/spills.py                               the example network
    python benchmarks/spills.py a.onnx b.tflite --targets cortex-m4,rv32imc
    python benchmarks/spills.py a.onnx --least 1 --json

Arguments and saved registers are counted as well, but a layer with more than a percent or two has
a hot loop that spills.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness import fixed_sample, grid_parser, over_grid, publish

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.simulators import simulate
from tinymlir.targets import get_target
from tinymlir.tools.table import render_table


def measure(model: Path, target_name: str) -> list[dict[str, Any]]:
    """The layers of ``model`` on a core, in one inference on a fixed random sample."""
    target = get_target(target_name)
    compilation = compile_model(model, target)
    code = generate(compilation.module, target)
    report = artifact.report(compilation, code, {})
    layers = simulate(report, code.object, fixed_sample(compilation)).counts.layers
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
    parser = grid_parser(__doc__)
    parser.add_argument(
        "--least", type=float, default=2, metavar="PERCENT", help="which layers (default: 2)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()

    def gather() -> list[dict[str, Any]]:
        rows = (row for group in over_grid(args, measure) for row in group)
        return [row for row in rows if row["percent"] >= args.least]

    def show(rows: list[dict[str, Any]]) -> None:
        head = ["network", "target", "layer", "kernel", "instructions", "stack", "percent"]
        print(render_table(head, [[row[name] for name in head] for row in rows]))

    return publish(gather, args.json, show)


if __name__ == "__main__":
    sys.exit(main())
