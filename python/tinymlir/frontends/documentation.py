"""Keeps docs/operators.md true.

Run ``python -m tinymlir.frontends.documentation docs/operators.md`` after a change.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from . import onnx, tflite  # noqa: F401 (importing them registers their operators)
from .onnx.registry import markdown_table as onnx_table
from .tflite.registry import markdown_table as tflite_table

TABLES: dict[str, Callable[[], str]] = {"onnx": onnx_table, "tflite": tflite_table}


def updated(page: str) -> str:
    """``page`` with every generated table as the code has it now."""
    for name, table in TABLES.items():
        before, start, rest = page.partition(f"<!-- operators: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not start or not end:
            raise ValueError(f"the page has no table '{name}'")
        page = before + start + table() + end + after
    return page


def main() -> None:
    page = Path(sys.argv[1])
    page.write_text(updated(page.read_text()))


if __name__ == "__main__":
    main()
