"""What a pass is: a frozen dataclass whose fields are its command-line options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir


class PassFailure(Exception):
    """A pass cannot go on; ``location`` is where the diagnostic points."""

    def __init__(self, location: ir.Location, message: str) -> None:
        super().__init__(message)
        self.location, self.message = location, message


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
