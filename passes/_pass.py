"""What a pass is: a frozen dataclass whose fields are its command-line options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir
from tinymlir.errors import PassFailure

__all__ = ["REGISTRY", "Pass", "PassFailure", "find_ops", "references", "register_pass"]


@dataclass(frozen=True)
class Pass:
    """Base of every pass.

    Subclasses are frozen dataclasses. Each field is an option: ``max_ram: int``
    is written ``max-ram=65536`` in a pipeline. An option's type is bool, int,
    float, str, ``Literal`` of strings, ``tuple[T, ...]`` or ``T | None``. The
    first line of the class docstring is what ``--list-passes`` shows.
    """

    name: ClassVar[str]
    #: the operation that the pass runs on: ``builtin.module``, ``func.func`` or ``any``
    anchor: ClassVar[str] = "builtin.module"

    def run(self, op: ir.Operation) -> None:
        """Transform ``op`` in place.

        The context of ``op`` is current, and its location is the default one.

        Raises:
            PassFailure: with the location at fault.
        """
        raise NotImplementedError


REGISTRY: dict[str, type[Pass]] = {}


def register_pass(cls: type[Pass]) -> type[Pass]:
    """Class decorator: make the pass known by its ``name``.

    Raises:
        ValueError: another class has that name.
    """
    known = REGISTRY.setdefault(cls.name, cls)
    if known is not cls:
        raise ValueError(f"pass '{cls.name}' is registered already, by {known.__module__}")
    return cls


def find_ops(root: ir.Operation, *names: str) -> list[ir.Operation]:
    """The operations of these names, or all, in ``root``, in order; the list outlives rewriting."""
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if not names or op.name in names:
            found.append(op)
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    return found


def references(function: ir.Operation) -> list[str]:
    """The symbols that a function calls, or reads as constants."""
    keys = {
        "func.call": "callee",
        "memref.get_global": "name",
        "llvm.call": "callee",
        "llvm.mlir.addressof": "global_name",
    }
    return [op.attributes[keys[op.name]].value for op in find_ops(function, *keys)]
