"""Convolution by vectors: a weight of many channels times an activation of one pixel each.

An operand's weights, one byte for each of the channels in lanes, are loaded and widened to
halfwords once for all pixels of a block; each of these then takes one load of its activation and
one widening multiply-accumulate (``vwmacc.vx``) of as many MACs as there are lanes.
"""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.lanes import LEAST_LANES, load_lanes, spread, widen_lanes
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.vector_kernel import VectorKernel, Window
from tinymlir.targets import Target

#: Instructions between two branches of the hot loop, as far as operands are not cut in two.
_TURN = 64


class VectorConvolution(VectorKernel):
    """Any convolution with enough output channels in a group."""

    name = "vector"

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        return core.vector_bits > 0 and conv.out_per_group >= LEAST_LANES

    def _weights(self) -> np.ndarray:
        return self.conv.weights

    def _operand_registers(self) -> int:
        return self._registers(16) + self._registers(8)

    def _sum_mix(self, pixels: int) -> Mix:
        size = self.weights.shape[3] * self.weights.shape[4]
        operand = line(vector=2, alu=1) + line(load=1, vector=1) * pixels
        row = loop(operand, size, _turn(size, pixels))
        return loop(row + line(alu=6), self.weights.shape[2])

    def _sums(
        self, bias: ir.Value, window: Window, number: Index, first: Index, lanes: int, pixels: int
    ) -> list[ir.Value]:
        conv, emitter = self.conv, self.layer.emitter
        kernel_h, kernel_w, depth = self.weights.shape[2:]
        in_channels = conv.groups * depth
        packed = self.layer.pool.get(self.packed, "weights")
        channel = emitter.add(emitter.mul(number, conv.out_per_group), first)
        start = emitter.mul(channel, kernel_h * kernel_w * depth)

        def operand(at: Index, weight: Index, *sums: ir.Value) -> list[ir.Value]:
            row = widen_lanes(load_lanes(emitter, packed, weight, lanes))
            result = []
            for p, total in enumerate(sums):
                where = emitter.add(at, p * conv.stride[1] * in_channels)
                x = emitter.widen(emitter.load(window.buffer, [where]))
                result.append(arith.addi(total, arith.muli(row, spread(x, lanes))))
            return result

        def run(size: int, at: Index, weight: Index, sums: tuple[ir.Value, ...]) -> list[ir.Value]:
            def turn(r: Index, *carried: ir.Value) -> list[ir.Value]:
                where = emitter.add(weight, emitter.mul(r, lanes))
                return operand(emitter.add(at, r), where, *carried)

            return emitter.loop(0, size, 1, turn, sums, unroll=_turn(size, pixels))

        def kernel_row(kh: Index, *sums: ir.Value) -> list[ir.Value]:
            at = emitter.add(window.row(kh), emitter.mul(number, depth))
            weight = emitter.add(start, emitter.mul(kh, kernel_w * depth * lanes))
            # Operands are neighbours in memory where neighbouring columns are neighbouring taps.
            if conv.groups == 1 and conv.dilation[1] == 1:
                return run(kernel_w * depth, at, weight, sums)

            def kernel_column(kw: Index, *carried: ir.Value) -> list[ir.Value]:
                column = emitter.add(at, emitter.mul(kw, conv.dilation[1] * in_channels))
                place = emitter.add(weight, emitter.mul(kw, depth * lanes))
                return run(depth, column, place, carried)

            return emitter.loop(0, kernel_w, 1, kernel_column, sums)

        return emitter.loop(0, kernel_h, 1, kernel_row, [bias] * pixels)


def _turn(size: int, pixels: int) -> int:
    """Operands between two branches: a divisor of all, if one is not far too small."""
    most = max(1, _TURN // (3 + 2 * pixels))
    return max((n for n in range(-(-most // 2), most + 1) if size % n == 0), default=most)
