"""The table of TFLite operators; docs/operators.md is generated from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .operands import Operands
from .schema import Node
from .values import Value

Handler = Callable[[Operands, Node], "Value | Sequence[Value]"]


@dataclass(frozen=True)
class Operator:
    """One supported operator and what there is to know about it."""

    name: str
    note: str
    handler: Handler


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, note: str = "") -> Callable[[Handler], Handler]:
    """Decorator: the function imports these operators.

    Args:
        note: what is supported of them, for the documentation.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            OPERATORS[name] = Operator(name, note, handler)
        return handler

    return register


def markdown_table() -> str:
    """The supported operators as docs/operators.md shows them."""
    rows = ["| Operator | Supported |", "| --- | --- |"]
    for name, entry in sorted(OPERATORS.items()):
        rows.append(f"| `{name}` | {entry.note or 'int8'} |")
    return "\n".join(rows) + "\n"
