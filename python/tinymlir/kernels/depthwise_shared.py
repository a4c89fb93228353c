"""Depthwise convolution two MACs at a time, by functions that all layers of a network share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinymlir.bindings import func, ir
from tinymlir.kernels.channel_tables import (
    channel_tables,
    needs_channel_alone,
    place_of,
    scalar_code,
    table_bytes,
)
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise_bands import (
    BAND,
    COLUMNS,
    KERNEL,
    OVERLAP,
    PACKED_WORDS,
    PAIR,
    ROWS,
    RUNS,
    SIZES,
    WEIGHT_WORDS,
    BandFunction,
    Sizes,
    constants_bytes,
    is_odd,
    pack,
    pairs_under,
)
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.late_steps import late_bytes, late_mix, late_steps
from tinymlir.kernels.pixels import finish_mix
from tinymlir.kernels.price import ConstantReads, Mix, function, line
from tinymlir.kernels.row_copy import CHANNEL_BLOCK
from tinymlir.kernels.words import stream
from tinymlir.targets import Target


class DepthwiseShared(Kernel):
    """Bands of rows of four channels, then the next four."""

    name = "depthwise-shared"
    by_rows = False
    steps_over = True

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.band = _band(conv.out_hw[0])
        self.table_bytes = table_bytes(self.conv) // conv.groups

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether channels go one to one in whole words, and windows are 3×3."""
        one_to_one = conv.in_per_group == conv.out_per_group == 1
        window = conv.kernel == (KERNEL, KERNEL) and conv.stride == conv.dilation == (1, 1)
        if not (core.has("dsp") and core.has("unaligned") and one_to_one and window):
            return False
        fits = conv.out_hw[1] >= COLUMNS and conv.in_hw[1] >= KERNEL > max(conv.pad)
        whole = not conv.groups % CHANNEL_BLOCK
        return fits and whole and _band(conv.out_hw[0]) > 0 and needs_channel_alone(conv)

    def scratch_bytes(self) -> int:
        """Constants of four channels, and the planes of a band."""
        return constants_bytes(self.table_bytes) + pairs_under(self.conv.out_hw[1]) * PAIR

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def works_in_place(self) -> bool:
        """Whether each band of the output lies where the input has been copied from already."""
        conv = self.conv
        done = np.minimum(
            np.arange(self.band, conv.out_hw[0] + self.band, self.band), conv.out_hw[0]
        )
        copied = np.minimum(done - conv.pad[0] + OVERLAP, conv.in_hw[0])
        return bool((done * conv.out_hw[1] <= copied * conv.in_hw[1]).all())

    def constant_bytes(self) -> int:
        channels = (4 * (PACKED_WORDS + 1) + self.table_bytes) * self.conv.groups
        return 4 * SIZES + channels + late_bytes(self.conv)

    def constant_reads(self) -> ConstantReads:
        """Each once."""
        return ConstantReads(self.constant_bytes(), 0, 1)

    def mix(self) -> Mix:
        call = function(line(alu=6, load=2, call=1))
        return call + sum((m.elsewhere() for m in self.shared_code().values()), Mix())

    def shared_code(self) -> Mapping[str, Mix]:
        facts = "+" * is_odd(self.conv) + "l" * (late_steps(self.conv, shared=True) is not None)
        return {f"depthwise bands{facts} {scalar_code(self.conv)}": self._function_mix()}

    def _function_mix(self) -> Mix:
        rows, columns = self.conv.out_hw
        pairs, bands = pairs_under(columns), -(-rows // self.band)
        image = min(self.conv.in_hw[0], rows + OVERLAP - self.conv.pad[0])
        # Padding is filled in above the image, and below it.
        padding = _turns(line(alu=2, store=CHANNEL_BLOCK), pairs) + line(load=4, alu=2)
        some = _turns(padding, (rows + OVERLAP - image) / bands)
        carried = _turns((line(load=4) + line(store=4)) * OVERLAP, pairs)
        carry = (carried + line(load=8, alu=6, store=3)).times((bands - 1) / bands)
        lines = _turns(self._line_mix(), _lines(rows, self.band) / bands)
        band = some * 2 + _turns(self._row_mix(), image / bands) + lines + carry
        band += line(load=4, alu=4, store=3) * 4
        others = 1 + self.table_bytes // 4
        constants = line(load=PACKED_WORDS) + line(load=others, alu=WEIGHT_WORDS + 2)
        expand = _turns(constants + line(store=WEIGHT_WORDS + others), CHANNEL_BLOCK)
        group = expand + _turns(band, bands) + line(load=8, alu=4, store=6)
        setup = line(load=6, alu=6, store=8) + _turns(line(store=4), pairs * PAIR // 16)
        return function(setup + _turns(group, self.conv.groups // CHANNEL_BLOCK))

    def _row_mix(self) -> Mix:
        """A row of the image to the planes."""
        sizes = Sizes.of(self.conv, self.band)
        pair = line(load=2, alu=8, store=CHANNEL_BLOCK)
        alone = line(load=CHANNEL_BLOCK, store=CHANNEL_BLOCK)
        row = line(load=8, alu=9) + _turns(pair, sizes.inside // PAIR)
        return row + alone * is_odd(self.conv) + line(alu=1, skip=1) + alone.times(sizes.more)

    def _line_mix(self) -> Mix:
        """Rows of a block, from left to right."""
        outputs, under = ROWS * COLUMNS, ROWS + KERNEL - 1
        block = line(dual_mac=KERNEL * outputs, mac=KERNEL * outputs)
        for run in RUNS:
            block += line(load=KERNEL + run) + line(load=under - run)
        block += line(load=2 + self.table_bytes // 4) + line(load=1) * 2
        block += late_mix(self.conv, 1, outputs, shared=True)
        block += finish_mix(self.conv, outputs) + line(load=1, alu=2 * ROWS + 3, store=1)
        columns = _turns(block, CHANNEL_BLOCK) + line(load=4, alu=4, store=1)
        line_ = _turns(columns, -(-self.conv.out_hw[1] // COLUMNS))
        return line_ + line(load=3, alu=3, store=2) * 4 + line(skip=2)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.tables = channel_tables(self.conv, layer.root)
        self.symbol = f"{layer.function.name.value}_bands"
        BandFunction(self.conv, layer, self.tables).emit(self.symbol)

    def whole(self) -> None:
        layer, constants = self.layer, self._pack().reshape(-1)
        buffers = [layer.source.buffer, layer.target.buffer, self.scratch]
        buffers.append(layer.pool.get(constants, "weights"))
        func.call([], self.symbol, [stream(buffer) for buffer in buffers])

    def row(self, row: Index, columns: Columns) -> None:
        raise NotImplementedError("goes through all rows of some channels first")

    def _pack(self) -> np.ndarray:
        """Sizes, then of each channel weights, the bias and elements of tables, i32."""
        conv = self.conv
        tables = [t.reshape(-1, 1).view("<i4") for t in self.tables.values()]
        weights = pack(conv.weights[:, 0, :, :, 0])
        words = np.concatenate([weights, conv.bias[:, None], *tables], axis=1).astype("<i4")
        sizes, late = Sizes.of(conv, self.band).words(), late_steps(conv, shared=True)
        packed = words.reshape(-1)
        if late is not None:
            place = PACKED_WORDS + 1 + place_of(self.tables, late.multipliers)
            packed = late.pack(words, 0, 1, place, -SIZES, apart=0)
        return np.concatenate([sizes, packed])


def _band(rows: int) -> int:
    """Output rows of a band: none has fewer than a block, and few are in two blocks.

    0 where there is no such number.
    """
    sizes = [n for n in range(min(BAND, rows), ROWS - 1, -1) if rows % n in (0, *range(ROWS, n))]
    return min(sizes, key=lambda n: (_lines(rows, n), -n), default=0)


def _lines(rows: int, band: int) -> int:
    """Lines of blocks that so many rows are in bands."""
    whole, rest = divmod(rows, band)
    return whole * -(-band // ROWS) + -(-rest // ROWS)


def _turns(body: Mix, count: float) -> Mix:
    """A loop of which layers have any number of turns: its code is the same."""
    return (body + line(alu=1, branch=1)).times(count)
