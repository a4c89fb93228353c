"""The ``tinymlir`` command."""

from __future__ import annotations

import argparse
import sys

from tinymlir import __version__
from tinymlir.errors import TinymlirError
from tinymlir.tools import compare, explore, plan, profile, quantize, run, targets
from tinymlir.tools import compile as compile_tool

EXAMPLES = """\
examples:
  tinymlir quantize float.onnx --calibration samples.npz -o model.onnx
  tinymlir compile model.onnx -o build --target cortex-m4
  tinymlir plan model.onnx --max-ram 32K
  tinymlir explore model.onnx --data labelled.npz -o explored
  tinymlir run build --target cortex-m4 --input samples.npz
  tinymlir compare model.onnx --input samples.npz
  tinymlir profile build --target cortex-m4
  tinymlir targets
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinymlir",
        description="Compile quantised CNNs for microcontrollers, run and measure them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tinymlir {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for tool in (quantize, compile_tool, plan, explore, run, compare, profile, targets):
        tool.add_parser(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 refused with a reason, 2 wrong usage, 130 interrupted.

    Commands for which 1 is an answer have 2 for trouble as well.
    """
    args = build_parser().parse_args(argv)
    try:
        return args.main(args)
    except TinymlirError as error:
        print(f"tinymlir: error: {error}", file=sys.stderr)
        return getattr(args, "trouble", 1)
    except BrokenPipeError:
        # The reader of our output has gone; that is its right.
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        # On a line of its own, below what a progress bar shows.
        print("\ntinymlir: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
