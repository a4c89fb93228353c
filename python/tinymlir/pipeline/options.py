"""Pass options: dataclass fields in Python, ``kebab-case=text`` in a pipeline."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any

from tinymlir.passes import Pass

from .parser import Option, PipelineError

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclasses.dataclass(frozen=True)
class OptionSpec:
    """One option of a pass, as ``--list-passes`` shows it.

    ``default`` is the text of the default value; None where a value must be given.
    """

    key: str
    field: str
    type: Any
    default: str | None

    @property
    def type_name(self) -> str:
        return _type_name(self.type)

    def __str__(self) -> str:
        default = "" if self.default is None else f"={self.default}"
        return f"{self.key}:{self.type_name}{default}"


def option_specs(cls: type[Pass]) -> tuple[OptionSpec, ...]:
    """The options of a pass class, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    specs = []
    for spec in dataclasses.fields(cls):
        default: str | None = None
        if spec.default is not dataclasses.MISSING:
            default = format_value(spec.default)
        elif spec.default_factory is not dataclasses.MISSING:
            default = format_value(spec.default_factory())
        specs.append(OptionSpec(spec.name.replace("_", "-"), spec.name, hints[spec.name], default))
    return tuple(specs)


def build_pass(cls: type[Pass], options: Sequence[Option], text: str, offset: int) -> Pass:
    """An instance of ``cls`` with ``options``.

    Args:
        cls: the pass class.
        options: what the pipeline says.
        text: the whole pipeline, for messages.
        offset: where the pass stands in it.

    Raises:
        PipelineError: an option is unknown, given twice, missing, or of the wrong type.
    """
    specs = {spec.key: spec for spec in option_specs(cls)}
    values: dict[str, Any] = {}
    for option in options:
        spec = specs.get(option.key)
        if spec is None:
            raise PipelineError(
                f"pass '{cls.name}' has no option '{option.key}'",
                text,
                option.offset,
                hint=nearest(option.key, specs) or _known_options(specs),
            )
        if spec.field in values:
            raise PipelineError(f"option '{option.key}' is given twice", text, option.offset)
        try:
            values[spec.field] = parse_value(option.value, spec.type)
        except ValueError:
            given = "no value" if option.value is None else f"'{option.value}'"
            raise PipelineError(
                f"option '{option.key}' of pass '{cls.name}' takes {spec.type_name}, not {given}",
                text,
                option.offset,
            ) from None
    for spec in specs.values():
        if spec.default is None and spec.field not in values:
            raise PipelineError(f"pass '{cls.name}' needs option '{spec.key}'", text, offset)
    try:
        return cls(**values)
    except ValueError as error:
        raise PipelineError(f"pass '{cls.name}': {error}", text, offset) from error


def nearest(name: str, known: typing.Iterable[str]) -> str | None:
    """A hint with the known name nearest to ``name``, if one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else None


def _known_options(specs: typing.Iterable[str]) -> str:
    return f"its options: {', '.join(specs)}" if specs else "it takes none"


def parse_value(text: str | None, kind: Any) -> Any:
    """``text`` as a value of ``kind``.

    Kinds: bool, int, float, str, ``Literal``, ``tuple[T, ...]`` (comma-separated)
    and ``T | None`` (``none``). A bool needs no text.

    Raises:
        ValueError: the text is no such value.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is bool:
        if text is None:
            return True
        if text not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text]
    if text is None:
        raise ValueError("no value")
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if text == "none" else parse_value(text, inner)
    if origin is typing.Literal:
        if text not in arguments:
            raise ValueError(text)
        return text
    if origin is tuple:
        return tuple(parse_value(part.strip(), arguments[0]) for part in text.split(",") if part)
    if kind is int:
        return int(text, 0)
    if kind is float:
        return float(text)
    if kind is str:
        return text
    raise TypeError(f"a pass option cannot be of type {kind}")


def format_value(value: Any) -> str:
    """The text that `parse_value` reads back as ``value``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(format_value(part) for part in value)
    return str(value)


def _type_name(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _type_name(next(a for a in arguments if a is not type(None)))
    if origin is typing.Literal:
        return "|".join(arguments)
    if origin is tuple:
        return f"list<{_type_name(arguments[0])}>"
    return {bool: "bool", int: "int", float: "float", str: "string"}.get(kind, str(kind))
