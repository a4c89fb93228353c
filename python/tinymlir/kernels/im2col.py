"""Convolution two MACs at a time: windows widened once, then dot products by SMLAD.

The windows of a block of pixels go to scratch memory as halfwords (`gather`). Every output
channel then reads them as pairs (`dot_products`): the work of widening an activation is shared
by all channels, that of widening a weight by all pixels of the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from tinymlir.bindings import ir
from tinymlir.kernels.channel_tables import channel_bytes
from tinymlir.kernels.columns import Columns, Span, none_alone, widest, with_rest
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.dot_products import DotProducts, most_at_once
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.gather import Gather, gather_of
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.late_steps import late_bytes
from tinymlir.kernels.pairs import STEP
from tinymlir.kernels.pixels import Site
from tinymlir.kernels.price import Mix, Price, function, line, loop, price
from tinymlir.targets import Target

#: Scratch memory beyond which a layer is better off without.
_SCRATCH_LIMIT = 8192
#: The most steps of a dot product between two branches: preferred, in small code, in fast code.
_UNROLLS = (12, 4, 36)
#: Rows of at most so many blocks have no pixel computed alone.
_SHORT = 4


class Im2col(Kernel):
    """Block by block of neighbouring pixels: their windows to scratch memory, then all channels."""

    name = "im2col"
    gathers = True
    steps_over = True
    #: pixels computed together where nothing is against it
    most_pixels: ClassVar[int] = 4
    #: output channels computed together, for so many pixels
    channels: ClassVar[dict[int, int]] = {1: 8, 2: 4, 3: 2, 4: 2}
    #: what a load reaches from its pointer, in words
    reach: ClassVar[int] = 1024
    #: what the core needs for the products
    extension: ClassVar[str] = "dsp"
    products_type: ClassVar[type[DotProducts]] = DotProducts

    def __init__(
        self, conv: Convolution, core: Target, unroll: int = _UNROLLS[0], pixels: int | None = None
    ) -> None:
        limit = {} if pixels is None else {"pixels": pixels}
        super().__init__(conv, core, unroll=unroll, **limit)
        self.unroll = unroll
        self.gather = self._gather()
        self.pixels = next(
            (n for n in range(self.most_pixels, 1, -1) if self._has_room(n)),
            1,
        )
        self.pixels = min(self.pixels, conv.out_hw[1], pixels or self.pixels)

    def _gather(self) -> Gather:
        """How windows come to scratch memory."""
        return gather_of(self.conv, self.products_type.form)

    def _has_room(self, pixels: int) -> bool:
        steps = self.products_type.form.step_words * most_at_once(self.unroll)
        reach = (pixels - 1) * self.gather.pitch + steps
        return reach <= self.reach and self.gather.scratch_bytes(pixels) <= _SCRATCH_LIMIT

    @classmethod
    def variants(cls, conv: Convolution, core: Target) -> list[Kernel]:
        steps = -(-conv.weights[0, 0].size // STEP)
        # One that leaves no branch makes the same code as any that is greater.
        enough = next((n for n in sorted(_UNROLLS) if steps <= most_at_once(n)), max(_UNROLLS))
        unrolls = [n for n in _UNROLLS if n <= enough]
        return [cls(conv, core, n, p) for p in cls._blocks(conv) for n in unrolls]

    @classmethod
    def _blocks(cls, conv: Convolution) -> list[int | None]:
        """How many pixels together: the most, or fewer where that alone leaves none over.

        Pixels that are left over have code of their own.
        """
        columns = conv.out_hw[1]
        whole = [n for n in range(cls.most_pixels, 2, -1) if columns % n == 0][:1]
        fewer = columns > cls.most_pixels and whole and whole[0] < cls.most_pixels
        return [None, *([whole[0]] if fewer else []), *([2] if columns > 2 else [])]

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether enough channels share the widening, and there is room for it."""
        enough = conv.out_per_group >= STEP and conv.weights[0, 0].size >= 2 * STEP
        if not (core.has(cls.extension) and conv.groups == 1 and enough):
            return False
        return cls(conv, core).scratch_bytes() <= _SCRATCH_LIMIT

    def scratch_bytes(self) -> int:
        """The windows of a block."""
        return self.gather.scratch_bytes(self.pixels)

    def row_scratch_bytes(self, columns: int) -> int:
        return self.gather.scratch_bytes(min(self.pixels, columns))

    def lean(self) -> Kernel:
        """One pixel at a time."""
        return self._narrow(1)

    def for_rows(self, spans: Sequence[Span], room: int) -> Kernel:
        """As many pixels at a time as suit the spans, and find room."""
        counts = range(min(self.pixels, widest(spans)), 1, -1)
        fitting = [n for n in counts if self.row_scratch_bytes(n) <= room]
        forms = [self._narrow(n) for n in (*fitting, 1)]
        return min(forms, key=lambda form: form.row_price(spans).instructions)

    def row_price(self, spans: Sequence[Span]) -> Price:
        mix = sum((self._row_mix(last - first) for first, last in spans), Mix())
        code = {"row": mix, **self.shared_code()}
        return price(mix, self.constant_reads(), self.core, shared=code)

    def _narrow(self, pixels: int) -> Im2col:
        """So many pixels at a time; their channels are computed together as suits these."""
        if pixels == self.pixels:
            return self
        return type(self)(self.conv, self.core, self.unroll, pixels)

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs of whole windows: padding included."""
        return self.conv.window_macs(rows, columns)

    def constant_bytes(self) -> int:
        channels = channel_bytes(self.conv) + late_bytes(self.conv)
        return self.gather.operands().size + channels

    def mix(self) -> Mix:
        rows, columns = self._rows()
        row = self._row_mix(columns)
        alone = self._is_one_block([(0, columns)])
        helper = self.gather.helper_mix(self.pixels, alone=alone)
        return helper + function(loop(row + line(alu=6, load=2, store=2), rows))

    def _rows(self) -> tuple[int, int]:
        """Rows that there are, and columns of each: all pixels are one row where that goes on."""
        rows, columns = self.conv.out_hw
        return (1, rows * columns) if self._goes_on() else (rows, columns)

    def _row_mix(self, columns: int) -> Mix:
        """So many columns of a row."""
        steps = self.gather.operands().shape[1] // STEP
        row = Mix()
        for pixels, (first, last) in self._runs(0, columns).items():
            channels = self.channels[self.pixels]
            products = self.products_type.mix(self.conv, steps, pixels, channels, self.unroll)
            copy = self.gather.copy_mix(pixels, alone=self._is_one_block([(0, columns)]))
            row += loop(copy + products + line(alu=4, load=2), (last - first) // pixels)
        return row

    def _goes_on(self) -> bool:
        """Whether all pixels are one row: a block may go on in the next one."""
        rows, columns = self.conv.out_hw
        return self.gather.can_wrap and rows > 1 and columns % self.pixels > 0

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        assert scratch is not None
        self.gather.prepare(layer, scratch)
        self.products = self.products_type(
            self.conv,
            layer,
            self.gather,
            self.channels[self.pixels],
            self.unroll,
        )

    def whole(self) -> None:
        height, width = self.conv.out_hw
        if not self._goes_on():
            super().whole()
            return
        self.gather.wraps = True
        columns = self.conv.result_columns or width
        self.products.conv = replace(self.products.conv, result_columns=columns)
        self.row(0, Columns.all(height * width))

    def row(self, row: Index, columns: Columns) -> None:
        alone = self._is_one_block(columns.spans)

        def block(column: Index, count: int) -> None:
            self._block(row, column, count, alone=alone)

        columns.in_blocks(self.layer.emitter, self._runs, block)

    def _runs(self, first: int, last: int) -> dict[int, Span]:
        """The columns of a row that are computed so many together, from left to right."""
        # A pixel alone widens weights for itself.
        runs = with_rest if last - first > (_SHORT + 1) * self.pixels else none_alone
        return runs(first, last, self.pixels)

    def _is_one_block(self, spans: Sequence[Span]) -> bool:
        """Whether there is code for one count of pixels."""
        return len({count for span in spans for count in self._runs(*span)}) == 1

    def _block(self, row: Index, column: Index, pixels: int, *, alone: bool) -> None:
        site = Site(self.layer, row, column, (0, 0), (0, 0), border=False)
        self.gather.copy(row, column, pixels, alone=alone)
        assert self.scratch is not None
        self.products.emit(site, pixels, self.scratch)
