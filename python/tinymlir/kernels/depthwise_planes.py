"""Depthwise convolution channel by channel, over planes of input rows: what such kernels share.

A ring of rows in scratch memory, as in `Depthwise`, but each channel of a row is a plane of its
own: its columns are neighbours, of which one word holds several. Some outputs of a row are
computed together: they share the taps.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from tinymlir.bindings import func, ir
from tinymlir.kernels.channel_tables import (
    channel_bytes,
    channel_tables,
    channel_words,
    element_of,
    place_of,
)
from tinymlir.kernels.depthwise import Depthwise
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.late_steps import late_bytes, late_mix, late_steps
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.row_copy import CHANNEL_BLOCK
from tinymlir.kernels.words import advance, fetch, stream


class DepthwisePlanes(Depthwise):
    """All rows of a block of channels, then the next block; in each row, channel by channel."""

    #: units of scratch memory from a channel's plane to the next one's
    plane: int
    #: words that hold the weights of a kernel row
    row_words: int
    #: outputs of a row computed together
    together: int

    @property
    def slot(self) -> int:
        """Units of a row of the ring."""
        return self.plane * CHANNEL_BLOCK

    def constant_bytes(self) -> int:
        words = self.conv.kernel[0] * self.row_words
        channels = channel_bytes(self.conv) + late_bytes(self.conv)
        return 4 * words * self.conv.groups + channels

    def _block_mix(self, width: int) -> Mix:
        conv = self.conv
        rows, columns = conv.out_hw
        blocks, rest = divmod(columns, self.together)
        channel = loop(self._output_mix(self.together), blocks)
        if rest:
            channel += self._output_mix(rest)
        row = loop(channel + line(alu=10, load=3, store=2), width)
        copies = self._copy_mix(width).times(conv.kernel[0] + (rows - 1) * conv.stride[0])
        return copies + loop(row + line(alu=12, load=6, store=6), rows)

    @abstractmethod
    def _copy_mix(self, width: int) -> Mix:
        """The function that `_emit_copy` emits, called once."""

    def _output_mix(self, count: int) -> Mix:
        """``count`` outputs of a channel."""
        conv = self.conv
        tables = line(load=channel_words(conv))
        sums = self._kernel_row_mix(count) * conv.kernel[0]
        return sums + tables + late_mix(conv, 1, count) + finish_mix(conv, count) + line(alu=4)

    @abstractmethod
    def _kernel_row_mix(self, count: int) -> Mix:
        """What `_kernel_row` emits for ``count`` outputs."""

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        Kernel.prepare(self, layer, scratch)
        groups = self.conv.groups
        self.blocks = -(-groups // CHANNEL_BLOCK)
        self.last = groups - (self.blocks - 1) * CHANNEL_BLOCK
        widths = sorted({CHANNEL_BLOCK if self.blocks > 1 else self.last, self.last})
        self.copies = {width: self._emit_copy(width) for width in widths}
        self.tables = channel_tables(self.conv, layer.root)
        self.constants = self._pack()

    def _pack(self) -> np.ndarray:
        """Constants of each channel, i32: bias if there is one, words of each kernel row, elements
        of tables."""
        weights = self._pack_rows(self.conv.weights[:, 0, :, :, 0])
        tables = [t.reshape(-1, 1).view("<i4") for t in self.tables.values()]
        biases = self.conv.bias[:, None][:, : int(self.conv.has_biases)]
        constants = np.concatenate([biases, weights, *tables], axis=1).astype("<i4")
        self.words, self.late = constants.shape[1], late_steps(self.conv)
        if self.late is None:
            return constants.reshape(-1)
        place = biases.shape[1] + weights.shape[1] + place_of(self.tables, self.late.multipliers)
        return self.late.pack(constants, 0, 1, place, 0)

    @abstractmethod
    def _pack_rows(self, weights: np.ndarray) -> np.ndarray:
        """``[channel, row, column]`` i8 as ``[channel, row and word]`` i32."""

    def _channel_block(self, block: Index, width: int) -> None:
        conv, layer, emitter = self.conv, self.layer, self.layer.emitter
        first = emitter.mul(block, CHANNEL_BLOCK)
        constants = stream(layer.pool.get(self.constants, "weights"))
        begin = advance(constants, emitter.mul(first, self.words))
        step = conv.stride[0]

        def copy(row: Index, slot: Index) -> None:
            where = [emitter.index(v) for v in (row, slot, first)]
            func.call([], self.copies[width], [layer.source.buffer, self.scratch, *where])

        def channel_of_row(row: Index, slots: tuple[ir.Value, ...], c: Index, w: ir.Value) -> None:
            planes = [emitter.add(slot, emitter.mul(c, self.plane)) for slot in slots]
            channel = emitter.add(first, c)

            def outputs(column: Index, count: int) -> None:
                self._outputs(row, column, count, channel, planes, w)

            whole = conv.out_hw[1] // self.together * self.together
            emitter.loop(0, whole, self.together, lambda x: outputs(x, self.together))
            if whole < conv.out_hw[1]:
                outputs(whole, conv.out_hw[1] - whole)

        def output_row(row: Index, *slots: ir.Value) -> list[ir.Value]:
            top = emitter.sub(emitter.mul(row, step), conv.pad[0])
            for kh in range(conv.kernel[0] - step, conv.kernel[0]):
                copy(emitter.add(top, kh), slots[kh])

            def channel(c: Index, w: ir.Value) -> list[ir.Value]:
                channel_of_row(row, slots, c, w)
                return [advance(w, self.words)]

            emitter.loop(0, width, 1, channel, [begin])
            return [*slots[step:], *slots[:step]]

        places = [kh * self.slot for kh in range(conv.kernel[0])]
        for kh in range(conv.kernel[0] - step):
            copy(kh - conv.pad[0], places[kh])
        emitter.loop(0, conv.out_hw[0], 1, output_row, [emitter.index(p) for p in places])

    def _outputs(
        self,
        row: Index,
        column: Index,
        count: int,
        channel: Index,
        planes: list[Index],
        w: ir.Value,
    ) -> None:
        """``count`` outputs of a channel from ``column`` on; its constants at ``w``."""
        bias, constants = self.layer.emitter.integer(0), w
        if self.conv.has_biases:
            bias, w = fetch(w, 0), advance(w, 1)
        sums = [bias] * count
        for plane in planes:
            sums = self._kernel_row(self._at(plane, column), w, sums)
            w = advance(w, self.row_words)
        place, known = 0, {}
        for value, table in self.tables.items():
            words = [fetch(w, place + i) for i in range(table.itemsize // 4)]
            known[value] = element_of(words)
            place += len(words)
        if self.late is not None:
            held = known[self.late.multipliers]
            sums, known[self.late.multipliers] = self.late.emit(sums, 1, lambda: constants, held)
        site = Site(self.layer, row, column, (0, 0), (0, 0), border=False)
        for p, total in enumerate(sums):
            finish(self.conv, site, p, channel, total, known)

    @abstractmethod
    def _at(self, plane: Index, column: Index) -> ir.Value:
        """A pointer to the first input column under the window of an output ``column``."""

    @abstractmethod
    def _kernel_row(self, x: ir.Value, w: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """``sums`` plus the products of the columns at ``x`` with a kernel row, at ``w``."""

    @abstractmethod
    def _emit_copy(self, width: int) -> str:
        """``@layer<i>_row<width>(input, scratch, row, slot, channel)``: a row of the ring.

        The columns that windows reach, ``width`` channels of them; a row beside the image is
        all padding.
        """
