"""Depthwise convolution, 16 channels at a time, over a ring of input rows.

Rows are copied as in `Depthwise`, which see. Products of bytes are added as halfwords for as
many taps as cannot overflow these, and only then widened.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels import vectors
from tinymlir.kernels.channel_tables import table_bytes
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise import Depthwise, ring_columns
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.helium_dot import FINISH, channel_words, find_rescale
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.targets import Target

#: Channels computed together.
BLOCK = vectors.BYTES
#: Weights of the taps in one sum of halfwords: 128 times that fits.
_MOST_WEIGHT = 255
#: Columns copied between two branches.
_UNROLL = 4
#: The channels of a block that each of four vectors of sums holds, after two halvings.
_LANES = np.array([range(0, 16, 4), range(2, 16, 4), range(1, 16, 4), range(3, 16, 4)])


class HeliumDepthwise(Depthwise):
    """All rows of a block of channels, then the next block."""

    name = "helium-depthwise"
    steps_over = False

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels fill a vector half."""
        return core.has("mve") and super().takes(conv, core) and conv.groups >= BLOCK // 2

    def scratch_bytes(self) -> int:
        """The rows under a window."""
        return self.conv.kernel[0] * ring_columns(self.conv) * BLOCK

    def constant_bytes(self) -> int:
        taps = self.conv.kernel[0] * self.conv.kernel[1]
        channel = taps + 4 + table_bytes(self.conv) // self.conv.groups
        return -(-self.conv.groups // BLOCK) * BLOCK * channel

    def mix(self) -> Mix:
        conv, (rows, columns) = self.conv, self.conv.out_hw
        taps = conv.kernel[0] * conv.kernel[1]
        copy = function(loop(line(vector=2), ring_columns(conv), _UNROLL) + line(alu=16, load=4))
        # Two halves of a product, then four vectors of sums with their constants.
        pixel = line(vector=6) * taps + self._finish_mix()
        row = loop(pixel + line(alu=4), columns) + line(alu=12, load=6, store=6)
        copies = copy.times(conv.kernel[0] + (rows - 1) * conv.stride[0])
        return function(loop(copies + loop(row, rows), -(-conv.groups // BLOCK)))

    def _finish_mix(self) -> Mix:
        """From 16 sums to results."""
        tables = table_bytes(self.conv) // (4 * self.conv.groups)
        return line(vector=(FINISH + 1 + tables) * len(_LANES) + 8)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        Kernel.prepare(self, layer, scratch)
        self.blocks = -(-self.conv.groups // BLOCK)
        self.last = self.conv.groups - (self.blocks - 1) * BLOCK
        widths = sorted({BLOCK if self.blocks > 1 else self.last, self.last})
        self.copies = {width: self._emit_copy(width) for width in widths}
        self._pack(np.arange(self.blocks) * BLOCK)

    def _pack(self, first: np.ndarray) -> None:
        """Note the constants of the blocks that begin with these channels."""
        conv, root = self.conv, self.layer.root
        self.rescale = find_rescale(conv, root, self.core)
        taps = conv.weights[:, 0, :, :, 0].reshape(conv.groups, -1)
        self.sums = _sums(np.abs(taps.astype(int)))
        order = [tap for taps_of_sum in self.sums for tap in taps_of_sum]
        weights = _in_blocks(taps[:, order], first).swapaxes(1, 2)
        words = [t.astype("<i4") for t in channel_words(conv, self.rescale)]
        rows = [_in_blocks(t, first)[:, _LANES] for t in words]
        #: for each block its taps, then four vectors each of biases and tables
        self.constants = np.concatenate(
            [
                np.ascontiguousarray(a).view(np.int8).reshape(len(first), -1)
                for a in (weights, *rows)
            ],
            axis=1,
        )

    def whole(self) -> None:
        full = self.blocks - (self.last < BLOCK)
        self.layer.emitter.loop(0, full, 1, lambda block: self._channel_block(block, BLOCK))
        if self.last < BLOCK:
            self._channel_block(full, self.last)

    def _channel_block(self, block: Index, width: int) -> None:
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        first = emitter.mul(block, BLOCK)
        line = ring_columns(conv) * BLOCK
        places = [kh * line for kh in range(conv.kernel[0])]
        advance = conv.stride[0]

        def copy(row: Index, slot: Index) -> None:
            where = [emitter.index(v) for v in (row, slot, first)]
            func.call([], self.copies[width], [layer.source.buffer, self.scratch, *where])

        for kh in range(conv.kernel[0] - advance):
            copy(kh - conv.pad[0], places[kh])

        def output_row(row: Index, *slots: ir.Value) -> list[ir.Value]:
            top = emitter.sub(emitter.mul(row, advance), conv.pad[0])
            for kh in range(conv.kernel[0] - advance, conv.kernel[0]):
                copy(emitter.add(top, kh), slots[kh])

            def pixel(column: Index) -> None:
                site = Site(layer, row, column, (0, 0), (0, 0), border=False)
                base = emitter.mul(column, conv.stride[1] * BLOCK)
                rows = [emitter.add(slot, base) for slot in slots]

                def window(kh: int, kw: int) -> ir.Value:
                    at = emitter.add(rows[kh], kw * BLOCK)
                    return vectors.load(emitter, self.scratch, at, BLOCK, 8)

                self._pixel(site, window, block, first, width)

            emitter.loop(0, conv.out_hw[1], 1, pixel)
            return [*slots[advance:], *slots[:advance]]

        emitter.loop(0, conv.out_hw[0], 1, output_row, [emitter.index(p) for p in places])

    def _pixel(
        self,
        site: Site,
        window: Callable[[int, int], ir.Value],
        block: Index,
        first: Index,
        width: int,
    ) -> None:
        """One pixel of ``width`` channels from ``first`` on; ``window`` loads those of a tap."""
        conv, emitter, layer = self.conv, self.layer.emitter, self.layer
        constants = layer.pool.get(self.constants.reshape(-1), "weights")
        start = emitter.mul(block, self.constants.shape[1])
        totals: list[ir.Value] = []
        place = start
        for taps in self.sums:
            sums: list[ir.Value] = []
            for tap in taps:
                activations = window(*divmod(tap, conv.kernel[1]))
                weights = vectors.load(emitter, constants, place, BLOCK, 8, alignment=4)
                both = vectors.products(activations, weights)
                sums = [arith.addi(*p) for p in zip(sums, both, strict=True)] if sums else [*both]
                place = emitter.add(place, BLOCK)
            wide = [part for half in sums for part in vectors.halves(half)]
            totals = [arith.addi(*p) for p in zip(totals, wide, strict=True)] if totals else wide
        self._finish(site, totals, constants, place, first, width)

    def _finish(
        self,
        site: Site,
        totals: list[ir.Value],
        constants: ir.Value,
        place: Index,
        first: Index,
        width: int,
    ) -> None:
        """Requantise and store ``width`` channels."""
        layer, emitter, rescale = self.layer, self.layer.emitter, self.rescale

        def element(table: int, number: int) -> ir.Value:
            at = emitter.add(place, (table * len(_LANES) + number) * vectors.BYTES)
            return vectors.load(emitter, constants, at, vectors.WORDS, 32, alignment=4)

        if rescale is None:
            totals = [arith.addi(total, element(0, i)) for i, total in enumerate(totals)]
            for lanes, total in zip(_LANES, totals, strict=True):
                for place_of, channel in enumerate(lanes):
                    if channel < width:
                        value = vectors.element(total, place_of)
                        finish(self.conv, site, 0, emitter.add(first, int(channel)), value)
            return
        results = []
        for i, total in enumerate(totals):
            elements = [element(t, i) for t in range(1, len(rescale.tables) + 1)]
            values = rescale.emit(rescale.started(total, element(0, i)), elements)
            results.append(vectors.limit(values, rescale.least, rescale.most))
        packed = vectors.join(vectors.join(*results[:2]), vectors.join(*results[2:]))
        where = layer.target.position(emitter, [0, site.row, site.column, first])
        vectors.store_first(emitter, packed, layer.target.buffer, where, width)

    def _emit_copy(self, width: int) -> str:
        """``@layer<i>_row<width>(input, scratch, row, slot, channel)``: a row of the ring.

        The columns that windows reach, ``width`` channels of them; a row beside the image is
        all padding.
        """
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        assert self.scratch is not None
        symbol = f"{layer.function.name.value}_row{width}"
        types = [layer.source.buffer.type, self.scratch.type, *[ir.IndexType.get()] * 3]
        with ir.InsertionPoint.after(layer.function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        columns = ring_columns(conv)
        left = min(conv.pad[1], columns)
        right = min(left + conv.in_hw[1], columns)
        with ir.InsertionPoint(helper.add_entry_block()):
            source, scratch, row, slot, channel = helper.arguments
            filler = vectors.splat(conv.pad_value, BLOCK, 8)

            def fill(begin: int, end: int) -> None:
                def one(column: Index) -> None:
                    at = emitter.add(slot, emitter.mul(column, BLOCK))
                    vectors.store(emitter, filler, scratch, at)

                emitter.loop(begin, end, 1, one, unroll=_UNROLL)

            def column(c: Index) -> None:
                pixel = emitter.add(emitter.mul(row, conv.in_hw[1]), c)
                at = emitter.add(emitter.mul(pixel, conv.groups), channel)
                to = emitter.add(slot, emitter.mul(emitter.add(c, left), BLOCK))
                vectors.copy(emitter, source, at, scratch, to, width)

            height = emitter.index(conv.in_hw[0])

            def image() -> None:
                fill(0, left)
                emitter.loop(0, right - left, 1, column, unroll=_UNROLL)
                fill(right, columns)

            inside = arith.cmpi(arith.CmpIPredicate.ult, row, height)
            emitter.either(inside, image, lambda: fill(0, columns))
            func.ReturnOp([])
        return symbol


def _sums(weights: np.ndarray) -> list[list[int]]:
    """Taps that may be added as halfwords, in any of the channels; ``channels × taps``, positive.

    Each tap goes to the first sum that has room for it.
    """
    sums: list[list[int]] = []
    for tap in range(weights.shape[1]):
        for taps in sums:
            if weights[:, [*taps, tap]].sum(axis=1).max() <= _MOST_WEIGHT:
                taps.append(tap)
                break
        else:
            sums.append([tap])
    return sums


def _in_blocks(rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    """``channels × n`` as ``blocks × channels of a block × n``, filled up with zeros."""
    padded = np.concatenate([rows, np.zeros((BLOCK, *rows.shape[1:]), rows.dtype)])
    return padded[first[:, None] + np.arange(BLOCK)]
