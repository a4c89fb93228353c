"""Seconds and memory that compiling takes, and whether they grow with the size of tensors.

    python benchmarks/compile_time.py
    python benchmarks/compile_time.py a.tflite b.onnx --target cortex-m4 --json

Each network is compiled by `tinymlir compile` in a process of its own, start included; memory is
its peak resident size. "layers" has a 3×3, a depthwise and a pointwise convolution, one network
for each size of the image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tinymlir.progress import progress
from tinymlir.tools.table import render_table

SIZES = (8, 32, 128, 512)
CHANNELS = 8


def layers(size: int) -> onnx.ModelProto:
    """Three convolutions of an image of ``size`` by ``size``, in QOperator form."""
    rng = np.random.default_rng(0)
    constants = {
        "scale": np.array(0.05, np.float32),
        "zero": np.array(0, np.int8),
        "full": rng.integers(-99, 99, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8),
        "depthwise": rng.integers(-99, 99, (CHANNELS, 1, 3, 3)).astype(np.int8),
        "pointwise": rng.integers(-99, 99, (CHANNELS, CHANNELS, 1, 1)).astype(np.int8),
    }
    nodes, x = [], "x"
    for weights in ("full", "depthwise", "pointwise"):
        scaled = ["scale", "zero"]
        pads = [0 if weights == "pointwise" else 1] * 4
        group = CHANNELS if weights == "depthwise" else 1
        inputs = [x, *scaled, weights, *scaled, *scaled]
        x = f"{weights}_result"
        nodes.append(helper.make_node("QLinearConv", inputs, [x], pads=pads, group=group))
    shape = [1, CHANNELS, size, size]
    ports = [helper.make_tensor_value_info(name, TensorProto.INT8, shape) for name in ("x", x)]
    graph = helper.make_graph(
        nodes,
        "layers",
        ports[:1],
        ports[1:],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def measure(model: Path, target: str, label: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tinymlir.tools.main", "compile", str(model)]
        command += ["--target", target, "--json", "-o", folder]
        begin = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begin
    if process.returncode:
        sys.exit(process.returncode)
    report = json.loads(output)
    # Kilobytes on Linux, bytes on a Mac.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "network": label,
        "target": target,
        "macs": report["macs"],
        "layers": len(report["layers"]),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_megabytes": round(usage.ru_maxrss * unit / 1e6),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--target", default="cortex-m4", help="default: cortex-m4")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(model, model.name) for model in args.models]
        for size in SIZES:
            path = Path(folder) / f"layers{size}.onnx"
            onnx.save(layers(size), path)
            jobs.append((path, f"layers, {size}×{size}"))
        figures = [
            measure(model, args.target, label)
            for model, label in progress(jobs, len(jobs), "compiling")
        ]
    if args.json:
        json.dump(figures, sys.stdout, indent=2)
        print()
    else:
        print(render_table(list(figures[0]), [list(figure.values()) for figure in figures]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
