"""The windows of a block of pixels in scratch memory, widened to pairs of halfwords or as bytes.

Padding is included, so that what reads them needs no bounds check. A window's words may lie one
after the other, or beside the same words of neighbouring pixels (`Places`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.forms import BYTES, HALFWORDS, Form
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pairs import STEP
from tinymlir.kernels.price import Mix, either, function, line, loop
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.window_copy import (
    Taps,
    Where,
    WindowCopy,
    emit_to_scratch,
    emit_window_copy,
    has_whole_rows,
)
from tinymlir.kernels.words import (
    LOADED,
    load_any,
    load_word,
    put,
    repeated,
    store_any,
    stream,
    view,
)

#: Windows copied between two branches, where that is no function.
TOGETHER = 2
#: Words of a window copied between two branches.
_UNROLL = 4
#: Windows are gathered without a loop up to here.
_MOST_UNROLLED_STEPS = 16


@dataclass(frozen=True)
class Places:
    """Where operands lie: words from one to the next of a window, and to that of the next pixel."""

    word: int
    pixel: int
    form: Form = HALFWORDS

    @staticmethod
    def beside(pixels: int) -> Places:
        """The same pair of halfwords of ``pixels`` pixels side by side."""
        return Places(pixels, 1)


def _run(conv: Convolution) -> int:
    """Operands that are neighbours in memory: those of a kernel row, or of a tap."""
    return conv.in_per_group * (conv.kernel[1] if has_whole_rows(conv) else 1)


def steps(conv: Convolution) -> int:
    """Words of bytes in a window, the last one filled up."""
    return -(-conv.weights[0, 0].size // STEP)


def scratch_bytes(conv: Convolution, pixels: int, form: Form = HALFWORDS) -> int:
    """Scratch memory for the windows of ``pixels`` pixels."""
    return steps(conv) * form.step_words * 4 * pixels


def staging_bytes(conv: Convolution) -> int:
    """Scratch memory for a window's bytes on their way, where windows lie beside each other."""
    return steps(conv) * 4 if conv.in_per_group % STEP else 0


def copy_mix(conv: Convolution, form: Form = HALFWORDS) -> Mix:
    """The copy of one window, on average; the code for padding is counted apart."""
    pixels = conv.out_hw[0] * conv.out_hw[1]
    share = len(conv.interior(0)) * len(conv.interior(1)) / pixels
    inside, border = _inside_mix(conv, form), border_mix(conv, form).elsewhere()
    return line(alu=8) + (inside if share == 1 else either(share, inside, border))


def _inside_mix(conv: Convolution, form: Form) -> Mix:
    run = _run(conv)
    runs = conv.weights[0, 0].size // run
    word = line(load=1) + form.mix()
    if steps(conv) <= _MOST_UNROLLED_STEPS:
        some = (line(load=LOADED) + form.mix() * LOADED) * (steps(conv) / LOADED)
        # A word that goes on in the next run is put together.
        return some + line(load=1, alu=3) * (runs - 1) if run % STEP else some
    if run % STEP:
        return _bytes_mix(conv, form)
    return loop(loop(word, run // STEP, _UNROLL) + line(alu=8), runs)


def border_mix(conv: Convolution, form: Form = HALFWORDS) -> Mix:
    """The copy of a window with padding; nothing where there is none."""
    if all(len(conv.interior(axis)) == conv.out_hw[axis] for axis in (0, 1)):
        return Mix()
    run, words = _run(conv), steps(conv) * form.step_words
    if conv.in_per_group % STEP:
        fill = loop(line(store=1), steps(conv), _UNROLL)
        return function(fill + line(alu=30) + _bytes_mix(conv, form))
    runs = conv.weights[0, 0].size // run
    by_words = loop(loop(line(load=1) + form.mix(), run // STEP, _UNROLL) + line(alu=8), runs)
    return function(loop(line(store=1), words, _UNROLL) + line(alu=30) + by_words)


def _bytes_mix(conv: Convolution, form: Form) -> Mix:
    """A window whose bytes are put together before they are widened."""
    run, part = _run(conv), line(load=1, store=1)
    runs = conv.weights[0, 0].size // run
    mix = loop(loop(part, run // STEP) + loop(part, run % STEP) + line(alu=16), runs)
    if form is BYTES:
        return mix
    return mix + loop(line(load=1) + form.mix(), steps(conv), _UNROLL)


def emit_copy(conv: Convolution, layer: Layer, scratch: ir.Value, places: Places) -> str:
    """The function that copies a window; its place is the pixel's number in the block."""
    return emit_window_copy(conv, layer, scratch, "window", lambda where: _Copy(where, places))


class Copies:
    """The copying of neighbours' windows: by a function, or where it is asked for.

    With ``wraps``, columns beyond the output's width belong to the rows that follow. Windows with
    padding are copied by a function of their own, whose many values would wait in memory else.
    """

    def __init__(
        self, conv: Convolution, layer: Layer, scratch: ir.Value, places: Places, wraps: bool
    ) -> None:
        self.conv, self.layer, self.places, self.wraps = conv, layer, places, wraps
        self.scratch, self.emitter = scratch, layer.emitter
        self.border: str | None = None
        if any(len(conv.interior(axis)) < conv.out_hw[axis] for axis in (0, 1)):
            self.border = emit_to_scratch(
                layer,
                scratch,
                f"border{conv.suffix}",
                lambda *to: _Copy(Where(conv, layer.emitter, *to), places).put_at_border(),
            )

    def function(self) -> str:
        """``@layer<i>_windows(input, scratch, row, column, pixels, first)``: `emit` in it."""
        return emit_to_scratch(self.layer, self.scratch, f"windows{self.conv.suffix}", self.emit)

    def emit(
        self, source: Rows, scratch: ir.Value, row: Index, column: Index, pixels: Index
    ) -> None:
        """Copy the windows of so many ``pixels`` from there on."""
        emitter, width = self.emitter, self.emitter.index(self.conv.out_hw[1])
        if self.wraps:
            number = emitter.index(column)
            row, column = arith.divui(number, width), arith.remui(number, width)

        def window(number: Index, *carried: ir.Value) -> list[ir.Value]:
            y, x = carried or (row, emitter.add(column, number))
            self._window(Where(self.conv, emitter, source, scratch, y, x, number))
            if not carried:
                return []
            following = emitter.index(emitter.add(x, 1))
            past = arith.cmpi(arith.CmpIPredicate.eq, following, width)
            below, first = emitter.index(emitter.add(y, 1)), emitter.index(0)
            return [arith.select(past, below, y), arith.select(past, first, following)]

        emitter.loop(0, pixels, 1, window, [row, column] if self.wraps else [], unroll=TOGETHER)

    def _window(self, where: Where) -> None:
        copy, emitter, source = _Copy(where, self.places), self.emitter, where.source
        inside = copy.is_inside()

        def put_at_border() -> None:
            place = (where.row, where.column, where.place, source.first_column)
            numbers = [emitter.index(value) for value in place]
            func.call([], self.border, [source.buffer, where.scratch, *numbers])

        if inside is None:
            copy.put_settled()
        else:
            emitter.either(inside, copy.put_settled, put_at_border)


class _Copy(WindowCopy):
    """The window of one output pixel, as words of operands.

    Runs of whole words take their form on the way. Others are put together as bytes first.
    """

    def __init__(self, where: Where, places: Places) -> None:
        self.start, self.word = where.emitter.mul(where.place, places.pixel), places.word
        super().__init__(where, where.conv.kernel[1])
        self.form = places.form
        #: where the window begins in the input, if that is in a register
        self.corner: Index | None = None
        self.depth, self.run = where.conv.in_per_group, _run(where.conv)
        #: words before the window as bytes: itself, its own second half, or what is behind all
        self.staged = self.start
        if self.form is not BYTES:
            behind = places.word * self.form.step_words * steps(self.conv)
            second = where.emitter.add(self.start, steps(self.conv))
            self.staged = second if places.word == 1 else behind

    def put_settled(self) -> None:
        """`put_inside`, the window's places in registers, from which all others are constant."""
        emitter = self.emitter
        self.start = emitter.opaque(self.start)
        if self.source.slots is None:
            self.corner = emitter.opaque(super()._origin(0))
        self.put_inside()

    def _origin(self, kernel_row: Index) -> Index:
        if self.corner is None:
            return super()._origin(kernel_row)
        row = self.source.columns * self.source.channels * self.conv.dilation[0]
        return self.emitter.add(self.corner, self.emitter.mul(kernel_row, row))

    def put_inside(self) -> None:
        everything: tuple[Taps, Taps] = ((0, self.conv.kernel[0]), (0, self.conv.kernel[1]))
        if steps(self.conv) <= _MOST_UNROLLED_STEPS:
            self._put_unrolled()
        elif self.run % STEP == 0:
            self._put_words(*everything)
        else:
            self._put_bytes(*everything)

    def _put_unrolled(self) -> None:
        emitter, (rows, columns) = self.emitter, self.conv.kernel
        taps = [(kh, kw) for kh in range(rows) for kw in (range(columns) if self.dilated else [0])]
        origins = [emitter.add(self._origin(kh), self._reach(kw)) for kh, kw in taps]
        for first in range(0, steps(self.conv), LOADED):
            # None is stored right after it is loaded.
            some = range(first, min(first + LOADED, steps(self.conv)))
            for step, word in [(step, self._load(origins, step)) for step in some]:
                self._put(step, word)

    def put_at_border(self) -> None:
        """Padding everywhere, and over it what there is."""
        there = self._taps(0), self._taps(1)
        filler = self.form.filler(self.conv.pad_value)
        if self.depth % STEP:
            words = repeated(self.conv.pad_value, 8)
            self._fill(steps(self.conv), words, lambda word: self.emitter.add(self.staged, word))
            self._put_bytes(*there)
        else:
            self._fill(steps(self.conv) * self.form.step_words, filler, self._place)
            self._put_words(*there)

    def _fill(self, count: int, filler: int, place: Callable[[Index], Index]) -> None:
        emitter, words = self.emitter, view(self.scratch, 32)
        value = emitter.integer(filler)
        emitter.loop(
            0, count, 1, lambda word: emitter.store(value, words, [place(word)]), unroll=_UNROLL
        )

    def _runs(self, rows: Taps, columns: Taps, body: Callable[[Index, Index, Index], None]) -> None:
        """``body(origin in the input, first operand, operands)`` for each run under some taps."""
        emitter, (first, last) = self.emitter, columns

        def kernel_row(kh: Index) -> None:
            origin, operand = self._origin(kh), emitter.mul(kh, self.conv.kernel[1] * self.depth)

            def run(kw: Index, count: Index) -> None:
                at = emitter.add(origin, self._reach(kw))
                body(at, emitter.add(operand, emitter.mul(kw, self.depth)), count)

            if self.dilated:
                emitter.loop(first, last, 1, lambda kw: run(kw, self.depth))
            else:
                run(first, emitter.mul(emitter.sub(last, first), self.depth))

        emitter.loop(*rows, 1, kernel_row)

    def _put_words(self, rows: Taps, columns: Taps) -> None:
        emitter = self.emitter

        def run(origin: Index, operand: Index, count: Index) -> None:
            step, words = _quarter(emitter, operand), _quarter(emitter, count)

            def word(q: Index) -> None:
                value = load_any(
                    emitter, self.source.buffer, emitter.add(origin, emitter.mul(q, STEP))
                )
                self._put(emitter.add(step, q), value)

            emitter.loop(0, words, 1, word, unroll=_UNROLL)

        self._runs(rows, columns, run)

    def _put_bytes(self, rows: Taps, columns: Taps) -> None:
        emitter, source = self.emitter, self.source.buffer
        start = emitter.mul(self.staged, STEP)

        def run(origin: Index, operand: Index, count: Index) -> None:
            target, whole = emitter.add(start, operand), emitter.down(count, STEP)

            def word(r: Index) -> None:
                value = load_any(emitter, source, emitter.add(origin, r))
                store_any(emitter, value, self.scratch, emitter.add(target, r))

            def byte(r: Index) -> None:
                value = emitter.load(source, [emitter.add(origin, r)])
                emitter.store(value, self.scratch, [emitter.add(target, r)])

            emitter.loop(0, whole, STEP, word)
            emitter.loop(whole, count, 1, byte)

        self._runs(rows, columns, run)
        if self.form is BYTES:
            return
        words = view(self.scratch, 32)

        def widen(step: Index) -> None:
            self._put(step, emitter.load(words, [emitter.add(self.staged, step)]))

        emitter.loop(0, steps(self.conv), 1, widen, unroll=_UNROLL)

    def _load(self, origins: list[Index], step: int) -> ir.Value:
        """The bytes of a step as a word, of a window whose runs begin at ``origins``.

        These cores load words at any address. So where a word goes on in the next run, that is
        a load too, which takes bytes that are not asked for.
        """
        emitter, source = self.emitter, self.source.buffer
        places = [divmod(step * STEP + lane, self.run) for lane in range(STEP)]
        positions = [emitter.add(origins[n], r) for n, r in places if n < len(origins)]
        run, start = places[0]
        here = min(self.run - start, STEP)
        if here == STEP:
            return load_any(emitter, source, positions[0])
        if self.run < STEP:
            return load_word(emitter, source, positions)
        if here == STEP - 1:
            ending = load_any(emitter, source, emitter.add(origins[run], start - 1))
            word = arith.shrui(ending, emitter.integer(8))
        else:
            word = load_word(emitter, source, positions[:here])
        if run + 1 == len(origins):
            return word
        following = load_any(emitter, source, origins[run + 1])
        return arith.ori(word, arith.shli(following, emitter.integer(8 * here)))

    def _put(self, step: Index, word: ir.Value) -> None:
        """A word of operands, in the form that they have here."""
        first, words = self.emitter.mul(step, self.form.step_words), stream(self.scratch)
        for number, part in enumerate(self.form.words(word)):
            put(part, words, self._place(self.emitter.add(first, number)))

    def _place(self, word: Index) -> Index:
        return self.emitter.add(self.start, self.emitter.mul(word, self.word))


def _quarter(emitter: Emitter, position: Index) -> Index:
    if isinstance(position, int):
        return position // STEP
    return arith.shrui(position, emitter.index(2))
