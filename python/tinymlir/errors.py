"""The exceptions of tinymlir: what users see, and what a pass reports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinymlir.bindings import ir


class TinymlirError(Exception):
    """Something the user can act on.

    Args:
        message: what is wrong, in one clause.
        file: the input that it is wrong with.
        node: the node, layer or option within that input.
        hint: what to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        node: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.file, self.node, self.hint = message, file, node, hint

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        node = f"node '{self.node}': " if self.node else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}{node}{self.message}{hint}"


class PassFailure(Exception):
    """A pass cannot go on; ``location`` is where the diagnostic points."""

    def __init__(self, location: ir.Location, message: str) -> None:
        super().__init__(message)
        self.location, self.message = location, message


@contextlib.contextmanager
def reported(report: Callable[[str], Exception]) -> Iterator[None]:
    """Raise what builders of layers refuse, which know no place in a model, as ``report`` says."""
    try:
        yield
    except (ValueError, OverflowError, NotImplementedError) as error:
        raise report(str(error)) from error
