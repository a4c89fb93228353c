"""``tinymlir compile``: a model to object, header and report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from tinymlir import artifact
from tinymlir.bindings import ir
from tinymlir.compiler import (
    Compilation,
    Fusion,
    Selection,
    check_budget,
    compile_model,
    identifier,
    lower_module,
    pin_kernels,
    pipeline,
)
from tinymlir.errors import TinymlirError
from tinymlir.exploration.study import require_samples
from tinymlir.fitting import generate_within
from tinymlir.fusion.setting import InputMode
from tinymlir.kernels.selection import Aim
from tinymlir.targets import Target, get_target
from tinymlir.tools import explore
from tinymlir.tools.arguments import share, size
from tinymlir.tools.table import render_table

EXAMPLES = """\
examples:
  tinymlir compile model.onnx -o build                     for Cortex-M4
  tinymlir compile model.onnx -o build --target rv32imc --name net
  tinymlir compile model.onnx -o build --max-ram 64K --max-flash 256K
  tinymlir compile model.onnx -o build --max-overhead 1.2  the least RAM, a fifth more computed
  tinymlir compile model.onnx -o build --input-mode streamed  a camera's rows as they come
  tinymlir compile model.onnx -o build --emit obj,mlir,asm --json
  tinymlir compile model.tflite -o build --float-io        float inputs and outputs stay float
  tinymlir compile model.onnx -o build --data labelled.npz --max-accuracy-drop 0.01
  tinymlir compile model.onnx -o build --optimize size     small code, rather than fast
  tinymlir compile model.onnx -o build --kernels kernels.json
  tinymlir compile model.onnx --print-pipeline
"""
EMIT = ("obj", "mlir", "llvm", "asm")


def emit_list(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    for kind in kinds:
        if kind not in EMIT:
            raise argparse.ArgumentTypeError(f"'{kind}' is none of {', '.join(EMIT)}")
    return kinds


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "compile",
        help="compile a model into an object, a header and a report",
        description="Compile a quantised model into DIR/NAME.o, NAME.h and NAME.json.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a quantised network: an ONNX, TFLite or MLIR file"
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="where the files go")
    parser.add_argument("--name", help="prefix of files and C names (default: the file's stem)")
    parser.add_argument("--target", default="cortex-m4", help="see 'tinymlir targets'")
    parser.add_argument(
        "--max-ram",
        type=size,
        metavar="BYTES",
        help="bytes for arena, input and output: layers run together where they need more",
    )
    fusion = parser.add_argument_group(
        "fusion", "run layers together, row by row, for less RAM (see 'tinymlir plan')"
    )
    fusion.add_argument(
        "--max-overhead",
        type=float,
        metavar="F",
        help="the least RAM with at most F times the multiply-accumulates: 1 makes nothing twice",
    )
    fusion.add_argument("--plan", metavar="FILE", help="the stages of a plan file")
    fusion.add_argument(
        "--input-mode",
        choices=get_args(InputMode),
        help="the input is a buffer of the caller's, in the arena where it makes room, or arrives"
        " row by row (default: external)",
    )
    parser.add_argument(
        "--max-flash",
        type=size,
        metavar="BYTES",
        help="take the fastest kernels of which code and constants fit; fail if none do",
    )
    parser.add_argument(
        "--optimize",
        choices=get_args(Aim),
        help="what counts in the choice of kernels: speed, size, or both in proportion"
        " (default: balanced; speed with --max-flash)",
    )
    parser.add_argument(
        "--kernels",
        metavar="FILE",
        help='the kernels of layers: JSON, as {"layer": "kernel"} or a NAME.json of before',
    )
    parser.add_argument(
        "--float-io",
        action="store_true",
        help="take and give float32 where the model does, not its 8-bit integers",
    )
    parser.add_argument(
        "--emit",
        type=emit_list,
        default=("obj",),
        metavar="KINDS",
        help=f"what to write besides header and report: {','.join(EMIT)} (default: obj)",
    )
    skipping = parser.add_argument_group(
        "skipping", "leave out multiplications that the accuracy can do without"
    )
    skipping.add_argument(
        "--data", metavar="FILE", help="samples and labels to measure accuracy on, as for explore"
    )
    skipping.add_argument(
        "--max-accuracy-drop",
        type=share,
        metavar="SHARE",
        help="the fastest network that loses at most so much: 0.01 is one point",
    )
    explore.add_search_arguments(skipping)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--print-pipeline", action="store_true", help="print the pass pipeline and stop"
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    target = get_target(args.target)
    name = args.name or identifier(Path(args.model).stem)
    if name != identifier(name):
        raise TinymlirError(
            f"'{name}' is not a C identifier", node="--name", hint=f"try '{identifier(name)}'"
        )
    aim: Aim = args.optimize or ("balanced" if args.max_flash is None else "speed")
    if args.print_pipeline:
        selection = Selection(aim, args.max_flash)
        print(
            pipeline(
                target, name, float_io=args.float_io, selection=selection, fusion=_fusion(args)
            )
        )
        return 0
    if args.output is None:
        raise TinymlirError("no output directory given", hint="add -o DIR")
    lower, skipping = _lowering(args, target, name)

    def within_ram(selection: Selection) -> Compilation:
        compilation = lower(selection)
        check_budget("RAM", "--max-ram", compilation.ram_bytes, args.max_ram)
        return compilation

    compilation, code = generate_within(within_ram, aim, args.max_flash)
    options = {
        "max_ram": args.max_ram,
        "max_overhead": args.max_overhead,
        "plan": args.plan,
        "input_mode": args.input_mode,
        "max_flash": args.max_flash,
        "optimize": aim,
        "float_io": args.float_io,
        "max_accuracy_drop": args.max_accuracy_drop,
        "emit": list(args.emit),
    }
    summary = artifact.report(compilation, code, options) | skipping
    written = artifact.write(Path(args.output), compilation, code, summary, args.emit)
    if args.json:
        json.dump(summary, sys.stdout, indent=2)
        print()
        return 0
    rows = [
        [
            layer["name"],
            layer["op"],
            layer["kernel"],
            layer["macs"],
            layer["arena_bytes"],
            layer["code_bytes"] + layer["constant_bytes"],
        ]
        for layer in summary["layers"]
    ]
    print(render_table(["layer", "op", "kernel", "MACs", "live RAM", "flash"], rows))
    print(
        f"\n{name} for {target.name}: {summary['macs']} MACs{_overhead(summary)},"
        f" arena {summary['arena_bytes']} bytes"
        f" (lower bound {summary['arena_lower_bound']}), RAM with input and output"
        f" {summary['ram_bytes']} bytes, flash {summary['flash_bytes']} bytes"
    )
    if skipping:
        print(_loss(summary["skipping"]))
    print("wrote " + " ".join(str(path) for path in written))
    return 0


def _read_kernels(path: str | None) -> dict[str, str]:
    """The kernel of each layer that a file names."""
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text())
        if "layers" in found:
            found = {la["name"]: la["kernel"] for la in found["layers"] if la["kernel"]}
        if not all(isinstance(kernel, str) for kernel in found.values()):
            raise ValueError("kernels are named by strings")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TinymlirError(f"is no list of kernels: {error}", file=path) from error
    return dict(found)


def _overhead(summary: dict[str, Any]) -> str:
    return "" if summary["overhead"] == 1 else f" made {summary['overhead']:.3f} times"


def _fusion(args: argparse.Namespace) -> Fusion | None:
    """What the arguments say of running layers together; None where they do not."""
    limits = args.max_ram, args.max_overhead
    if args.plan is not None and (*limits, args.input_mode) != (None, None, None):
        raise TinymlirError("a plan says all", node="--plan", hint="leave out the other limits")
    if limits == (None, None) and args.plan is None and args.input_mode in (None, "external"):
        return None
    return Fusion(*limits, args.plan, args.input_mode or "external")


def _lowering(
    args: argparse.Namespace, target: Target, name: str
) -> tuple[Callable[[Selection], Compilation], dict[str, Any]]:
    """What lowers the network to the LLVM dialect, and what the report says that it leaves out."""
    kernels, fusion = _read_kernels(args.kernels), _fusion(args)
    if (args.max_accuracy_drop is None) != (args.data is None):
        raise TinymlirError(
            "a loss of accuracy takes samples to measure it on",
            node="--max-accuracy-drop" if args.data is None else "--data",
            hint="give both --data and --max-accuracy-drop, or neither",
        )
    if args.data is None:
        return (
            lambda selection: compile_model(
                args.model,
                target,
                name,
                float_io=args.float_io,
                selection=selection,
                fusion=fusion,
                kernels=kernels,
            ),
            {},
        )
    directory = Path(args.output) / "exploration"
    study = explore.make_study(args, target, name, directory)
    require_samples(study.data, args.max_accuracy_drop)
    result = study.run(args.max_accuracy_drop)
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

    facts = {**result.facts, **point.to_json()}
    return lower, {"skipping": {key: facts[key] for key in _SKIPPING}}


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
    "layers",
    "pipeline",
)


def _loss(skipping: dict[str, Any]) -> str:
    low, high = skipping["drop_interval"]
    return (
        f"{skipping['macs_skipped']} MACs are left out: {skipping['measure']} "
        f"{skipping['accuracy']:.2%} on {skipping['samples_reported_on']} samples, "
        f"{100 * skipping['drop']:.2f} points less than exact "
        f"({100 * low:.2f} to {100 * high:.2f} with 95% confidence), "
        f"{skipping['instructions']} instructions"
    )
