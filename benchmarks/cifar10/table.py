"""What ``tinymlir compile --max-accuracy-drop`` made of a network, for several promises.

``python table.py build/* --peer 10.61e6`` prints a row for each folder that it wrote;
the peer's instructions are those of CMSIS-NN on the same network.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tinymlir.tools.table import render_markdown


def row(folder: Path, peer: float | None) -> list[Any]:
    report = json.loads(next(folder.glob("*.json")).read_text())
    skipping, options = report["skipping"], report["options"]
    low, high = (100 * edge for edge in skipping["drop_interval"])
    exact, instructions = skipping["exact"], skipping["instructions"]
    return [
        f"{100 * options['max_accuracy_drop']:g} points",
        options["max_flash"],
        f"{skipping['accuracy']:.2%}",
        f"{100 * skipping['drop']:.2f} ({low:.2f} to {high:.2f})",
        f"{skipping['macs_skipped'] / report['macs']:.1%}",
        instructions,
        f"{1 - instructions / exact['instructions']:.1%}",
        None if peer is None else f"{instructions / peer:.1%}",
        skipping["cycles"],
        f"{1 - skipping['cycles'] / exact['cycles']:.1%}",
        report["flash_bytes"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("built", type=Path, nargs="+", help="folder that compile wrote")
    parser.add_argument("--peer", type=float, metavar="N", help="instructions of a peer")
    arguments = parser.parse_args()
    head = [
        "loss allowed",
        "--max-flash",
        "top-1",
        "points lost",
        "MACs skipped",
        "instructions",
        "fewer than exact",
        "of the peer's",
        "cycles",
        "fewer than exact",
        "flash bytes",
    ]
    print(render_markdown(head, [row(folder, arguments.peer) for folder in arguments.built]))


if __name__ == "__main__":
    main()
