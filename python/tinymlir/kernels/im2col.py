"""Convolution two MACs at a time: windows widened once, then dot products by SMLAD.

The windows of a block of pixels are copied to scratch memory as halfwords (im2col),
padding included, so that the border needs no code of its own. Every output channel
then reads them as pairs, against weights that stay bytes in flash and are widened
four at a time. The work of widening an activation is shared by all channels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import channel_tables
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, input_column, input_row
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.words import extend, halves, load_word, repeated, view
from tinymlir.targets import Target

#: Output channels and pixels computed together: 4 accumulators, 4 activation pairs and 2
#: weight pairs leave Thumb-2's registers no room for more.
_CHANNELS = 2
PIXELS = 2
#: Operands of one step: a word of weights.
_STEP = 4
#: Steps of the dot product between two branches: 54 bytes of code each.
_MOST_STEPS_A_TURN = 16
#: Words of a window copied between two branches.
_UNROLL = 4
#: Windows of pixels that are no whole words are gathered without a loop up to here.
_MOST_UNROLLED_STEPS = 16
#: Scratch memory beyond which a layer is better off without.
_SCRATCH_LIMIT = 8192


def _window(conv: Convolution) -> int:
    """Operands of one output."""
    return int(conv.weights[0, 0].size)


def _whole_words(conv: Convolution) -> bool:
    """Whether pixels are whole words: then activations are loaded and widened four at a time."""
    return conv.in_per_group % _STEP == 0


def _steps(conv: Convolution) -> int:
    """Steps of a dot product: even where a channel is left over, which takes two at a time."""
    words = -(-_window(conv) // _STEP)
    return words + words % 2 if conv.out_per_group % _CHANNELS else words


def _turn(steps: int) -> int:
    """Steps between two branches: the most that divide all, if not too few do."""
    fair = range(_MOST_STEPS_A_TURN // 2, _MOST_STEPS_A_TURN + 1)
    return max((n for n in fair if steps % n == 0), default=_MOST_STEPS_A_TURN)


def pack_pairs(conv: Convolution, tables: list[np.ndarray]) -> np.ndarray:
    """Constants of the pairs of output channels, i64, in the order in which they are read.

    For each pair: its biases, its weights (``[step]``, four bytes of each channel), its
    elements of ``tables``. The first channel is in the low word; i64 tables take two places.
    """
    channels = conv.out_per_group // _CHANNELS * _CHANNELS
    padded = np.zeros((channels, _steps(conv) * _STEP), np.int8)
    padded[:, : _window(conv)] = conv.weights[0, :channels].reshape(channels, -1)
    columns = [conv.bias[:channels, None], padded.view("<i4")]
    columns += [t[:channels, None].view("<i4").reshape(channels, -1) for t in tables]
    # Words of both channels side by side; an i64 is two words of one channel.
    wide = [i for i, t in enumerate(tables, 2) if t.itemsize == 8]
    parts = []
    for number, words in enumerate(columns):
        pairs = words.reshape(-1, _CHANNELS, words.shape[1])
        ordered = pairs if number in wide else pairs.swapaxes(1, 2)
        parts.append(ordered.reshape(len(pairs), -1))
    return np.ascontiguousarray(np.concatenate(parts, axis=1), "<i4").view("<i8").reshape(-1)


def pack_last(conv: Convolution) -> np.ndarray:
    """Weights of the last of an odd number of channels, i64, two steps in each."""
    padded = np.zeros(_steps(conv) * _STEP, np.int8)
    padded[: _window(conv)] = conv.weights[0, -1].reshape(-1)
    return padded.view("<i8")


class Im2col(Kernel):
    """Block by block of neighbouring pixels: their windows to scratch memory, then all channels."""

    name = "im2col"
    pixels = PIXELS
    gathers = True

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether enough channels share the widening, and there is room for it."""
        enough = conv.out_per_group >= _STEP and _window(conv) >= 2 * _STEP
        plain = conv.groups == 1 and conv.dilation[1] == 1
        room = cls(conv, core).scratch_bytes() <= _SCRATCH_LIMIT
        return core.has("dsp") and plain and enough and room

    def scratch_bytes(self) -> int:
        """Four halfwords for each step and pixel."""
        return _steps(self.conv) * 2 * _STEP * PIXELS

    def executed_macs(self) -> int:
        """MACs of the dot products: padding under a window included."""
        rows, columns = self.conv.out_hw
        return rows * columns * self.conv.out_per_group * _window(self.conv)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        assert scratch is not None
        self.symbol = _emit_im2col(self.conv, layer, scratch)

    def row(self, row: Index, columns: tuple[Index, Index]) -> None:
        emitter = self.layer.emitter
        first, last = columns
        whole = emitter.add(first, emitter.down(emitter.sub(last, first), PIXELS))
        emitter.loop(first, whole, PIXELS, lambda column: self._block(row, column, PIXELS))
        emitter.loop(whole, last, 1, lambda column: self._block(row, column, 1))

    def _block(self, row: Index, column: Index, pixels: int) -> None:
        layer, emitter = self.layer, self.layer.emitter
        site = Site(layer, row, column, (0, 0), (0, 0), border=False)
        source = layer.source
        for p in range(pixels):
            place = (row, emitter.add(column, p), p, source.first_column)
            where = [emitter.index(v) for v in place]
            func.call([], self.symbol, [source.buffer, self.scratch, *where])
        _emit_channels(self.conv, site, pixels, self.scratch)


def _emit_channels(conv: Convolution, site: Site, pixels: int, scratch: ir.Value) -> None:
    layer, emitter, pool = site.layer, site.layer.emitter, site.layer.pool
    steps = _steps(conv)
    activations = view(scratch, 64)
    tables = channel_tables(conv, layer.root)

    def step(k: Index, words: list[ir.Value], totals: list[ir.Value]) -> list[ir.Value]:
        """Four products for each pixel and channel, a word of weights for each of these."""
        at = emitter.mul(k, PIXELS)
        pairs = [
            halves(emitter, emitter.load(activations, [emitter.add(at, p)])) for p in range(pixels)
        ]
        result = list(totals)
        for b, word in enumerate(words):
            for half in (0, 1):
                widened = extend(word, half)
                for p in range(pixels):
                    index = p * len(words) + b
                    result[index] = tiny.DualMacOp(result[index], pairs[p][half], widened).res
        return result

    def pair(index: Index) -> None:
        constants = pool.get(pack_pairs(conv, list(tables.values())), "weights")
        places = sum(t.itemsize // 4 for t in tables.values())
        start = emitter.mul(index, 1 + steps + places)

        def load(place: Index) -> ir.Value:
            return emitter.load(constants, [emitter.add(start, place)])

        def turn(k: Index, *totals: ir.Value) -> list[ir.Value]:
            return step(k, halves(emitter, load(emitter.add(k, 1))), list(totals))

        biases = halves(emitter, load(0)) * pixels
        sums = emitter.loop(0, steps, 1, turn, biases, unroll=_turn(steps))
        elements: list[dict[ir.Value, ir.Value]] = [{}, {}]
        place = 1 + steps
        for value, table in tables.items():
            wide = table.itemsize == 8
            both = [load(place), load(place + 1)] if wide else halves(emitter, load(place))
            place += 2 if wide else 1
            for b in range(_CHANNELS):
                elements[b][value] = both[b]
        for p in range(pixels):
            for b in range(_CHANNELS):
                channel = emitter.add(emitter.mul(index, _CHANNELS), b)
                finish(conv, site, p, channel, sums[p * _CHANNELS + b], elements[b])

    emitter.loop(0, conv.out_per_group // _CHANNELS, 1, pair)
    if conv.out_per_group % _CHANNELS:
        weights = pool.get(pack_last(conv), "weights")

        def turn(k: Index, *totals: ir.Value) -> list[ir.Value]:
            result = list(totals)
            for number, word in enumerate(halves(emitter, emitter.load(weights, [k]))):
                result = step(emitter.add(emitter.mul(k, 2), number), [word], result)
            return result

        biases = [emitter.integer(int(conv.bias[-1]))] * pixels
        sums = emitter.loop(0, steps // 2, 1, turn, biases, unroll=_turn(steps) // 2)
        known = {v: emitter.integer(int(t[-1]), 8 * t.itemsize) for v, t in tables.items()}
        for p in range(pixels):
            finish(conv, site, p, conv.out_per_group - 1, sums[p], known)


def _emit_im2col(conv: Convolution, layer: Layer, scratch: ir.Value) -> str:
    """``@layer<i>_im2col(input, scratch, row, column, place, first)``: one window, widened.

    ``place`` is the pixel's number in the block; the pixels of a step lie side by side.
    ``first`` is the first column that is in memory.
    """
    emitter, symbol = layer.emitter, f"{layer.function.name.value}_im2col"
    types = [layer.source.buffer.type, scratch.type, *[ir.IndexType.get()] * 4]
    with ir.InsertionPoint.after(layer.function.operation):
        helper = func.FuncOp(symbol, (types, []), visibility="private")
    with ir.InsertionPoint(helper.add_entry_block()):
        buffer, scratch, row, column, place, first = helper.arguments
        if isinstance(layer.source.first_column, int):
            first = layer.source.first_column
        source = replace(layer.source, buffer=buffer, first_column=first)
        window = _Window(conv, emitter, source, scratch, row, column, place)
        whole = window.is_inside()
        if whole is None:
            window.put_inside()
        else:
            choice = scf.IfOp(whole, has_else=True)
            with ir.InsertionPoint(choice.then_block):
                window.put_inside()
                scf.yield_([])
            with ir.InsertionPoint(choice.else_block):
                window.put_at_border()
                scf.yield_([])
        func.ReturnOp([])
    return symbol


class _Window:
    """The window of one output pixel, on its way to scratch memory."""

    def __init__(
        self,
        conv: Convolution,
        emitter: Emitter,
        source: Rows,
        scratch: ir.Value,
        row: Index,
        column: Index,
        place: ir.Value,
    ) -> None:
        self.conv, self.emitter, self.source, self.scratch = conv, emitter, source, scratch
        self.place = place
        self.depth = conv.in_per_group
        #: operands of a kernel row, which are neighbours in memory
        self.run = conv.kernel[1] * self.depth
        self.top = input_row(emitter, conv, row, 0)
        self.left = input_column(emitter, conv, column)

    def is_inside(self) -> ir.Value | None:
        """Whether no padding lies under the window; None if it never does."""
        tests = []
        for axis, start in enumerate((self.top, self.left)):
            conv = self.conv
            if len(conv.interior(axis)) == conv.out_hw[axis]:
                continue
            reach = conv.dilation[axis] * (conv.kernel[axis] - 1)
            room = self.emitter.index(max(conv.in_hw[axis] - reach, 0))
            fits = arith.cmpi(arith.CmpIPredicate.ult, self.emitter.index(start), room)
            tests.append(fits)
        if len(tests) == 2:
            return arith.andi(*tests)
        return tests[0] if tests else None

    def _origin(self, kernel_row: Index) -> Index:
        """Where the run of a kernel row begins in the input."""
        emitter = self.emitter
        row = emitter.add(self.top, emitter.mul(kernel_row, self.conv.dilation[0]))
        return emitter.add(self.source.origin(emitter, row), emitter.mul(self.left, self.depth))

    def put_inside(self) -> None:
        """Copy and widen, where there is no padding."""
        emitter = self.emitter
        if _whole_words(self.conv):

            def kernel_row(kh: Index) -> None:
                origin, first = self._origin(kh), emitter.mul(kh, self.run // _STEP)
                emitter.loop(
                    0,
                    self.run // _STEP,
                    1,
                    lambda q: self._put_word(
                        emitter.add(first, q), emitter.add(origin, emitter.mul(q, _STEP))
                    ),
                    unroll=_UNROLL,
                )

            emitter.loop(0, self.conv.kernel[0], 1, kernel_row)
        elif _steps(self.conv) <= _MOST_UNROLLED_STEPS:
            origins = [self._origin(kh) for kh in range(self.conv.kernel[0])]
            for step in range(-(-_window(self.conv) // _STEP)):
                places = [divmod(step * _STEP + lane, self.run) for lane in range(_STEP)]
                positions = [
                    emitter.add(origins[kh], r) for kh, r in places if kh < self.conv.kernel[0]
                ]
                self._put_pairs(step, load_word(emitter, self.source.buffer, positions))
        else:
            self.put_at_border()

    def put_at_border(self) -> None:
        """Copy and widen what there is, padding where there is none."""
        emitter, conv = self.emitter, self.conv
        first, last = _column_taps(conv, emitter, self.left)
        low, high = emitter.mul(first, self.depth), emitter.mul(last, self.depth)

        def kernel_row(kh: Index) -> None:
            row = emitter.add(self.top, emitter.mul(kh, conv.dilation[0]))
            inside = arith.cmpi(
                arith.CmpIPredicate.ult, emitter.index(row), emitter.index(conv.in_hw[0])
            )
            zero = emitter.index(0)
            begin = arith.select(inside, emitter.index(low), zero)
            end = arith.select(inside, emitter.index(high), zero)
            origin = self._origin(kh)
            self._put_run(kh, 0, begin, None)
            self._put_run(kh, begin, end, origin)
            self._put_run(kh, end, self.run, None)

        emitter.loop(0, conv.kernel[0], 1, kernel_row)

    def _put_run(self, kernel_row: Index, begin: Index, end: Index, origin: Index | None) -> None:
        """Operands ``begin`` to ``end`` of a kernel row, from the input or the padding value."""
        emitter, fill = self.emitter, self.conv.pad_value
        first = emitter.mul(kernel_row, self.run)
        if not _whole_words(self.conv):

            def operand(r: Index) -> None:
                if origin is None:
                    value = emitter.integer(fill, 16)
                else:
                    byte = emitter.load(self.source.buffer, [emitter.add(origin, r)])
                    value = arith.extsi(ir.IntegerType.get_signless(16), byte)
                self._put_halfword(emitter.add(first, r), value)

            emitter.loop(begin, end, 1, operand)
            return

        def word(q: Index) -> None:
            step = emitter.add(_quarter(emitter, first), q)
            if origin is None:
                both = emitter.integer(repeated(fill, 16))
                self._store(step, [both, both])
            else:
                self._put_word(step, emitter.add(origin, emitter.mul(q, _STEP)))

        emitter.loop(_quarter(emitter, begin), _quarter(emitter, end), 1, word)

    def _put_word(self, step: Index, where: Index) -> None:
        positions = [self.emitter.add(where, lane) for lane in range(_STEP)]
        self._put_pairs(step, load_word(self.emitter, self.source.buffer, positions))

    def _put_pairs(self, step: Index, word: ir.Value) -> None:
        self._store(step, [extend(word, 0), extend(word, 1)])

    def _store(self, step: Index, pairs: list[ir.Value]) -> None:
        emitter = self.emitter
        at = emitter.mul(emitter.add(emitter.mul(step, PIXELS), self.place), 2)
        for half, pair in enumerate(pairs):
            emitter.store(pair, view(self.scratch, 32), [emitter.add(at, half)])

    def _put_halfword(self, operand: Index, value: ir.Value) -> None:
        """One operand at the place where `tiny.extend_bytes` would put it."""
        emitter = self.emitter
        number = emitter.index(operand)
        one, two = emitter.index(1), emitter.index(2)
        lane = arith.andi(number, emitter.index(_STEP - 1))
        swapped = arith.ori(arith.shli(arith.andi(lane, one), one), arith.shrui(lane, one))
        step = arith.shrui(number, two)
        at = emitter.mul(emitter.add(emitter.mul(step, PIXELS), self.place), _STEP)
        emitter.store(value, view(self.scratch, 16), [emitter.add(at, swapped)])


def _column_taps(conv: Convolution, emitter: Emitter, start: Index) -> tuple[Index, Index]:
    """First and past-the-last kernel column that falls on the input."""
    # A window wholly beside the image has none.
    before = emitter.maximum(emitter.sub(0, start), 0)
    first = emitter.minimum(before, conv.kernel[1])
    last = emitter.minimum(emitter.sub(conv.in_hw[1], start), conv.kernel[1])
    return first, emitter.maximum(last, first)


def _quarter(emitter: Emitter, position: Index) -> Index:
    if isinstance(position, int):
        return position // _STEP
    return arith.shrui(position, emitter.index(2))
