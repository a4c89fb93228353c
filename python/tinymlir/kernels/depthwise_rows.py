"""Depthwise convolution row by row, on rows where they lie: in whole tensors or in rings.

Neighbours of a row are computed together, channel after channel: they share a channel's weights,
and each column under their windows is loaded once. With SMLAD two rows of the kernel are
multiplied at once: an activation and the one below it make a word. At the ends of a row it is
known which columns lie beside the image; rows beside it are read from a constant row of padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, ir, scf
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import table_bytes
from tinymlir.kernels.columns import Columns, Span, with_rest
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import MOST_TAPS
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix, input_column, input_row
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.short_offsets import element_of, short_tables
from tinymlir.kernels.words import advance, advance_bytes, fetch, fetch_byte, half, stream
from tinymlir.targets import Target

#: Neighbours computed together: the most there may be, and how many registers have room for.
_MOST_PIXELS, _ROOM = 6, 5
#: A block of pixels costs as much as so many more; so does a pixel for which there is no room.
_BLOCK_COST, _SPILL_COST = 1.5, 0.7
#: What code of its own for a pixel is worth.
_CODE_COST = 0.1


class DepthwiseRows(Kernel):
    """Block by block of neighbouring pixels: all channels."""

    name = "depthwise-rows"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        # Columns in strips are cut in other places, into blocks of no more.
        self.pixels = min(_MOST_PIXELS, conv.out_hw[1])
        height, step = conv.kernel[0], 2 if core.has("dsp") else 1
        #: rows of the kernel that are multiplied together
        self.together = [range(kh, min(kh + step, height)) for kh in range(0, height, step)]

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels go one to one, and windows are small enough to need no loop."""
        one_to_one = conv.in_per_group == conv.out_per_group == 1 and conv.groups > 1
        return one_to_one and conv.weights[0, 0].size <= MOST_TAPS

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        """Constants of channels, and a row of padding."""
        channel = 4 * (1 + self._weights().shape[1])
        spans = Columns.all(self.conv.out_hw[1]).spans
        padding = self._padding_bytes(_cut(self.conv, spans), spans)
        return channel * self.conv.groups + table_bytes(self.conv) + padding

    def mix(self) -> Mix:
        conv = self.conv
        cut = _cut(conv, Columns.all(conv.out_hw[1]).spans)
        row = Mix()
        for count, turns in cut.blocks((0, conv.out_hw[1])):
            enter = line(alu=4, load=2) * conv.kernel[0] + line(alu=4)
            row += loop(enter + loop(self._channel_mix(count), conv.groups), turns)
        return function(loop(row + line(alu=8, load=2) * conv.kernel[0], conv.out_hw[0]))

    def _channel_mix(self, count: int) -> Mix:
        """A channel of ``count`` neighbours."""
        conv = self.conv
        columns = len(_users(conv, count))
        tables = 1 + table_bytes(conv) // (4 * conv.groups)
        mix = line(load=tables, alu=3) + finish_mix(conv, count)
        for rows in self.together:
            products = conv.kernel[1] * count
            if len(rows) == 2:
                mix += line(load=2, alu=1) * columns + line(dual_mac=products)
            else:
                mix += line(load=1) * columns + line(mac=products)
            halves = self.core.has("dsp") and len(rows) == 1
            mix += line(load=-(-conv.kernel[1] // 2) if halves else conv.kernel[1])
            # Where rows begin is not in registers.
            mix += line(load=1, alu=1) * len(rows)
        return mix

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.conv, self.tables = short_tables(self.conv, layer.root)
        tables = [table.reshape(-1, 1).view("<i4") for table in self.tables.values()]
        parts = [self.conv.bias[:, None], self._weights(), *tables]
        #: of each channel, i32, in the order in which they are read
        self.constants = np.concatenate(parts, axis=1).astype("<i4")

    def row(self, row: Index, columns: Columns) -> None:
        emitter, cut = self.layer.emitter, _cut(self.conv, columns.spans)
        rows, padding = self._rows(row), self._padding(cut, columns.spans)

        def block(column: Index, count: int) -> None:
            self._block(rows, padding, row, column, count)

        def piece(span: Span) -> None:
            """Columns that are computed by themselves, if they are among these."""
            there = columns.pick(emitter, lambda *own: int(_holds(own, span)))
            if isinstance(there, int):
                if there:
                    block(span[0], span[1] - span[0])
                return
            choice = scf.IfOp(arith.cmpi(arith.CmpIPredicate.ne, there, emitter.index(0)))
            with ir.InsertionPoint(choice.then_block):
                block(span[0], span[1] - span[0])
                scf.yield_([])

        for span in cut.left:
            piece(span)
        columns.in_blocks(emitter, cut.runs, block)
        for span in cut.right:
            piece(span)

    def _rows(self, row: Index) -> list[tuple[Index, ir.Value | None]]:
        """Where each row under the window begins, and whether it is one of the image's."""
        conv, emitter = self.conv, self.layer.emitter
        inside = len(conv.interior(0)) == conv.out_hw[0]
        rows: list[tuple[Index, ir.Value | None]] = []
        for kh in range(conv.kernel[0]):
            number = input_row(emitter, conv, row, kh)
            ends = emitter.index(number), emitter.index(conv.in_hw[0])
            test = None if inside else arith.cmpi(arith.CmpIPredicate.ult, *ends)
            rows.append((self.layer.source.origin(emitter, number), test))
        return rows

    def _block(
        self,
        rows: list[tuple[Index, ir.Value | None]],
        padding: np.ndarray,
        row: Index,
        column: Index,
        count: int,
    ) -> None:
        """``count`` neighbours from ``column`` on; none is at a border where that is not known."""
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        left, there = input_column(emitter, conv, column), _there(conv, column, count)
        begin, pointers = stream(layer.source.buffer), []
        for origin, inside in rows:
            at = emitter.add(origin, emitter.mul(left, layer.source.channels))
            pointer = advance_bytes(begin, at)
            if inside is not None:
                beside = stream(layer.pool.get(padding, "padding"))
                beside = advance_bytes(beside, -there.start * layer.source.channels)
                pointer = arith.select(inside, pointer, beside)
            pointers.append(pointer)

        def channel(number: Index, w: ir.Value, *own: ir.Value) -> list[ir.Value]:
            sums = [fetch(w, 0)] * count
            for group in self.together:
                sums = self._kernel_rows(group, [own[kh] for kh in group], w, sums, there)
            known, place = {}, 1 + self._weights().shape[1]
            for value, table in self.tables.items():
                words = [fetch(w, place + i) for i in range(table.itemsize // 4)]
                known[value] = element_of(value, words)
                place += len(words)
            site = Site(layer, row, column, (0, 0), (0, 0), border=False)
            for p, total in enumerate(sums):
                finish(conv, site, p, number, total, known)
            return [advance(w, self.constants.shape[1]), *(advance_bytes(p, 1) for p in own)]

        constants = stream(layer.pool.get(self.constants.reshape(-1), "weights"))
        emitter.loop(0, conv.groups, 1, channel, [constants, *pointers])

    def _kernel_rows(
        self,
        group: range,
        pointers: list[ir.Value],
        w: ir.Value,
        sums: list[ir.Value],
        there: range,
    ) -> list[ir.Value]:
        """``sums`` plus the products of one row of the kernel, or of two at once.

        Args:
            pointers: where the rows of the image begin, under the first pixel's first tap.
            w: where the channel's constants begin.
            there: columns from there on that are the image's, and not padding.
        """
        conv, emitter, depth = self.conv, self.layer.emitter, self.layer.source.channels
        weights, sums = _Weights(self, w, group), list(sums)
        for x, users in _users(conv, len(sums)).items():
            if x in there:
                operands = [emitter.widen(fetch_byte(p, x * depth)) for p in pointers]
            else:
                operands = [emitter.integer(conv.pad_value)] * len(group)
            if len(operands) == 2:
                low = arith.andi(operands[0], emitter.integer(0xFFFF))
                pair = arith.ori(low, arith.shli(operands[1], emitter.integer(16)))
                for p, kw in users:
                    sums[p] = tiny.DualMacOp(sums[p], pair, weights.at(kw)).res
            else:
                for p, kw in users:
                    product = arith.muli(operands[0], weights.at(kw))
                    sums[p] = arith.addi(sums[p], product)
        return sums

    def _weights(self) -> np.ndarray:
        """The words of weights of each channel, in the order in which they are read."""
        weights = self.conv.weights[:, 0, :, :, 0]
        parts = [weights[:, rows].swapaxes(1, 2) for rows in self.together]
        if self.core.has("dsp"):
            return np.concatenate([_words(part.astype("<i2")) for part in parts], axis=1)
        return _words(weights)

    def _padding(self, cut: _Cut, spans: tuple[Span, ...]) -> np.ndarray:
        """A row of padding under the widest block, or nothing.

        Its size is a power of two, so that layers have the same one.
        """
        size = self._padding_bytes(cut, spans)
        return np.full(1 << max(0, size - 1).bit_length(), self.conv.pad_value, np.int8)

    def _padding_bytes(self, cut: _Cut, spans: tuple[Span, ...]) -> int:
        conv = self.conv
        if len(conv.interior(0)) == conv.out_hw[0]:
            return 0
        ends = [_there(conv, first, last - first) for first, last in (*cut.left, *cut.right)]
        inner = [range(max(_users(conv, n)) + 1) for span in spans for n in cut.runs(*span)]
        return max(map(len, [*ends, *inner]), default=0) * conv.groups


class _Weights:
    """The weights of one row of the kernel or two, loaded when they are first asked for."""

    def __init__(self, kernel: DepthwiseRows, w: ir.Value, group: range) -> None:
        self.emitter, self.pairs = kernel.layer.emitter, len(group) == 2
        self.halves = kernel.core.has("dsp") and not self.pairs
        taps = group.start * kernel.conv.kernel[1]
        # Behind the bias; two rows at once are an even number of halfwords.
        self.first = advance_bytes(w, 4 + (2 * taps if kernel.core.has("dsp") else taps))
        self.loaded: dict[int, ir.Value] = {}

    def at(self, tap: int) -> ir.Value:
        """A weight as an i32, or of two rows both weights in one."""
        place = tap // 2 if self.halves else tap
        if place not in self.loaded:
            words = self.pairs or self.halves
            byte = None if words else self.emitter.widen(fetch_byte(self.first, place))
            self.loaded[place] = fetch(self.first, place) if byte is None else byte
        return half(self.loaded[place], tap % 2) if self.halves else self.loaded[place]


def _words(weights: np.ndarray) -> np.ndarray:
    """``channels × …`` as ``channels × words``, the last one filled up with zeros."""
    flat = weights.reshape(len(weights), -1)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % (4 // flat.itemsize))))
    return np.ascontiguousarray(padded).view("<i4")


def _users(conv: Convolution, count: int) -> dict[int, list[tuple[int, int]]]:
    """The columns under ``count`` neighbours, from the left: pixels and taps that want each."""
    users: dict[int, list[tuple[int, int]]] = {}
    for pixel, tap in itertools.product(range(count), range(conv.kernel[1])):
        column = pixel * conv.stride[1] + tap * conv.dilation[1]
        users.setdefault(column, []).append((pixel, tap))
    return dict(sorted(users.items()))


def _there(conv: Convolution, column: Index, count: int) -> range:
    """The columns under ``count`` neighbours, from the first tap on, that are the image's.

    All of them where the first neighbour is not known.
    """
    columns = range(max(_users(conv, count)) + 1)
    if not isinstance(column, int):
        return columns
    left = column * conv.stride[1] - conv.pad[1]
    return range(max(0, -left), max(0, -left, min(len(columns), conv.in_hw[1] - left)))


@dataclass(frozen=True)
class _Cut:
    """How rows are cut into blocks.

    ``left`` and ``right`` are blocks whose windows may reach beside the image; from ``begin`` to
    ``end`` blocks have ``count`` columns, and what is left over is one more.
    """

    left: list[Span]
    right: list[Span]
    begin: int
    end: int
    count: int

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

    def cost(self, spans: tuple[Span, ...]) -> float:
        """What blocks cost, in pixels."""
        runs = sum(turns * _block_cost(n) for span in spans for n, turns in self.blocks(span))
        inner = {count for span in spans for count in self.runs(*span)}
        code = [*map(_size, self.left), *map(_size, self.right), *inner]
        return runs + _CODE_COST * sum(map(_block_cost, code))


def _block_cost(count: int) -> float:
    return _BLOCK_COST + count + _SPILL_COST * max(0, count - _ROOM)


def _size(span: Span) -> int:
    return span[1] - span[0]


def _holds(span: Span, piece: Span) -> bool:
    return span[0] <= piece[0] and piece[1] <= span[1]


def _cut(conv: Convolution, spans: tuple[Span, ...]) -> _Cut:
    """The best way to cut rows of which each of ``spans`` is computed by itself."""
    sizes = range(1, _MOST_PIXELS + 1)
    inside = conv.interior(1) or range(conv.out_hw[1], conv.out_hw[1])
    ends = sizes if len(inside) < conv.out_hw[1] else range(1, 2)
    cuts = [
        _cut_by(conv.out_hw[1], inside, spans, *three)
        for three in itertools.product(ends, ends, sizes)
    ]
    return min(cuts, key=lambda cut: cut.cost(spans))


def _cut_by(
    width: int, inside: range, spans: tuple[Span, ...], left: int, right: int, count: int
) -> _Cut:
    """With blocks of at most ``left`` columns to the left of the inner ones, and so on."""
    places = {place for span in spans for place in span}
    before: list[Span] = []
    begin, end = 0, width
    while begin < inside.start:
        stop = min([begin + left, width, *(place for place in places if place > begin)])
        before.append((begin, stop))
        begin = stop
    after: list[Span] = []
    while end > max(inside.stop, begin):
        start = max([end - right, begin, *(place for place in places if place < end)])
        after.insert(0, (start, end))
        end = start
    return _Cut(before, after, begin, end, count)
