"""``tinymlir explore``: accuracy against latency, when multiplications are left out."""

from __future__ import annotations

import argparse
import io
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tinymlir.compiler import identifier
from tinymlir.exploration.data import Files
from tinymlir.exploration.prices import Latency
from tinymlir.exploration.report import render
from tinymlir.exploration.result import Exploration
from tinymlir.exploration.study import Settings, Study
from tinymlir.files import write_all
from tinymlir.skipping.compensation import Compensation
from tinymlir.skipping.significance import Score
from tinymlir.skipping.units import Granularity
from tinymlir.targets import Target, get_target
from tinymlir.tools.arguments import positive, seed, size
from tinymlir.tools.table import render_table

DESCRIPTION = """\
Find how many multiplications a network can do without, layer by layer, and what that saves on a
target: a front of accuracy against latency. Choices are made on one part of the data and
reported on another.
"""
EXAMPLES = """\
examples:
  tinymlir explore model.onnx --target cortex-m4 --data labelled.npz -o explored
  tinymlir explore model.onnx --data labelled.npz --test other.npz -o explored --seed 3
  tinymlir explore model.onnx --data unseen.npz --fit training.npz -o explored
  tinymlir explore model.onnx --data unlabelled.npy --trials 50 --json
  tinymlir explore model.onnx --data large.npz -o explored --dask tcp://host:8786

then: tinymlir compile model.onnx -o build --data labelled.npz --max-accuracy-drop 0.01
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "explore",
        help="trade accuracy for latency",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a quantised network: an ONNX, TFLite or MLIR file"
    )
    parser.add_argument("--target", default="cortex-m4", help="see 'tinymlir targets'")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help=".npz with 'x' (or each input's name) and labels 'y'; without labels the measure is "
        "agreement with the exact network",
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="where report.html and the rest go")
    parser.add_argument(
        "--max-flash", type=size, metavar="BYTES", help="choose kernels that fit into so much flash"
    )
    add_search_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(main=main)


def add_search_arguments(parser: argparse._ActionsContainer) -> None:
    """What a search can be told, here and by ``compile``."""
    parser.add_argument(
        "--test",
        metavar="FILE",
        help="samples to report on (default: those of --data that are not chosen on)",
    )
    parser.add_argument(
        "--fit",
        metavar="FILE",
        help="samples to fit what is left to, as training images; promises are then shown on all "
        "of --data that is not reported on (default: a part of that)",
    )
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="evaluate candidates on the Dask cluster of this scheduler, as tcp://host:8786",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the search (default: 0)")
    parser.add_argument(
        "--trials",
        type=positive,
        default=Settings.trials,
        metavar="N",
        help=f"candidates to evaluate, at most (default: {Settings.trials})",
    )
    parser.add_argument(
        "--latency",
        choices=get_args(Latency),
        default=Settings.latency,
        help="what shall be few: exact instructions, or the cycles of the target's model "
        f"(default: {Settings.latency})",
    )
    parser.add_argument(
        "--score",
        choices=get_args(Score),
        default=Settings.score,
        help=f"significance of products (default: {Settings.score})",
    )
    parser.add_argument(
        "--compensate",
        choices=get_args(Compensation),
        default=Settings.compensation,
        help="what makes up for what goes: the bias, or the other weights as well "
        f"(default: {Settings.compensation})",
    )


def make_study(
    args: argparse.Namespace, target: Target, name: str, directory: Path | None, beside: int = 0
) -> Study:
    """What to explore, from the arguments of ``explore`` or ``compile``.

    ``beside``: networks that go into one object beside the exact one.
    """
    granularity: Granularity = "pair" if target.has("dsp") else "single"
    settings = Settings(
        args.seed,
        args.trials,
        args.score,
        args.compensate,
        granularity,
        args.latency,
        args.max_flash,
        beside,
    )
    test, fit = (None if file is None else Path(file) for file in (args.test, args.fit))
    files = Files(Path(args.data), test, fit)
    return Study(Path(args.model), name, target, settings, files, directory, args.dask)


def main(args: argparse.Namespace) -> int:
    target = get_target(args.target)
    directory = None if args.output is None else Path(args.output)
    study = make_study(args, target, identifier(Path(args.model).stem), directory)
    result = study.run()
    if directory is not None:
        write(directory, study, result, None, args)
    if args.json:
        json.dump(contents(result, args, None), sys.stdout, indent=2)
        print()
    else:
        _print(result.to_json())
        if directory is not None:
            print(f"\nwrote {directory / 'report.html'}")
    return 0


#: Arguments, of ``explore`` or ``compile``, that decide what comes out.
_DECISIVE = (
    "output",
    "name",
    "target",
    "data",
    "test",
    "fit",
    "seed",
    "trials",
    "score",
    "compensate",
    "latency",
    "max_flash",
    "max_accuracy_drop",
    "levels",
    "agreement",
    "max_ram",
    "max_overhead",
    "plan",
    "schemes",
    "input_mode",
    "optimize",
    "flash_timing",
    "kernels",
    "float_io",
    "emit",
)


def replay(args: argparse.Namespace) -> str:
    """The command that gives the same again."""
    words = ["tinymlir", args.command, args.model]
    for name in _DECISIVE:
        value, option = getattr(args, name, None), f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def contents(result: Exploration, args: argparse.Namespace, chosen: int | None) -> dict[str, Any]:
    """What ``explore.json`` has; ``chosen`` is the number of the point of the front that is meant,
    if one is.
    """
    return {**result.to_json(), "chosen": chosen, "command": replay(args)}


def write(
    directory: Path,
    study: Study,
    result: Exploration,
    chosen: int | None,
    args: argparse.Namespace,
    levels: Sequence[dict[str, Any]] = (),
) -> None:
    """``report.html``, ``explore.json``, and what the pipelines of points read.

    Args:
        chosen: number of the point of the front that is meant.
        levels: those of the object, as its report has them.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **study.calibration())
    found = contents(result, args, chosen) | ({"levels": levels} if levels else {})
    write_all(
        directory,
        {
            "calibration.npz": stream.getvalue(),
            "explore.json": (json.dumps(found, indent=2) + "\n").encode(),
            "report.html": render(found).encode(),
        },
    )


def _print(result: dict[str, Any]) -> None:
    rows = [
        [
            f"{point['accuracy']:.2%}",
            f"{point['accuracy_interval'][0]:.2%} to {point['accuracy_interval'][1]:.2%}",
            f"{100 * point['drop']:+.2f}",
            point["instructions"],
            f"{1 - point['instructions'] / result['exact']['instructions']:.1%}",
            point["cycles"],
            f"{1 - point['cycles'] / result['exact']['cycles']:.1%}",
            f"{point['macs_skipped'] / result['macs']:.1%}",
            point["flash_bytes"],
        ]
        for point in (*result["front"], result["exact"])
    ]
    rows[-1][0] += ", exact"
    head = [
        result["measure"],
        "95 %",
        "points lost",
        "instructions",
        "fewer",
        "cycles",
        "fewer",
        "MACs skipped",
        "flash",
    ]
    print(f"{result['name']} on {result['target']}, {result['samples_reported_on']} samples")
    print(render_table(head, rows))
