"""MLIR diagnostics as plain data, and how they read: ``file:line:column: severity: message``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError


@dataclass(frozen=True)
class Position:
    """A place in a text file; ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """What MLIR reported. ``severity`` is ``error``, ``warning``, ``remark`` or ``note``."""

    severity: str
    position: Position | None
    location: str
    message: str
    notes: tuple[Diagnostic, ...] = ()

    @classmethod
    def from_mlir(cls, found: Any) -> Diagnostic:
        """From an ``ir.Diagnostic`` or an ``ir.DiagnosticInfo``."""
        return cls(
            found.severity.name.lower(),
            position_of(found.location),
            str(found.location),
            found.message,
            tuple(cls.from_mlir(note) for note in found.notes),
        )

    @property
    def where(self) -> str:
        """``file:line:column``, or the location as MLIR prints it."""
        return str(self.position) if self.position else self.location

    def __str__(self) -> str:
        return f"{self.where}: {self.severity}: {self.message}"


def position_of(location: ir.Location) -> Position | None:
    """The first file position inside ``location``: names, calls and fusions are looked through."""
    return next(_positions(location), None)


def _positions(location: ir.Location) -> Iterator[Position]:
    # Locations that come inside an exception are not of their own class yet.
    location = ir.Location.from_attr(location.attr, location.context)
    if isinstance(location, ir.FileLineColLoc):
        yield Position(location.filename, location.start_line, location.start_col)
    elif isinstance(location, ir.NameLoc):
        yield from _positions(location.child_loc)
    elif isinstance(location, ir.CallSiteLoc):
        yield from _positions(location.callee)
        yield from _positions(location.caller)
    elif isinstance(location, ir.FusedLoc):
        for part in location.locations:
            yield from _positions(part)


class PassRunError(TinymlirError):
    """A pass failed, or left IR that does not verify.

    ``diagnostics`` holds the errors. It is empty where the context hands errors to its
    diagnostic handlers (``emit_error_diagnostics``), which then have seen them.
    """

    def __init__(self, reason: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        if diagnostics:
            first = diagnostics[0]
            super().__init__(f"{first.message} ({reason})", file=first.where)
        else:
            super().__init__(reason)
        self.reason, self.diagnostics = reason, diagnostics
