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
        page = replaced(page, f"operators: {name}", table())
    return page


def replaced(page: str, mark: str, table: str) -> str:
    """``page`` with another table between the comments ``mark`` and ``end``.

    Raises:
        ValueError: it has no such comments.
    """
    before, start, rest = page.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not start or not end:
        raise ValueError(f"the page has no table '{mark}'")
    return before + start + table + end + after


def main() -> None:
    page = Path(sys.argv[1])
    page.write_text(updated(page.read_text()))


if __name__ == "__main__":
    main()
