"""From a file to a module: text or bytecode, parsed and verified."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.pipeline import Diagnostic

#: MLIR's parser calls itself for each level; thousands of levels end the process.
MAX_NESTING = 500
LOWER_FIRST = "lower the network to linalg on tensors, or to TOSA, first"
_BRACKETS = (b"()", b"[]", b"{}", b"<>")
_NO_BRACKETS = bytes(set(range(256)) - set(b"".join(_BRACKETS)))
_BYTECODE = b"ML\xefR"


def parse(path: Path, context: ir.Context) -> ir.Module:
    """The module in a file.

    Operations of unknown dialects are let through, in the generic form, so that the
    error about them can say what to do.

    Raises:
        TinymlirError: the file cannot be read, parsed or verified.
    """
    _check(_read(path), path)
    context.allow_unregistered_dialects = True
    try:
        return ir.Module.parseFile(str(path), context)
    except ir.MLIRError as error:
        raise _parse_error(error, path) from error
    except (RuntimeError, UnicodeDecodeError) as error:
        # The bindings hand all text over as UTF-8, that of error messages too.
        raise not_utf8(path) from error
    finally:
        context.allow_unregistered_dialects = False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TinymlirError(
            f"cannot be read: {error.strerror or error}", file=str(path), hint="check the path"
        ) from error


def _check(data: bytes, path: Path) -> None:
    """What would not come out of MLIR's parser as an error that helps."""
    if not data.strip():
        raise TinymlirError("the file is empty", file=str(path), hint="export the model again")
    if data.startswith(_BYTECODE):
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise TinymlirError(
            "is neither MLIR text nor MLIR bytecode", file=str(path), hint="give a .mlir file"
        ) from error
    if max(_nesting(data), _minuses(data)) > MAX_NESTING:
        raise TinymlirError(f"is nested more than {MAX_NESTING} levels deep", file=str(path))


def check_strings(module: ir.Module, path: Path) -> None:
    """Raise a TinymlirError about a string that is not UTF-8.

    To MLIR strings are bytes; the bindings fail at reading any others.
    """
    for literal in re.finditer(rb'"(?:[^"\\\n]|\\.)*"', module.operation.get_asm(binary=True)):
        if b"\\" not in literal[0]:
            continue
        try:
            re.sub(
                rb"\\([0-9A-Fa-f]{2})", lambda code: bytes.fromhex(code[1].decode()), literal[0]
            ).decode()
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error


def not_utf8(path: Path) -> TinymlirError:
    return TinymlirError(
        "has names or strings that are not UTF-8", file=str(path), hint="export it again"
    )


def _nesting(data: bytes) -> int:
    """The deepest nesting of any one kind of bracket."""
    brackets = data.replace(b"->", b"").translate(None, _NO_BRACKETS)
    characters = np.frombuffer(brackets, np.uint8)
    deepest = 0
    for left, right in _BRACKETS:
        steps = (characters == left).astype(np.int32) - (characters == right)
        deepest = max(deepest, int(np.cumsum(steps).max(initial=0)))
    return deepest


def _minuses(data: bytes) -> int:
    """The longest row of minus signs, which nest in affine expressions; comments aside."""
    rows = re.finditer(rb"(?:-\s*){%d,}" % MAX_NESTING, re.sub(rb"//[^\n]*", b"", data))
    return max((row[0].count(b"-") for row in rows), default=0)


def _parse_error(error: ir.MLIRError, path: Path) -> TinymlirError:
    found = [Diagnostic.from_mlir(info) for info in error.error_diagnostics]
    if not found:
        return TinymlirError("is not valid MLIR", file=str(path))
    first = found[0]
    known = first.position is not None and first.position.line > 0
    message = " ".join(first.message.split())
    hint = LOWER_FIRST if "not found for custom op" in message else None
    return TinymlirError(message, file=str(first.position) if known else str(path), hint=hint)
