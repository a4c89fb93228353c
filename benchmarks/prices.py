"""What kernels are priced at, beside what simulators count: every candidate of every layer.

    python benchmarks/prices.py                             the example network
    python benchmarks/prices.py a.onnx b.onnx --targets cortex-m4,rv32imc
    python benchmarks/prices.py a.onnx --json > prices.json

A network is compiled as often as its layers have candidates, with another one in each layer.
The last lines are the errors of the model, of which only those matter that change an order:
"regret" is how much slower all layers together are with the fastest candidates by price than with
the fastest ones there are.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from harness import fixed_sample, grid_parser, over_grid, publish

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model, kernel_candidates
from tinymlir.kernels.price import Price
from tinymlir.simulators import simulate
from tinymlir.targets import get_target
from tinymlir.tools.table import render_table


def measure(model: Path, target_name: str) -> list[dict[str, Any]]:
    """Each layer's candidates: what they are priced at, and what they take."""
    target = get_target(target_name)
    candidates = {name: c.prices for name, c in kernel_candidates(model, target).items()}
    rounds = max((len(prices) for prices in candidates.values()), default=0)
    rows = []
    for number in range(rounds):
        taken = {
            layer: list(prices)[number]
            for layer, prices in candidates.items()
            if number < len(prices)
        }
        compilation = compile_model(model, target, kernels=taken)
        code = generate(compilation.module, target)
        report = artifact.report(compilation, code, {})
        counts = simulate(report, code.object, fixed_sample(compilation)).counts.layers
        for layer, work in zip(report["layers"], counts, strict=True):
            if layer["name"] in taken:
                flash = layer["code_bytes"] + layer["constant_bytes"]
                rows.append(
                    {
                        "network": model.stem,
                        "target": target_name,
                        "layer": layer["name"],
                        "kernel": layer["kernel"],
                        "price": layer["price"],
                        "measured": asdict(Price(work.instructions, work.cycles, flash)),
                    }
                )
    return sorted(rows, key=lambda row: list(candidates).index(row["layer"]))


def errors(rows: list[dict[str, Any]], measure: str) -> dict[str, float]:
    """Mean and greatest error relative to what is measured, and the regret."""
    off = [abs(row["price"][measure] / max(1, row["measured"][measure]) - 1) for row in rows]
    layers = defaultdict(list)
    for row in rows:
        layers[row["network"], row["target"], row["layer"]].append(row)
    taken = [min(same, key=lambda row: row["price"][measure]) for same in layers.values()]
    best = [min(row["measured"][measure] for row in same) for same in layers.values()]
    regret = sum(row["measured"][measure] for row in taken) / sum(best) - 1
    return {"mean": float(np.mean(off)), "greatest": max(off), "regret": regret}


def main() -> int:
    parser = grid_parser(__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    return publish(
        lambda: [row for rows in over_grid(args, measure) for row in rows],
        args.json,
        lambda found: _show(found, args.targets.split(",")),
    )


def _show(found: list[dict[str, Any]], targets: list[str]) -> None:
    measures = list(Price.__dataclass_fields__)
    head = ["network", "target", "layer", "kernel"]
    head += [text for name in measures for text in (name.replace("_", " "), "off by")]
    rows = []
    for row in found:
        figures: list[object] = [row["network"], row["target"], row["layer"], row["kernel"]]
        for name in measures:
            measured = max(1, row["measured"][name])
            figures += [measured, f"{100 * (row['price'][name] / measured - 1):+.0f}%"]
        rows.append(figures)
    print(render_table(head, rows))
    for name in measures:
        summaries = [
            f"{target} {off['mean']:.0%} (at most {off['greatest']:.0%},"
            f" regret {off['regret']:.1%})"
            for target in targets
            for off in [errors([row for row in found if row["target"] == target], name)]
        ]
        print(f"{name.replace('_', ' ')} off by: {', '.join(summaries)}")


if __name__ == "__main__":
    sys.exit(main())
