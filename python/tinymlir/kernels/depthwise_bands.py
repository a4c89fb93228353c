"""3×3 depthwise convolution over bands of rows, as a function that layers of any size share.

Four channels at a time go to planes in scratch memory, so many rows of them as fit: neighbouring
columns of a channel as halfwords of a word, the words of one pair of columns row by row. Where the
next row, channel and pair of columns lie is the same for all layers, so it is part of the
instructions; sizes and distances in the tensors stand before a layer's constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np

from tinymlir.bindings import arith, func, ir, llvm
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import element_of
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.late_steps import late_steps
from tinymlir.kernels.parking import Held, Parked, opaque, park, repeat, while_below
from tinymlir.kernels.pixels import Site, finish
from tinymlir.kernels.row_copy import CHANNEL_BLOCK
from tinymlir.kernels.words import (
    advance,
    advance_bytes,
    below,
    extend,
    fetch,
    fetch_byte,
    half,
    neighbours,
    repeated,
    settled,
)

#: Rows and columns of a kernel; those of a result that are computed together.
KERNEL, ROWS, COLUMNS = 3, 3, 2
#: Output rows of a band at most, and rows that two bands have in common.
BAND, OVERLAP = 2 * ROWS, KERNEL - 1
_WORD = 4
#: Bytes from a channel to the next one, in a pair of columns, and from a pair to the next one.
PLANE = _WORD * (BAND + OVERLAP)
PAIR = CHANNEL_BLOCK * PLANE
#: Words of a channel's weights as bytes, and as halfwords.
PACKED_WORDS, WEIGHT_WORDS = KERNEL, 2 * KERNEL
#: Rows of the first pair of columns and of the second one that are loaded together.
RUNS = 5, 3


def pairs_under(columns: int) -> int:
    """Pairs of columns under so many columns of a result."""
    return -(-columns // COLUMNS) + 1


def constants_bytes(table_bytes: int) -> int:
    """Bytes of four channels' weights, biases and elements of tables, in scratch memory."""
    return CHANNEL_BLOCK * (_WORD * (WEIGHT_WORDS + 1) + table_bytes)


def pack(weights: np.ndarray) -> np.ndarray:
    """``[channel, 3, 3]`` i8 as a word of each row: `tiny.extend_bytes` makes of it its first two
    taps, and its last two.
    """
    pairs = np.stack([weights[:, :, :2], weights[:, :, 1:]], axis=-1)
    return np.ascontiguousarray(pairs).reshape(len(weights), -1).view("<i4")


@dataclass(frozen=True)
class Sizes:
    """What the function knows of a layer, in the order in which it lies before the constants."""

    #: what padding is, as two halfwords
    filler: int
    #: bytes of the planes of a band
    planes: int
    channels: int
    source_row: int
    #: bytes of a column of the planes that are padding above the image, and those of the image
    above: int
    height: int
    #: bytes before the pair with the first column
    before: int
    #: bytes of the pairs that are no padding; whether the first column of one more is none
    inside: int
    more: int
    #: output rows of a band and of all, and bytes of one
    band: int
    output_rows: int
    target_row: int
    #: bytes of the planes under pairs of output columns; bytes of a pixel if a column is left
    even: int
    single: int

    @classmethod
    def of(cls, conv: Convolution, band: int) -> Sizes:
        (rows, columns), left = conv.out_hw, conv.pad[1]
        pairs = pairs_under(columns)
        copied = min(conv.in_hw[1], 2 * pairs - left) - is_odd(conv)
        return cls(
            filler=repeated(conv.pad_value, 16),
            planes=pairs * PAIR,
            channels=conv.groups,
            source_row=conv.in_hw[1] * conv.groups,
            above=_WORD * conv.pad[0],
            height=_WORD * conv.in_hw[0],
            before=left // 2 * PAIR,
            inside=copied // 2 * PAIR,
            more=copied % 2,
            band=band,
            output_rows=rows,
            target_row=columns * conv.groups,
            even=columns // COLUMNS * PAIR,
            single=columns % COLUMNS * conv.groups,
        )

    def words(self) -> np.ndarray:
        return np.array(astuple(self), "<i4")


SIZES = len(Sizes.__dataclass_fields__)


def is_odd(conv: Convolution) -> bool:
    """Whether the first column of the image is the second one of a pair."""
    return bool(conv.pad[1] % 2)


class BandFunction:
    """Emits ``@symbol(source, target, scratch, constants)``: a layer."""

    def __init__(
        self, conv: Convolution, layer: Layer, tables: Mapping[ir.Value, np.ndarray]
    ) -> None:
        self.conv, self.layer, self.tables = conv, layer, tables
        self.emitter = layer.emitter
        self.table_bytes = sum(table.itemsize for table in tables.values())
        #: of four channels, and of one
        self.constants_bytes = constants_bytes(self.table_bytes)
        self.channel_bytes = self.constants_bytes // CHANNEL_BLOCK

    def emit(self, symbol: str) -> None:
        pointer = ir.Type.parse("!llvm.ptr")
        with ir.InsertionPoint.after(self.layer.function.operation):
            helper = func.FuncOp(symbol, ([pointer] * 4, []), visibility="private")
        with ir.InsertionPoint(helper.add_entry_block()):
            source, target, weights, constants = helper.arguments
            self.sizes, self.constants = park(constants), park(advance(constants, SIZES))
            self.weights = park(weights)
            channels, planes, row = self._sizes("channels", "planes", "target_row")
            self.pitch, self.target_row = park(channels), park(row)
            # From the last of four channels to the first one, two columns on.
            twice = arith.addi(channels, channels)
            self.following = park(arith.subi(twice, self.emitter.integer(CHANNEL_BLOCK)))
            scratch = advance_bytes(weights, self.constants_bytes)
            self.scratch = park(scratch)
            self._fill(scratch, self._past(scratch, planes), _WORD)
            end = park(self._past(target, channels))

            def group(source: ir.Value, target: ir.Value) -> list[ir.Value]:
                source_, target_ = park(source), park(target)
                self._expand()
                self._bands(source, target)
                return [advance_bytes(p.load(), CHANNEL_BLOCK) for p in (source_, target_)]

            while_below(end, [source, target], group, place=1, first=True)
            func.ReturnOp([])

    def _sizes(self, *names: str) -> list[ir.Value]:
        sizes, all_names = self.sizes.load(), list(Sizes.__dataclass_fields__)
        return [fetch(sizes, all_names.index(name)) for name in names]

    def _past(self, pointer: ir.Value, count: ir.Value) -> ir.Value:
        """The address an i32 of bytes further on."""
        return advance_bytes(pointer, arith.index_cast(ir.IndexType.get(), count))

    def _expand(self) -> None:
        """The constants of the next four channels, weights as halfwords, to scratch memory."""
        others = range(PACKED_WORDS, PACKED_WORDS + 1 + self.table_bytes // _WORD)

        def channel(source: ir.Value, target: ir.Value) -> list[ir.Value]:
            packed = [fetch(source, i) for i in range(PACKED_WORDS)]
            found = [extend(word, odd) for odd in (0, 1) for word in packed]
            found += [fetch(source, i) for i in others]
            for i, word in enumerate(found):
                llvm.store(word, advance(target, i), alignment=_WORD)
            return [advance(source, others.stop), advance(target, len(found))]

        carried = [self.constants.load(), self.weights.load()]
        carried = while_below(self.scratch, carried, channel, place=1, first=True)
        self.constants.store(carried[0])

    def _bands(self, source: ir.Value, target: ir.Value) -> None:
        """All rows of four channels that begin at these places."""
        emitter = self.emitter
        above, left = self._sizes("above", "output_rows")
        # Where the planes' first row of the image is, or would be.
        top = park(self._past(self.scratch.load(), above))
        line_, slot_ = park(source), park(self.scratch.load())
        left_, target_ = park(left), park(target)

        def band() -> tuple[ir.Value, list[ir.Value]]:
            (most,) = self._sizes("band")
            count = park(arith.minsi(most, left_.load()))
            under = park(arith.muli(count.load(), emitter.integer(_WORD)))
            end = self._past(self.scratch.load(), under.load())
            end_ = park(advance(end, OVERLAP))
            slot = self._padding(slot_.load(), top)
            (height,) = self._sizes("height")
            bottom = self._past(top.load(), height)
            last = end_.load()
            bottom = park(arith.select(below(bottom, last), bottom, last))
            slot, line = while_below(bottom, [slot, line_.load()], self._row)
            line_.store(line)
            self._padding(slot, end_)
            self._lines(target_.load(), count.load())
            rest = arith.subi(left_.load(), count.load())
            left_.store(rest)
            more = arith.cmpi(arith.CmpIPredicate.sgt, rest, emitter.integer(0))

            def go_on() -> None:
                moved = arith.muli(count.load(), self.target_row.load())
                target_.store(self._past(target_.load(), moved))
                top.store(self._past(top.load(), arith.subi(emitter.integer(0), under.load())))
                self._carry(self._past(self.scratch.load(), under.load()))
                slot_.store(advance(self.scratch.load(), OVERLAP))

            emitter.when(more, go_on)
            return more, []

        repeat(band)

    def _carry(self, source: ir.Value) -> None:
        """Move the rows that the next band has in common with this one, from ``source`` on."""
        target = self.scratch.load()
        end = self._past(target, self._sizes("planes")[0])
        places = [
            channel * PLANE // _WORD + row
            for channel in range(CHANNEL_BLOCK)
            for row in range(OVERLAP)
        ]

        def pair(source: ir.Value, target: ir.Value) -> list[ir.Value]:
            for some in (places[: len(places) // 2], places[len(places) // 2 :]):
                for place, word in zip(some, [fetch(source, i) for i in some], strict=True):
                    llvm.store(word, advance(target, place), alignment=_WORD)
            return [advance_bytes(p, PAIR) for p in (source, target)]

        while_below(Held(end), [source, target], pair, place=1, first=True)

    def _fill(self, target: ir.Value, end: ir.Value, apart: int) -> None:
        """Padding in words ``apart`` bytes from each other, four of them a turn."""
        (filler,) = self._sizes("filler")

        def turn(target: ir.Value) -> list[ir.Value]:
            for word in range(CHANNEL_BLOCK):
                llvm.store(filler, advance_bytes(target, word * apart), alignment=_WORD)
            return [advance_bytes(target, CHANNEL_BLOCK * apart)]

        while_below(Held(end), [target], turn, first=True)

    def _padding(self, slot: ir.Value, end: Parked) -> ir.Value:
        """Rows of padding from ``slot`` to ``end``; where the row after them goes."""

        def row(slot: ir.Value) -> list[ir.Value]:
            self._fill(slot, self._past(slot, self._sizes("planes")[0]), PLANE)
            return [advance(slot, 1)]

        return while_below(end, [slot], row)[0]

    def _row(self, slot: ir.Value, line: ir.Value) -> list[ir.Value]:
        """An input row that begins at ``line`` into the words from ``slot`` on."""
        emitter = self.emitter
        size, before, inside, more = self._sizes("source_row", "before", "inside", "more")
        pitch, source, target = self.pitch.load(), line, self._past(slot, before)
        if is_odd(self.conv):
            self._alone(source, target, 1)
            source, target = self._past(source, pitch), advance_bytes(target, PAIR)
        end = self._past(target, inside)

        def pair(source: ir.Value, target: ir.Value) -> list[ir.Value]:
            neighbour = self._past(source, pitch)
            words = [fetch(p, 0, alignment=1) for p in (source, neighbour)]
            for channel, word in enumerate(neighbours(*words)):
                at = advance_bytes(target, channel * PLANE)
                llvm.store(word, at, alignment=_WORD)
            return [self._past(neighbour, pitch), advance_bytes(target, PAIR)]

        source, target = while_below(Held(end), [source, target], pair, place=1, first=True)
        some = arith.cmpi(arith.CmpIPredicate.ne, more, emitter.integer(0))
        emitter.when(some, lambda: self._alone(source, target, 0))
        return [advance(slot, 1), self._past(line, size)]

    def _alone(self, source: ir.Value, target: ir.Value, high: int) -> None:
        """One column of a pair."""
        i16 = ir.IntegerType.get_signless(16)
        columns = [fetch_byte(source, channel) for channel in range(CHANNEL_BLOCK)]
        for channel, value in enumerate(columns):
            at = advance_bytes(target, channel * PLANE + 2 * high)
            llvm.store(arith.extsi(i16, value), at, alignment=2)

    def _lines(self, target: ir.Value, count: ir.Value) -> None:
        """So many rows of four channels, the first of which goes to ``target``, in blocks."""
        emitter = self.emitter
        last = arith.subi(count, emitter.integer(ROWS))
        under = arith.muli(last, emitter.integer(_WORD))
        first, row = self.scratch.load(), self.target_row.load()
        last_x = park(self._past(first, under))
        last_y = park(self._past(target, arith.muli(last, row)))
        step = park(arith.muli(row, emitter.integer(ROWS)))
        x_, y_ = park(first), park(target)

        def line() -> tuple[ir.Value, list[ir.Value]]:
            begin = x_.load()
            self._line(begin, y_.load())
            x, y = advance(begin, ROWS), self._past(y_.load(), step.load())
            last = last_x.load()
            # The last block begins before the end of the one above where rows are no whole blocks.
            beyond = below(last, x)
            x_.store(arith.select(beyond, last, x))
            y_.store(arith.select(beyond, last_y.load(), y))
            return below(begin, last), []

        repeat(line)

    def _line(self, x: ir.Value, place: ir.Value) -> None:
        """The rows of a block, from left to right."""
        emitter = self.emitter
        even, single = self._sizes("even", "single")
        place_, end, single_ = park(place), park(self._past(x, even)), park(single)

        def part(x: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
            def columns(x: ir.Value) -> list[ir.Value]:
                def channel(x: ir.Value, w: ir.Value) -> list[ir.Value]:
                    self._block(x, w, place_)
                    return [advance_bytes(x, PLANE), advance_bytes(w, self.channel_bytes)]

                carried = [x, self.weights.load()]
                x, _ = while_below(self.scratch, carried, channel, place=1, first=True)
                place_.store(self._past(place_.load(), self.following.load()))
                return [x]

            (x,) = while_below(end, [x], columns, first=True)
            odd = single_.load()

            def rest() -> None:
                # The second column of the last block goes where the first one does, before it.
                self.pitch.store(arith.subi(odd, self.pitch.load()))
                end.store(advance_bytes(x, PAIR))

            zero = emitter.integer(0)
            emitter.when(arith.cmpi(arith.CmpIPredicate.ne, odd, zero), rest)
            return arith.cmpi(arith.CmpIPredicate.eq, self.pitch.load(), zero), [x]

        repeat(part, [x])

    def _block(self, x: ir.Value, w: ir.Value, place: Parked) -> None:
        """Rows of two columns of a channel, with constants at ``w``.

        First what the pair of columns on the left takes part in, then that on the right: so no
        more than half of the weights are in registers.
        """
        sums: list[list[ir.Value]] = []
        for side in range(COLUMNS):
            weights = [fetch(w, KERNEL * side + k) for k in range(KERNEL)]
            if not sums:
                sums = [[fetch(w, WEIGHT_WORDS)] * COLUMNS for _ in range(ROWS)]
            words: list[ir.Value] = []
            for row in range(ROWS + KERNEL - 1):
                if row == len(words):
                    run = range(row, min(row + RUNS[side], ROWS + KERNEL - 1))
                    loaded = [fetch(advance_bytes(x, side * PAIR), i) for i in run]
                    # All are loaded before any of them is multiplied: that is faster.
                    words += [settled(word) for word in loaded]
                for line in range(max(0, row - KERNEL + 1), min(row + 1, ROWS)):
                    own, weight = sums[line], weights[row - line]
                    # Both for one output, and for the other what lies between.
                    own[side] = tiny.DualMacOp(own[side], words[row], weight).res
                    product = arith.muli(half(words[row], 1 - side), half(weight, side))
                    own[1 - side] = arith.addi(own[1 - side], product)
        self._store(sums, w, place)

    def _store(self, sums: list[list[ir.Value]], w: ir.Value, cell: Parked) -> None:
        known, number = {}, WEIGHT_WORDS + 1
        for value, table in self.tables.items():
            words = [fetch(w, number + i) for i in range(table.itemsize // _WORD)]
            known[value] = element_of(words)
            number += len(words)
        late = late_steps(self.conv, shared=True)
        if late is not None:
            flat, base = [total for line in sums for total in line], self.sizes.load
            flat, known[late.multipliers] = late.emit(flat, 1, base, known[late.multipliers])
            sums = [flat[i : i + COLUMNS] for i in range(0, len(flat), COLUMNS)]
        place, pitch, row = cell.load(), self.pitch.load(), self.target_row.load()
        cell.store(advance_bytes(place, 1))
        places = [place, opaque(self._past(place, pitch))]
        for number, line in enumerate(sums):
            for column in reversed(range(COLUMNS)):
                site = Site(self.layer, 0, 0, (0, 0), (0, 0), border=False, place=places[column])
                finish(self.conv, site, 0, 0, line[column], known)
                if number + 1 < len(sums):
                    places[column] = opaque(self._past(places[column], row))
