"""What ``run`` and ``profile`` share: the network to simulate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.network import TensorInfo
from tinymlir.simulators import SIMULATORS
from tinymlir.simulators.image import EXACT, Entry
from tinymlir.targets import get_target, require_simulator
from tinymlir.tools.arguments import natural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that both tools take."""
    parser.add_argument(
        "network",
        metavar="MODEL|DIR",
        help="a quantised network (ONNX, TFLite or MLIR), or what 'compile' wrote",
    )
    parser.add_argument(
        "--target", help="see 'tinymlir targets' (default: what DIR is for; cortex-m4 for a MODEL)"
    )
    parser.add_argument(
        "--simulator", choices=SIMULATORS, help="default: unicorn where it has the core, else qemu"
    )
    levels = parser.add_argument_group("levels", "of what 'compile --levels' wrote")
    levels.add_argument("--level", type=natural, metavar="K", help="which to run (default: 0)")
    levels.add_argument(
        "--gated",
        action="store_true",
        help="run again exactly where the best score of --level leads by less than a margin",
    )
    levels.add_argument(
        "--margin",
        type=natural,
        metavar="N",
        help="with --gated: the margin (default: the one that was chosen for the level)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def entry_of(args: argparse.Namespace, report: dict[str, Any]) -> Entry:
    """What to call of an object.

    Raises:
        TinymlirError: it has no such level, or the level no margin.
    """
    levels = report.get("levels")
    if not levels:
        refuse_levels(args)
        return EXACT
    level = args.level or 0
    if level >= len(levels):
        known = ", ".join(f"{k} ({one['name']})" for k, one in enumerate(levels))
        raise TinymlirError(
            f"there is no level {level}", node="--level", hint=f"the levels are {known}"
        )
    if not args.gated:
        if args.margin is not None:
            raise TinymlirError("is for --gated", node="--margin", hint="add --gated")
        return Entry(level)
    gate = levels[level]["gate"]
    if gate is None:
        reason = "is exact" if level == 0 else "has no class scores to tell how sure it is"
        raise TinymlirError(
            f"level {level} {reason}", node="--gated", hint="choose another level, or no gate"
        )
    return Entry(level, gate["margin"] if args.margin is None else args.margin)


def refuse_levels(args: argparse.Namespace) -> None:
    """Raise a TinymlirError where a level is asked for of a network that has only one."""
    for option in ("level", "gated", "margin"):
        if getattr(args, option):
            raise TinymlirError(
                "the network has one level only",
                node=f"--{option}",
                hint="'compile --levels' makes several",
            )


def load_network(path: Path, target_name: str | None) -> tuple[dict[str, Any], bytes]:
    """Report and object: of a directory as they are there, of a model by compiling it.

    Raises:
        TinymlirError: there is no such thing, it was compiled for another target, or it does not
            compile.
    """
    if path.is_dir():
        report, object_code = artifact.load(path)
        if target_name is not None and get_target(target_name).name != report["target"]:
            raise TinymlirError(
                f"is compiled for {report['target']}, not for {target_name}",
                file=str(path),
                hint=f"compile again with --target {target_name}",
            )
        if report["target"] == "host":
            raise TinymlirError(
                "is compiled for the host, which is not simulated",
                file=str(path),
                hint="run the model itself with --target host",
            )
        require_simulator(get_target(report["target"]), file=str(path))
        return report, object_code
    target = get_target(target_name or "cortex-m4")
    require_simulator(target, node="--target")
    compilation = compile_model(path, target)
    code = generate(compilation.module, target)
    return artifact.report(compilation, code, {}), code.object


def inputs_of(report: dict[str, Any]) -> list[TensorInfo]:
    return [TensorInfo.from_json(tensor) for tensor in report["inputs"]]


def outputs_of(report: dict[str, Any]) -> list[TensorInfo]:
    return [TensorInfo.from_json(tensor) for tensor in report["outputs"]]
