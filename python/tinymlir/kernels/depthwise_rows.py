"""Depthwise convolution a pixel at a time, on rows where they lie.

Each pixel takes its channels in blocks of a word: every tap adds the products of one word of
activations. In the interior all taps are straight-line code; a window that hangs over the
border visits the taps that exist in a function of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import channel_tables, table_bytes
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import (
    CHANNEL_BLOCK,
    MOST_TAPS,
    by_block,
    load_parameters,
    pack_parameters,
)
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, finish_mix, full_bias, input_column, input_row
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.words import extend, half, halves, load_any, load_word, repeated
from tinymlir.targets import Target

#: Registers that four sums take beside their operands, pointers and a counter.
_SUM_REGISTERS = 12


class DepthwiseRows(Kernel):
    """Pixel by pixel, block by block of channels."""

    name = "depthwise-rows"

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels go one to one, and windows are small enough to need no loop."""
        one_to_one = conv.in_per_group == conv.out_per_group == 1 and conv.groups > 1
        return one_to_one and conv.weights[0, 0].size <= MOST_TAPS

    def constant_bytes(self) -> int:
        """Weights, as halfwords or bytes, and the parameters of both functions."""
        conv = self.conv
        channels = -(-conv.groups // CHANNEL_BLOCK) * CHANNEL_BLOCK
        weights = channels * conv.weights[0, 0].size * (2 if self.core.has("dsp") else 1)
        functions = 1 if self._all_inside() else 2
        return weights + functions * (4 * channels + table_bytes(conv))

    def mix(self) -> Mix:
        conv = self.conv
        blocks = -(-conv.groups // CHANNEL_BLOCK)
        taps = conv.weights[0, 0].size
        if self.core.has("dsp"):
            tap = line(load=1, alu=2, load_pair=1, mac=CHANNEL_BLOCK)
        else:
            # Where registers are few, sums are in memory.
            spill = line(load_word=1, store=1) if self.core.registers < _SUM_REGISTERS else Mix()
            tap = (line(load=2, mac=1) + spill) * CHANNEL_BLOCK
        words = 1 + table_bytes(conv) // (4 * conv.groups)
        ends = line(load_pair=words * CHANNEL_BLOCK / 2, load=3, store=2, alu=6)
        ends += finish_mix(conv) * CHANNEL_BLOCK
        inside = len(conv.interior(0)) * len(conv.interior(1))
        outside = conv.out_hw[0] * conv.out_hw[1] - inside
        existing = self.conv.executed_macs(*(range(size) for size in conv.out_hw)) // conv.groups
        at_border = max(0, existing - inside * taps) / max(1, outside)
        # The last block is apart, since it may have fewer channels.
        block = tap * taps + ends
        whole = loop(block, blocks - 1) + block + line(alu=10, load=6)
        less = (2 if self.core.has("dsp") else CHANNEL_BLOCK) if conv.pad_value else 0
        turns = (tap + line(alu=3 + less, branch=1)).times(at_border)
        turns += line(alu=9, branch=1).times(conv.kernel[0])
        block = turns + ends + line(alu=16)
        border = loop(block, blocks - 1) + block
        return function(loop(whole, inside)) + function(border + line(alu=20)).times(outside)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.taps = (_Halfwords if self.core.has("dsp") else _Bytes)(layer.emitter, self.conv)
        self.tables = channel_tables(self.conv, layer.root)
        self.blocks = -(-self.conv.groups // CHANNEL_BLOCK)
        self.last = self.conv.groups - (self.blocks - 1) * CHANNEL_BLOCK
        self.border_symbol = f"{layer.function.name.value}_border"
        if not self._all_inside():
            self._emit_border_function()

    def row(self, row: Index, columns: tuple[Index, Index]) -> None:
        emitter = self.layer.emitter

        def pixel(column: Index) -> None:
            inside = self._is_inside(row, column)
            if inside is None:
                self._inside_pixel(row, column)
                return
            choice = scf.IfOp(inside, has_else=True)
            with ir.InsertionPoint(choice.then_block):
                self._inside_pixel(row, column)
                scf.yield_([])
            with ir.InsertionPoint(choice.else_block):
                where = [emitter.index(v) for v in (row, column)]
                func.call([], self.border_symbol, [*self.layer.function.arguments, *where])
                scf.yield_([])

        emitter.loop(*columns, 1, pixel)

    def _all_inside(self) -> bool:
        conv = self.conv
        return all(len(conv.interior(axis)) == conv.out_hw[axis] for axis in (0, 1))

    def _is_inside(self, row: Index, column: Index) -> ir.Value | None:
        """Whether no padding lies under the window; None if it never does."""
        if self._all_inside():
            return None
        conv, emitter = self.conv, self.layer.emitter
        starts = input_row(emitter, conv, row, 0), input_column(emitter, conv, column)
        tests = []
        for axis, start in enumerate(starts):
            reach = conv.dilation[axis] * (conv.kernel[axis] - 1)
            room = emitter.index(max(conv.in_hw[axis] - reach, 0))
            tests.append(arith.cmpi(arith.CmpIPredicate.ult, emitter.index(start), room))
        return arith.andi(*tests)

    def _inside_pixel(self, row: Index, column: Index) -> None:
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        origins = [
            self._origin(layer, input_row(emitter, conv, row, kh), column)
            for kh in range(conv.kernel[0])
        ]

        def add(block: Index, width: int, sums: list[ir.Value]) -> list[ir.Value]:
            first = emitter.mul(block, CHANNEL_BLOCK)
            for kh, origin in enumerate(origins):
                at = emitter.add(origin, first)
                for kw in range(conv.kernel[1]):
                    where = emitter.add(at, kw * conv.dilation[1] * layer.source.channels)
                    number = kh * conv.kernel[1] + kw
                    sums = self.taps.add(layer, sums, where, self._tap(block, number), border=False)
            return sums

        self._pixel(layer, row, column, conv.bias, add)

    def _emit_border_function(self) -> None:
        """``@layer<i>_border(arguments…, row, column)``: a pixel over the taps that exist."""
        function, index = self.layer.function, ir.IndexType.get()
        types = [argument.type for argument in function.arguments]
        with ir.InsertionPoint.after(function.operation):
            helper = func.FuncOp(
                self.border_symbol, ([*types, index, index], []), visibility="private"
            )
        with ir.InsertionPoint(helper.add_entry_block()):
            row, column = list(helper.arguments)[-2:]
            self._border_pixel(self.layer.rebind(helper), row, column)
            func.ReturnOp([])

    def _border_pixel(self, layer: Layer, row: Index, column: Index) -> None:
        conv, emitter = self.conv, layer.emitter
        top, left = input_row(emitter, conv, row, 0), input_column(emitter, conv, column)
        rows, columns = (
            self._existing(emitter, axis, start) for axis, start in enumerate((top, left))
        )

        def add(block: Index, width: int, sums: list[ir.Value]) -> list[ir.Value]:
            first = emitter.mul(block, CHANNEL_BLOCK)

            def kernel_row(kh: Index, *carried: ir.Value) -> list[ir.Value]:
                number = emitter.add(top, emitter.mul(kh, conv.dilation[0]))
                at = emitter.add(self._origin(layer, number, column), first)

                def tap(kw: Index, *values: ir.Value) -> list[ir.Value]:
                    step = emitter.mul(kw, conv.dilation[1] * layer.source.channels)
                    place = emitter.add(emitter.mul(kh, conv.kernel[1]), kw)
                    where, weight = emitter.add(at, step), self._tap(block, place)
                    return self.taps.add(layer, list(values), where, weight, border=True)

                return emitter.loop(*columns, 1, tap, carried)

            return emitter.loop(*rows, 1, kernel_row, sums)

        self._pixel(layer, row, column, full_bias(conv), add)

    def _existing(self, emitter: Emitter, axis: int, start: Index) -> tuple[Index, Index]:
        """First, and past the last, tap along ``axis`` that falls on the input."""
        conv = self.conv
        before = emitter.maximum(emitter.sub(0, start), 0)
        room = emitter.maximum(emitter.sub(conv.in_hw[axis], start), 0)
        dilation = conv.dilation[axis]
        end = emitter.minimum(emitter.ceildiv(room, dilation), conv.kernel[axis])
        return emitter.ceildiv(before, dilation), end

    def _origin(self, layer: Layer, row: Index, column: Index) -> Index:
        """Where the first tap of a kernel row lies, of the first channel."""
        emitter = layer.emitter
        left = input_column(emitter, self.conv, column)
        start = layer.source.origin(emitter, row)
        return emitter.add(start, emitter.mul(left, layer.source.channels))

    def _tap(self, block: Index, number: Index) -> Index:
        """The place of a tap among the weights of all blocks."""
        emitter = self.layer.emitter
        return emitter.add(emitter.mul(block, self.conv.weights[0, 0].size), number)

    def _pixel(
        self,
        layer: Layer,
        row: Index,
        column: Index,
        bias: np.ndarray,
        add: Callable[[Index, int, list[ir.Value]], list[ir.Value]],
    ) -> None:
        """All blocks of channels: from the biases through ``add`` to the results."""
        emitter = layer.emitter
        constants = [bias, *self.tables.values()]
        site = Site(layer, row, column, (0, 0), (0, 0), border=False)

        def block(number: Index, width: int) -> None:
            parameters = layer.pool.get(pack_parameters(constants), "parameters")
            biases, *elements = load_parameters(emitter, parameters, constants, number)
            sums = add(number, width, biases[:width])
            for b in range(width):
                known = dict(zip(self.tables, (e[b] for e in elements), strict=True))
                channel = emitter.add(emitter.mul(number, CHANNEL_BLOCK), b)
                finish(self.conv, site, 0, channel, sums[b], known)

        emitter.loop(0, self.blocks - 1, 1, lambda number: block(number, CHANNEL_BLOCK))
        block(self.blocks - 1, self.last)


class _Halfwords:
    """Weights as halfwords: channels 0 and 2, then 1 and 3, of a tap."""

    def __init__(self, emitter: Emitter, conv: Convolution) -> None:
        self.emitter, self.conv = emitter, conv
        ordered = by_block(conv)[:, :, [0, 2, 1, 3]].astype("<i2")
        self.packed = np.ascontiguousarray(ordered).view("<i8").reshape(-1)

    def add(
        self, layer: Layer, sums: Sequence[ir.Value], where: Index, tap: Index, *, border: bool
    ) -> list[ir.Value]:
        """``sums`` plus the products of the word at ``where``, less padding at a border."""
        emitter, width = self.emitter, len(sums)
        if width == CHANNEL_BLOCK:
            word = load_any(emitter, layer.source.buffer, where)
        else:
            places = [emitter.add(where, b) for b in range(width)]
            word = load_word(emitter, layer.source.buffer, places)
        pairs = [extend(word, 0), extend(word, 1)]
        if border and self.conv.pad_value:
            less = emitter.integer(repeated(-self.conv.pad_value, 16))
            pairs = [tiny.AddHalvesOp(pair, less).res for pair in pairs]
        weights = halves(emitter, emitter.load(layer.pool.get(self.packed, "weights"), [tap]))
        products = [
            arith.muli(half(pairs[b % 2], b // 2), half(weights[b % 2], b // 2))
            for b in range(width)
        ]
        return [arith.addi(total, p) for total, p in zip(sums, products, strict=True)]


class _Bytes:
    """Weights as bytes, in the order of the channels."""

    def __init__(self, emitter: Emitter, conv: Convolution) -> None:
        self.emitter, self.conv = emitter, conv
        self.packed = np.ascontiguousarray(by_block(conv)).reshape(-1)

    def add(
        self, layer: Layer, sums: Sequence[ir.Value], where: Index, tap: Index, *, border: bool
    ) -> list[ir.Value]:
        """``sums`` plus the products of the bytes from ``where`` on, less padding at a border."""
        emitter = self.emitter
        weights = layer.pool.get(self.packed, "weights")
        start = emitter.mul(tap, CHANNEL_BLOCK)
        result = []
        for b, total in enumerate(sums):
            x = emitter.widen(emitter.load(layer.source.buffer, [emitter.add(where, b)]))
            if border and self.conv.pad_value:
                x = arith.subi(x, emitter.integer(self.conv.pad_value))
            w = emitter.widen(emitter.load(weights, [emitter.add(start, b)]))
            result.append(arith.addi(total, arith.muli(x, w)))
        return result
