"""``tinymlir compile``: a model to object, header and report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

from tinymlir import artifact
from tinymlir.compiler import (
    Compilation,
    check_budget,
    compile_model,
    identifier,
    kernel_candidates,
)
from tinymlir.errors import TinymlirError
from tinymlir.fitting import generate_within
from tinymlir.fusion.setting import DEFAULT_SCHEMES, InputMode
from tinymlir.kernels.selection import Aim
from tinymlir.levels import levels_pipeline
from tinymlir.pipelines import (
    Fusion,
    Selection,
    pipeline,
)
from tinymlir.simulators.flash import parse_flash
from tinymlir.targets import Target, get_target
from tinymlir.tools import approximation
from tinymlir.tools.arguments import overhead, schemes, size
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
  tinymlir compile model.onnx -o build --data labelled.npz --levels exact,1%,5%
  tinymlir compile model.onnx -o build --optimize size     small code, rather than fast
  tinymlir compile model.onnx -o build --kernels kernels.json
  tinymlir compile model.onnx --print-pipeline
  tinymlir compile model.onnx --list-kernels               each layer's kernels and their prices
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
        type=overhead,
        metavar="F",
        help="the least RAM with at most F times the multiply-accumulates: 1 makes nothing twice",
    )
    fusion.add_argument("--plan", metavar="FILE", help="the stages of a plan file")
    fusion.add_argument(
        "--schemes", type=schemes, metavar="KINDS", help="what stages may be, as for plan"
    )
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
        "--flash-timing",
        metavar="TIMING",
        help="choose kernels for a flash that waits, as given to 'tinymlir profile'",
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
    approximation.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--print-pipeline", action="store_true", help="print the pass pipeline and stop"
    )
    parser.add_argument(
        "--list-kernels",
        action="store_true",
        help="print the kernels that each layer can have, what they are priced at, and stop",
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
    if args.flash_timing is not None:
        parse_flash(args.flash_timing)
    selection = Selection(aim, args.max_flash, args.flash_timing)
    if args.list_kernels:
        return _list_kernels(args, target, selection)
    if args.print_pipeline:
        show = pipeline if args.levels is None else levels_pipeline
        print(show(target, name, float_io=args.float_io, selection=selection, fusion=_fusion(args)))
        return 0
    if args.output is None:
        raise TinymlirError("no output directory given", hint="add -o DIR")
    lower, describe = _lowering(args, target, name)

    def within_ram(selection: Selection) -> Compilation:
        compilation = lower(selection)
        check_budget("RAM", "--max-ram", compilation.ram_bytes, args.max_ram)
        return compilation

    compilation, code = generate_within(within_ram, selection)
    options = {
        "max_ram": args.max_ram,
        "max_overhead": args.max_overhead,
        "plan": args.plan,
        "input_mode": args.input_mode,
        "schemes": args.schemes,
        "max_flash": args.max_flash,
        "optimize": aim,
        "flash_timing": args.flash_timing,
        "float_io": args.float_io,
        "max_accuracy_drop": args.max_accuracy_drop,
        "levels": None if args.levels is None else str(args.levels),
        "agreement": args.agreement,
        "emit": list(args.emit),
    }
    summary = artifact.report(compilation, code, options)
    summary |= describe(summary, code)
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
    if summary["cuts"]:
        names = ", ".join(f"'{name}'" for name in summary["cuts"])
        print(f"remark: in no stage, since they cannot run row by row: {names}")
    if "skipping" in summary:
        approximation.print_loss(summary["skipping"])
    if "levels" in summary:
        approximation.print_levels(summary)
    print("wrote " + " ".join(str(path) for path in written))
    return 0


def _list_kernels(args: argparse.Namespace, target: Target, selection: Selection) -> int:
    """Print each layer's kernels; the one chosen has a star."""
    head = ["layer", "kernel", "instructions", "cycles", "flash", "scratch", "chosen"]
    rows = [
        [layer, label, *price.figures().values(), found.scratch_bytes[label], label == found.chosen]
        for layer, found in kernel_candidates(args.model, target, selection).items()
        for label, price in found.prices.items()
    ]
    if args.json:
        json.dump([dict(zip(head, row, strict=True)) for row in rows], sys.stdout, indent=2)
        print()
    else:
        print(render_table(head, [[*row[:-1], "*" if row[-1] else ""] for row in rows]))
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
    given = (args.max_ram, args.max_overhead, args.input_mode, args.schemes)
    if args.plan is not None and any(value is not None for value in given):
        raise TinymlirError("a plan says all", node="--plan", hint="leave out the other limits")
    if args.plan is None and all(value in (None, "external") for value in given):
        return None
    return Fusion(
        args.max_ram,
        args.max_overhead,
        args.plan,
        args.input_mode or "external",
        args.schemes or DEFAULT_SCHEMES,
    )


def _lowering(
    args: argparse.Namespace, target: Target, name: str
) -> tuple[approximation.Lower, approximation.Describe]:
    """What lowers the network to the LLVM dialect, and what the report says of accuracy."""
    kernels, fusion = _read_kernels(args.kernels), _fusion(args)
    approximation.check_arguments(args)
    if args.levels is not None:
        return approximation.several(args, target, name, kernels, fusion)
    if args.data is not None:
        return approximation.one(args, target, name, kernels, fusion)

    def lower(selection: Selection) -> Compilation:
        return compile_model(
            args.model,
            target,
            name,
            float_io=args.float_io,
            selection=selection,
            fusion=fusion,
            kernels=kernels,
        )

    return lower, lambda _summary, _code: {}
