"""Convolution two MACs at a time without SIMD instructions: two pixels in one word.

The low and the high half of a word hold the same operand of two output pixels, x₀ + 2¹⁶·x₁.
One 32-bit product with a weight then has both products in its halves, and so has the sum of a
few, as long as each stays within 16 bits (`chunks`). Such a *chunk* of operands is summed in
one register t, which begins at 2¹⁵ so that its low half is never negative. Then

    total += t          (modulo 2³²)
    high  += t >> 16    (arithmetic)

and after the last chunk ``high`` is the sum of the second pixel, and total − 2¹⁶·high that of
the first, exactly; what t began with is taken off in the constant that ``total`` begins with.
With chunks of n operands that is n multiplications and two additions for 2n MACs, one load of
a weight for as many pixels as are computed together, and no unpacking of activations, which
all output channels share: windows are gathered in scratch memory (`window_pairs`). A pixel that
has no other beside it has words, products and a sum of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels.channel_tables import channel_tables, table_bytes
from tinymlir.kernels.chunks import Chunks, best_chunks
from tinymlir.kernels.columns import Columns, Span
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix, multiply_accumulate
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.window_copy import call_to_scratch
from tinymlir.kernels.window_pairs import PIXELS, Run, emit_gather, gather_mix, words_of
from tinymlir.kernels.words import halves, moved, view
from tinymlir.targets import Target

#: What a chunk begins with, and the most that its low half may have.
ROUNDING, _HALF_RANGE = 1 << 15, 1 << 16
#: Operands without a loop, or else between two branches, for one and for two channels computed
#: together: what flash is worth. Where registers are few, loads reach 32 words only (Thumb-1).
_MOST_AT_ONCE, _MOST_A_TURN = {1: 64, 2: 16}, {1: 32, 2: 8}
_FEW_REGISTERS, _MOST_IN_REACH = 12, 16
#: Output channels that make up for the gathering, and pixels worth a block, at least.
_LEAST_CHANNELS, LEAST_PIXELS = 4, 3
#: Scratch memory beyond which a layer is better off without.
SCRATCH_LIMIT = 8192
#: Header, weights and each table begin at a double word.
_ALIGNMENT = 8


@dataclass(frozen=True)
class Layout:
    """Where the constants of a block of channels lie, in bytes: the order in which it reads.

    ``operands`` and ``excess`` are numbers of each channel, ``tables`` the bytes of an element.
    """

    channels: int
    operands: int
    excess: int
    tables: tuple[int, ...]

    @property
    def weights(self) -> int:
        # what chunks begin with, how many excesses; what totals and high sums begin with
        return _aligned(4 * (2 + 2 * self.channels))

    @property
    def excess_weights(self) -> int:
        return self.weights + self.operands * self.channels

    @property
    def places(self) -> int:
        end = self.excess_weights + self.excess * self.channels
        return end + end % 2

    def table(self, number: int) -> int:
        start = _aligned(self.places + 2 * self.excess * self.channels)
        return start + sum(_aligned(size * self.channels) for size in self.tables[:number])

    @property
    def size(self) -> int:
        return self.table(len(self.tables))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def pack(
    conv: Convolution, chunks: Chunks, tables: list[np.ndarray], first: int, layout: Layout
) -> np.ndarray:
    """The constants of all blocks from channel ``first`` on that have ``layout``, as i8."""
    width = layout.channels
    blocks = (conv.out_per_group - first) // width
    chosen = slice(first, first + blocks * width)
    packed = np.zeros((blocks, layout.size), np.int8)

    def put(at: int, array: np.ndarray) -> None:
        parts = np.ascontiguousarray(array).reshape(blocks, -1).view(np.int8)
        packed[:, at : at + parts.shape[1]] = parts

    def by_operand(array: np.ndarray) -> np.ndarray:
        return array[chosen].reshape(blocks, width, -1).swapaxes(1, 2)

    bias = conv.bias[chosen].astype(np.int64).reshape(blocks, width)
    sums = chunks.count + bool(layout.excess)
    totals = bias * (1 + _HALF_RANGE) - sums * ROUNDING
    rounding = np.full((blocks, 1), ROUNDING)
    excesses = chunks.excesses[chosen].reshape(blocks, width).max(axis=1, keepdims=True)
    put(0, wrapped(np.concatenate([rounding, excesses, totals, bias], axis=1)))
    put(layout.weights, by_operand(chunks.weights))
    put(layout.excess_weights, by_operand(chunks.excess))
    put(layout.places, by_operand(chunks.places.astype("<u2")))
    for number, table in enumerate(tables):
        put(layout.table(number), table[chosen])
    return packed.reshape(-1)


def wrapped(values: np.ndarray) -> np.ndarray:
    """``values`` modulo 2³²."""
    return (values & 0xFFFFFFFF).astype("<u4")


class Swar(Kernel):
    """Block by block of neighbouring pixels: their windows to scratch memory, then all channels."""

    name = "swar"
    pixels = PIXELS
    gathers = True

    def __init__(self, conv: Convolution, core: Target, pixels: int | None = None) -> None:
        super().__init__(conv, core, **({} if pixels is None else {"pixels": pixels}))
        #: neighbours computed together at the most; by rows an odd one may join them
        self.pixels = pixels or PIXELS
        self.chunks = best_chunks(conv.weights[0].reshape(conv.out_per_group, -1))
        # A channel keeps four sums; besides there are the words of a chunk, two chunks on their
        # way, a weight, a product, what chunks begin with, two pointers and a counter.
        self.block = 1 if core.registers < 20 else 2
        self.most = _MOST_AT_ONCE[self.block], _MOST_A_TURN[self.block]
        if core.registers < _FEW_REGISTERS:
            self.most = _MOST_IN_REACH, _MOST_IN_REACH

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether there are pixels to pair, and channels to share them."""
        scalar = core.lanes == 1 and not core.has("dsp")
        shared = conv.groups == 1 and conv.out_per_group >= _LEAST_CHANNELS
        if not scalar or not shared or conv.out_hw[0] * conv.out_hw[1] < LEAST_PIXELS:
            return False
        kernel = cls(conv, core)
        return kernel.chunks is not None and kernel.scratch_bytes() <= SCRATCH_LIMIT

    def scratch_bytes(self) -> int:
        return self._windows_bytes(PIXELS)

    def row_scratch_bytes(self, columns: int) -> int:
        return self._windows_bytes(self._most(columns))

    def _windows_bytes(self, pixels: int) -> int:
        """The windows of a block."""
        assert self.chunks is not None
        return self.chunks.count * self.chunks.size * words_of(pixels) * 4

    def lean(self) -> Kernel:
        """Two pixels at a time."""
        return type(self)(self.conv, self.core, pixels=2)

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        assert self.chunks is not None
        tables = channel_tables(self.conv, self.conv.root).values()
        whole, left = divmod(self.conv.out_per_group, self.block)
        operands, excess = self.chunks.count * self.chunks.size, self.chunks.excess.shape[1]
        sizes = tuple(table.itemsize for table in tables)
        widths = [self.block] * whole + ([left] if left else [])
        return sum(Layout(width, operands, excess, sizes).size for width in widths)

    def mix(self) -> Mix:
        blocks = -(-self.conv.out_hw[0] * self.conv.out_hw[1] // PIXELS)
        whole, left = divmod(self.conv.out_per_group, self.block)
        channels = loop(self._block_mix(self.block), whole)
        if left:
            channels += self._block_mix(left)
        # Pixels beyond the last are that one again.
        places = line(alu=5 * PIXELS if self.conv.out_hw[1] % PIXELS else 0)
        return (gather_mix(self.conv) + places).times(blocks) + function(
            loop(channels + places + line(alu=10, load=3, store=3), blocks)
        )

    def _block_mix(self, width: int) -> Mix:
        """``width`` channels of a block of pixels."""
        conv, chunks, words = self.conv, self.chunks, PIXELS // 2
        assert chunks is not None
        operand = line(load_pair=words / 2) + line(load=width) + line(mac=words * width)
        # The high half is one instruction more where no operand is shifted on its way.
        split = line(alu=(2 if self.core.costs.mac is not None else 3) * words * width)
        sums = loop(operand * chunks.size + split, chunks.count, _turn(chunks, *self.most))
        if chunks.excess.size:
            place = operand + line(load=width, alu=2 * width)
            excesses = float(chunks.excesses.mean())
            sums += split + loop(place, max(excesses, 1)) + line(alu=4)
        tables = table_bytes(conv) // (4 * len(conv.bias))
        ends = line(load=2 + (2 + tables) * width, alu=(4 + words) * width, store=2)
        return ends + sums + finish_mix(conv, PIXELS) * width

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.tables = channel_tables(self.conv, layer.root)
        self.gathers_of: dict[tuple[int, bool, bool], str] = {}

    def whole(self) -> None:
        """All pixels as one row, where rows are no whole blocks."""
        height, width = self.conv.out_hw
        if width % PIXELS == 0:
            super().whole()
            return
        flat = replace(self.conv, result_columns=self.conv.result_columns or width)
        pixels = height * width
        self._blocks(flat, 0, 0, Run(pixels - 1, pixels % PIXELS == 0, wraps=height > 1))

    def row(self, row: Index, columns: Columns) -> None:
        # Narrower strips have no more room than the widest.
        most = self._most(max(last - first for first, last in columns.spans))

        def block(column: Index, count: int) -> None:
            end = self.layer.emitter.add(column, count - 1)
            self._block(self.conv, row, column, Run(end, True, wraps=False, pixels=count))

        columns.in_blocks(self.layer.emitter, lambda *span: self._runs(most, *span), block)

    def _most(self, columns: int) -> int:
        """Pixels computed together at the most, in rows of so many columns."""
        joined = self.pixels == PIXELS < columns and columns % PIXELS == 1
        return PIXELS + 1 if joined else min(columns, self.pixels)

    def _runs(self, most: int, first: int, last: int) -> dict[int, Span]:
        """The columns of a row that are computed so many together: ``most``, or as usual."""
        blocks, rest = divmod(last - first, self.pixels)
        if rest == 1 and blocks and most > self.pixels:
            rest = most
        runs = {self.pixels: (first, last - rest), rest: (last - rest, last)}
        return {count: run for count, run in runs.items() if run[0] < run[1]}

    def _blocks(self, conv: Convolution, row: Index, first: Index, run: Run) -> None:
        """The pixels of a run from column ``first`` on, block by block."""
        emitter = self.layer.emitter
        emitter.loop(
            first,
            emitter.add(run.last, 1),
            run.pixels,
            lambda column: self._block(conv, row, column, run),
        )

    def _block(self, conv: Convolution, row: Index, column: Index, run: Run) -> None:
        """The pixels of a block: windows, then all channels."""
        layer, kind = self.layer, (run.pixels, run.whole, run.wraps)
        if kind not in self.gathers_of:
            self.gathers_of[kind] = emit_gather(self.conv, layer, self.scratch, run)
        call_to_scratch(layer, self.gathers_of[kind], self.scratch, (row, column, run.last))
        self.all_channels(conv, row, column, run)

    def all_channels(self, conv: Convolution, row: Index, column: Index, run: Run) -> None:
        """Emit all channels of the block at ``column``, whose windows are gathered."""
        emitter, channels = self.layer.emitter, conv.out_per_group
        whole = channels // self.block * self.block
        places = [run.place(emitter, column, p) for p in range(run.pixels)]
        sites = [Site(self.layer, row, c, (0, 0), (0, 0), border=False) for c in places]
        emitter.loop(0, whole // self.block, 1, self._channels(conv, sites, 0, self.block))
        if whole < channels:
            self._channels(conv, sites, whole, channels - whole)(0)

    def _channels(
        self, conv: Convolution, sites: list[Site], first: int, width: int
    ) -> Callable[[Index], None]:
        """Emits the block of ``width`` channels with a given number, counted from ``first``."""
        chunks, emitter, pixels = self.chunks, self.layer.emitter, len(sites)
        words = pixels // 2
        assert chunks is not None
        tables = list(self.tables.values())
        sizes = tuple(t.itemsize for t in tables)
        operands, excess = chunks.count * chunks.size, chunks.excess.shape[1]
        layout = Layout(width, operands, excess, sizes)
        packed = pack(conv, chunks, tables, first, layout)
        constants = self.layer.pool.get(packed, "weights")
        turn = _turn(chunks, *self.most)

        def load(number: Index, at: Index, size: int = 4) -> ir.Value:
            start = emitter.mul(number, layout.size // size)
            buffer = constants if size == 1 else view(constants, 8 * size)
            return emitter.load(buffer, [emitter.add(start, at)])

        def block(number: Index) -> None:
            header = [load(number, i) for i in range(2 + 2 * width)]
            rounding, totals, highs = header[0], header[2 : 2 + width], header[2 + width :]
            # per channel: a total and a high sum for each word; the sum of an odd pixel
            sums = [s for pair in zip(totals, highs, strict=True) for s in pair * words]
            alone = highs * (pixels % 2)

            def weights(at: Index) -> list[ir.Value]:
                return [emitter.widen(load(number, emitter.add(at, b), 1)) for b in range(width)]

            def add(
                started: list[ir.Value], alone: list[ir.Value], row: list[ir.Value], at: Index
            ) -> tuple[list[ir.Value], list[ir.Value]]:
                """``started`` and ``alone`` with a weight's products with an operand."""
                x = self._activations(at, pixels)
                started = multiply_accumulate(emitter, started, row, x[:words])
                return started, multiply_accumulate(emitter, alone, row, x[words:])

            def chunk(k: Index, *carried: ir.Value) -> list[ir.Value]:
                started, alone = [rounding] * (width * words), list(carried[len(sums) :])
                for i in range(chunks.size):
                    operand = emitter.add(emitter.mul(k, chunks.size), i)
                    at = emitter.add(layout.weights, emitter.mul(operand, width))
                    started, alone = add(started, alone, weights(at), operand)
                return [*split(emitter, list(carried[: len(sums)]), started), *alone]

            found = emitter.loop(0, chunks.count, 1, chunk, [*sums, *alone], unroll=turn)
            sums, alone = found[: len(sums)], found[len(sums) :]
            if excess:

                def one(i: Index, *started: ir.Value) -> list[ir.Value]:
                    step = emitter.mul(i, width)
                    pairs, odd = list(started[: width * words]), list(started[width * words :])
                    for b, weight in enumerate(weights(emitter.add(layout.excess_weights, step))):
                        own, its = slice(b * words, (b + 1) * words), slice(b, b + pixels % 2)
                        at = emitter.add(layout.places // 2 + b, step)
                        place = arith.index_castui(ir.IndexType.get(), load(number, at, 2))
                        pairs[own], odd[its] = add(pairs[own], odd[its], [weight], place)
                    return [*pairs, *odd]

                count = arith.index_castui(ir.IndexType.get(), header[1])
                start = [rounding] * (width * words) + alone
                found = emitter.loop(0, count, 1, one, start)
                sums = split(emitter, sums, found[: width * words])
                alone = found[width * words :]
            for b in range(width):
                own_sums = sums[2 * words * b : 2 * words * (b + 1)]
                channel = emitter.mul(number, width)
                channel = emitter.add(conv.first_channel + first + b, channel)
                elements = {
                    value: load(number, layout.table(i) // table.itemsize + b, table.itemsize)
                    for i, (value, table) in enumerate(self.tables.items())
                }
                results = unpaired(emitter, own_sums) + alone[b : b + pixels % 2]
                for site, total in zip(sites, results, strict=True):
                    finish(conv, site, 0, channel, total, elements)

        return block

    def _activations(self, operand: Index, pixels: int) -> list[ir.Value]:
        """The words of an operand of so many pixels."""
        emitter, words = self.layer.emitter, words_of(pixels)
        if words == 2:
            return halves(emitter, emitter.load(view(self.scratch, 64), [operand]))
        first = emitter.mul(operand, words)
        found: list[ir.Value] = []
        if words > 2:
            # Loaded together, where a core can, from any word.
            pair = view(moved(emitter, self.scratch, emitter.mul(first, 4)), 64)
            found = halves(emitter, emitter.load(pair, [0]))
        at = [emitter.add(first, word) for word in range(len(found), words)]
        return [*found, *(emitter.load(view(self.scratch, 32), [place]) for place in at)]


def split(emitter: Emitter, sums: list[ir.Value], chunks: list[ir.Value]) -> list[ir.Value]:
    """Totals and high sums with a chunk added to each pair of them."""
    result: list[ir.Value] = []
    for done in chunks:
        total, high = sums[len(result) : len(result) + 2]
        result.append(arith.addi(total, done))
        result.append(arith.addi(high, arith.shrsi(done, emitter.integer(16))))
    return result


def unpaired(emitter: Emitter, sums: list[ir.Value]) -> list[ir.Value]:
    """The sum of each pixel, from totals and high sums side by side."""
    result = []
    for total, high in zip(sums[::2], sums[1::2], strict=True):
        result += [arith.subi(total, arith.shli(high, emitter.integer(16))), high]
    return result


def _turn(chunks: Chunks, most_at_once: int, most: int) -> int:
    """Chunks between two branches: all, or the most that divide all, if not too few do.

    ``most_at_once`` and ``most`` count operands.
    """
    if chunks.count * chunks.size <= most_at_once:
        return chunks.count
    most = max(most // chunks.size, 1)
    fair = range(-(-most // 2), most + 1)
    return max((n for n in fair if chunks.count % n == 0), default=most)
