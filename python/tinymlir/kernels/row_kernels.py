"""Which kernels compute the rows of a stage, in its work space and the flash that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinymlir.kernels.catalogue import candidates
from tinymlir.kernels.columns import Span, widest
from tinymlir.kernels.kernel import Kernel

#: Bytes of code that a layer has more in a stage, about.
_ROW_CODE = 400
#: The share of its time in which a row may as well take more constants.
_WORTH_FLASH = 0.9


@dataclass(frozen=True)
class RowWork:
    """What a stage computes of a layer: ``spans`` of columns, each in so many ``rows``."""

    usual: Kernel
    spans: Sequence[Span]
    rows: int

    def saved_cycles(self, kernel: Kernel, faster: Kernel) -> int:
        """How much less time the second kernel takes; none where that is little."""
        known, price = kernel.row_price(self.spans), faster.row_price(self.spans)
        if known is None or price is None or price.cycles > _WORTH_FLASH * known.cycles:
            return 0
        return (known.cycles - price.cycles) * self.rows


def fit(layers: Mapping[int, RowWork], room: int, spare: int) -> tuple[dict[int, Kernel], int]:
    """The kernel of each layer, and how many of the ``spare`` bytes of flash are left.

    Kernels are in their fastest forms in ``room`` bytes of scratch memory. Others of the same
    options may have more constants, those first that save the most time for them.
    """
    kernels = {place: work.usual.for_rows(work.spans, room) for place, work in layers.items()}
    spare -= _ROW_CODE * len(layers)
    found: list[tuple[float, int, int, Kernel]] = []
    for place, work in layers.items():
        usual, kernel = work.usual, kernels[place]
        for other in candidates(usual.conv, usual.core):
            more = other.constant_bytes() - usual.constant_bytes()
            if other.by_rows and more > 0 and other.options == usual.options:
                faster = other.for_rows(work.spans, room)
                fits = faster.row_scratch_bytes(widest(work.spans)) <= room
                saved = work.saved_cycles(kernel, faster)
                if fits and saved:
                    found.append((saved / more, more, place, faster))
    for _, more, place, faster in sorted(found, key=lambda each: -each[0]):
        if more <= spare:
            spare -= more
            kernels[place] = faster
    return kernels, spare
