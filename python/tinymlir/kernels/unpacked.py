"""Convolution as straight-line code: a multiply-accumulate for each kept weight, none for zeros.

Each block of output channels is a function without branches that computes two neighbouring
pixels, or one where a layer has no more. Pairs of weights come from a stream of literals in the
order of use, so one 64-bit load brings two of them, and each serves all pixels; a pair of
activations serves all channels that keep it, and is not loaded where none does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.blocks import Blocks
from tinymlir.kernels.channel_tables import channel_bytes, channel_tables, table_bytes
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.late_steps import late_literals, late_literals_mix
from tinymlir.kernels.pairs import pair_words
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, function, line
from tinymlir.kernels.words import halves, moved, view
from tinymlir.targets import Target

#: Accumulators: with two activation pairs, two weight pairs and two pointers, all registers.
_ACCUMULATORS = 8
#: Pairs of weights in a function, if a block of channels alone has not more.
_MOST_PRODUCTS = 256
#: A 64-bit load reaches this many i64 beyond its pointer.
_REACH = 127


class Unpacked(Blocks):
    """Functions for all channels, of one or more blocks of them each."""

    name = "unpacked"
    alike = False
    steps_over = True

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.pixels = 1 if conv.out_hw == (1, 1) else 2
        self.channels = _ACCUMULATORS // self.pixels
        self.symbols: list[str] = []

    def constant_bytes(self) -> int:
        """Literals as they are planned, but for how far pointers move."""
        kept = int(np.count_nonzero(pair_words(self.conv)))
        return 4 * kept + channel_bytes(self.conv)

    def channel_mix(self) -> Mix:
        kept = pair_words(self.conv) != 0
        channels, pixels = len(kept), self.pixels
        loads = np.add.reduceat(kept, range(0, channels, self.channels)).astype(bool).sum()
        sums = line(load_pair=(kept.sum() + loads * pixels) / 2, dual_mac=kept.sum() * pixels)
        words = 1 + table_bytes(self.conv) / (4 * channels)
        ends = line(load_pair=words / 2) + finish_mix(self.conv, pixels)
        late = late_literals_mix(self.conv, pixels)
        call = function(line(alu=6, load=4, store=4))
        return sums + ends * channels + late + call * len(self._functions())

    def channel_sums(self, conv: Convolution, row: Index, first: Index, last: Index) -> None:
        if not self.symbols:
            self.symbols = [self._emit_function(conv, blocks) for blocks in self._functions()]
        site = [self.layer.emitter.index(v) for v in (row, first, last)]
        for symbol in self.symbols:
            func.call([], symbol, [*self.layer.function.arguments, self.scratch, *site])

    def _functions(self) -> list[list[range]]:
        """Blocks of channels, those together that make a function of a size to pay its call."""
        channels, size = self.conv.out_per_group, 0
        functions: list[list[range]] = [[]]
        kept = np.count_nonzero(pair_words(self.conv), axis=1)
        for first in range(0, channels, self.channels):
            block = range(first, min(first + self.channels, channels))
            products = int(kept[block.start : block.stop].sum())
            if functions[-1] and size + products > _MOST_PRODUCTS:
                functions.append([])
                size = 0
            functions[-1].append(block)
            size += products
        return functions

    def _emit_function(self, conv: Convolution, blocks: list[range]) -> str:
        """``@layer<i>_channels<n>(arguments…, scratch, row, column, last)``: a block of pixels.

        Those at ``column`` and beside it; what lies beyond ``last`` is that one again.
        """
        assert self.scratch is not None
        function, index = self.layer.function, ir.IndexType.get()
        symbol = f"{function.name.value}_channels{blocks[0].start}"
        types = [*(a.type for a in function.arguments), self.scratch.type, index, index, index]
        with ir.InsertionPoint.after(function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        with ir.InsertionPoint(helper.add_entry_block()):
            layer = self.layer.rebind(helper)
            tables, words = channel_tables(conv, layer.root), pair_words(conv)
            lates = late_literals(conv)
            scratch, row, column, last = list(helper.arguments)[-4:]
            emitter = layer.emitter
            places = [emitter.minimum(emitter.add(column, p), last) for p in range(self.pixels)]
            sites = [Site(layer, row, place, (0, 0), (0, 0), border=False) for place in places]
            for block in blocks:
                stream = plan(words, conv.bias, list(tables.values()), block, self.pixels)
                line = _StraightLine(layer, stream, scratch)
                sums = line.sums(len(block), self.pixels)
                elements = line.elements(tables, len(block))
                for b, channel in enumerate(block):
                    known = {table: found[b] for table, found in elements.items()}
                    for p, site in enumerate(sites):
                        total = sums[b * self.pixels + p]
                        for late in lates[channel]:
                            total = tiny.StepOverOp(total, emitter.integer(late)).res
                        finish(conv, site, 0, channel, total, known)
            func.ReturnOp([])
        return symbol


@dataclass(frozen=True)
class Turn:
    """An i64 of activations, and each product with one of its halves.

    A product is (word of the stream, its sums), a sum (number of the accumulator, half).
    ``advance`` is the i64 of the stream that says how far both pointers move before, if they do.
    """

    group: int
    products: list[tuple[int, list[tuple[int, int]]]]
    advance: int | None


@dataclass
class Stream:
    """The literals of a block of channels, i32, in the order of use, and that use."""

    words: list[int] = field(default_factory=list)
    #: whether the first of them are what sums begin with, or that is zero
    biased: bool = True
    turns: list[Turn] = field(default_factory=list)
    #: first i64 of each table of the channels, and where pointers move before the first of them
    tables: list[int] = field(default_factory=list)
    advance: int | None = None
    #: the i64 of the literals, and of the activations, that the pointers are at
    base: int = 0
    group: int = 0

    def even(self) -> int:
        """The next i64."""
        if len(self.words) % 2:
            self.words.append(0)
        return len(self.words) // 2

    def reach(self, words: int, group: int) -> int | None:
        """Bring ``words`` more literals, and ``group``, within reach of the pointers.

        Returns the i64 that says how far they move, in bytes, if they do: the pointer to
        activations goes to ``group``, the one to literals behind that i64.
        """
        end = (len(self.words) + words + 1) // 2
        if end - self.base <= _REACH and group - self.group <= _REACH:
            return None
        here = self.even()
        self.words += [8 * (group - self.group), 8 * (here + 1 - self.base)]
        self.base, self.group = here + 1, group
        return here


def plan(
    pairs: np.ndarray, bias: np.ndarray, tables: list[np.ndarray], block: range, pixels: int
) -> Stream:
    """The literals of the channels of ``block``, and what to do with them."""
    biased = bool(bias.any())
    stream = Stream([int(b) for b in bias[block.start : block.stop]] if biased else [], biased)
    stream.even()
    kept = pairs[block.start : block.stop]
    for group in range(kept.shape[1] * pixels // 2):
        # An i64 has one pair of two pixels, or two pairs of one.
        columns = [group] if pixels == 2 else [2 * group, 2 * group + 1]
        wanted = [(c, i) for i in columns for c in range(len(block)) if kept[c, i]]
        if not wanted:
            continue
        advance = stream.reach(len(wanted), group)
        first = len(stream.words)
        stream.words += [int(kept[place]) for place in wanted]
        products = [
            (first + n, [(2 * c, 0), (2 * c + 1, 1)] if pixels == 2 else [(c, i % 2)])
            for n, (c, i) in enumerate(wanted)
        ]
        stream.turns.append(Turn(group, products, advance))
    elements = [table[block.start : block.stop].view("<i4") for table in tables]
    stream.advance = stream.reach(sum(len(table) + 1 for table in elements), stream.group)
    for table in elements:
        stream.tables.append(stream.even())
        stream.words += table.tolist()
    stream.even()
    return stream


class _StraightLine:
    """Emits the use of a stream at the current insertion point."""

    def __init__(self, layer: Layer, stream: Stream, scratch: ir.Value) -> None:
        self.emitter, self.stream = layer.emitter, stream
        literals = np.array(stream.words, "<i4").view("<i1")
        #: where the pointers are
        self.bytes = [layer.pool.get(literals, "literals"), scratch]
        self.literals, self.activations = (view(pointer, 64) for pointer in self.bytes)
        self.base = self.group = 0
        #: the two literals that were loaded last, and their i64
        self.pair: list[ir.Value] = []
        self.place = -1

    def sums(self, channels: int, pixels: int) -> list[ir.Value]:
        """The accumulators of each channel, ``pixels`` side by side."""
        biases = range(channels) if self.stream.biased else []
        start = [self._literal(c) for c in biases] or [self.emitter.integer(0)] * channels
        sums = [s for bias in start for s in [bias] * pixels]
        for turn in self.stream.turns:
            if turn.advance is not None:
                self._advance(turn.advance, turn.group)
            x = halves(self.emitter, self.emitter.load(self.activations, [turn.group - self.group]))
            for word, products in turn.products:
                weights = self._literal(word)
                for number, half in products:
                    sums[number] = tiny.DualMacOp(sums[number], x[half], weights).res
        return sums

    def elements(
        self, tables: dict[ir.Value, np.ndarray], channels: int
    ) -> dict[ir.Value, list[ir.Value]]:
        """Each table's elements of the channels."""
        if self.stream.advance is not None:
            self._advance(self.stream.advance, self.group)
        result = {}
        for (value, table), place in zip(tables.items(), self.stream.tables, strict=True):
            if table.itemsize == 8:
                result[value] = [self._load(place + c) for c in range(channels)]
            else:
                result[value] = [self._literal(2 * place + c) for c in range(channels)]
        return result

    def _literal(self, word: int) -> ir.Value:
        if word // 2 != self.place:
            self.place, self.pair = word // 2, halves(self.emitter, self._load(word // 2))
        return self.pair[word % 2]

    def _load(self, place: int) -> ir.Value:
        return self.emitter.load(self.literals, [place - self.base])

    def _advance(self, place: int, group: int) -> None:
        """Move the pointers, in steps that LLVM cannot see through: so it keeps the offsets."""
        words = halves(self.emitter, self._load(place))
        activations, literals = (arith.index_cast(ir.IndexType.get(), word) for word in words)
        moves = zip(self.bytes, (literals, activations), strict=True)
        self.bytes = [moved(self.emitter, pointer, by) for pointer, by in moves]
        self.literals, self.activations = (view(pointer, 64) for pointer in self.bytes)
        self.base, self.group = place + 1, group
