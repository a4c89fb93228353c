"""Depthwise convolution four MACs at a time: neighbouring columns of a channel in a word of bytes.

A kernel row is a word, or several, filled up with zeros. Windows begin at any byte, which loads of
words must reach: CORE-V's do, in a cycle more where a word crosses another.
"""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.depthwise_planes import DepthwisePlanes
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.row_copy import (
    CHANNEL_BLOCK,
    PlaneRing,
    copy_mix,
    emit_row_copy,
    ring_columns,
)
from tinymlir.kernels.words import advance_bytes, fetch, stream
from tinymlir.targets import Target

#: Columns of a word.
_LANES = 4
#: Outputs of a row computed together, as many as registers hold, and at least if they can be even.
_MOST, _LEAST = 8, 5
#: Columns copied between two branches.
_UNROLL = 4


class DepthwiseBytes(DepthwisePlanes):
    """Planes of bytes, four columns in a word; units are bytes."""

    name = "depthwise-bytes"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.row_words = -(-conv.kernel[1] // _LANES)
        # The last window may be shorter than its words, which are loaded whole.
        beyond = self.row_words * _LANES - conv.kernel[1]
        self.plane = -(-(ring_columns(conv) + beyond) // _LANES) * _LANES
        columns = conv.out_hw[1]
        even = next((n for n in range(_MOST, _LEAST - 1, -1) if columns % n == 0), _MOST)
        self.together = min(even, columns)

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        return core.has("xcvsimd") and super().takes(conv, core)

    def scratch_bytes(self) -> int:
        """The rows under a window."""
        return self.conv.kernel[0] * self.slot

    def _copy_mix(self, width: int) -> Mix:
        # Bytes are shifted down to be stored.
        shifts = loop(line(alu=CHANNEL_BLOCK - 1), ring_columns(self.conv), _UNROLL)
        return copy_mix(self.conv, self.core, CHANNEL_BLOCK, width) + shifts

    def _kernel_row_mix(self, count: int) -> Mix:
        # Three words of four cross another one where windows begin at all bytes.
        crossing = 1 - 1 / (_LANES // np.gcd(self.conv.stride[1], _LANES))
        word = line(alu=count * (1 + crossing), dual_mac=count) + line(load=1)
        return word * self.row_words + line(alu=1)

    def _pack_rows(self, weights: np.ndarray) -> np.ndarray:
        padded = np.pad(weights, ((0, 0), (0, 0), (0, -weights.shape[2] % _LANES)))
        return np.ascontiguousarray(padded).view("<i4").reshape(len(weights), -1)

    def _at(self, plane: Index, column: Index) -> ir.Value:
        assert self.scratch is not None
        emitter = self.layer.emitter
        first = emitter.mul(column, self.conv.stride[1])
        return advance_bytes(stream(self.scratch), emitter.add(plane, first))

    def _kernel_row(self, x: ir.Value, w: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        stride = self.conv.stride[1]
        for number in range(self.row_words):
            weights = fetch(w, number)
            starts = [p * stride + number * _LANES for p in range(len(sums))]
            # All loads come first, so that none is followed by its use.
            words = [fetch(advance_bytes(x, start), 0, alignment=1) for start in starts]
            pairs = zip(sums, words, strict=True)
            sums = [tiny.QuadMacOp(total, word, weights).res for total, word in pairs]
        return sums

    def _emit_copy(self, width: int) -> str:
        assert self.scratch is not None
        ring = PlaneRing(self.layer.emitter, self.plane)
        return emit_row_copy(self.conv, self.layer, self.core, self.scratch.type, ring, width)
