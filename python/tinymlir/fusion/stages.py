"""A block of a plan as a stage, or the reason why it cannot be one."""

from __future__ import annotations

from tinymlir.errors import TinymlirError
from tinymlir.fusion.costs import Stage
from tinymlir.fusion.graph import Graph
from tinymlir.fusion.setting import Block, InputMode


def make_stage(graph: Graph, mode: InputMode, block: Block, file: str) -> Stage:
    """The stage of a block, in its one number of strips.

    Args:
        file: the plan that asks for it.

    Raises:
        TinymlirError: these layers cannot be one; says why.
    """
    layers, last = graph.layers, block.last
    names = f"stage {layers[block.first].name} to {layers[last].name}"
    columns = graph.tensors[layers[last].output].columns
    width = -(-columns // block.strips)
    if block.strips > columns:
        raise TinymlirError(
            f"{block.strips} strips of an output with {columns} columns", file=file, node=names
        )
    if -(-columns // width) != block.strips:
        raise TinymlirError(
            f"{columns} columns in strips of {width} make {-(-columns // width)} strips,"
            f" not {block.strips}",
            file=file,
            node=names,
        )
    for layer in layers[block.first : last + 1]:
        if not layer.fusable:
            raise TinymlirError(
                f"layer '{layer.name}' ({layer.op}) cannot run row by row",
                file=file,
                node=names,
                hint="let it run by itself, between two stages",
            )
    for position in block.cached:
        if not block.first <= position < last:
            raise TinymlirError(
                f"caches columns of '{layers[position].name}', which gives no tensor inside",
                file=file,
                node=names,
            )
    stage = Stage(graph, last, [block.strips], block.lean, block.cached)
    while stage.first > block.first:
        if not stage.grow():
            raise TinymlirError(
                f"'{layers[stage.first - 1].name}' is read after the stage as well; only the"
                " last layer of a stage may be",
                file=file,
                node=names,
            )
    for position in stage.needless_caches():
        raise TinymlirError(
            f"caches columns of '{layers[position].name}', which no two strips need",
            file=file,
            node=names,
        )
    if (
        mode == "streamed"
        and graph.inputs[0] in stage.timeline.inputs
        and (block.strips > 1 or not stage.stream())
    ):
        raise TinymlirError(
            "a streamed input passes once: one strip, and one stage with all that read it",
            file=file,
            node=names,
        )
    return stage


def require_whole_inputs(graph: Graph, mode: InputMode, position: int, file: str) -> None:
    """Raise a TinymlirError where a layer by itself would read a streamed input."""
    layer = graph.layers[position]
    if mode == "streamed" and graph.inputs[0] in {read.tensor for read in layer.reads}:
        raise TinymlirError(
            f"layer '{layer.name}' reads a streamed input, and is in no stage",
            file=file,
            hint="begin a stage there",
        )
