"""Fusion settings: which layers run as stages; how they are written and read."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tinymlir.errors import TinymlirError
from tinymlir.fusion.graph import Graph

#: Where the network's input is: in a buffer of the caller's that is only read; in the arena, where
#: what has been read makes room; or nowhere as a whole, since its rows arrive one by one.
InputMode = Literal["external", "in-arena", "streamed"]
#: What stages may be: rows as they are wanted, each once; in strips of columns, whose borders are
#: computed twice; likewise, with those of some tensors kept for the next strip; or by lean kernels,
#: which want little work space and are slower.
Scheme = Literal["rows", "strips", "columns", "lean"]
#: What stages may be where nobody says.
DEFAULT_SCHEMES: tuple[Scheme, ...] = ("rows", "strips", "columns")
_VERSION = 1
_PLAN_KEYS = ("version", "input", "stages", "predicted")
_STAGE_KEYS = ("first", "last", "strips", "cached", "lean")


@dataclass(frozen=True)
class Block:
    """Layers from ``first`` to ``last`` run as one stage in ``strips``, or one by itself (0).

    ``lean``: by the kernels that want the least work space, which are slower. ``cached``: layers
    of whose outputs a strip keeps the columns that the next one needs too.
    """

    first: int
    last: int
    strips: int
    lean: bool = False
    cached: tuple[int, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A way through the network: bytes in the arena, MACs, and the blocks in order."""

    bytes: int
    macs: int
    blocks: tuple[Block, ...]

    def stages(self) -> str:
        """Numbers of the layers of each stage, its strips with how many tensors have a cache, and
        a mark if lean; lean layers by themselves too: ``0-5×3 6-9×7|2 10-12* 14*``.
        """
        return " ".join(
            (f"{b.first}-{b.last}" if b.strips else f"{b.first}")
            + (f"×{b.strips}" if b.strips > 1 else "")
            + (f"|{len(b.cached)}" if b.cached else "")
            + "*" * b.lean
            for b in self.blocks
            if b.strips or b.lean
        )


def to_json(graph: Graph, mode: InputMode, setting: Setting) -> dict[str, Any]:
    """A setting as a plan file holds it: stages by the names of their layers.

    ``predicted`` is for readers; `from_json` does not look at it.
    """
    return {
        "version": _VERSION,
        "input": mode,
        "stages": [
            {
                "first": graph.layers[block.first].name,
                "last": graph.layers[block.last].name,
                "strips": block.strips,
                "cached": [graph.layers[position].name for position in block.cached],
                "lean": block.lean,
            }
            for block in setting.blocks
            if block.strips or block.lean
        ],
        "predicted": {"arena_bytes": setting.bytes, "macs": setting.macs},
    }


def read_plan(file: str) -> str:
    """The text of a plan file.

    Raises:
        TinymlirError: it cannot be read.
    """
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TinymlirError("cannot be read as a plan", file=file) from error


def from_json(graph: Graph, text: str, file: str) -> tuple[InputMode, tuple[Block, ...]]:
    """The blocks of a plan file; layers that it does not name run by themselves.

    Raises:
        TinymlirError: it is no plan, or one of another network; names the stage.
    """
    try:
        plan = json.loads(text)
    except json.JSONDecodeError as error:
        raise TinymlirError(
            f"is not JSON (line {error.lineno}: {error.msg})",
            file=file,
            hint="write one with 'tinymlir plan MODEL -o plan.json'",
        ) from error
    _require_keys(plan, _PLAN_KEYS, "the plan", file)
    if plan.get("version") != _VERSION:
        raise TinymlirError(f"has another version than {_VERSION}", file=file, node="version")
    mode = plan.get("input")
    if mode not in get_args(InputMode):
        raise TinymlirError(
            f"{mode!r} is none of {', '.join(get_args(InputMode))}", file=file, node="input"
        )
    stages = plan.get("stages")
    if not isinstance(stages, list):
        raise TinymlirError("expects a list", file=file, node="stages")
    places = {layer.name: position for position, layer in enumerate(graph.layers)}
    blocks: list[Block] = []
    for number, stage in enumerate(stages):
        where = f"stages[{number}]"
        _require_keys(stage, _STAGE_KEYS, where, file)
        first, last = (_place(places, stage.get(key), f"{where}.{key}", file) for key in _ENDS)
        strips = stage.get("strips", 1)
        lean = stage.get("lean", False)
        if not isinstance(lean, bool):
            raise TinymlirError("expects true or false", file=file, node=f"{where}.lean")
        # None is a layer by itself, of which there is something to say only if it is lean.
        least = 0 if lean and first == last else 1
        if type(strips) is not int or strips < least:
            raise TinymlirError(
                f"expects a number from {least} on", file=file, node=f"{where}.strips"
            )
        if last < first:
            raise TinymlirError("ends before it begins", file=file, node=where)
        cached = _cached(places, stage.get("cached", []), f"{where}.cached", file)
        if blocks and first <= blocks[-1].last:
            raise TinymlirError(
                "begins before the stage above it ends",
                file=file,
                node=where,
                hint="list stages in the order in which they run",
            )
        begin = blocks[-1].last + 1 if blocks else 0
        blocks += [Block(position, position, 0) for position in range(begin, first)]
        blocks.append(Block(first, last, strips, lean, cached))
    begin = blocks[-1].last + 1 if blocks else 0
    blocks += [Block(position, position, 0) for position in range(begin, len(graph.layers))]
    return mode, tuple(blocks)


_ENDS = ("first", "last")


def _require_keys(value: Any, known: tuple[str, ...], node: str, file: str) -> None:
    if not isinstance(value, dict):
        raise TinymlirError("expects an object", file=file, node=node)
    for key in value:
        if key not in known:
            raise TinymlirError(
                f"has an unknown key '{key}'",
                file=file,
                node=node,
                hint=f"known: {', '.join(known)}",
            )


def _cached(places: dict[str, int], names: Any, node: str, file: str) -> tuple[int, ...]:
    if not isinstance(names, list):
        raise TinymlirError("expects a list of layers", file=file, node=node)
    return tuple(sorted({_place(places, name, node, file) for name in names}))


def _place(places: dict[str, int], name: Any, node: str, file: str) -> int:
    if isinstance(name, str) and name in places:
        return places[name]
    near = difflib.get_close_matches(str(name), places, 1)
    hint = f"did you mean '{near[0]}'?" if near else "'tinymlir plan MODEL' lists its layers"
    raise TinymlirError(f"the network has no layer {name!r}", file=file, node=node, hint=hint)
