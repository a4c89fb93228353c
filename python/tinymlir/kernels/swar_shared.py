"""Pointwise convolution two MACs at a time without SIMD, by functions that layers have in common.

As `Swar`, two pixels are in a word; but sizes are arguments, and chunks are of one size, so that
`tiny-merge-functions` makes one function of those of all layers. A layer has little code of its
own, and each channel two words beside its weights and its elements of tables: a bias, and how many
weights are too much for their chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from tinymlir.bindings import arith, func, ir, llvm, scf
from tinymlir.kernels.channel_tables import (
    channel_bytes,
    channel_tables,
    channel_words,
    element_of,
    needs_channel_alone,
    scalar_code,
)
from tinymlir.kernels.chunks import in_chunks
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.parking import Held, Parked, opaque, park, while_below
from tinymlir.kernels.pixels import (
    Site,
    finish,
    finish_mix,
    input_column,
    input_row,
    multiply_accumulate,
)
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.swar import LEAST_PIXELS, ROUNDING, SCRATCH_LIMIT, split, unpaired
from tinymlir.kernels.window_pairs import PIXELS
from tinymlir.kernels.words import (
    advance,
    advance_bytes,
    below,
    fetch,
    fetch_byte,
    halves,
    stream,
)
from tinymlir.targets import Target

#: Operands of a chunk, and between two branches: of products, and of what gathers windows.
_CHUNK, _TURN, _GATHERED = 4, 8, 4
#: Words of scratch memory that an operand takes.
_WORDS = PIXELS // 2
#: What is left of a word beside an operand's place is a weight.
_PLACE_BITS = 16
_LEAST_CHANNELS = 4


class SwarShared(Kernel):
    """Four neighbouring pixels at a time: their windows to scratch memory, then all channels."""

    name = "swar-shared"
    pixels = PIXELS
    gathers = True
    #: registers from which on two channels share what is loaded of a window
    _many_registers: ClassVar[int] = 20

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.block = 1 if core.registers < self._many_registers else 2
        flat = conv.weights[0].reshape(conv.out_per_group, -1)
        operands = -(-flat.shape[1] // _TURN) * _TURN
        self.operands = operands
        self.chunks = in_chunks(np.pad(flat, ((0, 0), (0, operands - flat.shape[1]))), _CHUNK)

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether windows are pixels, there are some to pair, and channels to share them."""
        scalar = core.lanes == 1 and not core.has("dsp")
        inside = all(len(conv.interior(axis)) == conv.out_hw[axis] for axis in (0, 1))
        pointwise = conv.groups == 1 and conv.kernel == (1, 1) and inside
        if not scalar or not pointwise or conv.in_per_group % _GATHERED:
            return False
        kernel = cls(conv, core)
        fits = kernel.scratch_bytes() <= SCRATCH_LIMIT
        enough = conv.out_hw[0] * conv.out_hw[1] >= LEAST_PIXELS
        channels = conv.out_per_group >= _LEAST_CHANNELS and not conv.out_per_group % kernel.block
        return fits and enough and channels and needs_channel_alone(conv)

    def scratch_bytes(self) -> int:
        return 4 * _WORDS * self.operands

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        words = self.conv.out_per_group + int(self.chunks.excesses.sum())
        weights = self.conv.out_per_group * self.operands
        return weights + 4 * words + channel_bytes(self.conv)

    def mix(self) -> Mix:
        rows, columns = self.conv.out_hw
        call = line(alu=8, load=4, store=4, call=1)
        parts = self.shared_code().values()
        block = sum((part.elsewhere() + call for part in parts), line(alu=6))
        return function(loop(loop(block, -(-columns // PIXELS)), rows))

    def shared_code(self) -> Mapping[str, Mix]:
        biased = "+" * self.conv.has_biases
        products = f"swar products{self.block}{biased} {scalar_code(self.conv)}"
        return {"swar pixels": self._gather_mix(), products: self._products_mix()}

    def _gather_mix(self) -> Mix:
        operand = line(load=PIXELS, alu=_WORDS, store=_WORDS)
        turn = operand * _GATHERED + line(alu=PIXELS + 2, branch=1)
        turns = turn.times(self.conv.in_per_group // _GATHERED)
        return function(turns + line(alu=3 * PIXELS))

    def _products_mix(self) -> Mix:
        width, conv = self.block, self.conv
        operand = line(load_pair=_WORDS / 2, load=width, mac=_WORDS * width)
        # The high half is one instruction more where no operand is shifted on its way.
        added = line(alu=(2 if self.core.costs.mac is not None else 3) * _WORDS * width)
        turn = operand * _TURN + added * (_TURN // _CHUNK) + line(alu=4, load=1, branch=1)
        excess = line(load=1, load_pair=_WORDS / 2, alu=4 + 3 * _WORDS, mul=_WORDS, branch=1)
        excesses = excess.times(float(self.chunks.excesses.mean())) + line(alu=4)
        words = 1 + channel_words(conv)
        ends = line(load=(words + 4) * width + 3, alu=(3 + 2 * _WORDS) * width, store=2)
        sums = turn.times(self.operands // _TURN)
        block = ends + sums + excesses * width + finish_mix(conv, PIXELS) * width
        return function(block.times(conv.out_per_group // width) + line(alu=4, store=8))

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        assert scratch is not None
        self.tables = channel_tables(self.conv, layer.root)
        self.windows = stream(scratch)
        pointer, index = ir.Type.parse("!llvm.ptr"), ir.IndexType.get()
        i32 = ir.IntegerType.get_signless(32)
        self.gather = self._helper("pixels", [*[pointer] * 4, index], self._emit_gather)
        products = [*[pointer] * 5, index, i32, i32]
        self.products = self._helper("products", products, self._emit_products)

    def _helper(self, suffix: str, types: list[ir.Type], body: Callable[..., None]) -> str:
        symbol = f"{self.layer.function.name.value}_{suffix}{self.conv.suffix}"
        with ir.InsertionPoint.after(self.layer.function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        with ir.InsertionPoint(helper.add_entry_block()):
            body(*helper.arguments)
            func.ReturnOp([])
        return symbol

    def row(self, row: Index, columns: Columns) -> None:
        conv, emitter, layer = self.conv, self.layer.emitter, self.layer
        source, target = layer.source, layer.target
        constants = stream(layer.pool.get(self._pack(), "weights"))
        ends = [advance(self.windows, _WORDS * n) for n in (conv.in_per_group, self.operands)]
        top = input_row(emitter, conv, row, 0)
        begun = self.chunks.count * ROUNDING

        def input_at(column: Index) -> ir.Value:
            left = input_column(emitter, conv, column)
            place = source.position(emitter, [0, top, left, conv.first_input])
            return advance_bytes(stream(source.buffer), place)

        def output_at(column: Index) -> ir.Value:
            place = target.position(emitter, [0, row, column, conv.first_channel])
            return advance_bytes(stream(target.buffer), place)

        last = emitter.sub(columns.last, 1)

        def block(column: Index) -> None:
            step = emitter.index(conv.stride[1] * source.channels)
            func.call(
                [], self.gather, [input_at(column), input_at(last), self.windows, ends[0], step]
            )
            places = [output_at(column), output_at(last)]
            numbers = [emitter.integer(n) for n in (target.channels, begun)]
            sizes = [emitter.index(conv.out_per_group), *numbers]
            func.call([], self.products, [self.windows, constants, *places, ends[1], *sizes])

        emitter.loop(columns.first, columns.last, PIXELS, block)

    def _pack(self) -> np.ndarray:
        """Constants of each block of channels, i8: biases, how many weights are too much, weights
        operand by operand; then each channel's excesses and its elements of tables.
        """
        conv, parts = self.conv, []
        tables = [table.reshape(-1, 1).view("<i4") for table in self.tables.values()]
        weights = self.chunks.weights.reshape(conv.out_per_group, -1)
        counts = self.chunks.excesses.astype("<i4")
        both = self.chunks.places, self.chunks.excess
        for first in range(0, conv.out_per_group, self.block):
            channels = range(first, first + self.block)
            picked = slice(first, first + self.block)
            biases = conv.bias[picked if conv.has_biases else slice(0)].astype("<i4")
            parts += [biases, counts[picked], weights[picked].T]
            for c in channels:
                places, excess = (a[c, : counts[c]] for a in both)
                entries = (excess.astype(np.int64) << _PLACE_BITS) + 4 * _WORDS * places
                parts.append(entries.astype("<i4"))
            parts += [table[c] for c in channels for table in tables]
        return np.concatenate([np.ascontiguousarray(p).reshape(-1).view(np.int8) for p in parts])

    def _emit_gather(
        self, first: ir.Value, last: ir.Value, target: ir.Value, end: ir.Value, step: ir.Value
    ) -> None:
        """``(first, last, windows, end, step)``: pixels ``step`` bytes apart, up to the last."""
        emitter, sources = self.layer.emitter, [first]
        for _ in range(1, PIXELS):
            sources.append(_nearer(advance_bytes(sources[-1], step), last))

        def turn(target: ir.Value, *sources: ir.Value) -> list[ir.Value]:
            for number in range(_GATHERED):
                found = [emitter.widen(fetch_byte(source, number)) for source in sources]
                for word in range(_WORDS):
                    low, high = found[2 * word : 2 * word + 2]
                    pair = arith.addi(low, arith.shli(high, emitter.integer(16)))
                    llvm.store(pair, advance(target, number * _WORDS + word), alignment=4)
            moved = [advance_bytes(source, _GATHERED) for source in sources]
            return [advance(target, _GATHERED * _WORDS), *moved]

        while_below(Held(end), [target, *sources], turn)

    def _emit_products(
        self,
        windows: ir.Value,
        constants: ir.Value,
        place: ir.Value,
        last_place: ir.Value,
        end: ir.Value,
        channels: ir.Value,
        pitch: ir.Value,
        rounding: ir.Value,
    ) -> None:
        """``(windows, constants, place, last place, end, channels, pitch, rounding)``.

        ``end`` is where windows end, ``pitch`` bytes are from a pixel's results to the next one's;
        no pixel lies behind the last place. ``rounding`` is what chunks begin with together.
        """
        emitter, width = self.layer.emitter, self.block
        after = park(advance_bytes(place, channels))
        beyond = llvm.ptrtoint(rounding.type, last_place)
        beyond = park(arith.subi(beyond, llvm.ptrtoint(rounding.type, place)))
        cells = [park(v) for v in (windows, constants, place, end, pitch, rounding)]
        windows_, constants_, place_, end_, pitch_, rounding_ = cells
        blocks = scf.WhileOp([], [])
        with ir.InsertionPoint(blocks.regions[0].blocks.append()):
            w = constants_.load()
            biases = [emitter.integer(0)] * width
            if self.conv.has_biases:
                biases, w = [fetch(w, b) for b in range(width)], advance(w, width)
            counts = [park(fetch(w, b)) for b in range(width)]
            begun, started = rounding_.load(), opaque(emitter.integer(ROUNDING))
            sums: list[ir.Value] = []
            for bias in biases:
                total = arith.addi(bias, arith.shli(bias, emitter.integer(16)))
                sums += [arith.subi(total, begun), bias] * _WORDS
            carried = [windows_.load(), advance(w, width), *sums]
            _, w, *sums = self._turns(carried, end_, started)
            found: list[ir.Value] = []
            for b in range(width):
                own = sums[2 * _WORDS * b : 2 * _WORDS * (b + 1)]
                w, *own = self._excesses(w, windows_.load(), counts[b].load(), own)
                found += own
            known = []
            for _ in range(width):
                words = {}
                for value, table in self.tables.items():
                    size = table.itemsize // 4
                    words[value] = element_of([fetch(w, i) for i in range(size)])
                    w = advance(w, size)
                known.append(words)
            constants_.store(w)
            self._store(place_.load(), beyond, pitch_, unpaired(emitter, found), known)
            following = advance_bytes(place_.load(), width)
            place_.store(following)
            scf.condition(below(following, after.load()), [])
        with ir.InsertionPoint(blocks.regions[1].blocks.append()):
            scf.yield_([])

    def _turns(self, carried: list[ir.Value], end: Parked, rounding: ir.Value) -> list[ir.Value]:
        """What is carried, windows and weights first, with the products of all chunks."""
        emitter, width = self.layer.emitter, self.block

        def turn(a: ir.Value, w: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            totals = list(sums)
            for chunk in range(0, _TURN, _CHUNK):
                started = [rounding] * (width * _WORDS)
                for operand in range(chunk, chunk + _CHUNK):
                    x = _operand(self, advance(a, _WORDS * operand))
                    weights = [
                        emitter.widen(fetch_byte(w, operand * width + b)) for b in range(width)
                    ]
                    started = multiply_accumulate(emitter, started, weights, x)
                totals = split(emitter, totals, started)
            following = [advance(a, _TURN * _WORDS), advance_bytes(w, _TURN * width)]
            return [opaque(value) for value in following] + totals

        return while_below(end, carried, turn, first=True)

    def _excesses(
        self, w: ir.Value, windows: ir.Value, count: ir.Value, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """The constants behind a channel's excesses, and its sums with their products.

        Each is added by itself, so there may be any number.
        """
        emitter = self.layer.emitter
        end = advance(w, arith.index_cast(ir.IndexType.get(), count))

        def one(w: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            entry = fetch(w, 0)
            place = arith.andi(entry, emitter.integer((1 << _PLACE_BITS) - 1))
            weight = arith.shrsi(entry, emitter.integer(_PLACE_BITS))
            at = advance_bytes(windows, arith.index_cast(ir.IndexType.get(), place))
            found = list(sums)
            for word, x in enumerate(_operand(self, at)):
                product = arith.muli(x, weight)
                # To the nearest, as chunks begin with a half.
                half = arith.addi(product, emitter.integer(ROUNDING))
                high = arith.shrsi(half, emitter.integer(16))
                found[2 * word] = arith.addi(found[2 * word], product)
                found[2 * word + 1] = arith.addi(found[2 * word + 1], high)
            return [advance(w, 1), *found]

        return while_below(Held(end), [w, *sums], one)

    def _store(
        self,
        first: ir.Value,
        beyond: Parked,
        pitch: Parked,
        sums: Sequence[ir.Value],
        known: list[dict[ir.Value, ir.Value]],
    ) -> None:
        """Store what becomes of sums, channel by channel and pixel by pixel."""
        place = first
        for p in range(PIXELS):
            site = Site(self.layer, 0, 0, (0, 0), (0, 0), border=False, place=place)
            for b, elements in enumerate(known):
                finish(self.conv, site, 0, 0, sums[b * PIXELS + p], elements, lane=b)
            if p + 1 < PIXELS:
                bytes_ = [arith.index_cast(ir.IndexType.get(), c.load()) for c in (pitch, beyond)]
                last = advance_bytes(first, bytes_[1])
                place = _nearer(advance_bytes(place, bytes_[0]), last)


def _operand(kernel: SwarShared, at: ir.Value) -> list[ir.Value]:
    """The words of the operand at an address, loaded together where a core can."""
    i64 = ir.IntegerType.get_signless(64)
    return halves(kernel.layer.emitter, llvm.load(i64, at, alignment=4))


def _nearer(a: ir.Value, b: ir.Value) -> ir.Value:
    """The address that comes first."""
    return arith.select(below(a, b), a, b)
