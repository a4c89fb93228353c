"""Pooling a block of channels at a time, four of them in a word where the core can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tinymlir.bindings import arith, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.branches import BranchingEvaluator
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.pooling_layers import MAX, Pooling, Range, find_pooling
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.words import halves_of, load_word, repeated, settled, store_word
from tinymlir.targets import Target

#: Channels of a word.
_LANES = 4
#: Taps without a loop between them, of a row of a large window.
_MOST_OF_A_ROW = 4
#: Unsigned bytes whose sum a halfword holds.
_MOST_SUMMED = 257
#: With fewer taps than these, going into halves of words and out of them takes longer.
_LEAST_SUMMED = 6
#: Fewer do for two channels at a time only.
_MANY_REGISTERS = 14
#: Ops of a body that each channel of a block has a copy of.
_SHORT = 18
_FREE = ("arith.constant", "linalg.index")
_Allocate: TypeAlias = Callable[[ir.Type], ir.Value]


def emit(
    evaluator: Evaluator, root: ir.Value, target: ir.Value, core: Target, allocate: _Allocate
) -> bool:
    """Fill ``target`` with ``root``; False, and nothing emitted, where that is no pooling."""
    pooling = find_pooling(root)
    if pooling is None:
        return False
    emitter, (_, rows, columns, channels) = evaluator.emitter, root.type.shape
    source = Rows(emitter.flat(evaluator.buffers[pooling.source]), *pooling.in_shape[1:])
    walk = _Walk(emitter, pooling, source)
    finish = _Finish(
        evaluator, root, pooling, Rows(emitter.flat(target), columns, channels), allocate
    )
    blocks = _blocks(walk, finish, core)
    emitter.loop(0, rows, 1, lambda row: walk.row(row, (0, columns), blocks))
    return True


def emit_row(
    evaluator: Evaluator, root: ir.Value, out: Rows, row: Index, columns: Range, core: Target
) -> bool:
    """Fill these columns of a row of ``out``, as `emit`; inputs are rows as well."""
    pooling = find_pooling(root)
    if pooling is None:
        return False
    source = evaluator.buffers[pooling.source]
    assert isinstance(source, Rows)
    walk, finish = _Walk(evaluator.emitter, pooling, source), _Finish(evaluator, root, pooling, out)
    if pooling.op.name != MAX and not finish.short:
        return False
    walk.row(row, columns, _blocks(walk, finish, core))
    return True


def _blocks(walk: _Walk, finish: _Finish, core: Target) -> list[_Block]:
    """What pools channels, the most at a time first."""
    few = 2 if core.registers < _MANY_REGISTERS else 4
    if walk.pooling.op.name == MAX:
        maxima, words = _MaxOfBytes(walk, finish), _MaxOfWords(walk, finish)
        by_words: list[_Block] = [(words, n * _LANES) for n in (4, 2, 1)]
        compares_bytes = core.has("dsp") or core.has("xcvsimd")
        return [*(by_words if compares_bytes else [(maxima, few)]), (maxima, 1)]
    sums, pairs = _SumOfBytes(walk, finish), _SumOfWords(walk, finish)
    pays = pairs.pays and core.has("unaligned")
    return [(pairs, _LANES) if pays else (sums, few), (sums, 1)]


class _Walk:
    """Goes through pixels, blocks of channels and taps, in the order of memory."""

    def __init__(self, emitter: Emitter, pooling: Pooling, source: Rows) -> None:
        self.emitter, self.pooling, self.source = emitter, pooling, source

    def row(self, row: Index, columns: Range, blocks: Sequence[_Block]) -> None:
        """Fold the windows of a row, as many channels at a time as the first block that fits."""
        emitter, pooling = self.emitter, self.pooling
        channels = pooling.result.type.shape[3]

        def pixel(column: Index) -> None:
            inside = [pooling.interior(axis) for axis in (0, 1)]
            if not pooling.padded or not pooling.unrolled or not all(inside):
                window(_Window(pooling, emitter, row, column, not pooling.padded))
                return
            tests = [
                arith.cmpi(
                    arith.CmpIPredicate.ult,
                    emitter.index(emitter.sub(at, part.start)),
                    emitter.index(len(part)),
                )
                for at, part in zip((row, column), inside, strict=True)
            ]
            emitter.either(
                arith.andi(*tests),
                lambda: window(_Window(pooling, emitter, row, column, True)),
                lambda: window(_Window(pooling, emitter, row, column, False)),
            )

        def window(window: _Window) -> None:
            done = 0
            for fold, size in blocks:
                end = done + (channels - done) // size * size
                emitter.loop(done, end, size, lambda c, f=fold, n=size: f.block(window, c, n))
                done = end

        emitter.loop(*columns, 1, pixel)

    def taps(
        self,
        window: _Window,
        rows: Range,
        channel: Index,
        fold: Callable[..., list[ir.Value]],
        inits: Sequence[ir.Value | None],
    ) -> list[ir.Value]:
        """``fold(position, *carried)`` over the taps in some rows of a window."""
        emitter, pooling, source = self.emitter, self.pooling, self.source
        steps = pooling.pair("dilations")
        down, right = steps[0] * source.columns * source.channels, steps[1] * source.channels
        kernel = pooling.kernel
        small = pooling.unrolled
        inside = emitter.add(emitter.mul(window.left, source.channels), channel)

        # Loops count bytes, so that a tap's position is one addition.
        def row(start: Index, carried: Sequence[ir.Value]) -> list[ir.Value]:
            return emitter.loop(
                emitter.mul(window.columns[0], right),
                emitter.mul(window.columns[1], right),
                right,
                lambda offset, *values: fold(emitter.add(start, offset), *values),
                carried,
                unroll=kernel[1] if small else _MOST_OF_A_ROW,
            )

        def origin(of: Index) -> Index:
            return emitter.add(source.origin(emitter, of), inside)

        turns = kernel[0] if small else 1
        if source.slots is not None:
            # In a ring, the next row may lie anywhere.
            return emitter.loop(
                *rows,
                1,
                lambda tap, *v: row(origin(emitter.add(window.top, emitter.mul(tap, steps[0]))), v),
                inits,
                unroll=turns,
            )
        start = origin(window.top)
        first, last = (emitter.mul(end, down) for end in rows)
        return emitter.loop(
            first, last, down, lambda at, *v: row(emitter.add(start, at), v), inits, unroll=turns
        )


class _Window:
    """The window of an output pixel: where it begins in the input, and which taps are there."""

    def __init__(
        self, pooling: Pooling, emitter: Emitter, row: Index, column: Index, inside: bool
    ) -> None:
        self.row, self.column, self.inside = row, column, inside
        self.top, self.rows = pooling.taps(emitter, 0, row, inside)
        self.left, self.columns = pooling.taps(emitter, 1, column, inside)
        height, width = (emitter.sub(last, first) for first, last in (self.rows, self.columns))
        #: how many taps are there
        self.taps = emitter.mul(height, width)


class _Fold(ABC):
    """Pools ``size`` channels of a window from ``channel`` on, and stores what comes of them."""

    def __init__(self, walk: _Walk) -> None:
        self.walk, self.emitter = walk, walk.emitter

    @abstractmethod
    def block(self, window: _Window, channel: Index, size: int) -> None: ...

    def words(self, at: Index, size: int) -> list[ir.Value]:
        """The words that ``size`` channels at a position of the input are."""
        return [
            load_word(
                self.emitter,
                self.walk.source.buffer,
                [self.emitter.add(at, w + i) for i in range(_LANES)],
            )
            for w in range(0, size, _LANES)
        ]

    def bytes(self, at: Index, size: int) -> list[ir.Value]:
        """Channels at a position of the input, widened."""
        load = self.emitter.load
        return [
            self.emitter.widen(load(self.walk.source.buffer, [self.emitter.add(at, i)]))
            for i in range(size)
        ]

    def over(
        self,
        window: _Window,
        channel: Index,
        elements: Callable[[Index], list[ir.Value]],
        join: Callable[[ir.Value, ir.Value], ir.Value],
        starts: Sequence[ir.Value | None],
    ) -> list[ir.Value]:
        """``elements`` of all taps of a window, each joined to what was there before."""

        def tap(at: Index, *values: ir.Value | None) -> list[ir.Value]:
            pairs = zip(values, elements(at), strict=True)
            return [b if a is None else join(a, b) for a, b in pairs]

        return self.walk.taps(window, window.rows, channel, tap, starts)


#: What pools so many channels.
_Block: TypeAlias = tuple[_Fold, int]


class _MaxOfBytes(_Fold):
    def __init__(self, walk: _Walk, finish: _Finish) -> None:
        super().__init__(walk)
        self.target = finish.target

    def block(self, window: _Window, channel: Index, size: int) -> None:
        starts = self._starts(window, -128, size)
        most = self.over(window, channel, lambda at: self.bytes(at, size), arith.maxsi, starts)
        for i, value in enumerate(most):
            byte = arith.trunci(ir.IntegerType.get_signless(8), value)
            self.emitter.store(byte, self.target.buffer, [self._position(window, channel, i)])

    def _starts(self, window: _Window, least: int, count: int) -> list[ir.Value | None]:
        """What maxima start from: without loops, the first tap."""
        if window.inside and self.walk.pooling.unrolled:
            return [None] * count
        return [self.emitter.integer(least)] * count

    def _position(self, window: _Window, channel: Index, lane: int) -> Index:
        indices = [0, window.row, window.column, self.emitter.add(channel, lane)]
        return self.target.position(self.emitter, indices)


class _MaxOfWords(_MaxOfBytes):
    """With a comparison for four bytes."""

    def block(self, window: _Window, channel: Index, size: int) -> None:
        most = self.over(
            window,
            channel,
            lambda at: self.words(at, size),
            lambda a, b: tiny.MaxBytesOp(a, b).res,
            self._starts(window, repeated(-128, 8), size // _LANES),
        )
        for w, value in enumerate(most):
            start = self._position(window, channel, _LANES * w)
            where = [self.emitter.add(start, i) for i in range(_LANES)]
            store_word(self.emitter, value, self.target.buffer, where)


class _Finish:
    """Stores what a layer makes of sums under a window."""

    def __init__(
        self,
        evaluator: Evaluator,
        root: ir.Value,
        pooling: Pooling,
        target: Rows,
        allocate: _Allocate | None = None,
    ) -> None:
        self.evaluator, self.root = BranchingEvaluator(evaluator), root
        self.pooling = pooling
        self.target, self.allocate = target, allocate
        body = root.owner.operation.regions[0].blocks[0].operations
        names = [nested.operation.name for nested in body]
        #: whether what one element takes depends on its sum
        self.branches = "scf.if" in names
        self.short = sum(name not in _FREE for name in names) <= _SHORT
        self.scratch: ir.Value | None = None

    def store(self, window: _Window, channel: Index, sums: list[ir.Value]) -> None:
        """Of neighbouring channels, their sums less padding and what they start from."""
        emitter = self.evaluator.emitter
        if self.pooling.padding and not window.inside:
            padding = self._padding(window)
            sums = [arith.addi(total, padding) for total in sums]
        if self.short:
            for lane, total in enumerate(sums):
                self._element(window, emitter.add(channel, lane), total)
            return
        if self.scratch is None:
            most = ir.MemRefType.get([2 * _LANES], ir.IntegerType.get_signless(32))
            assert self.allocate is not None
            self.scratch = self.allocate(most)
        for lane, total in enumerate(sums):
            emitter.store(total, self.scratch, [lane])

        def element(lane: Index) -> None:
            total = emitter.load(self.scratch, [lane])
            self._element(window, emitter.add(channel, lane), total)

        emitter.loop(0, len(sums), 1, element)

    def _padding(self, window: _Window) -> ir.Value:
        """The sum of the taps of a window that are not there."""
        emitter, kernel = self.evaluator.emitter, self.pooling.kernel
        missing = emitter.sub(kernel[0] * kernel[1], window.taps)
        return emitter.word(emitter.mul(missing, self.pooling.padding))

    def _element(self, window: _Window, channel: Index, total: ir.Value) -> None:
        evaluator, emitter = self.evaluator, self.evaluator.emitter
        indices = [0, window.row, window.column, channel]
        start = evaluator.at(self.pooling.op.operands[2], indices)
        evaluator.registers = {self.pooling.result: arith.addi(total, start)}
        value = evaluator.at(self.root, indices)
        evaluator.registers = {}
        where = self.target.position(emitter, indices)
        emitter.store(value, self.target.buffer, [where])


class _SumOfBytes(_Fold):
    def __init__(self, walk: _Walk, finish: _Finish) -> None:
        super().__init__(walk)
        self.finish = finish

    def block(self, window: _Window, channel: Index, size: int) -> None:
        zeros = [self.emitter.integer(0)] * size
        sums = self.over(window, channel, lambda at: self.bytes(at, size), arith.addi, zeros)
        if self.finish.branches:
            sums = [settled(total) for total in sums]
        self.finish.store(window, channel, sums)


class _SumOfWords(_SumOfBytes):
    """Bytes are made unsigned and added two at a time, in halves of a word.

    Sums of ``rows`` rows of the window are taken out of halves before these could overflow.
    """

    def __init__(self, walk: _Walk, finish: _Finish) -> None:
        super().__init__(walk, finish)
        kernel = walk.pooling.kernel
        self.rows = min(_MOST_SUMMED // kernel[1], kernel[0])
        whole = not walk.pooling.padded or self.rows == kernel[0]
        #: whether rows may be taken apart, and taps are worth two words more
        self.pays = whole and self.rows > 0 and kernel[0] * kernel[1] >= _LEAST_SUMMED

    def block(self, window: _Window, channel: Index, size: int) -> None:
        emitter = self.emitter
        first, last = window.rows
        sums = [emitter.word(emitter.mul(window.taps, -128))] * size
        if not isinstance(first, int) or not isinstance(last, int) or last - first <= self.rows:
            self.finish.store(window, channel, self._part(window, window.rows, channel, sums))
            return
        whole = last // self.rows * self.rows
        sums = emitter.loop(
            0,
            whole,
            self.rows,
            lambda row, *sums: self._part(
                window, (row, emitter.add(row, self.rows)), channel, sums
            ),
            sums,
        )
        if whole < last:
            sums = self._part(window, (whole, last), channel, sums)
        self.finish.store(window, channel, sums)

    def _part(
        self, window: _Window, rows: Range, channel: Index, sums: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """``sums`` and the unsigned bytes of some rows of the window."""
        emitter, size = self.emitter, len(sums)
        sign, mask = emitter.integer(repeated(-128, 8)), emitter.integer(repeated(255, 16))
        eight = emitter.integer(8)

        def add(at: Index, *pairs: ir.Value) -> list[ir.Value]:
            unsigned = [arith.xori(word, sign) for word in self.words(at, size)]
            parts = [p for w in unsigned for p in (w, arith.shrui(w, eight))]
            return [arith.addi(a, arith.andi(b, mask)) for a, b in zip(pairs, parts, strict=True)]

        zeros = [emitter.integer(0)] * (size // 2)
        pairs = self.walk.taps(window, rows, channel, add, zeros)
        halves = [halves_of(pair) for pair in pairs]
        # Bytes 0 and 2 of a word, then 1 and 3.
        ordered = [halves[2 * w + i % 2][i // 2] for w in range(size // 4) for i in range(_LANES)]
        return [arith.addi(a, b) for a, b in zip(sums, ordered, strict=True)]
