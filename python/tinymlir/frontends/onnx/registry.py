"""The table of ONNX operators; docs/operators.md is generated from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .graph import Node
from .operands import Operands
from .values import Value

Handler = Callable[[Operands, Node], "Value | Sequence[Value]"]


@dataclass(frozen=True)
class Operator:
    """One supported operator and what there is to know about it."""

    domain: str
    name: str
    note: str
    handler: Handler


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(name: str, domain: str = "", *, note: str = "") -> Callable[[Handler], Handler]:
    """Decorator: the function imports this operator.

    Args:
        note: what is supported of it, for the documentation.
    """

    def register(handler: Handler) -> Handler:
        OPERATORS[domain, name] = Operator(domain, name, note, handler)
        return handler

    return register


def markdown_table() -> str:
    """The supported operators as docs/operators.md shows them."""
    rows = ["| Operator | Supported |", "| --- | --- |"]
    for (domain, name), entry in sorted(OPERATORS.items(), key=lambda item: item[0]):
        label = f"{domain}.{name}" if domain else name
        rows.append(f"| `{label}` | {entry.note or 'all of it'} |")
    return "\n".join(rows) + "\n"
