"""Convolution two MACs at a time, from weights that are halfwords in flash already.

Twice the flash of `Im2col` for weights; nothing is widened in the loop.
"""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.dot_products import DotProducts
from tinymlir.kernels.im2col import Im2col
from tinymlir.kernels.pairs import operand_pairs
from tinymlir.kernels.price import Mix, line
from tinymlir.kernels.words import fetch


class WideProducts(DotProducts):
    """A step is two words of each window and two of each channel, which are pairs of operands."""

    weight_words = 2
    joins = False

    def _step(
        self, step: int, w: ir.Value, a: ir.Value, totals: list[ir.Value], channels: int
    ) -> list[ir.Value]:
        totals = list(totals)
        pixels = len(totals) // channels
        for pair in (step * 2, step * 2 + 1):
            x: dict[int, ir.Value] = {}
            # Two channels at a time, of two pixels at a time: so accumulators find registers.
            for first in range(0, channels, 2):
                both = range(first, min(first + 2, channels))
                weights = [fetch(w, pair * channels + b) for b in both]
                for begin in range(0, pixels, 2):
                    together = range(begin, min(begin + 2, pixels))
                    for p in together:
                        x[p] = x.get(p) or fetch(a, p * self.pitch + pair)
                    for b, weight in zip(both, weights, strict=True):
                        for p in together:
                            i = p * channels + b
                            totals[i] = tiny.DualMacOp(totals[i], x[p], weight).res
        return totals

    @classmethod
    def step_mix(cls, conv: Convolution, pixels: int, channels: int) -> Mix:
        pair = line(dual_mac=pixels * channels)
        for first in range(0, channels, 2):
            for begin in range(0, pixels, 2):
                weights = 0 if begin else min(2, channels - first)
                x = 0 if first else min(2, pixels - begin)
                pair += line(load=weights + x)
        return pair * 2

    @staticmethod
    def pack(weights: np.ndarray) -> np.ndarray:
        """Weights ``[channel, operand]``, i8, as pairs: those of all channels pair by pair."""
        operands = operand_pairs(weights.shape[1])
        pairs = np.ascontiguousarray(weights[:, operands].astype("<i2"))
        return np.ascontiguousarray(pairs.view("<i4")[:, :, 0].T).reshape(-1)


class Im2colWide(Im2col):
    """Block by block of neighbouring pixels, as `Im2col`; weights take twice the flash."""

    name = "im2col-wide"
    products_type = WideProducts

    def constant_bytes(self) -> int:
        return super().constant_bytes() + self.gather.operands().size
