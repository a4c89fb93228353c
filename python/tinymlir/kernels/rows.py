"""Where the rows of a tensor lie in memory: all of them, or those that a ring buffer holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinymlir.bindings import ir
from tinymlir.dialects import stages
from tinymlir.kernels.emitter import Emitter, Index


@dataclass(frozen=True)
class Rows:
    """Rows of an i8 tensor, ``columns`` × ``channels`` each, in a flat buffer.

    A ring of ``slots`` rows holds row r in slot r mod ``slots``. ``first_column`` is the
    tensor's column that comes first in memory: a strip holds a part of each row.
    """

    buffer: ir.Value
    columns: int
    channels: int
    slots: int | None = None
    first_column: Index = 0

    def origin(self, emitter: Emitter, row: Index) -> Index:
        """Position of column 0 of ``row``: before the buffer, in a strip that begins further on."""
        slot = row
        if self.slots == 1:
            slot = 0
        elif self.slots is not None:
            slots = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), self.slots)
            slot = stages.RingSlotOp(emitter.index(row), slots, ir.IndexType.get()).res
        start = emitter.mul(slot, self.columns * self.channels)
        return emitter.sub(start, emitter.mul(self.first_column, self.channels))

    def position(self, emitter: Emitter, indices: Sequence[Index]) -> Index:
        """Position of the element at ``indices``: batch (one), row, column, channel."""
        _, row, column, channel = indices
        place = emitter.add(emitter.mul(column, self.channels), channel)
        return emitter.add(self.origin(emitter, row), place)
