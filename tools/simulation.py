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
from tinymlir.targets import get_target, require_simulator


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
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


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
