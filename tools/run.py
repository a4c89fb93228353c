"""``tinymlir run``: a network on samples, on a simulated microcontroller or this machine."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir.arrays import ObjectArray, from_object
from tinymlir.compiler import facts
from tinymlir.errors import TinymlirError
from tinymlir.exploration.gate import ALWAYS
from tinymlir.files import write_all
from tinymlir.host import compile_for_host
from tinymlir.network import TensorInfo
from tinymlir.samples import load_samples
from tinymlir.simulators import Simulation, simulate
from tinymlir.simulators.image import Entry
from tinymlir.tools import simulation
from tinymlir.tools.arguments import positive
from tinymlir.tools.table import render_table

EXAMPLES = """\
examples:
  tinymlir run build --input samples.npz
  tinymlir run model.onnx --target rv32imc --input x.npy --output y.npy
  tinymlir run build --input samples.npz --simulator qemu --samples 100 --json
  tinymlir run model.onnx --target host --input samples.npz
  tinymlir run build --level 1 --gated --input samples.npz   of what 'compile --levels' wrote
"""

Array = npt.NDArray[np.generic]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "run",
        help="run a network on samples",
        description="Run a network on samples and say how well and how fast it does. Arrays keep "
        "the model's own layout and type, samples first.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    simulation.add_arguments(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help=".npy, or .npz with 'x' (or each input's name) and perhaps labels 'y'",
    )
    parser.add_argument("--output", metavar="FILE", help="where the outputs go: .npy or .npz")
    parser.add_argument("--samples", type=positive, metavar="N", help="run only the first N")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    if args.output is not None and Path(args.output).suffix not in (".npy", ".npz"):
        raise TinymlirError("is neither .npy nor .npz", node="--output", file=args.output)
    run = _run_on_host if args.target == "host" else _run_on_simulator
    report, outputs, labels = run(args)
    infos = simulation.outputs_of(report)
    arrays = [from_object(array, info) for array, info in zip(outputs, infos, strict=True)]
    if args.output is not None:
        _save(Path(args.output), infos, arrays)
    result = _summarise(report, arrays[0], labels)
    if args.json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        _print(result)
    return 0


Ran = tuple[dict[str, Any], list[ObjectArray], npt.NDArray[np.integer] | None]


def _run_on_simulator(args: argparse.Namespace) -> Ran:
    report, object_code = simulation.load_network(Path(args.network), args.target)
    inputs, labels = load_samples(Path(args.input), simulation.inputs_of(report), args.samples)
    entry = simulation.entry_of(args, report)
    run = partial(simulate, report, object_code, simulator=args.simulator)
    done = run(inputs, entry=entry)
    measured = {
        "level": entry.level if "levels" in report else None,
        "margin": entry.margin,
        "rerun": None if done.levels is None else int((done.levels == 0).sum()),
        "simulator": done.simulator,
        **_costs(
            done, lambda margin: run([a[:1] for a in inputs], entry=Entry(entry.level, margin))
        ),
        "stack_bytes": done.stack_bytes,
    }
    return {**report, **measured}, done.outputs, labels


def _costs(done: Simulation, gated: Callable[[int], Simulation]) -> dict[str, int]:
    """Instructions and cycles of a sample: on average, where some were run again exactly.

    ``gated`` runs one sample with another margin.
    """
    if done.levels is None:
        return asdict(done.counts.total)
    rerun = float((done.levels == 0).mean())
    trusted, again = (asdict(gated(margin).counts.total) for margin in (0, ALWAYS))
    return {unit: round((1 - rerun) * cost + rerun * again[unit]) for unit, cost in trusted.items()}


def _run_on_host(args: argparse.Namespace) -> Ran:
    simulation.refuse_levels(args)
    if args.simulator is not None:
        raise TinymlirError("the host runs in process, not on a simulator", node="--simulator")
    if Path(args.network).is_dir():
        raise TinymlirError(
            "is a directory; the host runs a model", file=args.network, hint="give the model file"
        )
    model = compile_for_host(args.network)
    inputs, labels = load_samples(Path(args.input), list(model.inputs), args.samples)
    return facts(model.compilation), model(*inputs), labels


def _summarise(
    report: dict[str, Any], outputs: Array, labels: npt.NDArray[np.integer] | None
) -> dict[str, Any]:
    """The report of ``--json``: null is what was not measured."""
    correct = None
    if labels is not None:
        correct = int((outputs.reshape(len(outputs), -1).argmax(axis=1) == labels).sum())
    measured = ("macs", "instructions", "cycles", "stack_bytes", "arena_bytes", "io_bytes")
    instructions, macs = report.get("instructions"), report["macs"]
    return {
        "name": report["name"],
        "target": report["target"],
        **{key: report.get(key) for key in ("simulator", "level", "margin", "rerun")},
        "samples": len(outputs),
        "correct": correct,
        "accuracy": None if correct is None else correct / len(outputs),
        **{key: report.get(key) for key in (*measured, "ram_bytes", "flash_bytes")},
        "instructions_per_mac": instructions / macs if instructions and macs else None,
    }


def _print(result: dict[str, Any]) -> None:
    rows = [
        ("accuracy", _accuracy(result)),
        ("run again exactly", _rerun(result)),
        ("instructions/inference", result["instructions"]),
        ("instructions/MAC", result["instructions_per_mac"]),
        ("modelled cycles", result["cycles"]),
        ("MACs", result["macs"]),
        ("stack bytes", result["stack_bytes"]),
        ("arena bytes", result["arena_bytes"]),
        ("RAM bytes (arena, input, output)", result["ram_bytes"]),
        ("flash bytes", result["flash_bytes"]),
    ]
    where = f" ({result['simulator']})" if result["simulator"] else ""
    level = "" if result["level"] is None else f" at level {result['level']}"
    gate = "" if result["margin"] is None else f" with the margin {result['margin']}"
    print(
        f"{result['name']} on {result['target']}{where}{level}{gate}, {result['samples']} samples"
    )
    print(render_table(["measure", "value"], [row for row in rows if row[1] is not None]))


def _rerun(result: dict[str, Any]) -> str | None:
    if result["rerun"] is None:
        return None
    return f"{result['rerun'] / result['samples']:.2%} ({result['rerun']})"


def _accuracy(result: dict[str, Any]) -> str | None:
    if result["accuracy"] is None:
        return None
    return f"{result['accuracy']:.2%} ({result['correct']} of {result['samples']})"


def _save(path: Path, infos: list[TensorInfo], arrays: list[Array]) -> None:
    stream = io.BytesIO()
    if path.suffix == ".npz":
        named = {info.name: array for info, array in zip(infos, arrays, strict=True)}
        np.savez(stream, allow_pickle=False, **named)
    elif len(arrays) == 1:
        np.save(stream, arrays[0])
    else:
        raise TinymlirError(
            f"cannot hold {len(arrays)} outputs", file=str(path), hint="use a .npz file"
        )
    write_all(path.parent, {path.name: stream.getvalue()})
