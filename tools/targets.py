"""``tinymlir targets``: the machines that code can be generated for."""

from __future__ import annotations

import argparse
import json
import sys

from tinymlir.targets import TARGETS
from tinymlir.tools.table import render_table

EXAMPLES = """\
examples:
  tinymlir targets
  tinymlir targets --json
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "targets",
        help="list the targets",
        description="List the targets: how LLVM names them, what they can do, what it costs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print every field as JSON")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    if args.json:
        json.dump([target.to_json() for target in TARGETS.values()], sys.stdout, indent=2)
        print()
        return 0
    rows = [
        [t.name, t.triple or "(this machine)", ",".join(t.extensions) or "-", t.notes]
        for t in TARGETS.values()
    ]
    print(render_table(["target", "triple", "extensions", "notes"], rows))
    return 0
