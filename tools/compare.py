"""``tinymlir compare``: where a compiled network and its reference first differ."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinymlir.arrays import Int8Array
from tinymlir.comparison import Comparison, Finding, Tapped, against_network, against_reference
from tinymlir.errors import TinymlirError
from tinymlir.frontends import model_format
from tinymlir.progress import progress
from tinymlir.references import open_references
from tinymlir.samples import Array, for_object, read_samples, take
from tinymlir.simulators import SIMULATORS
from tinymlir.targets import get_target, require_simulator
from tinymlir.tools.arguments import positive
from tinymlir.tools.table import render_table

DESCRIPTION = """\
Run a network on samples in two ways and compare the results of its layers, in order.

The one way is the network as compiled, for this machine or (--target) on a simulated core. The
other is the reference interpreter of the model: ONNX Runtime, or LiteRT with its reference kernels.
"""
EXAMPLES = """\
examples:
  tinymlir compare model.onnx --input samples.npz
  tinymlir compare model.tflite --input x.npy --target cortex-m4 --samples 3
  tinymlir compare model.mlir --input x.npy --target rv32imc --against host
  tinymlir compare model.onnx --input x.npy --against retrained.onnx --json

exit status: 0 all equal, 1 something differs, 2 trouble
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="find the layer where a network and its reference first differ",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a quantised network: an ONNX, TFLite or MLIR file"
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help=".npy, or .npz with 'x' (or each input's name), as for 'run'",
    )
    parser.add_argument("--target", default="host", help="see 'tinymlir targets' (default: host)")
    parser.add_argument(
        "--against",
        metavar="WHAT",
        help="'reference', 'host' or another model file, whose reference is meant "
        "(default: reference; host for an MLIR file, which has none)",
    )
    parser.add_argument(
        "--simulator", choices=SIMULATORS, help="default: unicorn where it has the core, else qemu"
    )
    parser.add_argument("--samples", type=positive, metavar="N", help="take only the first N")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(main=main, trouble=2)


def main(args: argparse.Namespace) -> int:
    path, target = Path(args.model), get_target(args.target)
    against = args.against or ("host" if model_format(path) == "mlir" else "reference")
    _check_usage(args, against)
    network = Tapped(path, target, args.simulator)
    given, _ = read_samples(Path(args.input), [info.name for info in network.inputs])
    inputs = for_object(Path(args.input), given, network.inputs)
    count = take(Path(args.input), len(given[0]), args.samples)
    inputs, given = [a[:count] for a in inputs], [a[:count] for a in given]
    if against == "host":
        other, name = Tapped(path, get_target("host")), "the host"
        *_, comparison = against_network(network, other, inputs)
    else:
        model = path if against == "reference" else Path(against)
        samples = _as_the_model(given, network)
        name, comparison = _with_references(network, model, inputs, samples)
        name = name if model == path else f"{against} in {name}"
    if args.json:
        json.dump(_to_json(args, name, count, comparison), sys.stdout, indent=2)
        print()
    else:
        _print(args, name, count, comparison)
    return 1 if comparison.first is not None else 0


def _check_usage(args: argparse.Namespace, against: str) -> None:
    if args.target == "host" and args.simulator is not None:
        raise TinymlirError("the host runs in process, not on a simulator", node="--simulator")
    if args.target == "host" and against == "host":
        raise TinymlirError(
            "the host would be compared with itself",
            node="--against",
            hint="add --target, as cortex-m4, to compare its simulator with the host",
        )
    if args.target != "host":
        require_simulator(get_target(args.target), node="--target")


def _with_references(
    network: Tapped, model: Path, inputs: list[Int8Array], samples: list[Array]
) -> tuple[str, Comparison]:
    """The comparison with the first way to run the model that is equal, else with the best."""
    tensors = [point.tensor for point in network.layers if point.tensor is not None]
    # Results of many samples may be too much to keep; a simulation is too slow to do twice.
    simulated = list(network(inputs)) if network.target.simulated else None
    tried = []
    for reference in open_references(model, tensors):
        batches = network(inputs) if simulated is None else simulated
        steps = against_reference(network, batches, reference, samples)
        *_, comparison = progress(steps, len(samples[0]), "comparing")
        tried.append((reference.name, comparison))
        if comparison.first is None:
            return tried[-1]
    return tried[0]


def _as_the_model(given: list[Array], network: Tapped) -> list[Array]:
    """Floats of any width as the float32 that models take."""
    return [
        array.astype(np.float32) if info.model_type == "float32" else array
        for array, info in zip(given, network.inputs, strict=True)
    ]


def _to_json(
    args: argparse.Namespace, name: str, count: int, comparison: Comparison
) -> dict[str, Any]:
    """``compared`` is false for layers that the other side does not have."""
    first = comparison.first
    return {
        "model": args.model,
        "target": args.target,
        "against": name,
        "samples": count,
        "equal": first is None,
        "first": None if first is None else first.point.layer,
        "layers": [_finding(f) for f in comparison.layers],
        "outputs": [_finding(f) for f in comparison.outputs],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    point = finding.point
    return {
        "layer": point.layer,
        "op": point.op,
        "tensor": point.tensor,
        "shape": list(finding.shape or point.info.model_shape),
        "compared": finding.elements > 0,
        "elements": finding.elements,
        "differing": finding.differing,
        "max_difference": finding.max_difference,
        "first": None if finding.first is None else asdict(finding.first),
    }


def _print(args: argparse.Namespace, name: str, count: int, comparison: Comparison) -> None:
    print(f"{args.model} on {args.target} against {name}, {count} samples")
    findings = [*comparison.layers, *comparison.outputs]
    head = ["layer", "op", "tensor", "shape", "differing", "max", "first difference"]
    print(render_table(head, [_row(finding) for finding in findings]))
    print(f"\n{_verdict(comparison, name)}")


def _row(finding: Finding) -> list[object]:
    point, first = finding.point, finding.first
    shape = "x".join(map(str, finding.shape or point.info.model_shape))
    if not finding.elements:
        return [point.layer, point.op, None, shape, "not compared", "", ""]
    where = ""
    if first is not None:
        index = ", ".join(map(str, first.index))
        where = (
            f"sample {first.sample} at [{index}]: {first.value:.6g}, expected {first.expected:.6g}"
        )
    share = f"{finding.differing:,} of {finding.elements:,}" if finding.differing else "0"
    tensor = None if point.op == "output" else _shortened(point.tensor or "")
    return [point.layer, point.op, tensor, shape, share, f"{finding.max_difference:.4g}", where]


def _shortened(name: str, limit: int = 40) -> str:
    """The first of the names that converters join, without what the quantiser adds to it."""
    name = name.split(";")[0].removesuffix("_QuantizeLinear_Output")
    return name if len(name) <= limit else f"…{name[1 - limit :]}"


def _verdict(comparison: Comparison, name: str) -> str:
    first = comparison.first
    if first is not None and first.point.op == "output":
        return (
            f"no layer differs, but the output '{first.point.layer}' of the network does: its "
            "layers disturb one another's memory"
            if all(f.elements for f in comparison.layers)
            else f"first difference: output '{first.point.layer}'"
        )
    if first is not None:
        return f"first difference: layer '{first.point.layer}' ({first.point.op})"
    compared = sum(f.elements > 0 for f in comparison.layers)
    left = len(comparison.layers) - compared
    rest = f"; {left} more have no counterpart there" if left else ""
    return f"all equal to {name}: {compared} layers and the outputs{rest}"
