"""Static memory planning."""

from __future__ import annotations

import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tinymlir.arena import ALIGNMENT, IN_PLACE, Buffer, Overlaps, Plan, plan


@st.composite
def buffers(draw: st.DrawFn, most: int) -> list[Buffer]:
    found = []
    for _ in range(draw(st.integers(0, most))):
        first = draw(st.integers(0, 9))
        found.append(Buffer(draw(st.integers(1, 60)), first, first + draw(st.integers(0, 5))))
    return found


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Buffer], Overlaps]:
    """Layer after layer, each output allowed to lie over some of the input that dies there."""
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=8))
    chain = [Buffer(size, i, i + 1) for i, size in enumerate(sizes)]
    allowed = {}
    for i in range(1, len(chain)):
        if draw(st.booleans()):
            allowed[i, i - 1] = draw(st.just(IN_PLACE) | st.integers(0, 40))
    return chain + draw(buffers(most=4)), allowed


def aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def least_size(given: list[Buffer]) -> int:
    """The optimum: in some order, each buffer at the lowest place that is free gives it."""
    best = sum(aligned(b.size) for b in given)
    for order in itertools.permutations(given):
        placed: list[tuple[int, Buffer]] = []
        for buffer in order:
            alive = [(at, b) for at, b in placed if b.overlaps(buffer)]
            # The lowest place is the bottom, or right above a buffer.
            candidates = sorted([0, *(at + aligned(b.size) for at, b in alive)])
            spot = next(
                c
                for c in candidates
                if all(c + buffer.size <= at or at + b.size <= c for at, b in alive)
            )
            placed.append((spot, buffer))
        best = min(best, max((at + aligned(b.size) for at, b in placed), default=0))
    return best


def check(given: list[Buffer], overlaps: Overlaps, made: Plan) -> None:
    """That all buffers are in the plan, and those alive together are where they may be."""
    assert len(made.offsets) == len(given)
    for at, b in zip(made.offsets, given, strict=True):
        assert at >= 0 and at % ALIGNMENT == 0 and at + b.size <= made.size
    for i, j in itertools.combinations(range(len(given)), 2):
        (a, at_a), (b, at_b) = ((given[k], made.offsets[k]) for k in (i, j))
        if a.last < b.first or b.last < a.first:
            continue
        apart = at_a + a.size <= at_b or at_b + b.size <= at_a
        together = IN_PLACE in (overlaps.get((i, j)), overlaps.get((j, i))) and at_a == at_b
        above = overlaps.get((i, j), IN_PLACE) >= 0 and at_b >= at_a + overlaps[i, j]
        below = overlaps.get((j, i), IN_PLACE) >= 0 and at_a >= at_b + overlaps[j, i]
        assert apart or above or below or together
    for step, live in enumerate(made.live):
        used = {
            byte
            for at, b in zip(made.offsets, given, strict=True)
            if b.first <= step <= b.last
            for byte in range(at, at + aligned(b.size))
        }
        assert live == len(used)
    assert max(made.live, default=0) <= made.size
    assert made.size >= made.lower_bound


@settings(max_examples=150, deadline=None, derandomize=True)
@given(buffers(most=14))
def test_plans_are_sound(given: list[Buffer]) -> None:
    made = plan(given)
    check(given, {}, made)
    needs = [sum(aligned(b.size) for b in given if b.first <= s <= b.last) for s in range(16)]
    assert made.lower_bound == max(needs)
    assert plan(given) == made


@settings(max_examples=60, deadline=None, derandomize=True)
@given(buffers(most=6))
def test_small_plans_are_optimal(given: list[Buffer]) -> None:
    assert plan(given).size == least_size(given)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(chains())
def test_plans_that_share_bytes_are_sound(case: tuple[list[Buffer], Overlaps]) -> None:
    given, overlaps = case
    made = plan(given, overlaps)
    check(given, overlaps, made)
    assert made.size <= plan(given).size
    assert plan(given, overlaps) == made


def test_nothing_to_place() -> None:
    made = plan([])
    assert (made.offsets, made.size, made.lower_bound) == ((), 0, 0)


def test_a_chain_needs_two_neighbours() -> None:
    """Each layer reads one buffer and writes the next: the greatest sum of two."""
    chain = [Buffer(size, i, i + 1) for i, size in enumerate([100, 40, 80, 24, 8])]
    assert plan(chain).size == 140


def test_a_chain_in_place_needs_one() -> None:
    chain = [Buffer(100, i, i + 1) for i in range(5)]
    made = plan(chain, {(i + 1, i): 0 for i in range(4)})
    assert (made.size, made.lower_bound) == (100, 100)


def test_an_input_above_its_output() -> None:
    """The layer may write no further than 24 bytes ahead of what it still reads."""
    made = plan([Buffer(100, 0, 1), Buffer(100, 1, 2)], {(1, 0): 24})
    read, written = made.offsets
    assert (written, read, made.size, made.live) == (0, 24, 124, (100, 124, 100))


def test_a_skip_connection_stays() -> None:
    """A block of ResNet-8: what the addition reads again lives beside two more."""
    block = [Buffer(16384, 0, 3), Buffer(16384, 1, 2), Buffer(16384, 2, 3), Buffer(8192, 3, 4)]
    made = plan(block)
    assert made.size == made.lower_bound == 3 * 16384


def test_sizes_are_padded() -> None:
    made = plan([Buffer(5, 0, 1), Buffer(3, 1, 2)])
    assert made.size == made.lower_bound == 12


def test_search_beats_every_simple_order() -> None:
    """By size, start, end, lifetime and area alike, a hole of 8 bytes remains."""
    holed = [
        Buffer(8, 4, 4),
        Buffer(16, 4, 6),
        Buffer(12, 5, 6),
        Buffer(12, 3, 5),
        Buffer(24, 0, 3),
        Buffer(8, 1, 2),
    ]
    assert plan(holed).size == 40


def test_large_networks_plan_quickly() -> None:
    """Dense connections, whose plan does not reach the lower bound."""
    count = 200
    given = [Buffer(100 + 37 * i % 91, i, min(count, i + 1 + i * 7 % 11)) for i in range(count)]
    start = time.process_time()
    made = plan(given)
    assert time.process_time() - start < 10
    assert made.lower_bound < made.size < 1.3 * made.lower_bound
