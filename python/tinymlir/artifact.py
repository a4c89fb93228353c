"""What ``tinymlir compile`` leaves in a directory: object, header, report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm_binding

from tinymlir.codegen import Code
from tinymlir.compiler import Compilation, Layer, Level, facts
from tinymlir.errors import TinymlirError
from tinymlir.files import write_all
from tinymlir.header import render_header
from tinymlir.simulators.elf import read_elf

_READ_ONLY = (".rodata", ".data.rel.ro")
_WRITABLE = (".data", ".bss", ".tdata", ".tbss", ".sdata", ".sbss")


@dataclass(frozen=True)
class Sizes:
    """Flash of an object, in bytes."""

    code: int
    constants: int


def measure(object_code: bytes) -> Sizes:
    """Code and constant bytes of an object.

    Raises:
        TinymlirError: the object has writable data, which the product never has.
    """
    code = constants = 0
    for section in llvm_binding.ObjectFileRef.from_data(object_code).sections():
        name = (section.name() or b"").decode()
        if section.is_text():
            code += section.size()
        elif name.startswith(_READ_ONLY):
            constants += section.size()
        elif name.startswith(_WRITABLE) and section.size():
            raise TinymlirError(f"the generated object has writable data in {name}")
    return Sizes(code, constants)


def report(compilation: Compilation, code: Code, options: dict[str, Any]) -> dict[str, Any]:
    """The contents of ``NAME.json``.

    Raises:
        TinymlirError: the object has writable data or needs a library.
    """
    sizes = measure(code.object)
    symbols = _function_sizes(code.object) if compilation.target.triple else {}
    flash = sizes.code + sizes.constants
    return {
        **facts(compilation),
        "options": options,
        "code_bytes": sizes.code,
        "constant_bytes": sizes.constants,
        "flash_bytes": flash,
        "stack_bytes": None,
        "layers": [_layer(layer, symbols) for layer in compilation.layers],
        **(_levels(compilation.levels, symbols, flash) if compilation.levels else {}),
    }


def _layer(layer: Layer, symbols: Mapping[str, int]) -> dict[str, Any]:
    # Its helpers are named after it: net_layer3_border.
    code_bytes = sum(
        size
        for name, size in symbols.items()
        if name == layer.symbol or name.startswith(f"{layer.symbol}_")
    )
    return {
        "name": layer.name,
        "op": layer.op,
        "symbol": layer.symbol,
        "macs": layer.macs,
        "executed_macs": layer.executed_macs,
        "arena_bytes": layer.arena_bytes,
        "code_bytes": code_bytes,
        "constant_bytes": layer.constant_bytes,
        "kernel": layer.kernel,
        "price": None if layer.price is None else layer.price.figures(),
    }


def _levels(levels: Sequence[Level], symbols: Mapping[str, int], flash: int) -> dict[str, Any]:
    """Each level, the flash that it uses, and of that what it has for itself; the rest of the
    object's is of several, or entry points.
    """
    used = [
        {**{symbol: symbols.get(symbol, 0) for symbol in level.code}, **level.constants}
        for level in levels
    ]
    users = Counter(symbol for sizes in used for symbol in sizes)
    own = [sum(size for s, size in sizes.items() if users[s] == 1) for sizes in used]
    return {
        "shared_flash_bytes": flash - sum(own),
        "levels": [
            {
                "symbol": level.symbol,
                "arena_bytes": level.arena_bytes,
                "arena_lower_bound": level.arena_lower_bound,
                "executed_macs": sum(layer.executed_macs for layer in level.layers),
                "flash_bytes": sum(sizes.values()),
                "own_flash_bytes": own_bytes,
                "layers": [_layer(layer, symbols) for layer in level.layers],
            }
            for level, sizes, own_bytes in zip(levels, used, own, strict=True)
        ],
    }


def _function_sizes(object_code: bytes) -> dict[str, int]:
    symbols = read_elf(object_code).symbols
    for symbol in symbols:
        if not symbol.defined:
            raise TinymlirError(f"the generated object needs '{symbol.name}' of a library")
    return {s.name: s.size for s in symbols if s.function}


def write(
    directory: Path,
    compilation: Compilation,
    code: Code,
    summary: dict[str, Any],
    emit: tuple[str, ...],
) -> list[Path]:
    """Write the files asked for, all or none.

    ``emit`` picks from ``obj`` (with header and report), ``mlir``, ``llvm`` and ``asm``.

    Raises:
        TinymlirError: the directory cannot be written; what was in it is untouched.
    """
    name = compilation.name
    contents: dict[str, bytes] = {}
    if "obj" in emit:
        contents[f"{name}.o"] = code.object
    contents[f"{name}.h"] = render_header(compilation, summary).encode()
    contents[f"{name}.json"] = (json.dumps(summary, indent=2) + "\n").encode()
    if "mlir" in emit:
        for stage, text in compilation.stages.items():
            contents[f"{name}.{stage}.mlir"] = text.encode()
    if "llvm" in emit:
        contents[f"{name}.ll"] = code.llvm_ir.encode()
    if "asm" in emit:
        contents[f"{name}.s"] = code.assembly.encode()
    return write_all(directory, contents)


def load(directory: Path) -> tuple[dict[str, Any], bytes]:
    """Report and object of a directory that ``tinymlir compile`` wrote.

    Raises:
        TinymlirError: there is no report, or it is not one of ours.
    """
    reports = sorted(directory.glob("*.json"))
    if len(reports) != 1:
        found = "none" if not reports else ", ".join(r.name for r in reports)
        raise TinymlirError(
            f"expects one NAME.json, found {found}",
            file=str(directory),
            hint="give a directory that 'tinymlir compile' wrote",
        )
    try:
        summary = json.loads(reports[0].read_text())
        object_code = reports[0].with_suffix(".o").read_bytes()
        summary["layers"], summary["inputs"], summary["target"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TinymlirError(
            f"is not a report of 'tinymlir compile': {error}", file=str(reports[0])
        ) from error
    return summary, object_code
