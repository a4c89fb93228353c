"""Exact cycles of RISC-V cores, from their RTL under Verilator, in total and per layer.

    python benchmarks/rtl.py                                  the example network, every core
    python benchmarks/rtl.py a.onnx b.tflite --core cv32e40p
    python benchmarks/rtl.py a.onnx --layers
    python benchmarks/rtl.py a.onnx --json > figures.json
    python benchmarks/rtl.py a.onnx --markdown                as in docs/benchmarks.md

Instructions and data come from memories of their own without wait states. What the network gives
must equal what it gives on this machine, byte for byte, or the command fails. Beside the exact
cycles of CV32E40P stand those by the model of the target rv32imc. With its PULP instructions it
runs code for the target rv32imc_xcv, which no simulator runs.

Needs Verilator 5 with a C++ compiler, and the RTL: pip install 'tinymlir[rtl]'. Each core is built
once, into build/verilated/, in about ten seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import EXAMPLE, fixed_sample, publish
from verilated import simulation
from verilated.cores import CORES, Core, build_core

from tinymlir import artifact
from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.fitting import generate_within
from tinymlir.host import compile_for_host
from tinymlir.pipelines import BALANCED
from tinymlir.progress import progress
from tinymlir.simulators import simulate
from tinymlir.simulators.image import build_image
from tinymlir.simulators.trace import Counts, Work
from tinymlir.targets import Target, get_target
from tinymlir.tools.table import render_markdown, render_table

# What the costs of the target rv32imc are those of.
MODELLED = "cv32e40p"
# Of an inference that nobody has counted: some minutes.
_MOST_CYCLES = 1_000_000_000


class Network:
    """A model as object code for a target, with an input and the output that it must give.

    ``modelled`` is what it takes on the target's simulator, where it has one.
    """

    def __init__(self, model: Path, target: Target) -> None:
        compilation, code = generate_within(
            lambda selection: compile_model(model, target, selection=selection), BALANCED
        )
        self.name = model.stem
        self.report = artifact.report(compilation, code, {})
        self.image = build_image(self.report, code.object)
        self.sample = fixed_sample(compilation)
        self.expected = compile_for_host(model)(*self.sample)
        self.modelled: Counts | None = None
        if target.simulated:
            self.modelled = simulate(self.report, code.object, self.sample).counts

    def measure(self, core: Core) -> dict[str, Any]:
        """One inference on ``core``.

        Raises:
            TinymlirError: it gives another output than on this machine, or runs other instructions
                than on the simulator.
        """
        outputs, counts = simulation.run(build_core(core), self.image, self.sample, self._limit())
        for output, expected in zip(outputs, self.expected, strict=True):
            if output.tobytes() != expected.tobytes():
                raise TinymlirError("gives another output than on the host", node=core.name)
        exact = (*counts.layers, counts.invoke)
        modelled: Sequence[Work | None] = [None] * len(exact)
        if self.modelled is not None:
            modelled = (*self.modelled.layers, self.modelled.invoke)
        for one, other in zip(exact, modelled, strict=True):
            if other is not None and one.instructions != other.instructions:
                raise TinymlirError("runs other instructions than the simulator", node=core.name)
        parts = [
            *self.report["layers"],
            {
                "name": f"{self.report['name']}_invoke",
                "op": "entry point",
                "kernel": None,
                "macs": 0,
            },
        ]
        return {
            "network": self.name,
            "core": core.name,
            "configuration": core.configuration,
            **_figures(
                core, self.report["macs"], counts.total, self.modelled and self.modelled.total
            ),
            "layers": [
                {
                    "name": part["name"],
                    "op": part["op"],
                    "kernel": part["kernel"],
                    **_figures(core, part["macs"], one, other),
                }
                for part, one, other in zip(parts, exact, modelled, strict=True)
            ],
        }

    def _limit(self) -> int:
        """Cycles after which it is taken to hang."""
        if self.modelled is None:
            return _MOST_CYCLES
        # No instruction takes a tenth of that on average.
        return 100 * self.modelled.total.instructions + 10_000


def _figures(core: Core, macs: int, exact: Work, modelled: Work | None) -> dict[str, Any]:
    return {
        "macs": macs,
        "instructions": exact.instructions,
        "cycles": exact.cycles,
        "cycles_per_instruction": exact.cycles / max(1, exact.instructions),
        "cycles_per_mac": exact.cycles / macs if macs else None,
        "modelled_cycles": modelled.cycles if modelled and core.name == MODELLED else None,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, default=[EXAMPLE], metavar="MODEL")
    parser.add_argument(
        "--core",
        action="append",
        choices=list(CORES),
        help="may be given more than once (default: every core)",
    )
    parser.add_argument("--layers", action="store_true", help="a row for every layer")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the figures as JSON")
    form.add_argument("--markdown", action="store_true", help="print the table for a page")
    args = parser.parse_args()
    cores = [CORES[name] for name in args.core or CORES]

    def gather() -> list[dict[str, Any]]:
        wanted = [(m, t) for m in args.models for t in dict.fromkeys(c.target for c in cores)]
        compiled = (Network(model, get_target(target)) for model, target in wanted)
        networks = dict(zip(wanted, progress(compiled, len(wanted), "compiling"), strict=True))
        jobs = [(networks[model, core.target], core) for model in args.models for core in cores]
        return [network.measure(core) for network, core in progress(jobs, len(jobs), "running")]

    return publish(gather, args.json, lambda figures: _print(figures, args.layers, args.markdown))


def _print(figures: list[dict[str, Any]], layers: bool, markdown: bool) -> None:
    head = ["network", "core", "instructions", "cycles", "per instruction", "per MAC", "modelled"]
    rows = []
    for figure in figures:
        parts = [{**layer, "network": f"  {layer['name']}"} for layer in figure["layers"]]
        for part in (figure, *parts) if layers else (figure,):
            rows.append(
                [part["network"], figure["core"], part["instructions"], part["cycles"],
                 part["cycles_per_instruction"], part["cycles_per_mac"], part["modelled_cycles"]]
            )  # fmt: skip
    print((render_markdown if markdown else render_table)(head, rows))
    if not markdown:
        for name in dict.fromkeys(figure["core"] for figure in figures):
            print(f"\n{name}: {CORES[name].configuration}", end="")
        print("\nmemories: 0 wait states, one port for instructions and one for data")


if __name__ == "__main__":
    sys.exit(main())
