"""Direct convolution: a block of pixels × output channels in registers."""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.pixels import (
    PixelKernel,
    Site,
    finish,
    full_bias,
    input_pixel,
    load_activation,
    multiply_accumulate,
)

#: Registers of the hot loop besides accumulators and operands: two pointers and a counter.
_LOOP_REGISTERS = 3
#: One accumulator and its two operands must fit.
LEAST_REGISTERS = _LOOP_REGISTERS + 3


def register_block(registers: int) -> tuple[int, int]:
    """Output channels and pixels to compute together within ``registers`` registers.

    A block of b channels and p pixels keeps b·p accumulators, b weights and p
    activations; an operand loaded serves p or b MACs. The best block has the most
    MACs per load and accumulation, b·p / (b·p + b + p); channels go first, since
    more pixels need wider images. There must be `LEAST_REGISTERS`.
    """
    fitting = [
        (b, p)
        for b in range(1, 9)
        for p in range(1, b + 1)
        if b * p + b + p + _LOOP_REGISTERS <= registers
    ]
    return max(fitting, key=lambda block: block[0] * block[1] / (sum(block) + block[0] * block[1]))


def pack_weights(weights: np.ndarray, block: int) -> np.ndarray:
    """``(G, O, KH, KW, I)`` to the order in which the kernel reads them, flat.

    Output channels go in blocks; within a block, the channels of one operand lie
    side by side: ``[group][block][kh][kw][in][channel of block]``, the last block
    as narrow as it is.
    """
    parts = []
    for group in weights:
        for first in range(0, group.shape[0], block):
            parts.append(np.moveaxis(group[first : first + block], 0, -1).reshape(-1))
    return np.concatenate(parts)


def direct_kernel(
    conv: Convolution, root: ir.Value, emitter: Emitter, pool: ConstantPool, channel_block: int
) -> PixelKernel:
    """A kernel for any convolution: loops over groups and channel blocks inside a pixel."""
    kernel_h, kernel_w = conv.kernel
    depth, per_group = conv.in_per_group, conv.out_per_group
    taps = kernel_h * kernel_w * depth
    in_channels = conv.groups * depth
    packed = pack_weights(conv.weights, channel_block)
    # A run of taps is contiguous in memory where neighbouring columns are neighbouring taps.
    contiguous = conv.groups == 1 and conv.dilation[1] == 1

    def kernel(site: Site, pixels: int) -> None:
        weights = pool.get(packed, "weights")
        bias = pool.get(full_bias(conv) if site.border else conv.bias, "bias")

        def block(group: Index, first: Index, width: int) -> None:
            channel = emitter.add(emitter.mul(group, per_group), first)
            start = emitter.mul(channel, taps)
            sums = [emitter.load(bias, [emitter.add(channel, b)]) for b in range(width)] * pixels

            def tap(position: Index, weight: Index, *carried: ir.Value) -> list[ir.Value]:
                activations = [
                    load_activation(
                        emitter,
                        conv,
                        site,
                        emitter.add(position, p * conv.stride[1] * in_channels),
                    )
                    for p in range(pixels)
                ]
                row = [
                    emitter.widen(emitter.load(weights, [emitter.add(weight, b)]))
                    for b in range(width)
                ]
                return multiply_accumulate(emitter, list(carried), activations, row)

            def kernel_row(kh: Index, *carried: ir.Value) -> list[ir.Value]:
                pixel = input_pixel(emitter, conv, site, kh)
                origin = emitter.add(emitter.mul(pixel, in_channels), emitter.mul(group, depth))
                weight = emitter.add(start, emitter.mul(kh, kernel_w * depth * width))
                low, high = site.column_taps

                def run(r: Index, *values: ir.Value) -> list[ir.Value]:
                    where = emitter.add(weight, emitter.mul(r, width))
                    return tap(emitter.add(origin, r), where, *values)

                if contiguous:
                    return emitter.loop(
                        emitter.mul(low, depth), emitter.mul(high, depth), 1, run, carried
                    )

                def kernel_column(kw: Index, *values: ir.Value) -> list[ir.Value]:
                    step = emitter.mul(kw, conv.dilation[1] * in_channels)
                    base = emitter.add(origin, step)
                    at = emitter.add(weight, emitter.mul(kw, depth * width))

                    def operand(c: Index, *inner: ir.Value) -> list[ir.Value]:
                        where = emitter.add(at, emitter.mul(c, width))
                        return tap(emitter.add(base, c), where, *inner)

                    return emitter.loop(0, depth, 1, operand, values)

                return emitter.loop(low, high, 1, kernel_column, carried)

            sums = emitter.loop(*site.row_taps, 1, kernel_row, sums)
            for p in range(pixels):
                for b in range(width):
                    finish(conv, site, root, p, emitter.add(channel, b), sums[p * width + b])

        def one_group(group: Index) -> None:
            whole = per_group // channel_block * channel_block
            emitter.loop(0, whole, channel_block, lambda first: block(group, first, channel_block))
            if whole < per_group:
                block(group, whole, per_group - whole)

        emitter.loop(0, conv.groups, 1, one_group)

    return kernel
