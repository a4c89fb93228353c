"""Depthwise convolution by vectors: channels in lanes, of activations as of weights.

Both are widened to halfwords once. A tap's weights serve all pixels of a block, and a column of
the input serves all pixels under whose windows it lies.
"""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.lanes import LEAST_LANES, load_lanes, widen_lanes
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.vector_kernel import VectorKernel, Window
from tinymlir.targets import Target

#: Taps of a window that follow one another without a loop.
_MOST_TAPS = 25


class VectorDepthwise(VectorKernel):
    """Convolutions of each channel by itself."""

    name = "vector-depthwise"

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        alone = conv.in_per_group == conv.out_per_group == 1
        return core.vector_bits > 0 and alone and conv.groups >= LEAST_LANES

    def _weights(self) -> np.ndarray:
        return self.conv.weights.swapaxes(0, 1)

    def _operand_registers(self) -> int:
        return self._registers(16) + self._registers(8)

    def _pixel_registers(self) -> int:
        """The sum, and a column that the next tap of a neighbour reads again."""
        return self._registers(32) + self._registers(16)

    def _sum_mix(self, pixels: int) -> Mix:
        taps = self.conv.kernel[0] * self.conv.kernel[1]
        tap = line(vector=2, alu=1) + line(vector=3, alu=1) * pixels
        return loop(tap, taps, taps if taps <= _MOST_TAPS else self.conv.kernel[1])

    def _sums(
        self, bias: ir.Value, window: Window, number: Index, first: Index, lanes: int, pixels: int
    ) -> list[ir.Value]:
        conv, emitter = self.conv, self.layer.emitter
        kernel_h, kernel_w = conv.kernel
        packed = self.layer.pool.get(self.packed, "weights")
        start = emitter.mul(first, kernel_h * kernel_w)

        def kernel_row(kh: Index, *sums: ir.Value) -> list[ir.Value]:
            at = emitter.add(window.row(kh), first)
            result = list(sums)
            columns: dict[int, ir.Value] = {}
            for kw in range(kernel_w):
                tap = emitter.add(emitter.mul(kh, kernel_w), kw)
                place = emitter.add(start, emitter.mul(tap, lanes))
                w = widen_lanes(load_lanes(emitter, packed, place, lanes))
                for p in range(pixels):
                    column = kw * conv.dilation[1] + p * conv.stride[1]
                    if column not in columns:
                        where = emitter.add(at, column * conv.groups)
                        x = load_lanes(emitter, window.buffer, where, lanes)
                        columns[column] = widen_lanes(x)
                    result[p] = arith.addi(result[p], arith.muli(columns[column], w))
            return result

        unroll = kernel_h if kernel_h * kernel_w <= _MOST_TAPS else 1
        return emitter.loop(0, kernel_h, 1, kernel_row, [bias] * pixels, unroll=unroll)
