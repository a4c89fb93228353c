"""Whether simulated cores give the bytes that the host gives, on random inputs.

    python benchmarks/equality.py a.tflite b.onnx
    python benchmarks/equality.py a.tflite --targets cortex-m0,rv32imc --samples 10
    python benchmarks/equality.py a.tflite --simulator qemu --json

The host's bytes are the reference interpreters', which the tests see to. The exit status is 1
where any byte differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.host import compile_for_host
from tinymlir.progress import progress
from tinymlir.simulators import SIMULATORS, simulate
from tinymlir.targets import get_target
from tinymlir.tools.table import render_table

TARGETS = "cortex-m0,cortex-m4,cortex-m33,cortex-m55,rv32imc,rv32imc_zve32x"


def compare(model: Path, target_name: str, samples: int, simulator: str | None) -> dict[str, Any]:
    """Run both on the same random inputs, the first half of them with half the range."""
    host, target = compile_for_host(model), get_target(target_name)
    random = np.random.default_rng(0)
    inputs = [
        random.integers(-128, 128, (samples, *info.shape)).astype(np.int8) for info in host.inputs
    ]
    for array in inputs:
        array[: samples // 2] //= 2
    compilation = compile_model(model, target)
    code = generate(compilation.module, target)
    begin = time.perf_counter()
    run = simulate(artifact.report(compilation, code, {}), code.object, inputs, simulator)
    pairs = list(zip(run.outputs, host(*inputs), strict=True))
    return {
        "network": model.name,
        "target": target_name,
        "simulator": run.simulator,
        "samples": samples,
        "bytes": sum(wanted.size for _, wanted in pairs),
        "different_bytes": sum(int((got != wanted).sum()) for got, wanted in pairs),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--targets", default=TARGETS, help=f"comma-separated (default: {TARGETS})")
    parser.add_argument("--samples", type=int, default=3, help="inputs per network (default: 3)")
    parser.add_argument(
        "--simulator", choices=SIMULATORS, help="default: unicorn, qemu where it lacks the core"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    jobs = [(model, target) for model in args.models for target in args.targets.split(",")]
    try:
        results = [
            compare(*job, args.samples, args.simulator)
            for job in progress(jobs, len(jobs), "comparing")
        ]
    except TinymlirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        json.dump(results, sys.stdout, indent=2)
        print()
    else:
        print(render_table(list(results[0]), [list(result.values()) for result in results]))
    return int(any(result["different_bytes"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
