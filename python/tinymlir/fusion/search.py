"""The best ways through the fusion graph: every trade of memory against computation.

A way from one end to the other is a fusion setting: its memory is that of its greatest edge, its
multiply-accumulates are the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from tinymlir.fusion.edges import Edges, unbeaten
from tinymlir.fusion.setting import Block

#: What to have least of where memory and computation are equal: layers in stages, whose kernels
#: may be slower than those for whole layers; or memory, whatever the most at once.
Preference = Literal["stages", "memory"]


def front(ways: Iterable[list[Edges]]) -> list[tuple[int, int]]:
    """Bytes and MACs of all settings that no other beats, the least memory first.

    Exact: a setting's part up to a node is beaten by another part whatever follows, since the
    greatest of sizes and the sum of MACs grow with both; so each node keeps only its best parts
    (Martins' labels for two objectives, on an acyclic graph).
    """
    zero, nothing = np.zeros(1, np.int64), np.zeros(0, np.int64)
    nodes = [(zero, zero)]
    for found in ways:
        sizes, macs = [nothing], [nothing]
        for edge in found:
            start = nodes[edge.first]
            size = np.maximum(start[0][:, None], edge.bytes[None, :]).ravel()
            work = (start[1][:, None] + edge.macs[None, :]).ravel()
            keep = unbeaten(size, work)
            sizes.append(size[keep])
            macs.append(work[keep])
        size, work = np.concatenate(sizes), np.concatenate(macs)
        keep = unbeaten(size, work)
        nodes.append((size[keep], work[keep]))
    return [(int(size), int(work)) for size, work in zip(*nodes[-1], strict=True)]


def cheapest(
    ways: Sequence[list[Edges]], limit: int, preference: Preference
) -> tuple[Block, ...] | None:
    """The setting within ``limit`` bytes that computes least; None where none is within.

    Of those with the fewest MACs it is the one that makes the fewest elements of tensors, and of
    these the one with least of what is preferred.
    """
    nodes: list[tuple[tuple[int, ...], Block | None] | None] = [((0, 0, 0), None)]
    for found in ways:
        reached: tuple[tuple[int, ...], Block] | None = None
        for edge in found:
            start = nodes[edge.first]
            options = np.flatnonzero(edge.bytes <= limit)
            if start is None or not len(options):
                continue
            layers = edge.last + 1 - edge.first
            least = (edge.strips > 0) if preference == "stages" else edge.bytes
            costs = np.stack([edge.macs, edge.elements, least * layers], axis=1)[options]
            pick = np.lexsort(costs.T[::-1])[0]
            total = tuple(int(a + b) for a, b in zip(start[0], costs[pick], strict=True))
            if reached is None or total < reached[0]:
                chosen = options[pick]
                strips, lean = int(edge.strips[chosen]), bool(edge.lean[chosen])
                cached = tuple(sorted(edge.cached[chosen]))
                reached = total, Block(edge.first, edge.last, strips, lean, cached)
        nodes.append(reached)
    last = nodes[-1]
    blocks: list[Block] = []
    while last is not None and last[1] is not None:
        blocks.insert(0, last[1])
        last = nodes[last[1].first]
    return tuple(blocks) or None
