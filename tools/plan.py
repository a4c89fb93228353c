"""``tinymlir plan``: every trade of memory against computation that fusion gives."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.files import write_all
from tinymlir.frontends import import_model
from tinymlir.fusion.drawing import draw
from tinymlir.fusion.graph import Graph
from tinymlir.fusion.network_graph import network_graph
from tinymlir.fusion.planner import Planner
from tinymlir.fusion.setting import (
    DEFAULT_SCHEMES,
    InputMode,
    Scheme,
    Setting,
    from_json,
    read_plan,
    to_json,
)
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.pipeline import run_pipeline
from tinymlir.pipelines import planning_pipeline
from tinymlir.targets import Target, get_target
from tinymlir.tools.arguments import overhead, schemes, size
from tinymlir.tools.table import render_table

EXAMPLES = """\
examples:
  tinymlir plan model.onnx                                 the front, and the least RAM at no cost
  tinymlir plan model.onnx --max-ram 32K -o plan.json      the least computation within 32 KiB
  tinymlir plan model.onnx --max-overhead 1.2 --json
  tinymlir plan model.onnx --plot front.svg                the front, and memory over time
  tinymlir plan model.onnx --input-mode streamed           rows of the input arrive one by one
  tinymlir plan model.onnx --schemes rows                  nothing is computed twice
  tinymlir plan model.onnx --plan plan.json                the costs of a plan, edited perhaps
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="show what RAM a network can run in, and at what computation",
        description="Find every fusion setting of a network that no other beats in both RAM and "
        "multiply-accumulates (docs/fusion.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a quantised network: an ONNX, TFLite or MLIR file"
    )
    parser.add_argument("--target", default="cortex-m4", help="see 'tinymlir targets'")
    parser.add_argument(
        "--max-ram", type=size, metavar="BYTES", help="choose the least computation within it"
    )
    parser.add_argument(
        "--max-overhead",
        type=overhead,
        metavar="F",
        help="choose the least RAM with at most F times the multiply-accumulates (default: 1)",
    )
    parser.add_argument(
        "--input-mode",
        choices=get_args(InputMode),
        help="the input is a buffer of the caller's, in the arena, or arrives row by row"
        " (default: external)",
    )
    parser.add_argument(
        "--schemes",
        type=schemes,
        metavar="KINDS",
        help=f"what stages may be, of {','.join(get_args(Scheme))} (default:"
        f" {','.join(DEFAULT_SCHEMES)}; lean as well where nothing else fits)",
    )
    parser.add_argument("--plan", metavar="FILE", help="choose what this plan says")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the chosen plan")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the front, and memory over time, as an SVG file"
    )
    parser.add_argument("--json", action="store_true", help="print front and plans as JSON")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    if args.plan and (args.max_ram or args.max_overhead or args.input_mode or args.schemes):
        raise TinymlirError("a plan is given already", node="--plan", hint="leave the limits out")
    graph = load_graph(Path(args.model), get_target(args.target))
    mode: InputMode = args.input_mode or "external"
    if args.plan:
        mode, blocks = from_json(graph, read_plan(args.plan), args.plan)
        planner = Planner(graph, mode)
        chosen = planner.price(blocks, args.plan)
    else:
        planner = Planner(graph, mode, args.schemes or DEFAULT_SCHEMES)
        planner, chosen = planner.best(args.max_ram, args.max_overhead)
    front = planner.front
    if args.output:
        _write(args.output, json.dumps(to_json(graph, mode, chosen), indent=2) + "\n")
    if args.plot:
        _write(args.plot, draw(Path(args.model).name, planner, front, chosen))
    if args.json:
        json.dump(_report(args, planner, front, chosen), sys.stdout, indent=2)
        print()
    else:
        _print(planner, front, chosen)
    return 0


def load_graph(model: Path, target: Target) -> Graph:
    """What the planner must know of a model file.

    Raises:
        TinymlirError: the model cannot be read.
    """
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = import_model(model, context)
        run_pipeline(module, planning_pipeline(target))
        return network_graph(find_main(module.operation), target)


def _write(file: str, text: str) -> None:
    write_all(Path(file).parent, {Path(file).name: text.encode()})


def _costs(planner: Planner, setting: Setting) -> dict[str, Any]:
    return {
        "ram_bytes": planner.ram_bytes(setting),
        "arena_bytes": setting.bytes,
        "macs": setting.macs,
        "overhead": planner.overhead(setting),
    }


def _report(
    args: argparse.Namespace, planner: Planner, front: list[Setting], chosen: Setting
) -> dict[str, Any]:
    def entry(setting: Setting) -> dict[str, Any]:
        plan = to_json(planner.graph, planner.mode, setting)
        return {**_costs(planner, setting), "plan": plan}

    return {
        "model": args.model,
        "target": args.target,
        "input_mode": planner.mode,
        "io_bytes": planner.io_bytes,
        "macs": planner.graph.macs,
        "vanilla": _costs(planner, planner.vanilla()),
        "cuts": _cuts(planner),
        "front": [entry(setting) for setting in front],
        "chosen": entry(chosen),
    }


def _print(planner: Planner, front: list[Setting], chosen: Setting) -> None:
    vanilla = planner.vanilla()
    listed = [("", setting) for setting in front if setting != chosen]
    listed = sorted([*listed, ("chosen", chosen)], key=lambda row: row[1].bytes)
    rows = [
        [planner.ram_bytes(s), s.bytes, f"{planner.overhead(s):.4f}", s.stages(), mark]
        for mark, s in [*listed, ("layer by layer", vanilla)]
    ]
    print(render_table(["RAM", "arena", "overhead", "stages", ""], rows))
    print(
        f"\nRAM is the arena and {planner.io_bytes} bytes of input and output; input"
        f" {planner.mode}; stages are numbers of layers, ×strips, |tensors with a cache"
    )
    if cuts := _cuts(planner):
        names = ", ".join(f"'{cut['name']}' ({cut['op']})" for cut in cuts)
        print(f"in no stage, since they cannot run row by row: {names}")


def _cuts(planner: Planner) -> list[dict[str, str]]:
    """Layers that cannot be in a stage."""
    return [{"name": x.name, "op": x.op} for x in planner.graph.layers if not x.fusable]
