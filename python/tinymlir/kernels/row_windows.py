"""Windows over rows where they lie, and how the columns of a row are cut into blocks for that.

Rows beside the image are read from a constant row of padding. Blocks at the ends of a row begin
at known columns, so that what lies beside the image is known there; none else reaches beyond it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels.columns import Columns, Span, with_rest
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.words import advance_bytes, stream

#: A block of pixels costs as much as so many more; so does a pixel for which there is no room.
_BLOCK_COST, _SPILL_COST = 1.5, 0.7
#: What code of its own for a pixel is worth.
_CODE_COST = 0.1


def readers(conv: Convolution, count: int) -> dict[int, list[tuple[int, int]]]:
    """The columns under ``count`` neighbours, from the left: pixels and taps that want each."""
    users: dict[int, list[tuple[int, int]]] = {}
    for pixel, tap in itertools.product(range(count), range(conv.kernel[1])):
        column = pixel * conv.stride[1] + tap * conv.dilation[1]
        users.setdefault(column, []).append((pixel, tap))
    return dict(sorted(users.items()))


def present(conv: Convolution, column: Index, count: int) -> range:
    """The columns under ``count`` neighbours, from the first tap on, that are the image's.

    All of them where the first neighbour is not known.
    """
    columns = range(max(readers(conv, count)) + 1)
    if not isinstance(column, int):
        return columns
    left = column * conv.stride[1] - conv.pad[1]
    return range(max(0, -left), max(0, -left, min(len(columns), conv.in_hw[1] - left)))


@dataclass(frozen=True)
class Cut:
    """How rows are cut into blocks.

    ``left`` and ``right`` are blocks whose windows may reach beside the image; from ``begin`` to
    ``end`` blocks have ``count`` columns, and what is left over is one more.
    """

    left: tuple[Span, ...]
    right: tuple[Span, ...]
    begin: int
    end: int
    count: int
    #: for how many columns of a block there is room
    room: int

    def runs(self, first: int, last: int) -> dict[int, Span]:
        """The columns of a span that are blocks of each size, inside."""
        begin = min(max(first, self.begin), last)
        return with_rest(begin, max(min(last, self.end), begin), self.count)

    def blocks(self, span: Span) -> Iterator[tuple[int, int]]:
        """Sizes of the blocks of a span, and how many there are."""
        for piece in (*self.left, *self.right):
            if _holds(span, piece):
                yield _size(piece), 1
        for count, run in self.runs(*span).items():
            yield count, _size(run) // count

    def emit(self, emitter: Emitter, columns: Columns, block: Callable[[Index, int], None]) -> None:
        """Emit ``block(column, count)`` for each block of these columns, from left to right."""

        def by_itself(piece: Span) -> None:
            there = columns.pick(emitter, lambda *span: int(_holds(span, piece)))
            if isinstance(there, int):
                if there:
                    block(piece[0], _size(piece))
                return
            asked = arith.cmpi(arith.CmpIPredicate.ne, there, emitter.index(0))
            emitter.when(asked, lambda: block(piece[0], _size(piece)))

        for piece in self.left:
            by_itself(piece)
        columns.in_blocks(emitter, self.runs, block)
        for piece in self.right:
            by_itself(piece)

    def padding_bytes(self, conv: Convolution, spans: tuple[Span, ...]) -> int:
        """The bytes under the widest block, if rows may lie beside the image."""
        if len(conv.interior(0)) == conv.out_hw[0]:
            return 0
        ends = [present(conv, first, last - first) for first, last in (*self.left, *self.right)]
        inner = [range(max(readers(conv, n)) + 1) for span in spans for n in self.runs(*span)]
        return max(map(len, [*ends, *inner]), default=0) * conv.groups

    def cost(self, spans: tuple[Span, ...]) -> float:
        """What blocks cost, in pixels."""
        runs = sum(turns * self._cost(n) for span in spans for n, turns in self.blocks(span))
        inner = {count for span in spans for count in self.runs(*span)}
        code = [*map(_size, self.left), *map(_size, self.right), *inner]
        return runs + _CODE_COST * sum(map(self._cost, code))

    def _cost(self, count: int) -> float:
        return _BLOCK_COST + count + _SPILL_COST * max(0, count - self.room)


def _size(span: Span) -> int:
    return span[1] - span[0]


def _holds(span: Span, piece: Span) -> bool:
    return span[0] <= piece[0] and piece[1] <= span[1]


def cut_row(conv: Convolution, spans: tuple[Span, ...], most: int, room: int) -> Cut:
    """The best way to cut rows of which each of ``spans`` is computed by itself.

    Args:
        most: columns that a block has at most.
        room: columns of a block for which there are registers.
    """
    width = conv.out_hw[1]
    inside = conv.interior(1) or range(width, width)
    return _best_cut(width, (inside.start, inside.stop), spans, most, room)


@functools.lru_cache
def _best_cut(width: int, inside: Span, spans: tuple[Span, ...], most: int, room: int) -> Cut:
    """`cut_row` of rows whose windows reach beside the image outside ``inside`` only."""
    sizes = range(1, most + 1)
    ends = sizes if inside != (0, width) else range(1, 2)
    cuts = [
        Cut(*_ends(width, inside, spans, left, right), count, room)
        for left, right, count in itertools.product(ends, ends, sizes)
    ]
    return min(cuts, key=lambda cut: cut.cost(spans))


def _ends(
    width: int, inside: Span, spans: tuple[Span, ...], left: int, right: int
) -> tuple[tuple[Span, ...], tuple[Span, ...], int, int]:
    """The blocks at either end, of at most so many columns, and what is between them."""
    places = {place for span in spans for place in span}
    before: list[Span] = []
    begin, end = 0, width
    while begin < inside[0]:
        stop = min([begin + left, width, *(place for place in places if place > begin)])
        before.append((begin, stop))
        begin = stop
    after: list[Span] = []
    while end > max(inside[1], begin):
        start = max([end - right, begin, *(place for place in places if place < end)])
        after.insert(0, (start, end))
        end = start
    return tuple(before), tuple(after), begin, end


#: Where a row begins, and whether it is one of the image's where that is not known.
Origin = tuple[Index, ir.Value | None]


def origins(layer: Layer, conv: Convolution, row: Index) -> list[Origin]:
    """The rows under the windows of an output row."""
    emitter, rows = layer.emitter, []
    bordered = len(conv.interior(0)) < conv.out_hw[0]
    for kh in range(conv.kernel[0]):
        number = input_row(emitter, conv, row, kh)
        ends = emitter.index(number), emitter.index(conv.in_hw[0])
        inside = arith.cmpi(arith.CmpIPredicate.ult, *ends) if bordered else None
        rows.append((layer.source.origin(emitter, number), inside))
    return rows


def constant_padding(layer: Layer, conv: Convolution, size: int) -> ir.Value:
    """A pointer to so much padding in flash; to a power of two, so that layers have the same."""
    filler = np.full(1 << max(0, size - 1).bit_length(), conv.pad_value, np.int8)
    return stream(layer.pool.get(filler, "padding"))


def pointers(
    layer: Layer,
    conv: Convolution,
    rows: list[Origin],
    padding: Callable[[], ir.Value],
    column: Index,
    count: int,
) -> list[ir.Value]:
    """To the first tap of each kernel row, under the first of ``count`` neighbours.

    Nothing may be read through them but columns that are `present`. ``padding`` gives a pointer
    to a row of padding.
    """
    emitter, depth = layer.emitter, layer.source.channels
    begin, left = stream(layer.source.buffer), input_column(emitter, conv, column)
    first, result = present(conv, column, count).start, []
    for origin, inside in rows:
        pointer = advance_bytes(begin, emitter.add(origin, emitter.mul(left, depth)))
        if inside is not None:
            beside = advance_bytes(padding(), -first * depth)
            pointer = arith.select(inside, pointer, beside)
        result.append(pointer)
    return result
