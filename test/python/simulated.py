"""Hand-written stand-ins for compiled networks, for the tests of the simulators."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymlir.simulators.emulator import Emulator, Int8Array
from tinymlir.simulators.image import Image, build_image
from tinymlir.simulators.qemu import Qemu
from tinymlir.simulators.trace import BlockTrace, Counts
from tinymlir.targets import TARGETS, get_target

SIMULATED = [target.name for target in TARGETS.values() if target.simulated]
ON_UNICORN = [target.name for target in TARGETS.values() if target.unicorn]
HAVE_QEMU = all(map(shutil.which, ("qemu-system-arm", "qemu-system-riscv32")))
needs_qemu = pytest.mark.skipif(not HAVE_QEMU, reason="QEMU for Arm and RISC-V is not installed")
BOTH = ["unicorn", pytest.param("qemu", marks=needs_qemu)]

Sizes = tuple[tuple[str, int], ...]


@functools.cache
def object_code(target: str, source: str, extension: str = "c", flags: str = "") -> bytes:
    """Compile a source text for a target."""
    core = get_target(target)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", str(core.zig_target)]
    command += [f"-mcpu={core.zig_cpu}{flags}", "-O2", "-g0", "-fno-sanitize=all", "-c"]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"net.{extension}"
        path.write_text(source)
        output = Path(directory) / "net.o"
        subprocess.run([*command, str(path), "-o", str(output)], check=True)
        return output.read_bytes()


def report(
    target: str,
    inputs: Sizes = (("x", 16),),
    outputs: Sizes = (("y", 16),),
    arena_bytes: int = 64,
    layers: int = 1,
) -> dict[str, Any]:
    """What ``NAME.json`` would say, as far as simulators ask."""

    def tensor(name: str, size: int) -> dict[str, Any]:
        return {
            "name": name,
            "bytes": size,
            "shape": [1, size],
            "scale": 0.5,
            "zero_point": 0,
            "model_type": "int8",
            "model_shape": [1, size],
            "permutation": [0, 1],
            "type": "int8",
            "rounding": "nearest_even",
        }

    return {
        "name": "net",
        "target": target,
        "inputs": [tensor(*given) for given in inputs],
        "outputs": [tensor(*given) for given in outputs],
        "macs": 1000,
        "arena_bytes": arena_bytes,
        "arena_alignment": 4,
        "io_bytes": 32,
        "ram_bytes": arena_bytes + 32,
        "code_bytes": 100,
        "constant_bytes": 20,
        "flash_bytes": 120,
        "stack_bytes": None,
        "layers": [
            {
                "name": f"conv{i}",
                "op": "conv2d",
                "symbol": f"net_layer{i}",
                "macs": 500,
                "arena_bytes": 32,
                "code_bytes": 40,
                "constant_bytes": 10,
            }
            for i in range(layers)
        ],
    }


def build(target: str, source: str, extension: str = "c", flags: str = "", **facts: Any) -> Image:
    return build_image(report(target, **facts), object_code(target, source, extension, flags))


def run(image: Image, simulator: str, *inputs: Int8Array) -> tuple[list[Int8Array], Counts, int]:
    """One sample: outputs, counts and stack bytes."""
    trace = BlockTrace(image)
    if simulator == "unicorn":
        emulator = Emulator(image, trace)
        outputs = emulator.run(inputs)
        emulator.check_gaps()
        return outputs, trace.counts(), emulator.stack_bytes()
    qemu = Qemu(image)
    batch = [array[None] for array in inputs]
    outputs = [output[0] for output in qemu.run(batch)]
    qemu.trace(batch, trace)
    return outputs, trace.counts(), qemu.stack_bytes()


def ramp(size: int) -> Int8Array:
    return np.arange(size).astype(np.int8)
