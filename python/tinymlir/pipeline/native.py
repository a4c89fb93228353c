"""What MLIR itself knows: its pass names, their options, and where each may run."""

from __future__ import annotations

import functools
import re

from tinymlir.bindings import ir, passmanager
from tinymlir.passes import REGISTRY

from .names import NATIVE_PASSES
from .options import nearest
from .parser import Invocation, PipelineError

_RESTRICTED = re.compile(r"restricted to '([^']+)'")
_NO_OPTION = re.compile(r"no such option (\S+)")
_TYPED = {"true": "true or false", "false": "true or false"}


@functools.cache
def _scratch_context() -> ir.Context:
    """Where pipelines are parsed to see what MLIR says of them; no IR is ever in it."""
    return ir.Context()


def _parse_failure(pipeline: str) -> str | None:
    """Why MLIR does not take ``pipeline``, or None if it does."""
    try:
        passmanager.PassManager.parse(pipeline, _scratch_context())
    except ValueError as error:
        return str(error)
    return None


@functools.cache
def is_native(name: str) -> bool:
    """Whether MLIR has a pass or pass pipeline called ``name``."""
    failure = _parse_failure(f"any({name})")
    return failure is None or "does not refer to a registered" not in failure


def is_pass(name: str) -> bool:
    """Whether ``name`` is a pass: one of ours, or MLIR's."""
    return name in REGISTRY or is_native(name)


def pass_names() -> list[str]:
    """Names to suggest where one is misspelt; MLIR knows more."""
    return [*REGISTRY, *NATIVE_PASSES]


@functools.cache
def native_anchor(name: str) -> str | None:
    """The operation that the native pass ``name`` is restricted to, if it is."""
    for root in ("builtin.module", "func.func"):
        match = _RESTRICTED.search(_parse_failure(f"{root}({name})") or "")
        if match:
            return match.group(1)
    return None


@functools.cache
def native_options(name: str) -> dict[str, str]:
    """The options of the native pass ``name`` and their defaults; {} where MLIR does not tell."""
    try:
        printed = str(passmanager.PassManager.parse(f"any({name})", _scratch_context()))
    except ValueError:
        return {}
    body = re.search(r"\{(.*)\}", printed)
    return dict(re.findall(r"([\w-]+)=(\S*)", body.group(1))) if body else {}


def check_native(invocation: Invocation, anchor: str, text: str) -> None:
    """Reject a native pass that MLIR would not take in ``anchor(...)``.

    Raises:
        PipelineError: an unknown pass or option, a bad value, or the wrong anchor.
    """
    name = invocation.name
    if not is_native(name):
        hint = nearest(name, pass_names())
        raise PipelineError(f"unknown pass '{name}'", text, invocation.offset, hint=hint)
    known = native_options(name) if invocation.options else {}
    for option in invocation.options:
        default = known.get(option.key)
        if default is not None and not _fits(option.value, default):
            kind = _TYPED.get(default, "an integer")
            given = "no value" if option.value is None else f"'{option.value}'"
            message = f"option '{option.key}' of pass '{name}' takes {kind}, not {given}"
            raise PipelineError(message, text, option.offset)
    failure = _parse_failure(f"{anchor}({invocation})")
    if failure is None:
        return
    restricted = _RESTRICTED.search(failure)
    if restricted:
        raise wrong_anchor(name, restricted.group(1), anchor, text, invocation.offset)
    unknown = _NO_OPTION.search(failure)
    if unknown:
        key = unknown.group(1)
        offset = next((o.offset for o in invocation.options if o.key == key), invocation.offset)
        hint = nearest(key, known) or (f"known: {', '.join(known)}" if known else "it takes none")
        raise PipelineError(f"pass '{name}' has no option '{key}'", text, offset, hint=hint)
    reason = " ".join(failure.split())
    raise PipelineError(f"MLIR does not take '{invocation}': {reason}", text, invocation.offset)


def _fits(value: str | None, default: str) -> bool:
    if default in _TYPED:
        return value in (None, "true", "false", "1", "0")
    if re.fullmatch(r"-?\d+", default):
        return value is not None and re.fullmatch(r"-?(\d+|0[xX][\da-fA-F]+)", value) is not None
    return True


def wrong_anchor(name: str, wants: str, anchor: str, text: str, offset: int) -> PipelineError:
    """The error for a pass that runs on ``wants`` but stands in ``anchor(...)``."""
    hint = f"write '{wants}({name})'" if anchor == "builtin.module" else "move it out of there"
    return PipelineError(
        f"pass '{name}' runs on '{wants}' and cannot stand in '{anchor}(...)'",
        text,
        offset,
        hint=hint,
    )
