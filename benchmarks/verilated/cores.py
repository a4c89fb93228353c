"""The cores that can be built from RTL, and the building: once per version of what goes in."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tinymlir.errors import TinymlirError

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / "build" / "verilated"

# What Verilator says of these cores' style is not ours to mend. SYNTHESIS leaves out assertions and
# tracing; what does not run in every cycle is not worth the compiler's time.
_FLAGS = [
    *("--cc", "--exe", "--build", "-j", "0", "--top-module", "core", "--prefix", "Vcore"),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-BLKANDNBLK", "-Wno-COMBDLY", "-Wno-UNOPTFLAT"),
    *("-DSYNTHESIS", "-CFLAGS", "-fPIC", "-LDFLAGS", "-shared", "-o", "libcore.so"),
    *("-MAKEFLAGS", "OPT_FAST=-O2 OPT_SLOW=-O0 OPT_GLOBAL=-O1"),
]


@dataclass(frozen=True)
class Core:
    """A core in one configuration.

    ``sources`` names a wrapper ``.sv`` and a list of files ``.f`` beside this module, ``package``
    the Python package that holds the RTL, ``parameters`` are of the wrapper. ``target`` is what
    runs on it.
    """

    name: str
    sources: str
    package: str
    configuration: str
    parameters: tuple[str, ...] = ()
    target: str = "rv32imc"


CORES = {
    core.name: core
    for core in (
        Core(
            "cv32e40p",
            "cv32e40p",
            "pythondata_cpu_cv32e40p",
            "four stages, single-cycle mul, five-cycle mulh, no PULP instructions",
        ),
        Core(
            "cv32e40p-pulp",
            "cv32e40p",
            "pythondata_cpu_cv32e40p",
            "the same with PULP instructions, which the target rv32imc_xcv uses",
            ("Pulp=1",),
            "rv32imc_xcv",
        ),
        Core(
            "ibex-small",
            "ibex",
            "pythondata_cpu_ibex",
            "'small': two stages, three-cycle mul, four-cycle mulh",
        ),
        Core(
            "ibex-maxperf",
            "ibex",
            "pythondata_cpu_ibex",
            "'maxperf': three stages, branch target ALU, single-cycle mul, two-cycle mulh",
            ("MaxPerf=1",),
        ),
    )
}


def build_core(core: Core) -> Path:
    """The shared library of a core; built where it is not yet there.

    Raises:
        TinymlirError: Verilator, a C++ compiler or the RTL is missing, or the build fails.
    """
    verilator = shutil.which("verilator")
    if verilator is None:
        raise TinymlirError("RTL needs Verilator 5", hint="apt install verilator g++ make")
    package = importlib.util.find_spec(core.package)
    if package is None or package.origin is None:
        raise TinymlirError(
            f"RTL needs the package '{core.package}'", hint="pip install 'tinymlir[rtl]'"
        )
    rtl = Path(package.origin).parent / "system_verilog"
    own = [HERE / f"{core.sources}.f", HERE / f"{core.sources}.sv", HERE / "harness.cpp"]
    library = CACHE / f"{core.name}-{_digest(core, own, Path(package.origin))}.so"
    if not library.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "RTL": str(rtl), "DESIGN_RTL_DIR": str(rtl / "rtl")}
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            command = [verilator, *_FLAGS, "-Mdir", folder, "-f", *map(str, own)]
            command += [f"-G{parameter}" for parameter in core.parameters]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "rror" in line]
                reason = (lines or done.stderr.splitlines() or ["no reason given"])[0]
                raise TinymlirError(f"cannot be built: {reason}", node=core.name)
            # In one step, so that another process finds all of it or nothing.
            os.replace(Path(folder) / "libcore.so", library)
    return library


def _digest(core: Core, own: list[Path], package: Path) -> str:
    """Of everything that the library is made from; the package's file holds its version."""
    version = subprocess.run(["verilator", "--version"], capture_output=True).stdout
    parts = [version, repr((_FLAGS, core)).encode(), *(p.read_bytes() for p in (*own, package))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
