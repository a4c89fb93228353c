"""Convolution 16 MACs at a time: dot products of windows and weights, both bytes in memory.

A window that lies in one piece (a single pixel of whole vectors) is read where it is. Others
are copied to scratch memory first, padding included, a kernel row at a time (im2col). Weights
are filled up with zeros to whole vectors, so that what lies behind a window does not matter.
Four output channels of a block of pixels are requantised together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, ir
from tinymlir.dialects import tiny
from tinymlir.kernels import vectors
from tinymlir.kernels.channel_tables import table_bytes
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.helium_rescale import HeliumRescale, helium_rescale
from tinymlir.kernels.helium_window import emit_copy, windows_of
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.pixels import Site, finish, input_column, input_row, views_of
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.requantization import read_requantization
from tinymlir.kernels.window_copy import call_to_scratch
from tinymlir.targets import Target

#: Output channels requantised together.
BLOCK = vectors.WORDS
#: Accumulators of one loop: they must lie in even registers, beside which loops need others.
_ACCUMULATORS = 4
#: Vectors of a dot product between two branches: 32 bytes of code each.
_MOST_STEPS_A_TURN = 12
#: Vectors of windows that stay in registers for all channels of a block.
_MOST_KEPT = 8
#: Bytes from a window to the next one up to which vectors that both have are loaded once.
_MOST_SHARED = 4 * vectors.BYTES
#: Instructions that make four results of four sums.
FINISH = 10
#: Scratch memory beyond which a layer is better off without.
_SCRATCH_LIMIT = 8192


class HeliumDot(Kernel):
    """Block by block of neighbouring pixels, four channels at a time."""

    name = "helium-dot"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.pixels = 2 if conv.out_hw[1] > 1 else 1
        #: channels of one loop over a window
        self.width = _ACCUMULATORS // self.pixels
        self.windows = windows_of(conv, self.pixels)
        self.steps = self.windows.runs * self.windows.steps
        self.gathers = not self._in_place()

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether windows fill a vector half, and there is room for them."""
        enough = conv.weights[0, 0].size >= vectors.BYTES // 2
        return (
            core.has("mve")
            and conv.groups == 1
            and enough
            and cls(conv, core).scratch_bytes() <= _SCRATCH_LIMIT
        )

    def _in_place(self) -> bool:
        """Whether windows are read where they are."""
        conv = self.conv
        inside = all(len(conv.interior(axis)) == conv.out_hw[axis] for axis in (0, 1))
        return conv.kernel == (1, 1) and inside and conv.in_per_group % vectors.BYTES == 0

    def scratch_bytes(self) -> int:
        """The windows of a block of pixels."""
        if self._in_place():
            return 0
        return self.windows.bytes

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        blocks = -(-self.conv.out_per_group // BLOCK)
        weights = BLOCK * self.steps * vectors.BYTES
        return blocks * (weights + 4 * BLOCK) + table_bytes(self.conv)

    def mix(self) -> Mix:
        conv, (rows, columns) = self.conv, self.conv.out_hw
        windows, rest = divmod(columns, self.pixels)
        row = loop(self._pixel_mix(self.pixels), windows) + loop(self._pixel_mix(1), rest)
        work = function(loop(row + line(alu=6), rows))
        if self._in_place():
            return work
        runs = conv.kernel[0] * (conv.kernel[1] if conv.dilation[1] > 1 else 1)
        run = -(-conv.weights[0, 0].size // (runs * vectors.BYTES))
        copy = function(loop(loop(line(vector=2), run) + line(alu=16, load=2), runs))
        return work + copy.times(rows * columns)

    def _pixel_mix(self, pixels: int) -> Mix:
        """All channels of some neighbours."""
        step = line(vector=pixels + self.width + pixels * self.width)
        sums = loop(step, self.steps, _turn(self.steps)) + line(vector=pixels * self.width, alu=4)
        ends = line(vector=2 + table_bytes(self.conv) // (4 * len(self.conv.bias)))
        block = sums * (BLOCK // self.width) + ends + line(vector=FINISH) * pixels
        return loop(block + line(alu=4), -(-self.conv.out_per_group // BLOCK)) + line(
            alu=20, load=4
        )

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.copies: dict[int, str] = {}
        self.rescale = find_rescale(self.conv, layer.root, self.core)
        self.constants = _pack(self.conv, self.width, self.steps, self.rescale)

    def row(self, row: Index, columns: Columns) -> None:
        emitter = self.layer.emitter
        first, last = columns.first, columns.last
        whole = emitter.add(first, emitter.down(emitter.sub(last, first), self.pixels))
        emitter.loop(first, whole, self.pixels, lambda c: self._pixels(row, c, self.pixels))
        if self.pixels > 1:
            emitter.loop(whole, last, 1, lambda c: self._pixels(row, c, 1))

    def _pixels(self, row: Index, column: Index, pixels: int) -> None:
        conv, emitter, source = self.conv, self.layer.emitter, self.layer.source
        columns = [emitter.add(column, p) for p in range(pixels)]
        if self.scratch is None:
            base = source.origin(emitter, input_row(emitter, conv, row, 0))
            places = [input_column(emitter, conv, c) for c in columns]
            windows = [emitter.add(base, emitter.mul(c, source.channels)) for c in places]
        else:
            windows = [p * self.windows.pixel for p in range(pixels)]
            if pixels > 1 and self.windows.copies == 1 and self.windows.pixel > _MOST_SHARED:
                windows = [0, *map(emitter.opaque, windows[1:])]
            together = pixels if self.windows.copies == 1 else 1
            for p in range(0, pixels, together):
                where = (row, columns[p], p * self.windows.size)
                call_to_scratch(self.layer, self._copy(together), self.scratch, where)
        again = windows
        if self.width < BLOCK and pixels * self.steps > _MOST_KEPT:
            again = self._again(windows)
        passes = [windows, *[again] * (BLOCK // self.width - 1)]
        site = Site(self.layer, row, column, (0, 0), (0, 0), border=False)
        emitter.loop(0, len(self.constants), 1, lambda block: self._block(site, passes, block))

    def _copy(self, pixels: int) -> str:
        """The function that copies the windows of ``pixels`` neighbours, made where it is new."""
        assert self.scratch is not None
        if pixels not in self.copies:
            self.copies[pixels] = emit_copy(
                self.conv, self.layer, self.scratch, self.windows, pixels
            )
        return self.copies[pixels]

    def _again(self, windows: list[Index]) -> list[Index]:
        """The same windows, to be read once more."""
        emitter = self.layer.emitter
        if self.scratch is None:
            return [emitter.opaque(window) for window in windows]
        start = emitter.opaque(0)
        return [emitter.add(start, window) for window in windows]

    def _block(self, site: Site, windows: list[list[Index]], block: Index) -> None:
        """Four channels of some pixels, whose windows ``windows`` holds for each pass."""
        conv, emitter = self.conv, self.layer.emitter
        constants = self.layer.pool.get(self.constants.reshape(-1), "weights")
        start = emitter.mul(block, self.constants.shape[1])
        pixels, passes = len(windows[0]), len(windows)
        results = [vectors.poison() for _ in range(pixels)]
        for number in range(passes):
            at = emitter.add(start, number * self.steps * self.width * vectors.BYTES)
            sums = self._dot_products(windows[number], constants, at)
            for p in range(pixels):
                for b in range(self.width):
                    # Places 2 apart: two of them are filled by one instruction.
                    place = number + passes * b
                    results[p] = vectors.with_element(results[p], sums[p * self.width + b], place)
        place = emitter.add(start, BLOCK * self.steps * vectors.BYTES)
        biases = self._constants(constants, place)
        first = emitter.minimum(emitter.mul(block, BLOCK), max(conv.out_per_group - BLOCK, 0))
        if self.rescale is not None:
            totals = [self.rescale.started(total, biases) for total in results]
            self._finish(site, self.rescale, totals, constants, place, first)
            return
        totals = [arith.addi(total, biases) for total in results]
        for p, total in enumerate(totals):
            for b in range(min(BLOCK, conv.out_per_group)):
                finish(conv, site, p, emitter.add(first, b), vectors.element(total, b))

    def _constants(self, constants: ir.Value, at: Index) -> ir.Value:
        emitter = self.layer.emitter
        return vectors.load(emitter, constants, at, vectors.WORDS, 32, alignment=4)

    def _dot_products(
        self, windows: list[Index], constants: ir.Value, start: Index
    ) -> list[ir.Value]:
        """Each window times the weights of ``width`` channels."""
        emitter = self.layer.emitter

        layout, size = self.windows, self.width * vectors.BYTES

        def run(number: Index, *sums: ir.Value) -> list[ir.Value]:
            line = emitter.mul(number, layout.line)
            pieces = [emitter.add(window, line) for window in windows]
            at = emitter.add(start, emitter.mul(number, layout.steps * size))

            def one(k: Index, *totals: ir.Value) -> list[ir.Value]:
                return step(pieces, emitter.add(at, emitter.mul(k, size)), k, totals)

            return emitter.loop(0, layout.steps, 1, one, sums, unroll=_turn(layout.steps))

        def step(
            pieces: list[Index], at: Index, k: Index, sums: Sequence[ir.Value]
        ) -> list[ir.Value]:
            result = list(sums)
            operands = [self._operands(piece, k) for piece in pieces]
            for b in range(self.width):
                words = self._constants(constants, emitter.add(at, b * vectors.BYTES))
                weights = vectors.as_bytes(words)
                for p, operand in enumerate(operands):
                    index = p * self.width + b
                    result[index] = tiny.DotOp(result[index], operand, weights).res
            return result

        zeros = [emitter.integer(0)] * (self.width * len(windows))
        rows = max(1, _MOST_STEPS_A_TURN // layout.steps)
        return emitter.loop(0, layout.runs, 1, run, zeros, unroll=rows)

    def _operands(self, window: Index, step: Index) -> ir.Value:
        emitter = self.layer.emitter
        at = emitter.add(window, emitter.mul(step, vectors.BYTES))
        if self.scratch is None:
            return vectors.load(emitter, self.layer.source.buffer, at, vectors.BYTES, 8)
        # As words, since these may be further from a pointer.
        return vectors.as_bytes(self._constants(self.scratch, at))

    def _finish(
        self,
        site: Site,
        rescale: HeliumRescale,
        totals: list[ir.Value],
        constants: ir.Value,
        place: Index,
        first: Index,
    ) -> None:
        """Requantise and store four channels from ``first`` on."""
        layer, emitter = self.layer, self.layer.emitter
        elements = [
            self._constants(constants, emitter.add(place, i * vectors.BYTES))
            for i in range(1, len(rescale.tables) + 1)
        ]
        for p, total in enumerate(totals):
            values = rescale.emit(total, elements)
            result = vectors.narrow(values, rescale.least, rescale.most)
            column = emitter.add(site.column, p)
            where = layer.target.position(emitter, [0, site.row, column, first])
            if self.conv.out_per_group >= BLOCK:
                vectors.store(emitter, result, layer.target.buffer, where)
                continue
            for b in range(self.conv.out_per_group):
                byte = vectors.element(result, b)
                emitter.store(byte, layer.target.buffer, [emitter.add(where, b)])


def find_rescale(conv: Convolution, root: ir.Value, core: Target) -> HeliumRescale | None:
    """How four accumulators become the layer's results, if that is all the layer does to them."""
    found = read_requantization(root.owner.operation)
    if found is None or found.accumulators not in views_of(conv.result):
        return None
    low, high = numerics.accumulator_range(conv.weights.reshape(len(conv.bias), -1), conv.bias)
    return helium_rescale(found, low, high, core.has("mve-float"))


def channel_words(conv: Convolution, rescale: HeliumRescale | None) -> tuple[np.ndarray, ...]:
    """What is added to sums, and the tables that are read then, of each channel."""
    if rescale is None:
        return (conv.bias,)
    return (rescale.addends(conv.bias), *rescale.tables)


def _turn(steps: int) -> int:
    """Vectors of a dot product between two branches: the most that divide all, if not too few."""
    fair = range(_MOST_STEPS_A_TURN // 2, _MOST_STEPS_A_TURN + 1)
    return max((n for n in fair if steps % n == 0), default=_MOST_STEPS_A_TURN)


def _pack(conv: Convolution, width: int, steps: int, rescale: HeliumRescale | None) -> np.ndarray:
    """Constants as bytes, a row for each block, in the order in which they are read.

    For each block of four channels: its weights (``[pass][step][channel of pass]``, a vector of
    each), then its biases and its elements of each table, i32. Channels of a pass are as far
    apart as there are passes. The last block repeats channels of the one before, if there are
    not enough.
    """
    channels, passes = conv.out_per_group, BLOCK // width
    size = int(conv.weights[0, 0].size)
    first = np.minimum(np.arange(0, channels, BLOCK), max(channels - BLOCK, 0))
    chosen = np.minimum(first[:, None] + np.arange(BLOCK), channels - 1)
    weights = np.zeros((*chosen.shape, steps * vectors.BYTES), np.int8)
    weights[..., :size] = conv.weights[0].reshape(channels, size)[chosen]
    ordered = weights.reshape(-1, width, passes, steps, vectors.BYTES).transpose(0, 2, 3, 1, 4)
    parts = [ordered.reshape(len(chosen), -1)]
    for table in channel_words(conv, rescale):
        parts.append(table[chosen].astype("<i4").view(np.int8))
    return np.concatenate(parts, axis=1)
