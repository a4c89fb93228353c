"""The best ways through the fusion graph: every trade of memory against computation.

A way from one end to the other is a fusion setting: its memory is that of its greatest edge, its
multiply-accumulates are the sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from tinymlir.fusion.edges import Edges, best
from tinymlir.fusion.graph import Ints
from tinymlir.fusion.setting import Block, Setting


@dataclass(frozen=True)
class _Node:
    """Best ways to a place between layers: costs, and the edge, option and way each comes from."""

    bytes: Ints
    macs: Ints
    total: Ints
    edge: Ints
    option: Ints
    before: Ints


def front(ways: Iterable[list[Edges]]) -> list[Setting]:
    """All settings that no other beats, the least memory first.

    Exact: a setting's part up to a node is beaten by another part whatever follows, since the
    greatest of sizes and the sum of MACs grow with both; so each node keeps only its best parts
    (Martins' labels for two objectives, on an acyclic graph).
    """
    zero = np.zeros(1, np.int64)
    nodes = [_Node(zero, zero, zero, zero, zero, zero)]
    incoming: list[list[Edges]] = []
    for found in ways:
        incoming.append(found)
        nodes.append(_join(nodes, found))
    last = nodes[-1]
    return [
        Setting(int(last.bytes[i]), int(last.macs[i]), _blocks(nodes, incoming, i))
        for i in range(len(last.bytes))
    ]


def _join(nodes: list[_Node], found: list[Edges]) -> _Node:
    """The best ways to the node at which these edges end."""
    # None yet: a place that no way may lead to has none either.
    nothing = np.zeros(0, np.int64)
    parts = [_Node(*[nothing] * len(fields(_Node)))]
    for index, edge in enumerate(found):
        start = nodes[edge.first]
        size = np.maximum(start.bytes[:, None], edge.bytes[None, :]).ravel()
        macs = (start.macs[:, None] + edge.macs[None, :]).ravel()
        weighted = edge.bytes * (edge.last + 1 - edge.first)
        total = (start.total[:, None] + weighted[None, :]).ravel()
        keep = best(size, macs, total)
        before, option = np.divmod(keep, len(edge.bytes))
        parts.append(
            _Node(size[keep], macs[keep], total[keep], np.full(len(keep), index), option, before)
        )
    names = [field.name for field in fields(_Node)]
    every = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    keep = best(every["bytes"], every["macs"], every["total"])
    return _Node(**{name: column[keep] for name, column in every.items()})


def _blocks(nodes: list[_Node], incoming: list[list[Edges]], way: int) -> tuple[Block, ...]:
    """The blocks of a way, found from the end."""
    blocks: list[Block] = []
    place = len(nodes) - 1
    while place:
        node = nodes[place]
        edge = incoming[place - 1][node.edge[way]]
        blocks.insert(0, Block(edge.first, edge.last, int(edge.strips[node.option[way]])))
        place, way = edge.first, int(node.before[way])
    return tuple(blocks)
