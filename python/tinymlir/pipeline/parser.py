"""The pass pipeline syntax of MLIR: text to a tree, with the column of every part.

::

    pipeline ::= element ("," element)*
    element  ::= anchor "(" [pipeline] ")" | pass ["{" options "}"]
    options  ::= (key "=" value | key) separated by blanks

A value may be quoted, or hold blanks inside ``{}`` (the braces are dropped) or ``()``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tinymlir.errors import TinymlirError

_NAME = re.compile(r"[^\s,(){}=]+")
_CLOSING = {"{": "}", "(": ")"}
#: Each level of nesting is one of recursion.
MAX_NESTING = 100


class PipelineError(TinymlirError):
    """A pipeline's text is wrong.

    ``text`` is the whole pipeline, ``offset`` where in it the fault lies (from 0).
    """

    def __init__(self, message: str, text: str, offset: int, hint: str | None = None) -> None:
        where = f"pass pipeline, column {offset + 1}"
        super().__init__(message, file=where, hint=hint)
        self.text, self.offset = text, offset


@dataclass(frozen=True)
class Option:
    """``key=value``; ``value`` is None where the text has the key only."""

    key: str
    value: str | None
    offset: int


@dataclass(frozen=True)
class Invocation:
    """One pass with its options; ``options_text`` is what stands between the braces."""

    name: str
    options_text: str
    options: tuple[Option, ...]
    offset: int

    def __str__(self) -> str:
        return f"{self.name}{{{self.options_text}}}" if self.options_text else self.name


@dataclass(frozen=True)
class Nest:
    """Passes for each operation called ``anchor`` (``any``: each isolated operation)."""

    anchor: str
    elements: tuple[Invocation | Nest, ...] = field(default=())
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.anchor}({','.join(map(str, self.elements))})"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def error(self, message: str, offset: int | None = None) -> PipelineError:
        return PipelineError(message, self.text, self.at if offset is None else offset)

    def skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def peek(self) -> str:
        self.skip_blanks()
        return self.text[self.at : self.at + 1]

    def elements(self, closing: str) -> tuple[Invocation | Nest, ...]:
        """A comma-separated list up to ``closing`` ('' means the end), which stays unread."""
        found: list[Invocation | Nest] = []
        if self.peek() == closing:
            return ()
        while True:
            found.append(self.element())
            if self.peek() == closing:
                return tuple(found)
            if self.peek() != ",":
                rest = self.peek()
                if rest == ")":
                    raise self.error("this ')' closes nothing")
                wanted = f"',' or '{closing}'" if closing else "','"
                raise self.error(f"expected {wanted}, found '{rest}'")
            self.at += 1

    def element(self) -> Invocation | Nest:
        self.skip_blanks()
        start = self.at
        match = _NAME.match(self.text, start)
        if not match:
            raise self.error("expected the name of a pass or an operation")
        self.at = match.end()
        if self.peek() == "(":
            opening = self.at
            self.at += 1
            self.depth += 1
            if self.depth > MAX_NESTING:
                raise self.error(f"is nested more than {MAX_NESTING} levels deep", opening)
            inner = self.elements(")") if self._closes(opening) else ()
            self.depth -= 1
            self.at += 1
            return Nest(match.group(), inner, start)
        if self.peek() == "{":
            end = balanced(self.text, self.at)
            if end is None:
                raise self.error("this '{' is never closed")
            inside = self.at + 1
            options_text = self.text[inside : end - 1]
            self.at = end
            options = parse_options(options_text, self.text, inside)
            return Invocation(match.group(), options_text.strip(), options, start)
        return Invocation(match.group(), "", (), start)

    def _closes(self, opening: int) -> bool:
        if balanced(self.text, opening) is None:
            raise self.error("this '(' is never closed", opening)
        return True


def balanced(text: str, at: int) -> int | None:
    """Index just behind the bracket that closes the one at ``at``, or None.

    Brackets inside quotes do not count.
    """
    expected: list[str] = []
    quote = ""
    for index in range(at, len(text)):
        char = text[index]
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in _CLOSING:
            expected.append(_CLOSING[char])
        elif expected and char == expected[-1]:
            expected.pop()
            if not expected:
                return index + 1
    return None


def parse_options(text: str, whole: str | None = None, base: int = 0) -> tuple[Option, ...]:
    """The options in ``text``, which stands at ``base`` in ``whole``.

    Raises:
        PipelineError: on a missing key or an unbalanced quote or bracket.
    """
    whole = text if whole is None else whole
    options: list[Option] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return tuple(options)
        match = _NAME.match(text, at)
        if not match:
            raise PipelineError("expected the name of an option", whole, base + at)
        key, start = match.group(), at
        at = match.end()
        if text[at : at + 1] != "=":
            options.append(Option(key, None, base + start))
            continue
        end = _value_end(text, at + 1)
        if end is None:
            raise PipelineError("a quote or bracket is never closed", whole, base + at + 1)
        options.append(Option(key, _unwrap(text[at + 1 : end]), base + start))
        at = end


def _value_end(text: str, at: int) -> int | None:
    """Where the value that starts at ``at`` ends: the next blank outside quotes and brackets."""
    while at < len(text) and not text[at].isspace():
        char = text[at]
        if char in "\"'":
            close = text.find(char, at + 1)
            if close < 0:
                return None
            at = close + 1
        elif char in _CLOSING:
            end = balanced(text, at)
            if end is None:
                return None
            at = end
        else:
            at += 1
    return at


def _unwrap(value: str) -> str:
    """``value`` without the quotes or braces that enclose all of it."""
    if len(value) >= 2 and value[0] in "\"'" and value.find(value[0], 1) == len(value) - 1:
        return value[1:-1]
    if value[:1] == "{" and balanced(value, 0) == len(value):
        return value[1:-1]
    return value


def parse_pipeline(text: str, root: str = "builtin.module") -> Nest:
    """The tree of ``text``, whose top is always a `Nest`.

    A list of passes that names no anchor is run on ``root``, the operation at hand.

    Raises:
        PipelineError: with the column at fault.
    """
    parser = _Parser(text)
    elements = parser.elements("")
    if len(elements) == 1 and isinstance(elements[0], Nest) and elements[0].anchor in (root, "any"):
        return elements[0]
    return Nest(root, elements)
