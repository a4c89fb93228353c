"""The windows of a block of pixels in scratch memory, widened to pairs of halfwords or as bytes.

Padding is included, so that what reads them needs no bounds check. A window's words may lie one
after the other, or beside the same words of neighbouring pixels (`Places`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.bindings import arith, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.forms import BYTES, HALFWORDS, Form
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pairs import STEP
from tinymlir.kernels.price import Mix, either, line, loop
from tinymlir.kernels.window_copy import Where, WindowCopy, emit_window_copy
from tinymlir.kernels.words import load_any, load_word, repeated, store_word, view

#: Words of a window copied between two branches.
_UNROLL = 4
#: Windows of pixels that are no whole words are gathered without a loop up to here.
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


def takes(conv: Convolution) -> bool:
    """Whether a kernel row's operands are neighbours in memory."""
    return conv.groups == 1 and conv.dilation[1] == 1


def steps(conv: Convolution) -> int:
    """Words of bytes in a window, the last one filled up."""
    return -(-conv.weights[0, 0].size // STEP)


def scratch_bytes(conv: Convolution, pixels: int, form: Form = HALFWORDS) -> int:
    """Scratch memory for the windows of ``pixels`` pixels."""
    return steps(conv) * form.step_words * 4 * pixels


def copy_mix(conv: Convolution, form: Form = HALFWORDS) -> Mix:
    """The copy of one window, on average."""
    rows, run = conv.kernel[0], conv.kernel[1] * conv.in_per_group
    widen = form.mix()
    if conv.in_per_group % STEP == 0:
        word = line(load=1) + widen
        inside = loop(loop(word, run // STEP, _UNROLL) + line(alu=6), rows)
        border = loop(loop(word + line(alu=2), run // STEP) + line(alu=25), rows)
    else:
        operand = line(load=1) + line(alu=8, store=1)
        inside = border = loop(loop(operand, run) + line(alu=25), rows)
        if steps(conv) <= _MOST_UNROLLED_STEPS:
            # A word that goes on in the next kernel row is put together.
            inside = (line(load=1) + widen) * steps(conv) + line(load=3, alu=8) * (rows - 1)
    if form is BYTES:
        part = line(load=1, store=1)
        existing = loop(part, run // STEP) + loop(part, run % STEP) + line(alu=16)
        border = loop(line(store=1), steps(conv), _UNROLL) + loop(existing, rows) + line(alu=30)
        if conv.in_per_group % STEP and steps(conv) > _MOST_UNROLLED_STEPS:
            inside = border
    pixels = conv.out_hw[0] * conv.out_hw[1]
    share = len(conv.interior(0)) * len(conv.interior(1)) / pixels
    return line(alu=16, load=4, store=4) + (inside if share == 1 else either(share, inside, border))


def emit_copy(conv: Convolution, layer: Layer, scratch: ir.Value, places: Places) -> str:
    """The function that copies a window; its place is the pixel's number in the block."""
    return emit_window_copy(conv, layer, scratch, "window", lambda where: _Copy(where, places))


class _Copy(WindowCopy):
    """The window of one output pixel, as words of operands."""

    def __init__(self, where: Where, places: Places) -> None:
        self.start, self.word = where.emitter.mul(where.place, places.pixel), places.word
        super().__init__(where, where.conv.kernel[1])
        self.form = places.form
        self.depth = where.conv.in_per_group
        #: operands of a kernel row, which are neighbours in memory
        self.run = where.conv.kernel[1] * self.depth
        #: whether activations are loaded a word at a time
        self.whole_words = self.depth % STEP == 0

    def _put_inside(self) -> None:
        emitter, rows = self.emitter, self.conv.kernel[0]
        if self.whole_words:
            words = self.run // STEP

            def kernel_row(kh: Index) -> None:
                origin, first = self._origin(kh), emitter.mul(kh, words)
                emitter.loop(
                    0,
                    words,
                    1,
                    lambda q: self._put_word(
                        emitter.add(first, q), emitter.add(origin, emitter.mul(q, STEP))
                    ),
                    unroll=_UNROLL,
                )

            emitter.loop(0, rows, 1, kernel_row)
        elif steps(self.conv) <= _MOST_UNROLLED_STEPS:
            origins = [self._origin(kh) for kh in range(rows)]
            for step in range(steps(self.conv)):
                places = [divmod(step * STEP + lane, self.run) for lane in range(STEP)]
                positions = [emitter.add(origins[kh], r) for kh, r in places if kh < rows]
                self._put(step, self._load(positions, places[0][0] == places[-1][0]))
        else:
            self._put_at_border()

    def _put_at_border(self) -> None:
        emitter, conv = self.emitter, self.conv
        first = emitter.minimum(emitter.maximum(emitter.sub(0, self.left), 0), conv.kernel[1])
        room = emitter.minimum(emitter.sub(conv.in_hw[1], self.left), conv.kernel[1])
        # A window wholly beside the image has no columns in it.
        last = emitter.maximum(room, first)
        low, high = emitter.mul(first, self.depth), emitter.mul(last, self.depth)
        if self.form is BYTES:
            self._put_bytes(low, high)
            return

        def kernel_row(kh: Index) -> None:
            row = emitter.add(self.top, emitter.mul(kh, conv.dilation[0]))
            inside = self._below(row, conv.in_hw[0])
            zero = emitter.index(0)
            begin = arith.select(inside, emitter.index(low), zero)
            end = arith.select(inside, emitter.index(high), zero)
            origin = self._origin(kh)
            self._put_run(kh, 0, begin, None)
            self._put_run(kh, begin, end, origin)
            self._put_run(kh, end, self.run, None)

        emitter.loop(0, conv.kernel[0], 1, kernel_row)

    def _put_bytes(self, low: Index, high: Index) -> None:
        """Padding everywhere, and over it operands ``low`` to ``high`` of each kernel row."""
        emitter, conv = self.emitter, self.conv
        filler = emitter.integer(self.form.filler(conv.pad_value))
        words = view(self.scratch, 32)
        emitter.loop(
            0,
            steps(conv),
            1,
            lambda word: emitter.store(filler, words, [self._place(word)]),
            unroll=_UNROLL,
        )
        before = emitter.maximum(emitter.sub(0, self.top), 0)
        room = emitter.maximum(emitter.sub(conv.in_hw[0], self.top), 0)
        first = emitter.ceildiv(before, conv.dilation[0])
        last = emitter.minimum(emitter.ceildiv(room, conv.dilation[0]), conv.kernel[0])
        size = emitter.sub(high, low)
        whole = emitter.down(size, STEP)

        def kernel_row(kh: Index) -> None:
            source = emitter.add(self._origin(kh), low)
            start = emitter.add(emitter.mul(self.start, STEP), emitter.mul(kh, self.run))
            target = emitter.add(start, low)

            def word(r: Index) -> None:
                at, to = emitter.add(source, r), emitter.add(target, r)
                word = load_any(emitter, self.source.buffer, at)
                store_word(emitter, word, self.scratch, [emitter.add(to, i) for i in range(STEP)])

            def byte(r: Index) -> None:
                value = emitter.load(self.source.buffer, [emitter.add(source, r)])
                emitter.store(value, self.scratch, [emitter.add(target, r)])

            emitter.loop(0, whole, STEP, word)
            emitter.loop(whole, size, 1, byte)

        emitter.loop(first, last, 1, kernel_row)

    def _put_run(self, kernel_row: Index, begin: Index, end: Index, origin: Index | None) -> None:
        """Operands ``begin`` to ``end`` of a kernel row, from the input or the padding value."""
        emitter, fill = self.emitter, self.conv.pad_value
        first = emitter.mul(kernel_row, self.run)

        def operand(r: Index) -> None:
            if origin is None:
                value = emitter.integer(fill, 16)
            else:
                byte = emitter.load(self.source.buffer, [emitter.add(origin, r)])
                value = arith.extsi(ir.IntegerType.get_signless(16), byte)
            self._put_halfword(emitter.add(first, r), value)

        def word(q: Index) -> None:
            step = emitter.add(_quarter(emitter, first), q)
            if origin is None:
                self._put(step, emitter.integer(repeated(fill, 8)))
            else:
                self._put_word(step, emitter.add(origin, emitter.mul(q, STEP)))

        if self.whole_words:
            emitter.loop(_quarter(emitter, begin), _quarter(emitter, end), 1, word)
        else:
            emitter.loop(begin, end, 1, operand)

    def _put_word(self, step: Index, where: Index) -> None:
        positions = [self.emitter.add(where, lane) for lane in range(STEP)]
        self._put(step, self._load(positions, neighbours=True))

    def _load(self, positions: list[Index], neighbours: bool) -> ir.Value:
        """The bytes at ``positions`` as a word."""
        if neighbours and self.form is BYTES:
            # LLVM does not always see that they are, and these cores load words at any address.
            return load_any(self.emitter, self.source.buffer, positions[0])
        return load_word(self.emitter, self.source.buffer, positions)

    def _put(self, step: Index, word: ir.Value) -> None:
        """A word of operands, in the form that they have here."""
        first = self.emitter.mul(step, self.form.step_words)
        words = view(self.scratch, 32)
        for number, part in enumerate(self.form.words(word)):
            self.emitter.store(part, words, [self._place(self.emitter.add(first, number))])

    def _put_halfword(self, operand: Index, value: ir.Value) -> None:
        """One operand at the place where `_put` would put it."""
        emitter = self.emitter
        number, one = emitter.index(operand), emitter.index(1)
        step = arith.shrui(number, emitter.index(2))
        pair = arith.addi(arith.shli(step, one), arith.andi(number, one))
        high = arith.andi(arith.shrui(number, one), one)
        at = emitter.add(emitter.mul(self._place(pair), 2), high)
        emitter.store(value, view(self.scratch, 16), [at])

    def _place(self, word: Index) -> Index:
        return self.emitter.add(self.start, self.emitter.mul(word, self.word))


def _quarter(emitter: Emitter, position: Index) -> Index:
    if isinstance(position, int):
        return position // STEP
    return arith.shrui(position, emitter.index(2))
