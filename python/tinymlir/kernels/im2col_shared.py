"""Convolution two MACs at a time, by functions that all layers of a network have in common.

A layer has little code of its own: a loop that calls these for each block of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tinymlir.kernels.channel_tables import needs_channel_alone
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.dot_products import DotProducts
from tinymlir.kernels.gather import Gather
from tinymlir.kernels.gather_beside import gather_beside
from tinymlir.kernels.im2col import Im2col
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.pairs import STEP
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.shared_products import LONGEST_TURN, SharedProducts
from tinymlir.targets import Target

#: Steps between two branches: preferred, in small code, and of small windows.
_UNROLLS = (LONGEST_TURN, 4, 2)
#: The most steps without a loop.
_MOST_STEPS = 36


class Im2colShared(Im2col):
    """Block by block of neighbouring pixels, as `Im2col`; windows lie side by side."""

    name = "im2col-shared"
    channels: ClassVar[dict[int, int]] = {1: 4, 2: 4, 3: 2, 4: 2}
    products_type: ClassVar[type[DotProducts]] = SharedProducts

    def __init__(
        self, conv: Convolution, core: Target, unroll: int = _UNROLLS[0], pixels: int | None = None
    ) -> None:
        super().__init__(conv, core, unroll, pixels)
        # Fewer pixels are those on the left.
        self.gather.apart = self.pixels

    def _gather(self) -> Gather:
        return gather_beside(self.conv, self.products_type.form)

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether `Im2col` does, and results depend on nothing but accumulators and channels."""
        return super().takes(conv, core) and needs_channel_alone(conv)

    @classmethod
    def variants(cls, conv: Convolution, core: Target) -> list[Kernel]:
        steps = -(-conv.weights[0, 0].size // STEP)
        unrolls = [n for n in _UNROLLS if n <= steps]
        unrolls += [steps] if LONGEST_TURN < steps <= _MOST_STEPS else []
        return [cls(conv, core, n, p) for p in cls._blocks(conv) for n in unrolls]

    def _products(self, pixels: int) -> dict[str, Mix]:
        """What computes all channels of some pixels, by names that equal functions have."""
        steps = self.gather.operands().shape[1] // STEP
        found, left = {}, self.conv.out_per_group
        width = self.channels[self.pixels]
        while left:
            if blocks := left // width:
                key = SharedProducts.key(self.conv, steps, pixels, width, self.unroll)
                found[f"{self.pixels} {key}"] = SharedProducts.function_mix(
                    self.conv, steps, pixels, width, self.unroll, blocks
                )
            left, width = left % width, width // 2
        return found

    def mix(self) -> Mix:
        rows, columns = self._rows()
        alone = self._is_one_block([(0, columns)])
        own = self.gather.helper_mix(1, alone=alone)
        row = self._row_mix(columns) + line(alu=4, load=1, store=1)
        return own + function(loop(row, rows))

    def _row_mix(self, columns: int) -> Mix:
        call, row = line(alu=6, load=2, store=3, call=1), Mix()
        alone = self._is_one_block([(0, columns)])
        for pixels, (first, last) in self._runs(0, columns).items():
            block = self.gather.copy_mix(pixels, alone=alone)
            for products in self._products(pixels).values():
                block += products.elsewhere() + call
            row += loop(block, (last - first) // pixels)
        return row

    def shared_code(self) -> Mapping[str, Mix]:
        _, columns = self._rows()
        found = dict(self.gather.shared_code())
        for pixels in self._runs(0, columns):
            found |= self._products(pixels)
        return found
