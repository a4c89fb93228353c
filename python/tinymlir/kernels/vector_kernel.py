"""What the vector kernels share: channels in lanes, blocks of pixels, the way out of sums.

Lanes hold neighbouring output channels, so that weights are loaded, and results stored, as they
lie in memory.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.kernels.channel_tables import channel_bytes
from tinymlir.kernels.columns import Columns, Span, with_rest
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.direct import pack_weights
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.lanes import (
    Lanes,
    LanesEvaluator,
    any_lane,
    has_lanes,
    load_lanes,
    most_lanes,
    spread,
    store_lanes,
)
from tinymlir.kernels.pixels import (
    Site,
    finish,
    finish_mix,
    input_column,
    input_row,
    root_indices,
    views_of,
)
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.strips import Strips, strip_bytes
from tinymlir.kernels.words import view
from tinymlir.targets import Target

#: Vector registers for accumulators and operands: all 32 of RISC-V.
_REGISTERS = 32
#: With more neighbours than this the code grows and little is gained.
_MOST_PIXELS = 8
#: Lanes that go the long way round together: two registers a vector.
_PART = 8
#: Scratch memory for a strip, where one pixel does not need more.
_STRIP_BYTES = 4096


def _evenly(total: int, most: int) -> int:
    """The size of parts, ``most`` at most, of which as few as can be make up ``total``."""
    return -(-total // -(-total // most))


@dataclass(frozen=True)
class Window:
    """Activations under neighbouring pixels, in a flat buffer.

    ``row(kh)`` is the position of the first pixel's first tap in kernel row ``kh``, channel 0.
    """

    buffer: ir.Value
    row: Callable[[Index], Index]


class VectorKernel(Kernel):
    """For strips of pixels: all blocks of channels, for blocks of these pixels.

    Subclasses say which weights lie side by side, and emit the products. ``pixels`` are those of
    a strip, ``block`` those whose accumulators are in registers at once, ``lanes`` the channels.
    """

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        #: (sets of channels that may share a vector, channels of each, KH, KW, input channels)
        self.weights = self._weights()
        channels = self.weights.shape[1]
        self.lanes = _evenly(channels, most_lanes(core.vector_bits))
        self.blocks = -(-channels // self.lanes)
        #: channels of the last block
        self.last = channels - (self.blocks - 1) * self.lanes
        room = _REGISTERS - self._operand_registers()
        self.block = _evenly(conv.out_hw[1], min(room // self._pixel_registers(), _MOST_PIXELS))
        self.pixels = self.block
        #: whether any window reaches into padding
        self.padded = any(len(conv.interior(a)) < conv.out_hw[a] for a in (0, 1))
        if self.padded:
            columns = conv.out_hw[1]
            sizes = (columns, *range(columns // self.block * self.block, 0, -self.block))
            self.pixels = next(filter(self._fits, sizes), 0) or max(
                filter(self._fits, range(1, self.block)), default=1
            )
            self.block = min(self.block, self.pixels)
        self.gathers = self.padded or self.blocks * len(self.weights) == 1

    @abstractmethod
    def _weights(self) -> np.ndarray: ...

    @abstractmethod
    def _operand_registers(self) -> int:
        """Vector registers that the operands of the products take."""

    def _pixel_registers(self) -> int:
        """Those that each pixel of a block takes besides."""
        return self._registers(32)

    @abstractmethod
    def _sums(
        self, bias: ir.Value, window: Window, number: Index, first: Index, lanes: int, pixels: int
    ) -> list[ir.Value]:
        """Accumulators of ``pixels`` neighbours: ``lanes`` channels of a set, from ``first`` on."""

    def _fits(self, pixels: int) -> bool:
        return strip_bytes(self.conv, pixels) <= _STRIP_BYTES

    def _registers(self, bits: int) -> int:
        """Vector registers that a vector of lanes of ``bits`` takes: a power of two."""
        full = max(1, -(-self.lanes * bits // self.core.vector_bits))
        return 1 << (full - 1).bit_length()

    def _sum_bytes(self) -> int:
        return 4 * self.block * self.lanes

    def scratch_bytes(self) -> int:
        """Accumulators on their way out, and the strip."""
        strip = strip_bytes(self.conv, self.pixels) if self.padded else 0
        return self._sum_bytes() + strip

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        return int(self.weights.size) + channel_bytes(self.conv)

    def mix(self) -> Mix:
        rows, columns = self.conv.out_hw
        depth = self.conv.groups * self.conv.in_per_group
        # Lanes do the same in fewer instructions, in code that is shared by blocks.
        out = function(loop(finish_mix(self.conv), self.block).elsewhere())
        outs = function(line(vector=25, alu=20)).times(0) * (1 + (self.last < self.lanes))
        sums = self._sum_mix(self.block) + line(vector=self.block + 1, alu=10, call=1) + out
        # Code of their own have the last columns, and the last channels, where they are fewer.
        kinds = (1 + bool(columns % self.block)) * (1 + (self.last < self.lanes))
        blocks = loop(sums, self.weights.shape[0] * self.blocks) + sums.times(0) * (kinds - 1)
        turns = -(-columns // self.block)
        if not self.padded:
            return outs + function(loop(loop(blocks, turns), rows))
        lanes = most_lanes(self.core.vector_bits, 8)
        run = self.conv.kernel[1] + (self.pixels - 1) * self.conv.stride[1]
        copy = loop(line(vector=2, alu=3), max(1, run * depth / lanes)) + line(alu=20)
        copy += line(vector=4, alu=20).times(0)
        strips = loop(copy, self.conv.kernel[0]).times(-(-columns // self.pixels))
        return outs + function(loop(strips + loop(blocks, turns), rows))

    @abstractmethod
    def _sum_mix(self, pixels: int) -> Mix:
        """What `_sums` emits."""

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        assert scratch is not None
        self.memory, most = scratch, most_lanes(self.core.vector_bits, 8)
        self.packed = pack_weights(self.weights, self.lanes)
        self.by_lanes = has_lanes(layer.root, views_of(self.conv.result))
        if self.padded:
            self.strips = Strips(layer, self.conv, scratch, self._sum_bytes(), self.pixels, most)
        self.out_symbols = {n: self._emit_out(n) for n in sorted({self.last, self.lanes})}

    def row(self, row: Index, columns: Columns) -> None:
        def runs(first: int, last: int) -> dict[int, Span]:
            return with_rest(first, last, self.pixels)

        def segment(column: Index, count: int) -> None:
            self._segment(row, column, count)

        columns.in_blocks(self.layer.emitter, runs, segment)

    def _segment(self, row: Index, column: Index, pixels: int) -> None:
        emitter = self.layer.emitter
        if self.padded:
            self.strips.copy(row, column, pixels)
        sets = self.weights.shape[0]

        def block(number: Index, first: Index, lanes: int) -> None:
            def neighbours(p: Index, count: int) -> None:
                window = self._window(row, column, p)
                at = emitter.add(column, p)
                self._compute(row, at, window, number, first, lanes, count)

            whole = pixels // self.block * self.block
            emitter.loop(0, whole, self.block, lambda p: neighbours(p, self.block))
            if whole < pixels:
                neighbours(whole, pixels - whole)

        def one_set(number: Index) -> None:
            even = self.blocks - (self.last < self.lanes)
            whole = even * self.lanes
            emitter.loop(0, whole, self.lanes, lambda first: block(number, first, self.lanes))
            if even < self.blocks:
                block(number, whole, self.last)

        emitter.loop(0, sets, 1, one_set)

    def _window(self, row: Index, column: Index, pixel: Index) -> Window:
        """Under pixels from the one on that is ``pixel`` places after ``column``."""
        conv, emitter, source = self.conv, self.layer.emitter, self.layer.source
        if self.padded:
            step = emitter.mul(pixel, conv.stride[1] * source.channels)
            return Window(self.memory, lambda kh: emitter.add(self.strips.row(kh), step))

        def in_source(kh: Index) -> Index:
            origin = source.origin(emitter, input_row(emitter, conv, row, kh))
            begin = input_column(emitter, conv, emitter.add(column, pixel))
            return emitter.add(origin, emitter.mul(begin, source.channels))

        return Window(source.buffer, in_source)

    def _compute(
        self,
        row: Index,
        column: Index,
        window: Window,
        number: Index,
        first: Index,
        lanes: int,
        pixels: int,
    ) -> None:
        """Some channels of some neighbouring pixels, from sums to results."""
        layer, emitter = self.layer, self.layer.emitter
        channel = emitter.add(emitter.mul(number, self.weights.shape[1]), first)
        bias = spread(emitter.integer(0), lanes)
        if self.conv.has_biases:
            bias = load_lanes(emitter, layer.pool.get(self.conv.bias, "bias"), channel, lanes)
        sums = self._sums(bias, window, number, first, lanes, pixels)
        words = view(self.memory, 32)
        for p, total in enumerate(sums):
            store_lanes(emitter, total, words, p * lanes)
        where = [emitter.index(v) for v in (row, column, channel, pixels)]
        func.call([], self.out_symbols[lanes], [*layer.function.arguments, *where])

    def _emit_out(self, lanes: int, hurried: bool = True) -> str:
        """``@layer<i>_out<lanes>(arguments…, row, column, channel, pixels)``: sums to results.

        A function of its own, since sums come by way of memory: no register is taken then, and
        blocks of any number of pixels share it. Where a rounding has a rare case that takes
        long, all pixels go the short way first, and once more by ``_exact<lanes>`` if it met one.
        """
        conv, function, emitter = self.conv, self.layer.function, self.layer.emitter
        symbol = f"{function.name.value}_{'out' if hurried else 'exact'}{lanes}"
        given = list(function.arguments)
        types = [argument.type for argument in given] + [ir.IndexType.get()] * 4
        with ir.InsertionPoint.after(function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        with ir.InsertionPoint(helper.add_entry_block()):
            words = view(helper.arguments[given.index(self.memory)], 32)
            row, column, channel, pixels = list(helper.arguments)[-4:]
            out = _Out(conv, self.layer.rebind(helper), words, (row, column, channel), lanes)
            if not self.by_lanes:
                emitter.loop(0, pixels, 1, out.one_by_one)
            elif not hurried:
                emitter.loop(0, pixels, 1, out.in_parts)
            else:
                (doubt,) = emitter.loop(0, pixels, 1, out.at_once, [emitter.integer(0, 1)])
                if out.has_doubts:
                    exact = self._emit_out(lanes, hurried=False)
                    choice = scf.IfOp(doubt)
                    with ir.InsertionPoint(choice.then_block):
                        func.call([], exact, list(helper.arguments))
                        scf.yield_([])
            func.ReturnOp([])
        return symbol


class _Out:
    """The way from the accumulators of a block of pixels, in ``words``, to their results.

    ``place`` is the row, the first pixel's column, and the first of ``lanes`` channels.
    """

    def __init__(
        self,
        conv: Convolution,
        layer: Layer,
        words: ir.Value,
        place: tuple[Index, Index, Index],
        lanes: int,
    ) -> None:
        self.conv, self.layer, self.words, self.lanes = conv, layer, words, lanes
        self.row, self.column, self.channel = place
        #: whether a lane may take the long way round
        self.has_doubts = False

    def one_by_one(self, pixel: Index) -> None:
        """The results of a pixel, where lanes cannot compute them."""
        emitter = self.layer.emitter
        column = emitter.add(self.column, pixel)
        site = Site(self.layer, self.row, column, (0, 0), (0, 0), border=False)

        def lane(number: Index) -> None:
            total = emitter.load(self.words, [self._word(pixel, number)])
            finish(self.conv, site, 0, emitter.add(self.channel, number), total)

        emitter.loop(0, self.lanes, 1, lane)

    def at_once(self, pixel: Index, doubt: ir.Value) -> list[ir.Value]:
        """The results of a pixel, and ``doubt`` or whether there is one about them."""
        doubts: list[ir.Value] = []
        self._finish(pixel, 0, self.lanes, doubts)
        self.has_doubts = bool(doubts)
        for condition in doubts:
            doubt = arith.ori(doubt, any_lane(condition))
        return [doubt]

    def in_parts(self, pixel: Index) -> None:
        """The results of a pixel, the long way round: few lanes at a time do not spill."""
        whole = self.lanes // _PART * _PART
        self.layer.emitter.loop(
            0, whole, _PART, lambda first: self._finish(pixel, first, _PART, None)
        )
        if whole < self.lanes:
            self._finish(pixel, whole, self.lanes - whole, None)

    def _word(self, pixel: Index, lane: Index) -> Index:
        emitter = self.layer.emitter
        return emitter.add(emitter.mul(pixel, self.lanes), lane)

    def _finish(
        self, pixel: Index, first: Index, lanes: int, doubts: list[ir.Value] | None
    ) -> None:
        """Run the rest of the layer on some lanes' accumulators, and store the results."""
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        column, channel = emitter.add(self.column, pixel), emitter.add(self.channel, first)
        sums = load_lanes(emitter, self.words, self._word(pixel, first), lanes)
        buffers = layer.evaluator.buffers
        evaluator = LanesEvaluator(emitter, layer.pool, buffers, lanes, doubts)
        evaluator.registers = dict.fromkeys(views_of(conv.result), sums)
        shape = layer.root.type.shape
        indices = root_indices(emitter, shape, conv, self.row, column, Lanes(channel))
        where = layer.target.position(emitter, [0, self.row, column, channel])
        store_lanes(emitter, evaluator.at(layer.root, indices), layer.target.buffer, where)
