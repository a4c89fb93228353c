"""Convolution four MACs at a time: windows gathered as bytes, then dot products by cv.sdotsp.b.

Nothing is widened: a word of a window has four operands, and a word of weights those of a channel.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.dot_products import DotProducts
from tinymlir.kernels.forms import BYTES
from tinymlir.kernels.im2col import Im2col
from tinymlir.kernels.price import Mix, line
from tinymlir.kernels.words import fetch


class ByteProducts(DotProducts):
    """Four MACs an instruction; a step is a word of each window and of each channel.

    The accumulators share the registers with the words of all pixels, those of two channels, and
    two pointers.
    """

    form, parks = BYTES, False
    joins = False

    def _step(
        self, step: int, w: ir.Value, a: ir.Value, totals: list[ir.Value], channels: int
    ) -> list[ir.Value]:
        totals = list(totals)
        pixels = len(totals) // channels
        x = [fetch(a, p * self.pitch + step) for p in range(pixels)]
        # A word is loaded while another one is used.
        weights = [fetch(w, step * channels + b) for b in range(min(channels, 2))]
        for b in range(channels):
            for p in range(pixels):
                i = p * channels + b
                totals[i] = tiny.QuadMacOp(totals[i], x[p], weights[b]).res
            if b + 2 < channels:
                weights.append(fetch(w, step * channels + b + 2))
        return totals

    @classmethod
    def step_mix(cls, conv: Convolution, pixels: int, channels: int) -> Mix:
        # Of the loads, none is followed by its use.
        return line(alu=pixels + channels, dual_mac=pixels * channels)

    @staticmethod
    def turn_mix(pixels: int, channels: int) -> Mix:
        return line(alu=2)

    @staticmethod
    def pack(weights: np.ndarray) -> np.ndarray:
        """Weights ``[channel, operand]``, i8, as words: those of all channels step by step."""
        channels, operands = weights.shape
        steps = np.ascontiguousarray(weights).view("<i4").reshape(channels, operands // 4)
        return np.ascontiguousarray(steps.T).reshape(-1)


class Im2colBytes(Im2col):
    """Block by block of neighbouring pixels, as `Im2col`; four MACs an instruction."""

    name = "im2col-bytes"
    channels: ClassVar[dict[int, int]] = {1: 8, 2: 8, 3: 4, 4: 4}
    reach = 512
    extension = "xcvsimd"
    products_type = ByteProducts
