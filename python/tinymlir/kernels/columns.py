"""The columns of a row that a kernel computes, where there may be several strips of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinymlir.bindings import arith
from tinymlir.kernels.emitter import Emitter, Index

#: First column, and past the last.
Span = tuple[int, int]


def widest(spans: Sequence[Span]) -> int:
    """The most columns of a span."""
    return max(last - first for first, last in spans)


@dataclass(frozen=True)
class Columns:
    """Columns from ``first`` on, up to ``last``: those of one of the ``spans``, known or not."""

    first: Index
    last: Index
    spans: tuple[Span, ...]

    @staticmethod
    def all(count: int) -> Columns:
        """A whole row."""
        return Columns(0, count, ((0, count),))

    def pick(self, emitter: Emitter, value: Callable[[int, int], int]) -> Index:
        """``value(first, last)`` of the span that these columns are."""
        # Spans begin and end one after the other, so these sums tell them apart.
        values = {sum(span): value(*span) for span in self.spans}
        ((usual, _),) = Counter(values.values()).most_common(1)
        others = {key: known for key, known in values.items() if known != usual}
        if not others:
            return usual
        key, picked = emitter.index(emitter.add(self.first, self.last)), emitter.index(usual)
        for number, known in others.items():
            same = arith.cmpi(arith.CmpIPredicate.eq, key, emitter.index(number))
            picked = arith.select(same, emitter.index(known), picked)
        return picked

    def in_blocks(
        self,
        emitter: Emitter,
        runs: Callable[[int, int], dict[int, Span]],
        block: Callable[[Index, int], None],
    ) -> None:
        """Emit ``block(column, count)`` for each block, the greatest first.

        ``runs(first, last)`` are the columns of a span that are blocks of each count.
        """

        def end(count: int, side: int) -> Index:
            """Where a run begins, or ends; one that a span lacks has no columns."""

            def place(first: int, last: int) -> int:
                return runs(first, last).get(count, (first, first))[side] - first

            return emitter.add(self.first, self.pick(emitter, place))

        counts = {count for span in self.spans for count in runs(*span)}
        for count in sorted(counts, reverse=True):
            begin, stop = end(count, 0), end(count, 1)
            emitter.loop(begin, stop, count, lambda column, n=count: block(column, n))


def with_rest(first: int, last: int, count: int) -> dict[int, Span]:
    """Blocks of ``count`` columns, and one of what is left over."""
    rest = (last - first) % count
    runs = {count: (first, last - rest)} if last - rest > first else {}
    return runs | ({rest: (last - rest, last)} if rest else {})


def none_alone(first: int, last: int, count: int) -> dict[int, Span]:
    """Blocks of ``count`` columns; one that would be left over shares two blocks with the last."""
    if count < 3 or last - first <= count or (last - first) % count != 1:
        return with_rest(first, last, count)
    start = last - count - 1
    runs = {count: (first, start)} if start > first else {}
    if count == 3:
        return runs | {2: (start, last)}
    return runs | {count - 1: (start, last - 2), 2: (last - 2, last)}
