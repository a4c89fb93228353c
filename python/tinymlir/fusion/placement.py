"""Where everything lies in the arena while a fusion setting runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinymlir.arena import APART, Buffer, Plan, plan
from tinymlir.fusion.costs import aligned
from tinymlir.fusion.edges import Memory
from tinymlir.fusion.graph import Graph
from tinymlir.fusion.setting import Block, InputMode
from tinymlir.fusion.stages import make_stage


@dataclass(frozen=True)
class Placement:
    """Buffers of the arena, one step for each block.

    ``names`` are those of layers whose output a buffer is, of inputs, or of blocks whose work
    space it is.
    """

    names: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    plan: Plan


def place(graph: Graph, mode: InputMode, blocks: Sequence[Block]) -> Placement:
    """Plan the arena of a network run in ``blocks``, as ``tiny-plan-arena`` does."""
    memory = Memory(graph, mode)
    sizes = list(memory.sizes)
    early = graph.layers[blocks[0].last].output
    sizes[early] = memory.made(0, blocks[0].last)
    step = {
        position: number
        for number, block in enumerate(blocks)
        for position in range(block.first, block.last + 1)
    }
    names: list[str] = []
    buffers: list[Buffer] = []
    index: dict[int, int] = {}
    ends = {block.last for block in blocks}
    for tensor, size in enumerate(sizes):
        born, used = graph.birth[tensor], graph.last_use[tensor]
        if size and (born < 0 or born in ends) and used >= 0:
            index[tensor] = len(buffers)
            buffers.append(Buffer(size, step.get(born, 0), step.get(used, len(blocks) - 1)))
            names.append(graph.layers[born].name if born >= 0 else "input")
    overlaps = {}
    for number, block in enumerate(blocks):
        last = graph.layers[block.last]
        if block.strips:
            stage = make_stage(graph, mode, block, "")
            work = int(stage.bytes[0])
            reach = stage.reach() if block.strips == 1 else []
        else:
            scratch, over = last.alone(block.lean)
            work, reach = aligned(scratch), [(tensor, above, APART) for tensor, above in over]
        place = len(buffers)
        if work:
            buffers.append(Buffer(work, number, number))
            names.append(f"{last.name} (work)")
        for tensor, above_output, above_work in reach:
            if graph.last_use[tensor] > block.last or tensor not in index:
                continue
            if above_output != APART and last.output in index:
                overlaps[index[last.output], index[tensor]] = above_output
            if above_work != APART:
                overlaps[place, index[tensor]] = above_work
    return Placement(tuple(names), tuple(buffers), plan(buffers, overlaps))
