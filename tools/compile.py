"""``tinymlir compile``: a model to object, header and report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import check_budget, compile_model, identifier, pipeline
from tinymlir.errors import TinymlirError
from tinymlir.targets import get_target
from tinymlir.tools.table import render_table

EXAMPLES = """\
examples:
  tinymlir compile model.onnx -o build                     for Cortex-M4
  tinymlir compile model.onnx -o build --target rv32imc --name net
  tinymlir compile model.onnx -o build --max-ram 64K --max-flash 256K
  tinymlir compile model.onnx -o build --emit obj,mlir,asm --json
  tinymlir compile model.tflite -o build --float-io        float inputs and outputs stay float
  tinymlir compile model.onnx --print-pipeline
"""
EMIT = ("obj", "mlir", "llvm", "asm")


def size(text: str) -> int:
    """Bytes; ``K`` and ``M`` mean 1024 and 1024²."""
    factors = {"K": 1024, "M": 1024 * 1024}
    digits, factor = (
        (text[:-1], factors[text[-1].upper()]) if text[-1:].upper() in factors else (text, 1)
    )
    if not digits.isascii() or not digits.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a size (as 49152, 48K, 1M)")
    return int(digits) * factor


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
        "--max-ram", type=size, metavar="BYTES", help="fail if arena, input and output need more"
    )
    parser.add_argument(
        "--max-flash", type=size, metavar="BYTES", help="fail if code and constants need more"
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
    if args.print_pipeline:
        print(pipeline(target, name, float_io=args.float_io))
        return 0
    if args.output is None:
        raise TinymlirError("no output directory given", hint="add -o DIR")
    compilation = compile_model(args.model, target, name, float_io=args.float_io)
    check_budget("RAM", "--max-ram", compilation.ram_bytes, args.max_ram)
    code = generate(compilation.module, target)
    options = {
        "max_ram": args.max_ram,
        "max_flash": args.max_flash,
        "float_io": args.float_io,
        "emit": list(args.emit),
    }
    summary = artifact.report(compilation, code, options)
    check_budget("flash", "--max-flash", summary["flash_bytes"], args.max_flash)
    written = artifact.write(Path(args.output), compilation, code, summary, args.emit)
    if args.json:
        json.dump(summary, sys.stdout, indent=2)
        print()
        return 0
    rows = [
        [
            layer["name"],
            layer["op"],
            layer["macs"],
            layer["arena_bytes"],
            layer["code_bytes"] + layer["constant_bytes"],
        ]
        for layer in summary["layers"]
    ]
    print(render_table(["layer", "op", "MACs", "live RAM", "flash"], rows))
    print(
        f"\n{name} for {target.name}: {summary['macs']} MACs, arena {summary['arena_bytes']} bytes"
        f" (lower bound {summary['arena_lower_bound']}), RAM with input and output"
        f" {summary['ram_bytes']} bytes, flash {summary['flash_bytes']} bytes"
    )
    print("wrote " + " ".join(str(path) for path in written))
    return 0
