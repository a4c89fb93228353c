"""Latency at 0, 5 and 10 points of loss, from what ``tinymlir explore`` found.

``python table.py explored/explore.json --peer 10.61e6`` prints a table; the peer's
instructions are those of CMSIS-NN on the same network.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tinymlir.tools.table import render_markdown

LOSSES = (0.0, 0.05, 0.10)


def fastest(result: dict[str, Any], loss: float) -> dict[str, Any]:
    """The fastest point that loses at most ``loss`` on the samples that were chosen on."""
    least = result["exact"]["accuracy_when_choosing"] - loss
    points = [*result["front"], result["exact"]]
    # No loss is one that the samples do not show: the front has one point for it.
    if loss == 0:
        return max(points[:-1], key=lambda p: p["instructions"])
    return next(p for p in points if p["accuracy_when_choosing"] >= least)


def row(name: str, point: dict[str, Any], result: dict[str, Any], peer: float | None) -> list[Any]:
    low, high = (100 * edge for edge in point["drop_interval"])
    return [
        name,
        f"{point['accuracy']:.2%}",
        f"{100 * point['drop']:.2f} ({low:.2f} to {high:.2f})",
        f"{point['macs_skipped'] / result['macs']:.1%}",
        point["instructions"],
        f"{1 - point['instructions'] / result['exact']['instructions']:.1%}",
        None if peer is None else f"{point['instructions'] / peer:.1%}",
        point["flash_bytes"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("explored", type=Path, nargs="+", help="explore.json")
    parser.add_argument("--peer", type=float, metavar="N", help="instructions of a peer")
    arguments = parser.parse_args()
    head = [
        "loss allowed",
        "top-1",
        "points lost",
        "MACs skipped",
        "instructions",
        "fewer than exact",
        "of the peer's",
        "flash bytes",
    ]
    for file in arguments.explored:
        result = json.loads(file.read_text())
        rows = [row("exact", result["exact"], result, arguments.peer)]
        rows += [
            row(f"{100 * loss:.0f} points", fastest(result, loss), result, arguments.peer)
            for loss in LOSSES
        ]
        print(f"{result['name']} on {result['target']}, {result['samples_reported_on']} images\n")
        print(render_markdown(head, rows))


if __name__ == "__main__":
    main()
