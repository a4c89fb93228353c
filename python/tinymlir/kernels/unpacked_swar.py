"""Convolution as straight-line code on cores without SIMD: weights are immediate, zeros left out.

As `swar` two pixels lie in a word, and a block of pixels is two words. Each output channel is a
function without branches: one load brings an operand of all pixels, and a product with its
weight is two MACs. Since weights are known, a chunk goes on as long as these weights allow.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinymlir.bindings import func, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import table_bytes
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.swar import (
    LEAST_PIXELS,
    ROUNDING,
    SCRATCH_LIMIT,
    Swar,
    split,
    unpaired,
    wrapped,
)
from tinymlir.kernels.window_pairs import PIXELS, Run, gather_mix
from tinymlir.kernels.words import halves, view
from tinymlir.targets import Target

#: Magnitudes that the weights of a chunk have together at most: 128 times that is below 2¹⁵.
_MOST_MAGNITUDE = 255
#: Bytes of scratch memory that an immediate offset reaches, or a second base and that.
_REACH = 4096


class UnpackedSwar(Swar):
    """A function for each output channel."""

    name = "unpacked"
    alike = False

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether there are pixels to pair, and loads reach their windows."""
        scalar = core.lanes == 1 and not core.has("dsp") and core.has("mul-long")
        pixels = conv.out_hw[0] * conv.out_hw[1]
        room = cls(conv, core).scratch_bytes() <= min(SCRATCH_LIMIT, _REACH)
        return scalar and conv.groups == 1 and pixels >= LEAST_PIXELS and room

    def scratch_bytes(self) -> int:
        """A word for each operand and two pixels."""
        return int(self.conv.weights[0, 0].size) * PIXELS // 2 * 4

    def row_scratch_bytes(self, columns: int) -> int:
        return self.scratch_bytes()

    def lean(self) -> Kernel:
        return self

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """One for each weight that is kept, padding included."""
        height, width = self.conv.out_hw
        pixels = len(rows or range(height)) * len(columns or range(width))
        return int(np.count_nonzero(self.conv.weights)) * -(-pixels // PIXELS) * PIXELS

    def constant_bytes(self) -> int:
        """None: all are immediate."""
        return 0

    def mix(self) -> Mix:
        weights = self.conv.weights[0].reshape(self.conv.out_per_group, -1)
        chunks = sum(len(list(chunks_of(row))) for row in weights)
        kept, words = int(np.count_nonzero(weights)), PIXELS // 2
        # LLVM adds what a chunk begins with at its end. An operand that is not shifted on its way
        # takes one instruction more where multiplication and addition are two anyway.
        split = line(alu=3 * words)
        sums = line(load_pair=kept * words / 2, alu=kept, mac=kept * words) + split * chunks
        # Constants are put together of two halves.
        tables = table_bytes(self.conv) // (4 * len(weights))
        ends = function(line(alu=4 + 2 * (1 + tables), load=2, store=2))
        ends += finish_mix(self.conv, PIXELS)
        if self.conv.out_hw[1] % PIXELS:
            # Pixels beyond the last are that one again.
            ends += line(alu=5 * PIXELS)
        blocks = -(-self.conv.out_hw[0] * self.conv.out_hw[1] // PIXELS)
        block = sums + ends * len(weights) + line(alu=10, load=3, store=3)
        return gather_mix(self.conv).times(blocks) + function(loop(block, blocks))

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.symbols: dict[tuple[bool, bool], list[str]] = {}

    def row(self, row: Index, columns: Columns) -> None:
        """Blocks of one size: each would have a function for each channel."""
        known = isinstance(columns.first, int) and isinstance(columns.last, int)
        whole = known and (columns.last - columns.first) % PIXELS == 0
        end = self.layer.emitter.sub(columns.last, 1)
        self._blocks(self.conv, row, columns.first, Run(end, whole, wraps=False))

    def all_channels(self, conv: Convolution, row: Index, column: Index, run: Run) -> None:
        kind = run.whole, run.wraps
        if kind not in self.symbols:
            channels = range(conv.out_per_group)
            self.symbols[kind] = [self._emit_channel(conv, run, channel) for channel in channels]
        where = [self.layer.emitter.index(v) for v in (row, column, run.last)]
        for symbol in self.symbols[kind]:
            func.call([], symbol, [*self.layer.function.arguments, self.scratch, *where])

    def _emit_channel(self, conv: Convolution, run: Run, channel: int) -> str:
        """``@layer<i>_channel<n>_<k>(arguments…, scratch, row, column, last)``: a block."""
        assert self.scratch is not None
        function, index = self.layer.function, ir.IndexType.get()
        symbol = f"{function.name.value}_channel{channel}_{len(self.symbols)}"
        types = [*(a.type for a in function.arguments), self.scratch.type, index, index, index]
        with ir.InsertionPoint.after(function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        with ir.InsertionPoint(helper.add_entry_block()):
            layer = self.layer.rebind(helper)
            scratch, row, column, last = list(helper.arguments)[-4:]
            sums = _sums(layer, scratch, conv.weights[0, channel].reshape(-1), conv.bias[channel])
            elements = {
                value: layer.emitter.integer(int(table[channel]), 8 * table.itemsize)
                for value, table in self.tables.items()
            }
            for p, total in enumerate(sums):
                place = Run(last, run.whole, run.wraps).place(layer.emitter, column, p)
                site = Site(layer, row, place, (0, 0), (0, 0), border=False)
                finish(conv, site, 0, channel, total, elements)
            func.ReturnOp([])
        return symbol


def chunks_of(weights: np.ndarray) -> Iterator[list[int]]:
    """The operands of weights that are not zero, in chunks whose sums fit their halves."""
    chunk: list[int] = []
    magnitude = 0
    for operand in np.flatnonzero(weights):
        size = abs(int(weights[operand]))
        if magnitude + size > _MOST_MAGNITUDE:
            yield chunk
            chunk, magnitude = [], 0
        chunk.append(int(operand))
        magnitude += size
    if chunk:
        yield chunk


def _sums(layer: Layer, scratch: ir.Value, weights: np.ndarray, bias: int) -> list[ir.Value]:
    """The sums of a channel, one for each pixel of a block."""
    emitter, chunks = layer.emitter, list(chunks_of(weights))
    activations = view(scratch, 64)
    total, high = wrapped(np.array([int(bias) * (1 + (1 << 16)) - ROUNDING * len(chunks), bias]))
    start = emitter.integer(ROUNDING)
    sums = [emitter.integer(int(np.int32(v))) for v in (total, high)] * (PIXELS // 2)
    for chunk in chunks:
        started = [start] * (PIXELS // 2)
        for operand in chunk:
            weight = emitter.integer(int(weights[operand]))
            pairs = halves(emitter, emitter.load(activations, [operand]))
            started = [tiny.MacOp(s, x, weight).res for s, x in zip(started, pairs, strict=True)]
        sums = split(emitter, sums, started)
    return unpaired(emitter, sums)
