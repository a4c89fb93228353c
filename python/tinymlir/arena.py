"""Static memory planning: buffers with lifetimes into one block, offsets fixed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Every buffer starts at a multiple of this many bytes.
ALIGNMENT = 4
#: Orders tried when no simple heuristic reaches the lower bound.
_SEARCH_STEPS = 2000


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes that must be kept from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int

    def overlaps(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """``offsets`` of the buffers, the bytes they need, and the least any plan could need."""

    offsets: tuple[int, ...]
    size: int
    lower_bound: int


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def live_bytes(buffers: Sequence[Buffer]) -> list[int]:
    """Bytes alive at each step: their maximum bounds every plan from below."""
    steps = max((b.last for b in buffers), default=-1) + 1
    return [sum(_aligned(b.size) for b in buffers if b.first <= s <= b.last) for s in range(steps)]


def _place(buffers: Sequence[Buffer], order: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Lowest fit of the buffers one after another."""
    offsets: dict[int, int] = {}
    for index in order:
        buffer = buffers[index]
        taken = sorted(
            (offsets[other], offsets[other] + _aligned(buffers[other].size))
            for other in offsets
            if buffers[other].overlaps(buffer)
        )
        position = 0
        for start, end in taken:
            if position + buffer.size <= start:
                break
            position = max(position, end)
        offsets[index] = position
    size = max((offsets[i] + _aligned(buffers[i].size) for i in offsets), default=0)
    return tuple(offsets[i] for i in range(len(buffers))), size


def plan(buffers: Sequence[Buffer]) -> Plan:
    """Place ``buffers`` so that those alive together do not overlap.

    Tries the usual orders (by size, by lifetime, by area), then swaps within the
    best order; stops at the liveness lower bound. Deterministic.
    """
    bound = max(live_bytes(buffers), default=0)
    indices = range(len(buffers))
    keys = (
        lambda i: (-buffers[i].size, buffers[i].first),
        lambda i: (buffers[i].first, -buffers[i].size),
        lambda i: (-(buffers[i].last - buffers[i].first), -buffers[i].size),
        lambda i: (-buffers[i].size * (buffers[i].last - buffers[i].first + 1), buffers[i].first),
    )
    best_order: list[int] = []
    best: tuple[tuple[int, ...], int] | None = None
    for key in keys:
        order = sorted(indices, key=key)
        placed = _place(buffers, order)
        if best is None or placed[1] < best[1]:
            best, best_order = placed, order
    assert best is not None
    chooser = random.Random(0)
    for _ in range(_SEARCH_STEPS if len(buffers) > 2 else 0):
        if best[1] == bound:
            break
        order = list(best_order)
        a, b = chooser.sample(indices, 2)
        order.insert(a, order.pop(b))
        placed = _place(buffers, order)
        if placed[1] <= best[1]:
            best, best_order = placed, order
    return Plan(best[0], best[1], bound)
