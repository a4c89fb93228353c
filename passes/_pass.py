"""What a pass is: a frozen dataclass whose fields are its command-line options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir
from tinymlir.errors import PassFailure

__all__ = ["REGISTRY", "Pass", "PassFailure", "register_pass"]


@dataclass(frozen=True)
class Pass:
    """Base of every pass.

    Subclasses are frozen dataclasses. Each field is an option: ``max_ram: int``
    is written ``max-ram=65536`` in a pipeline. The first line of the class
    docstring is what ``--list-passes`` shows.
    """

    name: ClassVar[str]
    #: the operation that the pass runs on: ``builtin.module`` or ``func.func``
    anchor: ClassVar[str] = "builtin.module"

    def run(self, op: ir.Operation) -> None:
        """Transform ``op`` in place.

        Raises:
            PassFailure: with the location at fault.
        """
        raise NotImplementedError


REGISTRY: dict[str, type[Pass]] = {}


def register_pass(cls: type[Pass]) -> type[Pass]:
    """Class decorator: make the pass known by its ``name``."""
    REGISTRY[cls.name] = cls
    return cls
