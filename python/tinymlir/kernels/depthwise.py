"""Depthwise convolution: a block of channels in registers."""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels.convolution import (
    Convolution,
    PixelKernel,
    Site,
    finish,
    full_bias,
    input_pixel,
    load_activation,
)
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index

#: Channels computed together: they share the address arithmetic of a tap.
CHANNEL_BLOCK = 4
#: Kernel columns without a loop between them, where they are known.
_UNROLL = 3


def is_depthwise(conv: Convolution) -> bool:
    """One input and one output channel per group, and groups enough to block over."""
    return conv.in_per_group == 1 and conv.out_per_group == 1 and conv.groups > 1


def depthwise_kernel(
    conv: Convolution, root: ir.Value, emitter: Emitter, pool: ConstantPool
) -> PixelKernel:
    """A kernel for `is_depthwise` convolutions; weights in ``[kh][kw][channel]`` order."""
    channels, kernel_w = conv.groups, conv.kernel[1]
    packed = np.moveaxis(conv.weights[:, 0, :, :, 0], 0, -1).reshape(-1)

    def kernel(site: Site, pixels: int) -> None:
        assert pixels == 1
        weights = pool.get(packed, "weights")
        bias = pool.get(full_bias(conv) if site.border else conv.bias, "bias")

        def channel_block(first: Index, width: int) -> None:
            sums = [emitter.load(bias, [emitter.add(first, b)]) for b in range(width)]

            def kernel_row(kh: Index, *carried: ir.Value) -> list[ir.Value]:
                pixel = input_pixel(emitter, conv, site, kh)
                origin = emitter.add(emitter.mul(pixel, channels), first)
                weight = emitter.add(emitter.mul(kh, kernel_w * channels), first)

                def kernel_column(kw: Index, *values: ir.Value) -> list[ir.Value]:
                    where = emitter.add(origin, emitter.mul(kw, conv.dilation[1] * channels))
                    at = emitter.add(weight, emitter.mul(kw, channels))
                    return [
                        _accumulate(emitter, conv, site, value, where, weights, at, b)
                        for b, value in enumerate(values)
                    ]

                return emitter.loop(*site.column_taps, 1, kernel_column, carried, unroll=_UNROLL)

            sums = emitter.loop(*site.row_taps, 1, kernel_row, sums)
            for b in range(width):
                finish(conv, site, root, 0, emitter.add(first, b), sums[b])

        whole = channels // CHANNEL_BLOCK * CHANNEL_BLOCK
        emitter.loop(0, whole, CHANNEL_BLOCK, lambda first: channel_block(first, CHANNEL_BLOCK))
        if whole < channels:
            channel_block(whole, channels - whole)

    return kernel


def _accumulate(
    emitter: Emitter,
    conv: Convolution,
    site: Site,
    value: ir.Value,
    where: Index,
    weights: ir.Value,
    at: Index,
    lane: int,
) -> ir.Value:
    x = load_activation(emitter, conv, site, emitter.add(where, lane))
    w = emitter.widen(emitter.load(weights, [emitter.add(at, lane)]))
    return arith.addi(value, arith.muli(x, w))
