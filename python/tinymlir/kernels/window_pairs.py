"""The windows of some pixels side by side, two pixels in a word of scratch memory."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from tinymlir.bindings import arith, ir, llvm, memref
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.price import Mix, either, function, line, loop
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.window_copy import emit_to_scratch, has_whole_rows
from tinymlir.kernels.words import advance, advance_bytes, fetch_byte, stream, view

#: Pixels gathered together where rows have room for them: two words.
PIXELS = 4
#: Channels up to which padding is copied with a row.
_FEW_CHANNELS = 3
#: Operands gathered between two branches.
_UNROLL = 4


def columns_under(conv: Convolution, pixels: int) -> int:
    """Columns of the input from the first to the last under the windows of neighbours."""
    return conv.stride[1] * (pixels - 1) + conv.dilation[1] * (conv.kernel[1] - 1) + 1


def has_padded_rows(conv: Convolution) -> bool:
    """Whether rows at the border are copied with their padding before they are gathered.

    It takes some instructions for each byte. Looking for each tap where it lies takes more, but
    once for all its channels.
    """
    return conv.in_per_group <= _FEW_CHANNELS and not conv.is_part


def gather_mix(conv: Convolution) -> Mix:
    """The function that `emit_gather` makes, called once."""
    run = conv.kernel[1] * conv.in_per_group
    operand = line(load=PIXELS) + line(alu=PIXELS // 2, store=PIXELS // 2)
    inside = loop(operand, run, _UNROLL) + line(alu=8)
    tap = loop(operand, conv.in_per_group, _UNROLL) + line(alu=14 * PIXELS, load=2, store=2)
    border = loop(tap, conv.kernel[1])
    if has_padded_rows(conv):
        copied = columns_under(conv, PIXELS) * conv.in_per_group
        border = loop(line(load=1, store=1), copied) + inside + line(alu=20)
    shares = [len(conv.interior(axis)) / conv.out_hw[axis] for axis in (0, 1)]
    # A block of neighbours touches the border where any of them does.
    share = max(0.0, shares[0] * (1 - PIXELS * (1 - shares[1])))
    row = inside if shares == [1, 1] else either(share, inside, border)
    return function(loop(row + line(alu=4), conv.kernel[0]))


def words_of(pixels: int) -> int:
    """Words of scratch memory that an operand of so many pixels takes: an odd one has its own."""
    return -(-pixels // 2)


@dataclass(frozen=True)
class Run:
    """The pixels that blocks are taken from: columns of a row up to ``last``, included.

    A block has so many ``pixels``. Columns beyond ``last`` are that one again, unless ``whole``
    says that there are none. With ``wraps``, columns beyond the output's width belong to the rows
    that follow.
    """

    last: Index
    whole: bool
    wraps: bool
    pixels: int = PIXELS

    def place(self, emitter: Emitter, column: Index, pixel: int) -> Index:
        """The column of a pixel of the block that begins at ``column``."""
        own = emitter.add(column, pixel)
        return own if self.whole else emitter.minimum(own, self.last)


def emit_gather(conv: Convolution, layer: Layer, scratch: ir.Value, run: Run) -> str:
    """``@layer<i>_gather…(input, scratch, row, column, last, first)``: a block's windows.

    Each operand has as many words as `words_of` says: x₀ + 2¹⁶·x₁ of two pixels, of the next
    two, and x of an odd one, in the order kernel row, kernel column, channel; padding included.
    ``last`` is the run's; ``first`` is the first column that is in memory.
    """
    kind = "" if run.pixels == PIXELS else f"_{run.pixels}"
    kind += "" if run.whole else "_last"
    kind += "_wrapped" if run.wraps else ""

    def windows(
        source: Rows, scratch: ir.Value, row: ir.Value, column: ir.Value, last: ir.Value
    ) -> None:
        ends = replace(run, last=last)
        _Windows(conv, layer.emitter, layer.pool, source, scratch, row, column, ends).emit()

    return emit_to_scratch(layer, scratch, f"gather{kind}{conv.suffix}", windows)


class _Windows:
    """The windows of a block of output pixels, on their way to scratch memory."""

    def __init__(
        self,
        conv: Convolution,
        emitter: Emitter,
        pool: ConstantPool,
        source: Rows,
        scratch: ir.Value,
        row: Index,
        column: Index,
        run: Run,
    ) -> None:
        self.conv, self.emitter, self.pool = conv, emitter, pool
        self.source, self.scratch = source, view(scratch, 32)
        self.pixels, self.words = run.pixels, words_of(run.pixels)
        #: channels of a window, and of the input
        self.depth, self.pitch = conv.in_per_group, source.channels
        #: operands of a kernel row
        self.run = conv.kernel[1] * self.depth
        #: whether padding may lie under a window, by axis
        self.bordered = [len(conv.interior(axis)) < conv.out_hw[axis] for axis in (0, 1)]
        #: whether a block may go on in the next row
        self.crosses = run.wraps and conv.out_hw[1] % run.pixels != 0
        self.places = self._places(row, column, run)
        tops = [input_row(emitter, conv, place, 0) for place, _ in self.places]
        lefts = [input_column(emitter, conv, place) for _, place in self.places]
        self.corners = list(zip(tops, lefts, strict=True))
        #: input columns under the windows of neighbours
        self.reach = columns_under(conv, self.pixels)
        self.inside = self._inside(run)
        #: where few channels are put with the padding beside them
        self.padded: ir.Value | None = None
        if has_padded_rows(conv) and run.whole and not self.crosses:
            kind = ir.MemRefType.get([self.reach * self.depth], ir.IntegerType.get_signless(8))
            self.padded = memref.alloca(kind, [], [])

    def _places(self, row: Index, column: Index, run: Run) -> list[tuple[Index, Index]]:
        """Row and column of each pixel."""
        emitter, width = self.emitter, self.conv.out_hw[1]
        columns = [run.place(emitter, column, p) for p in range(self.pixels)]
        if not run.wraps:
            return [(row, place) for place in columns]
        size = emitter.index(width)
        if width < self.pixels:
            numbers = [emitter.index(place) for place in columns]
            return [(arith.divui(n, size), arith.remui(n, size)) for n in numbers]
        top = arith.divui(emitter.index(column), size)
        origin = emitter.mul(top, width)
        if not self.crosses:
            first = emitter.sub(column, origin)
            return [(top, emitter.add(first, p)) for p in range(self.pixels)]
        places: list[tuple[Index, Index]] = []
        for place in columns:
            own = emitter.index(emitter.sub(place, origin))
            next_row = arith.cmpi(arith.CmpIPredicate.uge, own, size)
            places.append(
                (
                    arith.select(next_row, emitter.index(emitter.add(top, 1)), top),
                    arith.select(next_row, emitter.index(emitter.sub(own, width)), own),
                )
            )
        return places

    def _inside(self, run: Run) -> list[ir.Value]:
        """What must hold for the pixels to be neighbours, with no padding beside them."""
        conv, emitter = self.conv, self.emitter
        tests = []
        (_, first), (_, last) = self.places[0], self.places[-1]
        if self.crosses or not run.whole:
            neighbours = emitter.index(emitter.add(first, self.pixels - 1))
            tests.append(arith.cmpi(arith.CmpIPredicate.eq, emitter.index(last), neighbours))
        if self.bordered[1]:
            tests.append(self._below(self.corners[0][1], max(conv.in_hw[1] - self.reach + 1, 0)))
        return tests

    def emit(self) -> None:
        """Rows of the kernel one after the other."""
        self.emitter.loop(0, self.conv.kernel[0], 1, self._kernel_row)

    def _kernel_row(self, kh: Index) -> None:
        conv, emitter = self.conv, self.emitter
        row, first = self._input_row(0, kh), emitter.mul(kh, self.run)
        tests = [*self.inside, *([self._below(row, conv.in_hw[0])] if self.bordered[0] else [])]
        otherwise = self._put_padded if self.padded is not None else self._put_apart

        def neighbours() -> None:
            start = self._start(row, self.corners[0][1])
            self._put_neighbours(self.source.buffer, start, first)

        if not tests:
            neighbours()
            return
        every = functools.reduce(arith.andi, tests)
        emitter.either(every, neighbours, lambda: otherwise(kh, first))

    def _input_row(self, pixel: int, kh: Index) -> Index:
        emitter = self.emitter
        return emitter.add(self.corners[pixel][0], emitter.mul(kh, self.conv.dilation[0]))

    def _start(self, row: Index, column: Index) -> Index:
        """Where an input pixel begins."""
        return self.source.position(self.emitter, [0, row, column, self.conv.first_input])

    def _below(self, position: Index, room: int) -> ir.Value:
        """Whether ``0 <= position < room``."""
        emitter = self.emitter
        return arith.cmpi(arith.CmpIPredicate.ult, emitter.index(position), emitter.index(room))

    def _put_padded(self, kh: Index, first: Index) -> None:
        """A kernel row beside which there is padding, of pixels that are neighbours."""
        emitter, conv, row, left = (
            self.emitter,
            self.conv,
            self._input_row(0, kh),
            self.corners[0][1],
        )
        assert self.padded is not None
        inside = self._below(row, conv.in_hw[0])
        low = emitter.minimum(emitter.maximum(emitter.sub(0, left), 0), self.reach)
        room = emitter.minimum(emitter.sub(conv.in_hw[1], left), self.reach)
        ends = [emitter.mul(column, self.depth) for column in (low, emitter.maximum(room, low))]
        zero = emitter.index(0)
        begin, end = (arith.select(inside, emitter.index(place), zero) for place in ends)
        origin = self._start(row, left)
        filler = emitter.integer(conv.pad_value, 8)

        def fill(at: Index) -> None:
            emitter.store(filler, self.padded, [at])

        def copy(at: Index) -> None:
            value = emitter.load(self.source.buffer, [emitter.add(origin, at)])
            emitter.store(value, self.padded, [at])

        emitter.loop(0, begin, 1, fill)
        emitter.loop(begin, end, 1, copy)
        emitter.loop(end, self.reach * self.depth, 1, fill)
        self._put_neighbours(self.padded, 0, first)

    def _put_neighbours(self, buffer: ir.Value, origin: Index, first: Index) -> None:
        """A kernel row that is all there: its taps follow one another if not dilated."""
        emitter, conv = self.emitter, self.conv
        apart = conv.stride[1] * self.pitch

        def operands(at: Index, begin: Index, count: int) -> None:
            # Pointers that go on need few registers: offsets from them are constants.
            start = advance_bytes(stream(buffer), begin)
            to = advance(stream(self.scratch), emitter.mul(at, self.words))

            def some(number: int, source: ir.Value, target: ir.Value) -> list[ir.Value]:
                for r in range(number):
                    bytes_ = [fetch_byte(source, r + p * apart) for p in range(self.pixels)]
                    for q, word in enumerate(self._pairs(bytes_)):
                        llvm.store(word, advance(target, r * self.words + q), alignment=4)
                return [advance_bytes(source, number), advance(target, number * self.words)]

            emitter.turns(count, _UNROLL, some, [start, to])

        if has_whole_rows(conv):
            operands(first, origin, self.run)
            return

        def tap(kw: Index) -> None:
            step = emitter.mul(kw, conv.dilation[1] * self.pitch)
            at = emitter.add(first, emitter.mul(kw, self.depth))
            operands(at, emitter.add(origin, step), self.depth)

        emitter.loop(0, conv.kernel[1], 1, tap)

    def _put_apart(self, kh: Index, first: Index) -> None:
        """A kernel row tap by tap, each pixel by itself."""
        emitter, conv = self.emitter, self.conv
        rows = [self._input_row(p, kh) for p in range(self.pixels)]

        def tap(kw: Index) -> None:
            places = []
            for row, (_, left) in zip(rows, self.corners, strict=True):
                column = emitter.add(left, emitter.mul(kw, conv.dilation[1]))
                places.append(self._pixel(row, column))
            at = emitter.add(first, emitter.mul(kw, self.depth))

            def operand(c: Index) -> None:
                bytes_ = [emitter.load(buffer, [emitter.add(o, c)]) for buffer, o in places]
                self._put(emitter.add(at, c), bytes_)

            emitter.loop(0, self.depth, 1, operand, unroll=_UNROLL)

        emitter.loop(0, conv.kernel[1], 1, tap)

    def _pixel(self, row: Index, column: Index) -> tuple[ir.Value, Index]:
        """Buffer and position of an input pixel: in the padding, one that holds its value."""
        conv, emitter = self.conv, self.emitter
        start = emitter.index(self._start(row, column))
        tests = [
            self._below(position, size)
            for axis, (position, size) in enumerate(zip((row, column), conv.in_hw, strict=True))
            if self.bordered[axis]
        ]
        if not tests:
            return self.source.buffer, start
        inside = arith.andi(*tests) if len(tests) == 2 else tests[0]
        i8 = ir.IntegerType.get_signless(8)
        anywhere = ir.MemRefType.get([ir.ShapedType.get_dynamic_size()], i8)
        padding = self.pool.get(np.full(self.depth, conv.pad_value, np.int8), "padding")
        source, beside = memref.cast(anywhere, self.source.buffer), memref.cast(anywhere, padding)
        buffer = arith.select(inside, source, beside)
        return buffer, arith.select(inside, start, emitter.index(0))

    def _put(self, operand: Index, activations: list[ir.Value]) -> None:
        """One operand of all pixels."""
        emitter = self.emitter
        start = emitter.mul(operand, self.words)
        for q, word in enumerate(self._pairs(activations)):
            emitter.store(word, self.scratch, [emitter.add(start, q)])

    def _pairs(self, activations: list[ir.Value]) -> list[ir.Value]:
        """The words of an operand."""
        emitter = self.emitter
        wide = [emitter.widen(value) for value in activations]
        words = []
        for q in range(self.words):
            words.append(wide[2 * q])
            if 2 * q + 1 < self.pixels:
                high = arith.shli(wide[2 * q + 1], emitter.integer(16))
                words[q] = arith.addi(wide[2 * q], high)
        return words
