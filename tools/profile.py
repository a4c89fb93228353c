"""``tinymlir profile``: where the time and the memory of a network go, layer by layer."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tinymlir.arrays import ObjectArray
from tinymlir.network import TensorInfo
from tinymlir.samples import load_samples
from tinymlir.simulators import Simulation, simulate
from tinymlir.simulators.flash import SYNTAX, parse_flash
from tinymlir.simulators.image import Entry
from tinymlir.tools import simulation
from tinymlir.tools.table import render_table

EXAMPLES = """\
examples:
  tinymlir profile build
  tinymlir profile model.onnx --target cortex-m7
  tinymlir profile build --input samples.npz --json
  tinymlir profile build --flash-timing 5:8:128:32
  tinymlir profile build --level 1                 of what 'compile --levels' wrote
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "profile",
        help="measure a network layer by layer",
        description="Measure one inference layer by layer: MACs, instructions, modelled cycles, "
        "RAM and flash.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    simulation.add_arguments(parser)
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="measure on the first sample of this file, as for 'run' (default: random values)",
    )
    parser.add_argument(
        "--flash-timing",
        metavar=SYNTAX,
        help="add the waits of a flash to the cycles; it gives lines of 4 bytes, of which one for "
        "code and one for constants is kept, unless told otherwise (default: no wait states)",
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    flash = None if args.flash_timing is None else parse_flash(args.flash_timing)
    report, object_code = simulation.load_network(Path(args.network), args.target)
    inputs = simulation.inputs_of(report)
    if args.input is None:
        sample = _random_sample(inputs)
    else:
        sample = load_samples(Path(args.input), inputs, 1)[0]
    entry = simulation.entry_of(args, report)
    done = simulate(report, object_code, sample, args.simulator, flash, entry)
    result = {**_measured(report, done, entry), "flash_timing": args.flash_timing}
    if args.json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        _print(result)
    return 0


def _random_sample(inputs: list[TensorInfo]) -> list[ObjectArray]:
    """The same values every time, over the whole range."""
    generator = np.random.default_rng(0)
    sample: list[ObjectArray] = []
    for info in inputs:
        levels = generator.integers(-128, 128, (1, *info.shape), np.int8)
        real = (levels.astype(np.float32) - np.float32(info.zero_point)) * np.float32(info.scale)
        sample.append(levels if info.type == "int8" else real)
    return sample


def _measured(report: dict[str, Any], done: Simulation, entry: Entry) -> dict[str, Any]:
    """``NAME.json`` with what was measured; ``entry`` is the entry point's own code."""
    total, counts = done.counts.total, done.counts
    layers = [
        {**layer, "instructions": work.instructions, "cycles": work.cycles}
        for layer, work in zip(entry.layers(report), counts.layers, strict=True)
    ]
    return {
        **report,
        "level": entry.level if "levels" in report else None,
        "margin": entry.margin,
        "simulator": done.simulator,
        "instructions": total.instructions,
        "cycles": total.cycles,
        "stack_bytes": done.stack_bytes,
        "entry": {"instructions": counts.invoke.instructions, "cycles": counts.invoke.cycles},
        "layers": layers,
    }


def _print(result: dict[str, Any]) -> None:
    layers = result["layers"]
    rows = [_row(layer["name"], layer, _flash(layer), layer["arena_bytes"]) for layer in layers]
    used = result["flash_bytes"]
    if result["level"] is not None:
        # Layers of several levels may share constants, so theirs do not add up.
        used = result["levels"][result["level"]]["flash_bytes"]
        rows.append(["(other levels)", *[None] * 7, result["flash_bytes"] - used])
    entry_flash = used - sum(map(_flash, layers))
    entry = {"op": "entry point", "macs": 0, **result["entry"]}
    rows.append(_row(f"{result['name']}_invoke", entry, entry_flash, 0))
    rows.append(_row("total", {"op": "", **result}, result["flash_bytes"], result["arena_bytes"]))
    print(f"{result['name']} on {result['target']} ({result['simulator']})")
    head = ["layer", "op", "kernel", "MACs", "instructions", "per MAC", "cycles", "RAM", "flash"]
    print(render_table(head, rows))
    print(f"\nstack: {result['stack_bytes']} bytes; RAM is what is live in the arena")
    if result["flash_timing"] is not None:
        print(f"cycles are those of a flash with the timing {result['flash_timing']}")


def _flash(layer: dict[str, Any]) -> int:
    return int(layer["code_bytes"] + layer["constant_bytes"])


def _row(name: str, part: dict[str, Any], flash: int, ram: int) -> list[object]:
    macs, instructions = part["macs"], part["instructions"]
    per_mac = f"{instructions / macs:.2f}" if macs else "-"
    return [
        name,
        part["op"],
        part.get("kernel"),
        macs,
        instructions,
        per_mac,
        part["cycles"],
        ram,
        flash,
    ]
