"""What layers are called."""

from __future__ import annotations

from tinymlir.bindings import ir


def name_of(op: ir.Operation) -> str:
    """The name that the producer of the module gave ``op``, or the operation's own."""
    location = op.location
    if isinstance(location, ir.NameLoc) and location.name_str:
        return location.name_str
    return op.name.removeprefix("tosa.")
