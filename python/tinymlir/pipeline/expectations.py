"""``--verify-diagnostics``: comments that say which diagnostics a source must give.

::

    // expected-error {{text}}            on this line, containing text
    // expected-error@+1 {{text}}         one line down; also @-N, @above, @below
    // expected-error@unknown {{text}}    at no file position
    // expected-error-re {{a {{[0-9]+}}}} what is in the inner braces is a regular expression

and the same for ``warning``, ``remark`` and ``note``. ``@above`` and ``@below`` skip
lines that hold such comments themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .diagnostics import Diagnostic, Position

_START = re.compile(r"expected-(error|warning|remark|note)(-re)?\s*(?:@([+-]\d+|\w+))?\s*(?=\{\{)")
_BRACES = re.compile(r"\{\{|\}\}")
_CURRENT_OPERATION = "see current operation:"


@dataclass
class Expectation:
    """One comment. ``line`` is None for ``@unknown``; ``position`` is the comment's own."""

    severity: str
    line: int | None
    text: str
    pattern: re.Pattern[str]
    position: Position
    met: bool = False


@dataclass
class Expectations:
    """The expectations in a source, ticked off as diagnostics come in.

    Args:
        file: the source's name in diagnostics.
        only_expected: take no offence at diagnostics that nothing expects.
    """

    file: str
    only_expected: bool = False
    complaints: list[Diagnostic] = field(default_factory=list)
    _pending: list[Expectation] = field(default_factory=list)

    def read(self, source: str, first_line: int) -> None:
        """Collect the comments of ``source``, whose first line has number ``first_line``."""
        plain_above = 0
        below: list[Expectation] = []
        for number, line in enumerate(source.split("\n"), first_line):
            starts = list(_START.finditer(line))
            if not starts:
                plain_above = number
                for waiting in below:
                    waiting.line = number
                below = []
            for start in starts:
                found = self._expectation(line, number, start)
                if found is None:
                    continue
                self._pending.append(found)
                where = start.group(3)
                if where == "below":
                    below.append(found)
                elif where == "above":
                    found.line = plain_above

    def _expectation(self, line: str, number: int, start: re.Match[str]) -> Expectation | None:
        severity, is_regex, where = start.groups()
        position = Position(self.file, number, start.start() + 1)
        end = _closing(line, start.end())
        if end is None:
            self._complain(position, "found '{{' with no matching '}}' on the same line")
            return None
        text = line[start.end() + 2 : end]
        try:
            pattern = re.compile(_regex(text) if is_regex else re.escape(text))
        except re.error as error:
            self._complain(position, f"invalid regular expression: {error}")
            return None
        at: int | None = number
        if where == "unknown":
            at = None
        elif where and where[0] in "+-":
            at = number + int(where)
        elif where not in (None, "above", "below"):
            self._complain(position, f"unknown place '@{where}'")
            return None
        return Expectation(severity, at, text, pattern, position)

    def _complain(self, position: Position | None, message: str) -> None:
        self.complaints.append(Diagnostic("error", position, "", message))

    def check(self, diagnostic: Diagnostic) -> None:
        """Tick off ``diagnostic`` and its notes, or complain that nothing expects them."""
        self._check_one(diagnostic)
        for note in diagnostic.notes:
            if not note.message.startswith(_CURRENT_OPERATION):
                self._check_one(note)

    def _check_one(self, diagnostic: Diagnostic) -> None:
        position = diagnostic.position
        line = position.line if position else None
        near: Expectation | None = None
        here = position is None or position.file == self.file
        for expected in self._pending if here else ():
            same = not expected.met and expected.line == line
            if same and expected.pattern.search(diagnostic.message):
                if expected.severity == diagnostic.severity:
                    expected.met = True
                    return
                near = near or expected
        if self.only_expected:
            return
        if near:
            wanted = f"expected {near.severity} here, but got {diagnostic.severity}: "
            self._complain(position, wanted + diagnostic.message)
        else:
            self._complain(position, f"unexpected {diagnostic.severity}: {diagnostic.message}")

    def finish(self) -> list[Diagnostic]:
        """What went wrong: unexpected diagnostics, then expected ones that did not come."""
        for expected in self._pending:
            if not expected.met:
                what = f'expected {expected.severity} "{expected.text}" was not produced'
                self._complain(expected.position, what)
        return self.complaints


def _closing(line: str, at: int) -> int | None:
    """Index of the ``}}`` that closes the ``{{`` at ``at``."""
    depth = 0
    for brace in _BRACES.finditer(line, at):
        depth += 1 if brace.group() == "{{" else -1
        if depth == 0:
            return brace.start()
    return None


def _regex(text: str) -> str:
    """``text`` as a regular expression: only what is inside ``{{}}`` is one already."""
    pieces = re.split(r"\{\{(.*?)\}\}", text)
    return "".join(
        f"(?:{piece})" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces)
    )
