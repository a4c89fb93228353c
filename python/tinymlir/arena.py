"""Static memory planning: buffers with lifetimes into one block, offsets fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Every buffer starts at a multiple of this many bytes.
ALIGNMENT = 4
#: Arrangements that are kept of each step when no simple heuristic reaches the lower bound.
_ARRANGEMENTS = 64
#: Above the lower bound, a size is found to this part of itself.
_FINENESS = 512
#: Outputs after one another, each over a part of its input, for which room is left below.
_FORESEEN = 6


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

    Tries the usual orders (by size, by time, by lifetime, by area), then arrangements step by
    step in ever less memory; stops at the lower bound. Deterministic.
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
    best: tuple[tuple[int, ...], int] | None = None
    for key in keys:
        order = sorted(indices, key=key)
        placed = _place(buffers, pairs, order)
        if best is None or placed[1] < best[1]:
            best = placed
    assert best is not None
    # Bytes are halved between a size that cannot be, as far as is known, and the best one.
    least, tried = bound - ALIGNMENT, bound
    while least < tried < best[1] and best[1] - least > best[1] // _FINENESS:
        offsets = _fit(buffers, pairs, tried)
        if offsets is None:
            least = tried
        else:
            best = offsets, tried
        tried = (least + best[1]) // 2 // ALIGNMENT * ALIGNMENT
    return Plan(best[0], best[1], bound, tuple(_in_use(buffers, best[0])))


#: Places of the buffers that are alive.
_Arrangement = tuple[tuple[int, int], ...]


def _fit(buffers: Sequence[Buffer], pairs: Overlaps, capacity: int) -> tuple[int, ...] | None:
    """Offsets within ``capacity``; None where none are found.

    Goes through the buffers in the order of time, and from all arrangements of those alive to
    all that one more buffer makes of them: at an end, beside another, over the input that it may
    share bytes with, or so far from the bottom that its successors may lie each a little lower.
    """
    # What is alive at one step only goes last, since nothing depends on where.
    order = sorted(
        range(len(buffers)),
        key=lambda i: (buffers[i].first, buffers[i].first == buffers[i].last, -buffers[i].size),
    )
    drifts = _drifts(len(buffers), pairs)
    sizes = [_aligned(buffer.size) for buffer in buffers]
    states: dict[_Arrangement, tuple[_Arrangement, int]] = {(): ((), 0)}
    history = []
    for number, index in enumerate(order):
        following = buffers[order[min(number + 1, len(order) - 1)]].first
        found: dict[_Arrangement, tuple[_Arrangement, int]] = {}
        for state in states:
            alive = [
                (other, at) for other, at in state if buffers[other].last >= buffers[index].first
            ]
            kept = [p for p in alive if buffers[p[0]].last >= following]
            stays = buffers[index].last >= following
            for place in _candidates(sizes, pairs, drifts[index], index, alive, capacity):
                after = (*kept, (index, place)) if stays else tuple(kept)
                found.setdefault(after, (state, place))
        if not found:
            return None
        states = dict(
            sorted(found.items(), key=lambda s: -_gap(sizes, s[0], capacity))[:_ARRANGEMENTS]
        )
        history.append(states)
    offsets = [0] * len(buffers)
    state = next(iter(states))
    for index, states in zip(reversed(order), reversed(history), strict=True):
        state, offsets[index] = states[state]
    return tuple(offsets)


def _drifts(count: int, pairs: Overlaps) -> list[list[int]]:
    """How far below each buffer its successors may begin, each over a part of the one before."""
    writers: dict[int, list[tuple[int, int]]] = {}
    for (written, read), distance in pairs.items():
        writers.setdefault(read, []).append((written, max(distance, 0)))

    def below(index: int, depth: int) -> set[int]:
        following = writers.get(index, []) if depth else []
        return {0, *(d + more for w, d in following for more in below(w, depth - 1))}

    return [sorted(below(index, _FORESEEN)) for index in range(count)]


def _candidates(
    sizes: Sequence[int],
    pairs: Overlaps,
    drifts: Sequence[int],
    index: int,
    alive: Sequence[tuple[int, int]],
    capacity: int,
) -> list[int]:
    """Places for one more buffer beside those alive."""
    size = sizes[index]
    places = {capacity - size, *drifts}
    for other, at in alive:
        places.add(at - size)
        end = at + sizes[other]
        places.update([end + drift for drift in drifts])
        if (index, other) in pairs:
            places.add(at - max(pairs[index, other], 0))
        if (other, index) in pairs:
            places.add(at + max(pairs[other, index], 0))
    allowed = sorted(place for place in places if 0 <= place <= capacity - size)
    for other, at in alive:
        below, above = at - size, at + sizes[other]
        allowed = [
            place
            for place in allowed
            if place <= below or place >= above or _share(pairs, index, place, other, at)
        ]
    return allowed


def _gap(sizes: Sequence[int], state: _Arrangement, capacity: int) -> int:
    """The most free bytes in one piece."""
    largest = reached = 0
    for start, index in sorted([(at, index) for index, at in state]):
        if start - reached > largest:
            largest = start - reached
        end = start + sizes[index]
        if end > reached:
            reached = end
    return max(largest, capacity - reached)


def _steps(buffers: Sequence[Buffer]) -> range:
    return range(max((b.last for b in buffers), default=-1) + 1)


def _least(buffers: Sequence[Buffer], pairs: Overlaps) -> list[int]:
    """Bytes that the buffers alive at each step need at the least.

    A union is at least the sum of its parts less what each buffer that is read shares with those
    that are written.
    """
    writers: dict[int, list[tuple[int, int]]] = {}
    for (written, read), distance in pairs.items():
        writers.setdefault(read, []).append((written, max(distance, 0)))
    needs = []
    for step in _steps(buffers):
        alive = [i for i, b in enumerate(buffers) if b.first <= step <= b.last]
        total = sum(_aligned(buffers[i].size) for i in alive)
        for read in alive:
            over = [
                (_aligned(buffers[w].size), distance)
                for w, distance in writers.get(read, [])
                if buffers[w].first <= step <= buffers[w].last
            ]
            total -= shared_bytes(_aligned(buffers[read].size), over)
        needs.append(total)
    return needs


def shared_bytes(size: int, over: Sequence[tuple[int, int]]) -> int:
    """The most bytes of a buffer of ``size`` that others, of so many bytes, may lie over.

    Each may begin no less than a distance before the buffer. Of two, one lies below the other.
    """
    if len(over) != 2:
        return sum(max(0, min(size, other - distance)) for other, distance in over)
    (a, over_a), (b, over_b) = over
    begin = min(max(over_a, a + over_b), max(over_b, b + over_a))
    return a + b + size - max(a + b, min(begin, a + b) + size)


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
    return apart or _share(pairs, a, at_a, b, at_b)


def _share(pairs: Overlaps, a: int, at_a: int, b: int, at_b: int) -> bool:
    """Whether ``a`` and ``b`` may share bytes where they lie."""
    return _shares(pairs, a, at_a, b, at_b) or _shares(pairs, b, at_b, a, at_a)


def _shares(pairs: Overlaps, written: int, at_written: int, read: int, at_read: int) -> bool:
    distance = pairs.get((written, read))
    if distance is None:
        return False
    if distance == IN_PLACE:
        return at_read == at_written
    return at_read >= at_written + distance
