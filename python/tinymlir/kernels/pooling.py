"""Pooling a block of channels at a time, four of them in a word where the core can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tinymlir.bindings import arith, ir, scf
from tinymlir.dialects import tiny
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.words import halves_of, load_word, repeated, store_word
from tinymlir.linalg_info import constant_scalar, dense_ints, indexing_maps, pad_value
from tinymlir.targets import Target

#: Channels of a word.
_LANES = 4
#: Taps of a window without a loop between them, and of one row of a larger window.
_MOST_UNROLLED, _MOST_UNROLLED_OF_A_ROW = 9, 4
#: Unsigned bytes whose sum a halfword holds.
_MOST_SUMMED = 257
#: With fewer taps than these, going into halves of words and out of them takes longer.
_LEAST_SUMMED = 6
#: Fewer do for two channels at a time only.
_MANY_REGISTERS = 14
#: Ops of a body that each channel of a block has a copy of.
_SHORT = 16
_MAX, _SUM = "linalg.pooling_nhwc_max", "linalg.pooling_nhwc_sum"
#: First and last of a range.
_Range: TypeAlias = tuple[Index, Index]
_Allocate: TypeAlias = Callable[[ir.Type], ir.Value]


@dataclass(frozen=True)
class Pooling:
    """A pooling of bytes of a layer's input, one image, channels last.

    ``pad`` are the rows above and the columns to the left that are not there.
    """

    op: ir.Operation
    source: ir.BlockArgument
    pad: tuple[int, int]

    @property
    def result(self) -> ir.Value:
        return self.op.results[0]

    @property
    def in_shape(self) -> tuple[int, int, int]:
        _, rows, columns, channels = self.source.type.shape
        return rows, columns, channels

    @property
    def kernel(self) -> tuple[int, int]:
        rows, columns = self.op.operands[1].type.shape
        return rows, columns

    def pair(self, name: str) -> tuple[int, int]:
        """Strides or dilations."""
        given = dense_ints(self.op.attributes[name]) if name in self.op.attributes else [1, 1]
        return given[0], given[1]

    @property
    def padded(self) -> bool:
        return bool(self.op.operands[0] != self.source)

    @property
    def unrolled(self) -> bool:
        """Whether there are so few taps that they need no loop."""
        return self.kernel[0] * self.kernel[1] <= _MOST_UNROLLED

    def interior(self, axis: int) -> range:
        """The outputs whose windows do not reach into padding."""
        reach = (self.kernel[axis] - 1) * self.pair("dilations")[axis]
        stride, pad = self.pair("strides")[axis], self.pad[axis]
        last = (self.in_shape[axis] - 1 - reach + pad) // stride
        return range(-(-pad // stride), min(last + 1, self.result.type.shape[1 + axis]))

    def taps(self, emitter: Emitter, axis: int, at: Index, inside: bool) -> tuple[Index, _Range]:
        """Where the window of output ``at`` begins in the input, and its taps that are there.

        That is all of them where the output is known to be in the interior.
        """
        size, kernel, step = self.in_shape[axis], self.kernel[axis], self.pair("dilations")[axis]
        start = emitter.sub(emitter.mul(at, self.pair("strides")[axis]), self.pad[axis])
        if inside or self.op.operands[0].type.shape[1 + axis] == size:
            return start, (0, kernel)
        missing = emitter.maximum(emitter.sub(0, start), 0)
        left = emitter.maximum(emitter.sub(size, start), 0)
        first = emitter.ceildiv(missing, step)
        last = emitter.minimum(emitter.ceildiv(left, step), kernel)
        # A window wholly beside the image has no taps.
        return start, (first, emitter.maximum(first, last))


def find_pooling(root: ir.Value) -> Pooling | None:
    """The pooling whose maxima are ``root``, or whose sums are scaled to ``root`` in place."""
    op = root.owner.operation
    if op.name == _MAX:
        return _read(op, -128)
    if op.name != "linalg.generic" or root.type.rank != 4:
        return None
    identity = ir.AffineMap.get_identity(4)
    for value, place in zip(list(op.operands)[:-1], indexing_maps(op)[:-1], strict=True):
        if isinstance(value, ir.BlockArgument) or value.owner.operation.name != _SUM:
            continue
        pooling = _read(value.owner.operation, 0)
        if pooling is not None and place == identity and value.type.shape == root.type.shape:
            return pooling
    return None


def _read(op: ir.Operation, neutral: int) -> Pooling | None:
    """``op``, if it pools bytes, and padding has the value ``neutral``."""
    source, _, init = op.operands
    pad = (0, 0)
    if not isinstance(source, ir.BlockArgument) and source.owner.operation.name == "tensor.pad":
        padding = source.owner.operation
        low, high = (list(padding.attributes[f"static_{end}"]) for end in ("low", "high"))
        if low[0] or low[3] or high[0] or high[3]:
            return None
        if constant_scalar(pad_value(padding)) != neutral or min(*low, *high) < 0:
            return None
        source, pad = padding.operands[0], (low[1], low[2])
    if not isinstance(source, ir.BlockArgument) or source.type.shape[0] != 1:
        return None
    if str(source.type.element_type) != "i8" or isinstance(init, ir.BlockArgument):
        return None
    start = init.owner.operation
    if op.name == _MAX and (start.name, _filled_with(start)) != ("linalg.fill", neutral):
        return None
    return Pooling(op, source, pad)


def _filled_with(op: ir.Operation) -> int | None:
    return constant_scalar(op.operands[0]) if op.name == "linalg.fill" else None


def emit(
    evaluator: Evaluator, root: ir.Value, target: ir.Value, core: Target, allocate: _Allocate
) -> bool:
    """Fill ``target`` with ``root``; False, and nothing emitted, where that is no pooling."""
    pooling = find_pooling(root)
    if pooling is None:
        return False
    emitter = evaluator.emitter
    walk = _Walk(emitter, pooling, emitter.flat(evaluator.buffers[pooling.source]))
    flat = emitter.flat(target)
    few = 2 if core.registers < _MANY_REGISTERS else 4
    if pooling.op.name == _MAX:
        maxima, words = _MaxOfBytes(walk, flat), _MaxOfWords(walk, flat)
        by_words: list[_Block] = [(words, n * _LANES) for n in (4, 2, 1)]
        compares_bytes = core.has("dsp") or core.has("xcvsimd")
        blocks = by_words if compares_bytes else [(maxima, few)]
        walk.pixels([*blocks, (maxima, 1)])
    else:
        finish = _Finish(evaluator, root, pooling, flat, allocate)
        sums, pairs = _SumOfBytes(walk, finish), _SumOfWords(walk, finish)
        pays = pairs.pays and core.has("unaligned")
        walk.pixels([(pairs, _LANES) if pays else (sums, few), (sums, 1)])
    return True


class _Walk:
    """Goes through pixels, blocks of channels and taps, in the order of memory."""

    def __init__(self, emitter: Emitter, pooling: Pooling, source: ir.Value) -> None:
        self.emitter, self.pooling, self.source = emitter, pooling, source

    def pixels(self, blocks: Sequence[_Block]) -> None:
        """Fold all windows, as many channels at a time as the first of ``blocks`` that fits."""
        emitter, pooling = self.emitter, self.pooling
        _, rows, columns, channels = pooling.result.type.shape

        def pixel(row: Index, column: Index) -> None:
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
            choice = scf.IfOp(arith.andi(*tests), has_else=True)
            for block, whole in ((choice.then_block, True), (choice.else_block, False)):
                with ir.InsertionPoint(block):
                    window(_Window(pooling, emitter, row, column, whole))
                    scf.yield_([])

        def window(window: _Window) -> None:
            done = 0
            for fold, size in blocks:
                end = done + (channels - done) // size * size
                emitter.loop(done, end, size, lambda c, f=fold, n=size: f.block(window, c, n))
                done = end

        def in_row(row: Index) -> None:
            emitter.loop(0, columns, 1, lambda column: pixel(row, column))

        emitter.loop(0, rows, 1, in_row)

    def taps(
        self,
        window: _Window,
        rows: _Range,
        channel: Index,
        fold: Callable[..., list[ir.Value]],
        inits: Sequence[ir.Value | None],
    ) -> list[ir.Value]:
        """``fold(position, *carried)`` over the taps in some rows of a window."""
        emitter, pooling = self.emitter, self.pooling
        _, width, channels = pooling.in_shape
        steps = pooling.pair("dilations")
        down, right = steps[0] * width * channels, steps[1] * channels
        kernel = pooling.kernel
        small = pooling.unrolled
        start = emitter.add(window.origin, channel)

        # Loops count bytes, so that a tap's position is one addition.
        def row(at: Index, *carried: ir.Value) -> list[ir.Value]:
            return emitter.loop(
                emitter.mul(window.columns[0], right),
                emitter.mul(window.columns[1], right),
                right,
                lambda offset, *values: fold(emitter.add(emitter.add(start, at), offset), *values),
                carried,
                unroll=kernel[1] if small else _MOST_UNROLLED_OF_A_ROW,
            )

        first, last = (emitter.mul(end, down) for end in rows)
        return emitter.loop(first, last, down, row, inits, unroll=kernel[0] if small else 1)


class _Window:
    """The window of an output pixel: where it begins in the input, and which taps are there."""

    def __init__(
        self, pooling: Pooling, emitter: Emitter, row: Index, column: Index, inside: bool
    ) -> None:
        self.row, self.column, self.inside = row, column, inside
        top, self.rows = pooling.taps(emitter, 0, row, inside)
        left, self.columns = pooling.taps(emitter, 1, column, inside)
        self.origin = emitter.linear([top, left, 0], pooling.in_shape)


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
                self.emitter, self.walk.source, [self.emitter.add(at, w + i) for i in range(_LANES)]
            )
            for w in range(0, size, _LANES)
        ]

    def bytes(self, at: Index, size: int) -> list[ir.Value]:
        """Channels at a position of the input, widened."""
        load = self.emitter.load
        return [
            self.emitter.widen(load(self.walk.source, [self.emitter.add(at, i)]))
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
    def __init__(self, walk: _Walk, target: ir.Value) -> None:
        super().__init__(walk)
        self.target = target

    def block(self, window: _Window, channel: Index, size: int) -> None:
        starts = self._starts(window, -128, size)
        most = self.over(window, channel, lambda at: self.bytes(at, size), arith.maxsi, starts)
        for i, value in enumerate(most):
            byte = arith.trunci(ir.IntegerType.get_signless(8), value)
            self.emitter.store(byte, self.target, [self._position(window, channel, i)])

    def _starts(self, window: _Window, least: int, count: int) -> list[ir.Value | None]:
        """What maxima start from: without loops, the first tap."""
        if window.inside and self.walk.pooling.unrolled:
            return [None] * count
        return [self.emitter.integer(least)] * count

    def _position(self, window: _Window, channel: Index, lane: int) -> Index:
        indices = [window.row, window.column, self.emitter.add(channel, lane)]
        return self.emitter.linear(indices, self.walk.pooling.result.type.shape[1:])


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
            store_word(self.emitter, value, self.target, where)


class _Finish:
    """Stores what a layer makes of sums under a window."""

    def __init__(
        self,
        evaluator: Evaluator,
        root: ir.Value,
        pooling: Pooling,
        target: ir.Value,
        allocate: _Allocate,
    ) -> None:
        self.evaluator, self.root, self.pooling = evaluator, root, pooling
        self.target, self.allocate = target, allocate
        body = root.owner.operation.regions[0].blocks[0].operations
        names = [nested.operation.name for nested in body]
        self.short = sum(name != "arith.constant" for name in names) <= _SHORT
        self.scratch: ir.Value | None = None

    def store(self, window: _Window, channel: Index, sums: list[ir.Value]) -> None:
        """Of neighbouring channels, their sums less what they start from."""
        emitter = self.evaluator.emitter
        if self.short:
            for lane, total in enumerate(sums):
                self._element(window, emitter.add(channel, lane), total)
            return
        if self.scratch is None:
            most = ir.MemRefType.get([2 * _LANES], ir.IntegerType.get_signless(32))
            self.scratch = self.allocate(most)
        for lane, total in enumerate(sums):
            emitter.store(total, self.scratch, [lane])

        def element(lane: Index) -> None:
            total = emitter.load(self.scratch, [lane])
            self._element(window, emitter.add(channel, lane), total)

        emitter.loop(0, len(sums), 1, element)

    def _element(self, window: _Window, channel: Index, total: ir.Value) -> None:
        evaluator, emitter = self.evaluator, self.evaluator.emitter
        indices = [0, window.row, window.column, channel]
        start = evaluator.at(self.pooling.op.operands[2], indices)
        evaluator.registers = {self.pooling.result: arith.addi(total, start)}
        value = evaluator.at(self.root, indices)
        evaluator.registers = {}
        where = emitter.linear(indices, self.root.type.shape)
        emitter.store(value, self.target, [where])


class _SumOfBytes(_Fold):
    def __init__(self, walk: _Walk, finish: _Finish) -> None:
        super().__init__(walk)
        self.finish = finish

    def block(self, window: _Window, channel: Index, size: int) -> None:
        zeros = [self.emitter.integer(0)] * size
        sums = self.over(window, channel, lambda at: self.bytes(at, size), arith.addi, zeros)
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
        (first, last), columns = window.rows, window.columns
        taps = emitter.mul(emitter.sub(last, first), emitter.sub(columns[1], columns[0]))
        excess = emitter.mul(taps, -128)
        start = arith.index_cast(ir.IntegerType.get_signless(32), emitter.index(excess))
        sums = [start] * size
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
        self, window: _Window, rows: _Range, channel: Index, sums: Sequence[ir.Value]
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
