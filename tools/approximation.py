"""What ``compile --data`` compiles: a network that loses little, or several in one object."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tinymlir.bindings import ir
from tinymlir.codegen import Code
from tinymlir.compiler import Compilation, lower_module, pin_kernels
from tinymlir.errors import TinymlirError
from tinymlir.exploration.data import PartName
from tinymlir.exploration.gate import (
    AGREEMENT,
    ALWAYS,
    Gate,
    measure,
    require_samples_for,
    why_no_gain,
    why_no_scores,
)
from tinymlir.exploration.prices import Latency
from tinymlir.exploration.result import Exploration, Point
from tinymlir.exploration.study import Study, require_samples
from tinymlir.levels import lower_levels
from tinymlir.pipelines import (
    Fusion,
    Selection,
)
from tinymlir.simulators import simulate
from tinymlir.simulators.image import Entry
from tinymlir.targets import Target
from tinymlir.tools import explore
from tinymlir.tools.arguments import levels, promise, share
from tinymlir.tools.table import render_table

Lower = Callable[[Selection], Compilation]
#: What ``NAME.json`` says besides, of a report and its code.
Describe = Callable[[dict[str, Any], Code], dict[str, Any]]

#: What NAME.json repeats of an exploration.
_SKIPPING = (
    "measure",
    "accuracy",
    "accuracy_interval",
    "drop",
    "drop_interval",
    "samples_chosen_on",
    "samples_reported_on",
    "data_sha256",
    "macs_skipped",
    "instructions",
    "cycles",
    "layers",
    "pipeline",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "skipping", "leave out multiplications that the accuracy can do without"
    )
    group.add_argument(
        "--data", metavar="FILE", help="samples and labels to measure accuracy on, as for explore"
    )
    group.add_argument(
        "--max-accuracy-drop",
        type=share,
        metavar="SHARE",
        help="the fastest network that loses at most so much: 0.01 is one point",
    )
    group.add_argument(
        "--levels",
        type=levels,
        metavar="LEVELS",
        help="several networks in one object, to choose from at run time: 'exact,1%%,5%%' is the "
        "exact one and the fastest that lose at most one point and five",
    )
    group.add_argument(
        "--agreement",
        type=promise,
        metavar="SHARE",
        help="with --levels: how often NAME_invoke_gated, which runs again exactly what a level "
        f"is not sure of, shall say what the exact network says (default: {AGREEMENT})",
    )
    explore.add_search_arguments(group)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a TinymlirError where options do not go together."""
    if args.levels is not None and args.max_accuracy_drop is not None:
        raise TinymlirError(
            "the losses are those of --levels",
            node="--max-accuracy-drop",
            hint="leave one of the two out",
        )
    if args.levels is not None and args.input_mode not in (None, "external"):
        raise TinymlirError(
            "levels take their input from the caller, so that one can run after another",
            node="--input-mode",
            hint="leave it out",
        )
    if args.test is not None and args.data is None:
        raise TinymlirError("reports on what --data chose", node="--test", hint="add --data")
    if args.fit is not None and args.data is None:
        raise TinymlirError("fits what --data measures", node="--fit", hint="add --data")
    if args.agreement is not None and args.levels is None:
        raise TinymlirError("is a promise of --levels", node="--agreement", hint="add --levels")
    option = "--max-accuracy-drop" if args.levels is None else "--levels"
    if (args.max_accuracy_drop is None and args.levels is None) != (args.data is None):
        raise TinymlirError(
            "a loss of accuracy takes samples to measure it on",
            node=option if args.data is None else "--data",
            hint=f"give both --data and {option}, or neither",
        )


def one(
    args: argparse.Namespace,
    target: Target,
    name: str,
    kernels: dict[str, str],
    fusion: Fusion | None,
) -> tuple[Lower, Describe]:
    """The fastest network that loses at most ``--max-accuracy-drop``."""
    directory = _directory(args)
    study = explore.make_study(args, target, name, directory)
    require_samples(study.data, args.max_accuracy_drop)
    result = study.run([args.max_accuracy_drop])
    point = result.within(args.max_accuracy_drop)
    explore.write(directory, study, result, result.front.index(point), args)

    def lower(selection: Selection) -> Compilation:
        with study.context, ir.Location.unknown():
            module = study.build(point)
            pin_kernels(module, kernels, args.model)
            return lower_module(
                module,
                target,
                name,
                study.model_sha256,
                float_io=args.float_io,
                selection=selection,
                fusion=fusion,
            )

    return lower, lambda _summary, _code: {"skipping": _skipping(result, point)}


def several(
    args: argparse.Namespace,
    target: Target,
    name: str,
    kernels: dict[str, str],
    fusion: Fusion | None,
) -> tuple[Lower, Describe]:
    """The exact network, and the fastest ones for each loss of ``--levels``, in one object."""
    losses = args.levels.losses[1:]
    directory = _directory(args)
    study = explore.make_study(args, target, name, directory, len(losses))
    for loss in losses:
        require_samples(study.data, loss)
    promised = _promised(args, study)
    result = study.run(losses)
    points = [result.exact, *(result.within(loss) for loss in losses)]

    def lower(selection: Selection) -> Compilation:
        with study.context, ir.Location.unknown():
            modules = [study.build(point) for point in points]
            for module in modules:
                pin_kernels(module, kernels, args.model)
            return lower_levels(
                modules,
                target,
                name,
                study.model_sha256,
                gated=promised is not None,
                float_io=args.float_io,
                selection=selection,
                fusion=fusion,
            )

    def describe(summary: dict[str, Any], code: Code) -> dict[str, Any]:
        cost = _Costs(summary, code)
        described = []
        for number, (point, loss) in enumerate(zip(points, args.levels.losses, strict=True)):
            own = {
                "name": args.levels.names[number],
                "max_accuracy_drop": loss,
                **cost(Entry(number)),
                "skipping": _skipping(result, point),
                "gate": None,
            }
            if promised is not None and number:
                gate = _measure(study, point, promised)
                own["gate"] = _gate(gate, cost, number)
            described.append({**own, **summary["levels"][number]})
        chosen = result.front.index(points[1])
        explore.write(directory, study, result, chosen, args, described)
        return {"levels": described}

    return lower, describe


def _directory(args: argparse.Namespace) -> Path:
    """Where an exploration leaves what it finds."""
    return Path(args.output) / "exploration"


def _skipping(result: Exploration, point: Point) -> dict[str, Any]:
    facts = {**result.facts, **point.to_json()}
    exact = {unit: result.exact.measured.report[unit] for unit in get_args(Latency)}
    return {**{key: facts[key] for key in _SKIPPING}, "exact": exact}


def _promised(args: argparse.Namespace, study: Study) -> float | None:
    """The agreement that gates are for; None where outputs have no margin.

    Raises:
        TinymlirError: it was asked for and cannot be had.
    """
    reason = why_no_scores(study.outputs, args.float_io)
    if reason is not None:
        if args.agreement is not None:
            raise TinymlirError(
                f"{reason}; a margin takes one vector of class scores",
                file=args.model,
                node="--agreement",
                hint="leave it out: levels can be chosen all the same",
            )
        return None
    promised = float(args.agreement or AGREEMENT)
    require_samples_for(promised, study.data.confirming)
    return promised


def _measure(study: Study, point: Point, promised: float) -> Gate:
    """Of a level, its margin chosen on samples that it is not fitted to."""
    names: tuple[PartName, PartName] = ("confirming", "reporting")
    confirming, reporting = (
        (study.scores({}, name), study.scores(point.levels, name)) for name in names
    )
    return measure(promised, confirming, reporting, study.data.reporting.labels)


class _Costs:
    """Instructions and cycles of the entry points of an object; each is simulated once."""

    def __init__(self, summary: dict[str, Any], code: Code) -> None:
        self._summary, self._code = summary, code
        self._known: dict[Entry, dict[str, int]] = {}
        self._blank = [np.zeros((1, *t["shape"]), t["type"]) for t in summary["inputs"]]

    def __call__(self, entry: Entry) -> dict[str, int]:
        if entry not in self._known:
            done = simulate(self._summary, self._code.object, self._blank, entry=entry)
            self._known[entry] = asdict(done.counts.total)
        return self._known[entry]


def _gate(gate: Gate, cost: _Costs, number: int) -> dict[str, Any]:
    """A gate and its latency: of samples that are trusted, of those run again, and on average."""
    exact = cost(Entry())
    trusted, worst = cost(Entry(number, 0)), cost(Entry(number, ALWAYS))
    latency = {
        unit: {
            "exact": exact[unit],
            "trusted": trusted[unit],
            "worst": worst[unit],
            "mean": round(gate.mean(trusted[unit], worst[unit])),
        }
        for unit in get_args(Latency)
    }
    return {**gate.to_json(), **latency}


def print_loss(skipping: dict[str, Any]) -> None:
    low, high = skipping["drop_interval"]
    took = [
        f"{skipping[unit]} {unit} ({1 - skipping[unit] / exact:.1%} fewer)"
        for unit, exact in skipping["exact"].items()
    ]
    print(
        f"{skipping['macs_skipped']} MACs are left out: {skipping['measure']} "
        f"{skipping['accuracy']:.2%} on {skipping['samples_reported_on']} samples, "
        f"{100 * skipping['drop']:.2f} points less than exact "
        f"({100 * low:.2f} to {100 * high:.2f} with 95% confidence), "
        f"{' and '.join(took)}"
    )


def print_levels(summary: dict[str, Any]) -> None:
    described: Sequence[dict[str, Any]] = summary["levels"]
    skipping = described[0]["skipping"]
    rows = [
        [
            f"{number} ({level['name']})",
            f"{level['skipping']['accuracy']:.2%}",
            _points(level["skipping"]),
            level["skipping"]["macs_skipped"],
            level["instructions"],
            level["cycles"],
            level["arena_bytes"],
            level["own_flash_bytes"],
        ]
        for number, level in enumerate(described)
    ]
    head = [
        "level",
        skipping["measure"],
        "points lost (95%)",
        "MACs skipped",
        "instructions",
        "cycles",
        "arena",
        "own flash",
    ]
    print("\n" + render_table(head, rows))
    print(
        f"{skipping['measure']} on {skipping['samples_reported_on']} samples that nothing was "
        f"chosen on; {summary['shared_flash_bytes']} bytes of flash are shared"
    )
    gates = [(number, level["gate"]) for number, level in enumerate(described) if level["gate"]]
    if gates:
        _print_gates(gates)


def _print_gates(gates: Sequence[tuple[int, dict[str, Any]]]) -> None:
    rows = [
        [
            number,
            gate["margin"],
            f"{gate['agreement_alone']:.2%}",
            f"{gate['agreement']:.2%} ({_range(gate['agreement_interval'])})",
            None if gate["accuracy"] is None else f"{gate['accuracy']:.2%}",
            f"{gate['rerun_rate']:.1%} ({_range(gate['rerun_interval'], 1)})",
            gate["cycles"]["trusted"],
            gate["cycles"]["mean"],
            f"{gate['cycles']['mean'] / gate['cycles']['exact']:.0%}",
            gate["cycles"]["worst"],
        ]
        for number, gate in gates
    ]
    head = ["gated", "margin", "agrees", "agrees gated (95%)", "accuracy", "run again (95%)"]
    costs = ["cycles if trusted", "mean", "of exact", "worst"]
    print("\n" + render_table([*head, *costs], rows))
    print(
        "a sample is run again exactly where its best score leads by less than the margin, which "
        f"was chosen to agree with the exact network on {gates[0][1]['promised']:.2%}"
    )
    for number, gate in gates:
        if (reason := why_no_gain(number, gate["cycles"])) is not None:
            print(reason)


def _points(skipping: dict[str, Any]) -> str:
    low, high = skipping["drop_interval"]
    return f"{100 * skipping['drop']:+.2f} ({100 * low:.2f} to {100 * high:.2f})"


def _range(interval: Sequence[float], digits: int = 2) -> str:
    low, high = interval
    return f"{low:.{digits}%} to {high:.{digits}%}"
