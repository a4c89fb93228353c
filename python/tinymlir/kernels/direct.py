"""Direct convolution: a block of pixels × output channels in registers."""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels.channel_tables import channel_bytes, channel_words
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import (
    Site,
    finish,
    finish_mix,
    full_bias,
    input_pixel,
    load_activation,
    load_biases,
    multiply_accumulate,
)
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.targets import Target

#: Registers of the hot loop besides accumulators and operands: two pointers and a counter.
_LOOP_REGISTERS = 3
#: Pixels together where registers hold vectors: LLVM forms them of powers of two alone.
_VECTOR_PIXELS = 4


def register_block(registers: int, lanes: int = 1) -> tuple[int, int]:
    """Output channels and pixels to compute together within ``registers`` registers.

    With ``lanes`` a register holds that many channels, and pixels are few enough for every
    core that has such registers.

    A block of b channels and p pixels keeps b·p accumulators, b weights and p
    activations; an operand loaded serves p or b MACs. The best block has the most
    MACs per load and accumulation, b·p / (b·p + b + p); channels go first, since
    more pixels need wider images. The smallest block needs six registers.
    """
    if lanes > 1:
        return lanes, _VECTOR_PIXELS
    fitting = [
        (b, p)
        for b in range(1, 9)
        for p in range(1, b + 1)
        if b * p + b + p + _LOOP_REGISTERS <= registers
    ]
    return max(fitting, key=lambda block: block[0] * block[1] / (sum(block) + block[0] * block[1]))


def pack_weights(weights: np.ndarray, block: int) -> np.ndarray:
    """``(G, O, KH, KW, I)`` to the order in which the kernel reads them, flat.

    Output channels go in blocks; within a block, the channels of one operand lie
    side by side: ``[group][block][kh][kw][in][channel of block]``, the last block
    as narrow as it is.
    """
    parts = []
    for group in weights:
        for first in range(0, group.shape[0], block):
            parts.append(np.moveaxis(group[first : first + block], 0, -1).reshape(-1))
    return np.concatenate(parts)


class Direct(Kernel):
    """Any convolution: loops over groups and channel blocks inside a block of pixels.

    The interior is computed in blocks of pixels, the border pixel by pixel by a function
    of its own, over the taps that exist.
    """

    name = "direct"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.channels, self.pixels = register_block(core.registers, core.lanes)
        self.packed = pack_weights(conv.weights, self.channels)
        self.inside = conv.interior(0), conv.interior(1)
        if not self.inside[0] or not self.inside[1]:
            self.inside = range(0), range(0)

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        return True

    def constant_bytes(self) -> int:
        full = full_bias(self.conv)
        border = full.nbytes if self._has_border() and full.any() else 0
        return self.packed.size + channel_bytes(self.conv) + border

    def mix(self) -> Mix:
        conv, (rows, columns) = self.conv, map(len, self.inside)
        blocks, singles = divmod(columns, self.pixels)
        full = conv.kernel[0] * conv.kernel[1]
        row = loop(self._pixel_mix(self.pixels, full), blocks)
        row += loop(self._pixel_mix(1, full), singles)
        mix = loop(row + line(alu=8, load=2, store=2), rows)
        border = conv.out_hw[0] * conv.out_hw[1] - rows * columns
        if border:
            products = self.executed_macs() // (len(conv.bias) * conv.in_per_group)
            taps = (products - rows * columns * full) / border
            pixel = line(alu=30) + self._pixel_mix(1, taps, border=True)
            mix += function(pixel).times(border) + line(alu=30, branch=6)
        return function(mix)

    def _pixel_mix(self, pixels: int, taps: float, border: bool = False) -> Mix:
        """All channels of ``pixels`` neighbours under a window of that many taps."""
        conv = self.conv
        finish = finish_mix(conv, pixels)
        offset = pixels if border and conv.pad_value else 0

        def block(width: int) -> Mix:
            tap = line(load=pixels + width) + line(alu=offset, mac=pixels * width)
            run = taps / conv.kernel[0]
            if conv.groups == 1 and conv.dilation[1] == 1:
                row = loop(tap, run * conv.in_per_group)
            else:
                row = loop(loop(tap, conv.in_per_group) + line(alu=1), run)
            sums = loop(row + line(alu=6, load=1), conv.kernel[0])
            words = channel_words(conv)
            ends = line(load=words * width)
            spills = line(alu=8, load=4, store=4)
            return ends + sums + finish * width + spills

        whole, rest = divmod(conv.out_per_group, self.channels)
        group = loop(block(self.channels), whole)
        if rest:
            group += block(rest)
        return loop(group, conv.groups)

    def _has_border(self) -> bool:
        rows, columns = self.inside
        return len(rows) * len(columns) < self.conv.out_hw[0] * self.conv.out_hw[1]

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.border_symbol = f"{layer.function.name.value}_border"
        if self._has_border():
            self._emit_border_function()

    def whole(self) -> None:
        emitter, rows = self.layer.emitter, self.inside[0]
        height, width = self.conv.out_hw
        everything = Columns.all(width)
        emitter.loop(0, rows.start, 1, lambda row: self._border(row, 0, width))
        emitter.loop(rows.start, rows.stop, 1, lambda row: self._interior(row, everything))
        emitter.loop(rows.stop, height, 1, lambda row: self._border(row, 0, width))

    def row(self, row: Index, columns: Columns) -> None:
        emitter, rows = self.layer.emitter, self.inside[0]
        if len(rows) == self.conv.out_hw[0]:
            self._interior(row, columns)
            return
        if not rows:
            self._border(row, columns.first, columns.last)
            return
        number = emitter.index(emitter.sub(row, rows.start))
        inside = arith.cmpi(arith.CmpIPredicate.ult, number, emitter.index(len(rows)))
        emitter.either(
            inside,
            lambda: self._interior(row, columns),
            lambda: self._border(row, columns.first, columns.last),
        )

    def _border(self, row: Index, first: Index, last: Index) -> None:
        emitter, function = self.layer.emitter, self.layer.function

        def one(column: Index) -> None:
            operands = [*function.arguments, emitter.index(row), emitter.index(column)]
            func.call([], self.border_symbol, operands)

        emitter.loop(first, last, 1, one)

    def _interior(self, row: Index, columns: Columns) -> None:
        """A row of which no pixel's window reaches beyond the image above or below."""
        emitter, inside = self.layer.emitter, self.inside[1]
        taps = [(0, size) for size in self.conv.kernel]

        def run(first: Index, last: Index, count: int) -> None:
            emitter.loop(
                first,
                last,
                count,
                lambda column: self._compute(
                    Site(self.layer, row, column, taps[0], taps[1], border=False), count
                ),
            )

        first, last = columns.first, columns.last
        if inside.start:
            first = emitter.minimum(emitter.maximum(inside.start, first), last)
        if inside.stop < self.conv.out_hw[1]:
            last = emitter.maximum(emitter.minimum(inside.stop, last), first)
        blocked = emitter.add(first, emitter.down(emitter.sub(last, first), self.pixels))
        if inside.start:
            self._border(row, columns.first, first)
        run(first, blocked, self.pixels)
        run(blocked, last, 1)
        if inside.stop < self.conv.out_hw[1]:
            self._border(row, last, columns.last)

    def _emit_border_function(self) -> None:
        """``@layer<i>_border(arguments…, row, column)``: one pixel over the taps that exist."""
        conv, function, emitter = self.conv, self.layer.function, self.layer.emitter
        index = ir.IndexType.get()
        types = [argument.type for argument in function.arguments]
        with ir.InsertionPoint.after(function.operation):
            helper = func.FuncOp(
                self.border_symbol, ([*types, index, index], []), visibility="private"
            )
        with ir.InsertionPoint(helper.add_entry_block()):
            row, column = list(helper.arguments)[-2:]

            def taps(axis: int, position: ir.Value) -> tuple[Index, Index]:
                start = emitter.mul(position, conv.stride[axis])
                dilation = conv.dilation[axis]
                before = emitter.maximum(emitter.sub(conv.pad[axis], start), 0)
                room = emitter.sub(conv.in_hw[axis] + conv.pad[axis], start)
                first = emitter.ceildiv(before, dilation)
                last = emitter.minimum(
                    emitter.ceildiv(emitter.maximum(room, 0), dilation), conv.kernel[axis]
                )
                return first, last

            layer = self.layer.rebind(helper)
            site = Site(layer, row, column, taps(0, row), taps(1, column), border=True)
            self._compute(site, 1)
            func.ReturnOp([])

    def _compute(self, site: Site, pixels: int) -> None:
        """One pixel, or ``pixels`` neighbours of a row: all channels."""
        conv, emitter, pool = self.conv, self.layer.emitter, self.layer.pool
        per_group = conv.out_per_group
        weights = pool.get(self.packed, "weights")
        bias = full_bias(conv) if site.border else conv.bias

        def block(group: Index, first: Index, width: int) -> None:
            channel = emitter.add(emitter.mul(group, per_group), first)
            sums = load_biases(self.layer, bias, channel, width) * pixels
            sums = self._accumulate(site, pixels, weights, group, channel, width, sums)
            for p in range(pixels):
                for b in range(width):
                    finish(conv, site, p, emitter.add(channel, b), sums[p * width + b])

        def one_group(group: Index) -> None:
            whole = per_group // self.channels * self.channels
            emitter.loop(0, whole, self.channels, lambda first: block(group, first, self.channels))
            if whole < per_group:
                block(group, whole, per_group - whole)

        emitter.loop(0, conv.groups, 1, one_group)

    def _accumulate(
        self,
        site: Site,
        pixels: int,
        weights: ir.Value,
        group: Index,
        channel: Index,
        width: int,
        sums: list[ir.Value],
    ) -> list[ir.Value]:
        """``sums`` plus the products of the windows and of ``width`` channels' weights."""
        conv, emitter = self.conv, self.layer.emitter
        kernel_h, kernel_w = conv.kernel
        depth, in_channels = conv.in_per_group, conv.groups * conv.in_per_group
        start = emitter.mul(channel, kernel_h * kernel_w * depth)

        def tap(position: Index, weight: Index, *carried: ir.Value) -> list[ir.Value]:
            activations = [
                load_activation(conv, site, emitter.add(position, p * conv.stride[1] * in_channels))
                for p in range(pixels)
            ]
            row = [
                emitter.widen(emitter.load(weights, [emitter.add(weight, b)])) for b in range(width)
            ]
            return multiply_accumulate(emitter, list(carried), activations, row)

        def kernel_row(kh: Index, *carried: ir.Value) -> list[ir.Value]:
            origin = emitter.add(input_pixel(conv, site, kh), emitter.mul(group, depth))
            weight = emitter.add(start, emitter.mul(kh, kernel_w * depth * width))
            low, high = site.column_taps

            def run(r: Index, *values: ir.Value) -> list[ir.Value]:
                where = emitter.add(weight, emitter.mul(r, width))
                return tap(emitter.add(origin, r), where, *values)

            # Taps follow one another in memory where neighbouring columns are neighbouring taps.
            if conv.groups == 1 and conv.dilation[1] == 1:
                return emitter.loop(
                    emitter.mul(low, depth), emitter.mul(high, depth), 1, run, carried
                )

            def kernel_column(kw: Index, *values: ir.Value) -> list[ir.Value]:
                step = emitter.mul(kw, conv.dilation[1] * in_channels)
                base = emitter.add(origin, step)
                at = emitter.add(weight, emitter.mul(kw, depth * width))

                def operand(c: Index, *inner: ir.Value) -> list[ir.Value]:
                    where = emitter.add(at, emitter.mul(c, width))
                    return tap(emitter.add(base, c), where, *inner)

                return emitter.loop(0, depth, 1, operand, values)

            return emitter.loop(low, high, 1, kernel_column, carried)

        return emitter.loop(*site.row_taps, 1, kernel_row, sums)
