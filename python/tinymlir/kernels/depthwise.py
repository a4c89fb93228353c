"""Depthwise convolution, a block of channels at a time, over a ring of input rows.

The rows under a window are copied to scratch memory, padding included, each of them once;
so the border needs no code of its own, and since nothing of these channels is read again,
the output may replace the input in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.kernels.channel_tables import channel_tables, table_bytes
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import ConstantReads, Mix, function, line, loop
from tinymlir.kernels.words import halves, load_word, repeated, store_word
from tinymlir.targets import Target

#: Channels computed together: a word of activations.
CHANNEL_BLOCK = 4
#: Taps of a window, all without a loop between them.
MOST_TAPS = 49
#: Columns copied between two branches.
_UNROLL = 4


class Depthwise(Kernel):
    """All rows of a block of channels, then the next block."""

    name = "depthwise"
    by_rows = False

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels go one to one, and the ring advances by rows that follow one another."""
        return (
            conv.in_per_group == conv.out_per_group == 1
            and conv.groups > 1
            and conv.weights[0, 0].size <= MOST_TAPS
            and conv.dilation == (1, 1)
            and conv.stride[0] <= conv.kernel[0]
            and conv.stride[1] <= conv.kernel[1]
        )

    def scratch_bytes(self) -> int:
        """The rows under a window."""
        return self.conv.kernel[0] * ring_columns(self.conv) * CHANNEL_BLOCK

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        conv = self.conv
        blocks = -(-conv.groups // CHANNEL_BLOCK)
        taps = conv.kernel[0] * conv.kernel[1]
        channel = taps + 4 + table_bytes(conv) // conv.groups
        return blocks * CHANNEL_BLOCK * channel

    def constant_reads(self) -> ConstantReads:
        """Those of a block of channels, for each of its pixels."""
        rows, columns = self.conv.out_hw
        size = self.constant_bytes()
        return ConstantReads(size, size / -(-self.conv.groups // CHANNEL_BLOCK), rows * columns)

    def mix(self) -> Mix:
        conv = self.conv
        blocks, last = divmod(conv.groups, CHANNEL_BLOCK)
        mix = loop(self._block_mix(CHANNEL_BLOCK), blocks)
        return function(mix + self._block_mix(last) if last else mix)

    def _block_mix(self, width: int) -> Mix:
        """All rows of ``width`` channels."""
        conv = self.conv
        taps = conv.kernel[0] * conv.kernel[1]
        whole = self.core.has("unaligned")
        word = line(load=1) if whole else line(load=width, alu=2 * width - 2)
        column = word + (line(store=1) if whole else line(alu=width - 1, store=width))
        # A row is copied for the first time, or is all padding.
        copy = function(loop(column, ring_columns(conv), _UNROLL) + line(alu=12, store=4, load=4))
        copy += loop(line(store=1 if whole else width), ring_columns(conv), _UNROLL).times(0) * 3
        copies = conv.kernel[0] + (conv.out_hw[0] - 1) * conv.stride[0]
        tap = line(load=2, mac=1) * width
        words = 1 + table_bytes(conv) // (4 * conv.groups)
        ends = line(load_pair=words * CHANNEL_BLOCK / 2, load=words * width, store=words * width)
        pixel = ends + tap * taps + finish_mix(conv) * width + line(alu=8)
        return copy.times(copies) + loop(
            loop(pixel, conv.out_hw[1]) + line(alu=12, load=6, store=6), conv.out_hw[0]
        )

    def works_in_place(self) -> bool:
        """Whether each output row lies where the input has been copied from already."""
        conv = self.conv
        rows = np.arange(conv.out_hw[0])
        copied = np.minimum(rows * conv.stride[0] - conv.pad[0] + conv.kernel[0], conv.in_hw[0])
        return bool(((rows + 1) * conv.out_hw[1] <= copied * conv.in_hw[1]).all())

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        assert scratch is not None
        conv = self.conv
        self.ring = _ByteRing(layer.emitter, scratch)
        self.blocks = -(-conv.groups // CHANNEL_BLOCK)
        self.last = conv.groups - (self.blocks - 1) * CHANNEL_BLOCK
        widths = sorted({CHANNEL_BLOCK if self.blocks > 1 else self.last, self.last})
        self.copies = {
            width: emit_row_copy(conv, layer, scratch.type, self.ring, width) for width in widths
        }
        self.tables = channel_tables(conv, layer.root)

    def whole(self) -> None:
        whole = self.conv.groups // CHANNEL_BLOCK
        self.layer.emitter.loop(
            0, whole, 1, lambda block: self._channel_block(block, CHANNEL_BLOCK)
        )
        if whole < self.blocks:
            self._channel_block(whole, self.last)

    def row(self, row: Index, columns: Columns) -> None:
        raise NotImplementedError("goes through all rows of some channels first")

    def _channel_block(self, block: Index, width: int) -> None:
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        first = emitter.mul(block, CHANNEL_BLOCK)
        constants = [conv.bias, *self.tables.values()]
        weights = layer.pool.get(self.ring.pack(by_block(conv)), "weights")
        parameters = layer.pool.get(pack_parameters(constants), "parameters")

        def pixel(row: Index, slots: list[ir.Value], column: Index) -> None:
            biases, *elements = load_parameters(emitter, parameters, constants, block)
            sums = biases[:width]
            tap = emitter.mul(block, conv.kernel[0] * conv.kernel[1])
            base = emitter.mul(column, conv.stride[1])
            for kh, slot in enumerate(slots):
                at = emitter.add(slot, base)
                for kw in range(conv.kernel[1]):
                    number = emitter.add(tap, kh * conv.kernel[1] + kw)
                    sums = self.ring.accumulate(sums, emitter.add(at, kw), weights, number)
            site = Site(layer, row, column, (0, 0), (0, 0), border=False)
            for b in range(width):
                known = dict(zip(self.tables, (e[b] for e in elements), strict=True))
                finish(conv, site, 0, emitter.add(first, b), sums[b], known)

        def output_row(row: Index, slots: list[ir.Value]) -> None:
            emitter.loop(0, conv.out_hw[1], 1, lambda column: pixel(row, slots, column))

        self._roll(self.copies[width], first, ring_columns(conv), output_row)

    def _roll(
        self,
        symbol: str,
        first: Index,
        line: int,
        output_row: Callable[[Index, list[ir.Value]], None],
    ) -> None:
        """Compute all rows of the channels from ``first`` on, with those under each in the ring.

        Args:
            symbol: ``@symbol(input, scratch, row, slot, first)`` copies a row to the ring.
            line: from one of its slots to the next.
            output_row: computes a row of the result, from the slots of the rows under it.
        """
        conv, emitter = self.conv, self.layer.emitter
        rows, step = conv.kernel[0], conv.stride[0]
        places = [kh * line for kh in range(rows)]

        def copy(row: Index, slot: Index) -> None:
            where = [emitter.index(v) for v in (row, slot, first)]
            func.call([], symbol, [self.layer.source.buffer, self.scratch, *where])

        for kh in range(rows - step):
            copy(kh - conv.pad[0], places[kh])

        def turn(row: Index, *slots: ir.Value) -> list[ir.Value]:
            top = emitter.sub(emitter.mul(row, step), conv.pad[0])
            for kh in range(rows - step, rows):
                copy(emitter.add(top, kh), slots[kh])
            output_row(row, list(slots))
            return [*slots[step:], *slots[:step]]

        emitter.loop(0, conv.out_hw[0], 1, turn, [emitter.index(p) for p in places])


def ring_columns(conv: Convolution) -> int:
    """Columns of a row of the ring: all that windows reach."""
    return (conv.out_hw[1] - 1) * conv.stride[1] + conv.kernel[1]


def by_block(conv: Convolution) -> np.ndarray:
    """Weights as ``blocks × taps × channels of a block``, filled up with zeros."""
    taps = conv.weights[:, 0, :, :, 0].reshape(conv.groups, -1)
    return in_blocks(taps).swapaxes(1, 2)


def in_blocks(rows: np.ndarray) -> np.ndarray:
    """``channels × n`` as ``blocks × channels of a block × n``, filled up with zeros."""
    blocks = -(-len(rows) // CHANNEL_BLOCK)
    padded = np.zeros((blocks * CHANNEL_BLOCK, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded.reshape(blocks, CHANNEL_BLOCK, *rows.shape[1:])


def pack_parameters(tables: list[np.ndarray]) -> np.ndarray:
    """The elements of all tables block by block, as i64: two elements each of i32 tables."""
    columns = [np.ascontiguousarray(in_blocks(table)).view("<i8") for table in tables]
    return np.concatenate(columns, axis=1).reshape(-1)


def load_parameters(
    emitter: Emitter, parameters: ir.Value, tables: list[np.ndarray], block: Index
) -> list[list[ir.Value]]:
    """The block's elements of each table."""
    sizes = [CHANNEL_BLOCK * table.itemsize // 8 for table in tables]
    place = emitter.mul(block, sum(sizes))
    result = []
    for table, size in zip(tables, sizes, strict=True):
        pairs = [emitter.load(parameters, [emitter.add(place, i)]) for i in range(size)]
        wide = table.itemsize == 8
        result.append(pairs if wide else [word for p in pairs for word in halves(emitter, p)])
        place = emitter.add(place, size)
    return result


class Ring(Protocol):
    """How columns lie in a ring of rows."""

    emitter: Emitter

    def store(self, scratch: ir.Value, at: Index, word: ir.Value) -> None:
        """The column at ``at``, given as the bytes of a word."""


def emit_row_copy(
    conv: Convolution,
    layer: Layer,
    scratch_type: ir.Type,
    ring: Ring,
    width: int,
) -> str:
    """``@layer<i>_row<width>(input, scratch, row, slot, channel)``: a row of the ring.

    The columns that windows reach, ``width`` channels of them; a row beside the image is
    all padding.
    """
    symbol = f"{layer.function.name.value}_row{width}"
    index, emitter = ir.IndexType.get(), ring.emitter
    height, in_columns = conv.in_hw
    source_type = layer.source.buffer.type
    with ir.InsertionPoint.after(layer.function.operation):
        helper = func.FuncOp(
            symbol, ([source_type, scratch_type, index, index, index], []), visibility="private"
        )
    left = min(conv.pad[1], ring_columns(conv))
    right = min(left + in_columns, ring_columns(conv))
    with ir.InsertionPoint(helper.add_entry_block()):
        source, scratch, row, slot, channel = helper.arguments
        filler = emitter.integer(repeated(conv.pad_value, 8))

        def fill(begin: int, end: int) -> None:
            emitter.loop(
                begin,
                end,
                1,
                lambda c: ring.store(scratch, emitter.add(slot, c), filler),
                unroll=_UNROLL,
            )

        def column(c: Index) -> None:
            pixel = emitter.add(emitter.mul(row, in_columns), c)
            at = emitter.add(emitter.mul(pixel, conv.groups), channel)
            word = load_word(emitter, source, [emitter.add(at, b) for b in range(width)])
            ring.store(scratch, emitter.add(emitter.add(slot, left), c), word)

        inside = arith.cmpi(arith.CmpIPredicate.ult, row, emitter.index(height))
        choice = scf.IfOp(inside, has_else=True)
        with ir.InsertionPoint(choice.then_block):
            fill(0, left)
            emitter.loop(0, right - left, 1, column, unroll=_UNROLL)
            fill(right, ring_columns(conv))
            scf.yield_([])
        with ir.InsertionPoint(choice.else_block):
            fill(0, ring_columns(conv))
            scf.yield_([])
        func.ReturnOp([])
    return symbol


class _ByteRing:
    """Activations and weights as bytes, in the order of the channels."""

    def __init__(self, emitter: Emitter, scratch: ir.Value) -> None:
        self.emitter, self.activations = emitter, scratch

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """``blocks × taps × channels`` as they are."""
        return np.ascontiguousarray(weights).reshape(-1)

    def accumulate(
        self, sums: list[ir.Value], at: Index, weights: ir.Value, tap: Index
    ) -> list[ir.Value]:
        """``sums`` plus the products of a column and a tap."""
        emitter = self.emitter

        def byte(buffer: ir.Value, column: Index, b: int) -> ir.Value:
            where = emitter.add(emitter.mul(column, CHANNEL_BLOCK), b)
            return emitter.widen(emitter.load(buffer, [where]))

        products = [
            arith.muli(byte(self.activations, at, b), byte(weights, tap, b))
            for b in range(len(sums))
        ]
        return [arith.addi(total, p) for total, p in zip(sums, products, strict=True)]

    def store(self, scratch: ir.Value, at: Index, word: ir.Value) -> None:
        """A column, given as the bytes of a word."""
        start = self.emitter.mul(at, CHANNEL_BLOCK)
        places = [self.emitter.add(start, b) for b in range(CHANNEL_BLOCK)]
        store_word(self.emitter, word, scratch, places)
