"""Static memory planning: buffers with lifetimes into one block, offsets fixed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Every buffer starts at a multiple of this many bytes.
ALIGNMENT = 4
#: Orders tried when no simple heuristic reaches the lower bound.
_SEARCH_STEPS = 2000
#: Fewer of them where there are many buffers: each is placed anew in every order.
_SEARCH_PLACEMENTS = 120_000


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes that must be kept from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int

    def overlaps(self, other: Buffer) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


#: Pairs (written, read) of buffers that may share bytes although both are alive, with the
#: least distance in bytes from the start of the written to the start of the read one, or
#: `IN_PLACE` where they must start together.
Overlaps = Mapping[tuple[int, int], int]
IN_PLACE = -2
#: What a layer says where no distance is enough.
APART = -1


@dataclass(frozen=True)
class Plan:
    """``offsets`` of the buffers, the bytes they need, and the least any plan could need.

    ``live`` is the number of bytes in use at each step.
    """

    offsets: tuple[int, ...]
    size: int
    lower_bound: int
    live: tuple[int, ...]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan(buffers: Sequence[Buffer], overlaps: Overlaps | None = None) -> Plan:
    """Place ``buffers`` so that those alive together do not overlap, except as allowed.

    Tries the usual orders (by size, by time, by lifetime, by area), then moves within the
    best order; stops at the lower bound. Deterministic.
    """
    pairs = {k: d if d == IN_PLACE else _aligned(d) for k, d in (overlaps or {}).items()}
    bound = max(_least(buffers, pairs), default=0)
    indices = range(len(buffers))
    keys: tuple[Callable[[int], tuple[int, int]], ...] = (
        lambda i: (-buffers[i].size, buffers[i].first),
        lambda i: (buffers[i].first, -buffers[i].size),
        # A chain of outputs, each below its input, is built from its end.
        lambda i: (-buffers[i].first, -buffers[i].size),
        lambda i: (-(buffers[i].last - buffers[i].first), -buffers[i].size),
        lambda i: (-buffers[i].size * (buffers[i].last - buffers[i].first + 1), buffers[i].first),
    )
    best_order: list[int] = []
    best: tuple[tuple[int, ...], int] | None = None
    for key in keys:
        order = sorted(indices, key=key)
        placed = _place(buffers, pairs, order)
        if best is None or placed[1] < best[1]:
            best, best_order = placed, order
    assert best is not None
    chooser = random.Random(0)
    steps = min(_SEARCH_STEPS, _SEARCH_PLACEMENTS // max(1, len(buffers)))
    for _ in range(steps if len(buffers) > 2 else 0):
        if best[1] == bound:
            break
        order = list(best_order)
        a, b = chooser.sample(indices, 2)
        order.insert(a, order.pop(b))
        placed = _place(buffers, pairs, order)
        if placed[1] <= best[1]:
            best, best_order = placed, order
    return Plan(best[0], best[1], bound, tuple(_in_use(buffers, best[0])))


def _steps(buffers: Sequence[Buffer]) -> range:
    return range(max((b.last for b in buffers), default=-1) + 1)


def _least(buffers: Sequence[Buffer], pairs: Overlaps) -> list[int]:
    """Bytes that the buffers alive at each step need at the least.

    Two that may share bytes save at most their largest overlap; a union is at least
    the sum of its parts less the overlaps of all pairs.
    """
    needs = [
        sum(_aligned(b.size) for b in buffers if b.first <= step <= b.last)
        for step in _steps(buffers)
    ]
    for (written, read), distance in pairs.items():
        w, r = buffers[written], buffers[read]
        shared = max(0, min(_aligned(r.size), _aligned(w.size) - max(distance, 0)))
        for step in range(max(w.first, r.first), min(w.last, r.last) + 1):
            needs[step] -= shared
    return needs


def _in_use(buffers: Sequence[Buffer], offsets: Sequence[int]) -> list[int]:
    """Bytes covered by the buffers alive at each step."""
    result = []
    for step in _steps(buffers):
        spans = sorted(
            (o, o + _aligned(b.size))
            for b, o in zip(buffers, offsets, strict=True)
            if b.first <= step <= b.last
        )
        covered, reached = 0, 0
        for start, end in spans:
            covered += max(0, end - max(start, reached))
            reached = max(reached, end)
        result.append(covered)
    return result


def _place(
    buffers: Sequence[Buffer], pairs: Overlaps, order: Sequence[int]
) -> tuple[tuple[int, ...], int]:
    """Lowest fit of the buffers one after another."""
    offsets: dict[int, int] = {}
    for index in order:
        rivals = [other for other in offsets if buffers[other].overlaps(buffers[index])]
        places = {0}
        for other in rivals:
            places.add(offsets[other] + _aligned(buffers[other].size))
            if (index, other) in pairs:
                places.add(max(0, offsets[other] - max(pairs[index, other], 0)))
            if (other, index) in pairs:
                places.add(offsets[other] + max(pairs[other, index], 0))
        offsets[index] = next(
            place
            for place in sorted(places)
            if all(_agree(buffers, pairs, index, place, other, offsets[other]) for other in rivals)
        )
    size = max((offsets[i] + _aligned(buffers[i].size) for i in offsets), default=0)
    return tuple(offsets[i] for i in range(len(buffers))), size


def _agree(
    buffers: Sequence[Buffer], pairs: Overlaps, a: int, at_a: int, b: int, at_b: int
) -> bool:
    """Whether ``a`` and ``b``, alive together, may lie there."""
    apart = at_a + _aligned(buffers[a].size) <= at_b or at_b + _aligned(buffers[b].size) <= at_a
    if apart:
        return True
    return _shares(pairs, a, at_a, b, at_b) or _shares(pairs, b, at_b, a, at_a)


def _shares(pairs: Overlaps, written: int, at_written: int, read: int, at_read: int) -> bool:
    distance = pairs.get((written, read))
    if distance is None:
        return False
    if distance == IN_PLACE:
        return at_read == at_written
    return at_read >= at_written + distance
