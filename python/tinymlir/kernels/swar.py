"""Convolution two MACs at a time without SIMD instructions: two pixels in one word.

The low and the high half of a word hold the same operand of two output pixels, x₀ + 2¹⁶·x₁.
One 32-bit product with a weight then has both products in its halves, and so has the sum of a
few: as long as the low half stays within 16 bits, that is while the weights' magnitudes add up
to at most 257, since activations span 255. Such a *chunk* of at least two operands is summed
in one register t, which begins at 2¹⁵ so that its low half is never negative. Then

    total += t          (modulo 2³²)
    high  += t >> 16    (arithmetic)

and after the last chunk ``high`` is the sum of the second pixel, and total − 2¹⁶·high that of
the first, exactly; what t began with is taken off in the constant that ``total`` begins with.
With chunks of n operands that is n multiplications and two additions for 2n MACs, one load of
a weight for as many pixels as are computed together, and no unpacking of activations, which
all output channels share: windows are gathered in scratch memory (`window_pairs`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels.channel_tables import channel_tables
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish
from tinymlir.kernels.window_pairs import emit_gather
from tinymlir.kernels.words import halves, view
from tinymlir.targets import Target

#: Output pixels computed together: two words.
PIXELS = 4
#: Operands of a chunk, whatever the weights, but for two of −128.
_CHUNK = 2
#: What a chunk begins with, and the most that its low half may have.
_ROUNDING, _HALF_RANGE = 1 << 15, 1 << 16
#: Chunks of a channel between two branches.
_MOST_CHUNKS_A_TURN = 16
#: The same for the last pixels of a row, which are seldom reached.
_MOST_OF_THE_LAST = 4
#: Output channels that make up for the gathering, at least.
_LEAST_CHANNELS = 4
#: Scratch memory beyond which a layer is better off without.
_SCRATCH_LIMIT = 8192
#: Header, weights and each table begin at a double word.
_ALIGNMENT = 8


def _window(conv: Convolution) -> int:
    """Operands of one output."""
    return int(conv.weights[0, 0].size)


def _chunks(conv: Convolution) -> int:
    return -(-_window(conv) // _CHUNK)


def _reach(conv: Convolution) -> np.ndarray:
    """The greatest magnitude of each chunk's sums over all activations, ``channels × chunks``."""
    magnitudes = np.abs(_chunked(conv).astype(np.int64)).sum(axis=2)
    return 128 * magnitudes


def _chunked(conv: Convolution) -> np.ndarray:
    """Weights as ``channels × chunks × operands of a chunk``, filled up with zeros."""
    channels = conv.out_per_group
    padded = np.zeros((channels, _chunks(conv) * _CHUNK), np.int8)
    padded[:, : _window(conv)] = conv.weights[0].reshape(channels, -1)
    return padded.reshape(channels, -1, _CHUNK)


@dataclass(frozen=True)
class _Layout:
    """Where the constants of a block of channels lie, in bytes: the order in which it reads."""

    channels: int
    chunks: int
    tables: tuple[int, ...]
    """bytes of an element of each table"""

    @property
    def weights(self) -> int:
        # what chunks begin with; what the totals and the high sums begin with
        return _aligned(4 * (1 + 2 * self.channels))

    def table(self, number: int) -> int:
        start = self.weights + _aligned(self.chunks * _CHUNK * self.channels)
        return start + sum(_aligned(size * self.channels) for size in self.tables[:number])

    @property
    def size(self) -> int:
        return self.table(len(self.tables))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _pack(conv: Convolution, tables: list[np.ndarray], first: int, layout: _Layout) -> np.ndarray:
    """The constants of all blocks from channel ``first`` on that have ``layout``, as i8."""
    width = layout.channels
    blocks = (conv.out_per_group - first) // width
    chosen = slice(first, first + blocks * width)
    packed = np.zeros((blocks, layout.size), np.int8)

    def put(at: int, array: np.ndarray) -> None:
        parts = np.ascontiguousarray(array).reshape(blocks, -1).view(np.int8)
        packed[:, at : at + parts.shape[1]] = parts

    bias = conv.bias[chosen].astype(np.int64).reshape(blocks, width)
    totals = bias * (1 + _HALF_RANGE) - layout.chunks * _ROUNDING
    rounding = np.full((blocks, 1), _ROUNDING)
    put(0, _wrapped(np.concatenate([rounding, totals, bias], axis=1)))
    weights = _chunked(conv)[chosen].reshape(blocks, width, layout.chunks, _CHUNK)
    put(layout.weights, weights.swapaxes(1, 2))
    for number, table in enumerate(tables):
        put(layout.table(number), table[chosen])
    return packed.reshape(-1)


def _wrapped(values: np.ndarray) -> np.ndarray:
    """``values`` modulo 2³²."""
    return (values & 0xFFFFFFFF).astype("<u4")


class Swar(Kernel):
    """Block by block of neighbouring pixels: their windows to scratch memory, then all channels."""

    name = "swar"
    pixels = PIXELS
    gathers = True

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether there are pixels to pair, channels to share them, and chunks that fit."""
        return (
            core.lanes == 1
            and not core.has("dsp")
            and conv.groups == 1
            and conv.out_hw[1] > 1
            and conv.out_per_group >= _LEAST_CHANNELS
            and cls(conv, core).scratch_bytes() <= _SCRATCH_LIMIT
            and bool((_reach(conv) < _ROUNDING).all())
        )

    def scratch_bytes(self) -> int:
        """A word for each operand and two pixels."""
        words = -(-min(PIXELS, self.conv.out_hw[1]) // 2)
        return _chunks(self.conv) * _CHUNK * words * 4

    def executed_macs(self) -> int:
        """MACs of the dot products: padding under a window included."""
        rows, columns = self.conv.out_hw
        return rows * columns * self.conv.out_per_group * _window(self.conv)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.tables = channel_tables(self.conv, layer.root)
        self.gather_symbols: dict[int, str] = {}
        # A channel keeps four sums; besides there are the words of a chunk, two chunks on their
        # way, a weight, a product, what chunks begin with, two pointers and a counter.
        self.block = 1 if self.core.registers < 20 else 2

    def row(self, row: Index, columns: tuple[Index, Index]) -> None:
        emitter = self.layer.emitter
        first, last = columns
        whole = emitter.add(first, emitter.down(emitter.sub(last, first), PIXELS))
        emitter.loop(first, whole, PIXELS, lambda column: self._pixels(row, column, PIXELS))
        rest = emitter.sub(last, whole)
        if not isinstance(rest, int):
            emitter.loop(whole, last, 1, lambda column: self._pixels(row, column, 1))
        elif rest:
            self._pixels(row, whole, rest)

    def _pixels(self, row: Index, column: Index, pixels: int) -> None:
        """All channels of a few neighbours."""
        layer, emitter, channels = self.layer, self.layer.emitter, self.conv.out_per_group
        if pixels not in self.gather_symbols:
            self.gather_symbols[pixels] = emit_gather(self.conv, layer, self.scratch, pixels)
        where = [emitter.index(v) for v in (row, column, layer.source.first_column)]
        symbol = self.gather_symbols[pixels]
        func.call([], symbol, [layer.source.buffer, self.scratch, *where])
        site = Site(layer, row, column, (0, 0), (0, 0), border=False)
        whole = channels // self.block
        emitter.loop(0, whole, 1, self._channels(site, pixels, 0, self.block))
        if channels % self.block:
            first = whole * self.block
            self._channels(site, pixels, first, channels - first)(0)

    def _channels(self, site: Site, pixels: int, first: int, width: int) -> Callable[[Index], None]:
        """Emits the block of ``width`` channels with a given number, counted from ``first``."""
        conv, emitter, words = self.conv, self.layer.emitter, -(-pixels // 2)
        activations = view(self.scratch, 64)
        tables = list(self.tables.values())
        layout = _Layout(width, _chunks(conv), tuple(t.itemsize for t in tables))
        constants = self.layer.pool.get(_pack(conv, tables, first, layout), "weights")

        def load(number: Index, at: Index, size: int = 4) -> ir.Value:
            start = emitter.mul(number, layout.size // size)
            buffer = constants if size == 1 else view(constants, 8 * size)
            return emitter.load(buffer, [emitter.add(start, at)])

        def pairs(k: Index) -> list[list[ir.Value]]:
            """The words of a chunk, by operand."""
            loads = _CHUNK * words // 2
            start = emitter.mul(k, loads)
            loaded = [
                half
                for i in range(loads)
                for half in halves(emitter, emitter.load(activations, [emitter.add(start, i)]))
            ]
            return [loaded[i * words : (i + 1) * words] for i in range(_CHUNK)]

        most = _MOST_CHUNKS_A_TURN // width if pixels == PIXELS else _MOST_OF_THE_LAST

        def block(number: Index) -> None:
            header = [load(number, i) for i in range(1 + 2 * width)]
            rounding, totals, highs = header[0], header[1 : 1 + width], header[1 + width :]
            # per channel: a total and a high sum for each word
            sums = [s for pair in zip(totals, highs, strict=True) for s in pair * words]

            def chunk(k: Index, *carried: ir.Value) -> list[ir.Value]:
                at = emitter.add(layout.weights, emitter.mul(k, _CHUNK * width))
                weights = [
                    [
                        emitter.widen(load(number, emitter.add(at, b * _CHUNK + i), 1))
                        for i in range(_CHUNK)
                    ]
                    for b in range(width)
                ]
                return self._accumulate(pairs(k), weights, rounding, list(carried))

            turn = _turn(layout.chunks, most)
            sums = emitter.loop(0, layout.chunks, 1, chunk, sums, unroll=turn)
            for b in range(width):
                own = sums[2 * words * b : 2 * words * (b + 1)]
                channel = emitter.add(first + b, emitter.mul(number, width))
                elements = {
                    value: load(number, layout.table(i) // table.itemsize + b, table.itemsize)
                    for i, (value, table) in enumerate(self.tables.items())
                }
                for p in range(pixels):
                    total, high = own[p // 2 * 2 : p // 2 * 2 + 2]
                    result = high
                    if p % 2 == 0:
                        result = arith.subi(total, arith.shli(high, emitter.integer(16)))
                    finish(conv, site, p, channel, result, elements)

        return block

    def _accumulate(
        self,
        pairs: list[list[ir.Value]],
        weights: list[list[ir.Value]],
        rounding: ir.Value,
        sums: list[ir.Value],
    ) -> list[ir.Value]:
        """``sums`` plus a chunk: the words of each operand, times the weights of each channel."""
        halfword = self.layer.emitter.integer(16)
        result: list[ir.Value] = []
        for row in weights:
            chunks = [rounding] * len(pairs[0])
            for words, weight in zip(pairs, row, strict=True):
                products = [arith.muli(word, weight) for word in words]
                chunks = [arith.addi(c, p) for c, p in zip(chunks, products, strict=True)]
            for done in chunks:
                total, high = sums[len(result) : len(result) + 2]
                result.append(arith.addi(total, done))
                result.append(arith.addi(high, arith.shrsi(done, halfword)))
        return result


def _turn(chunks: int, most: int) -> int:
    """Chunks between two branches: the most that divide all, if not too few do."""
    fair = range(-(-most // 2), most + 1)
    return max((n for n in fair if chunks % n == 0), default=most)
