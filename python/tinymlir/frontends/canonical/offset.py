"""Requantization of accumulators whose bias is not a whole number of steps.

A float bias, or a batch normalisation after the layer, adds a fraction of a step of
the accumulator to it. Results are then rounded from the product in 64 bits, to which
the fraction is added at full precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir
from tinymlir.numerics import IntArray

from .builder import Builder, Clamp

#: The high word of the product is what is shifted.
_WORD = 32
#: Beyond this an int8 zero point would not fit beside the product.
_MAX_SHIFT = 54


@dataclass(frozen=True)
class OffsetScaling:
    """``clamp((acc * multiplier + offset) >> shift)``, one of each for each channel.

    The zero point and one half, for rounding, are in the offsets; shifts are 32 and more.
    """

    multipliers: IntArray
    offsets: IntArray
    shifts: IntArray
    clamp: Clamp

    @staticmethod
    def of(
        scales: npt.NDArray[np.floating],
        fractions: npt.NDArray[np.float64],
        zero_point: int,
        clamp: Clamp,
    ) -> OffsetScaling | None:
        """``round((acc + fraction) * scale) + zero_point``; None where a scale is too large."""
        pairs = [numerics.quantize_multiplier(float(scale)) for scale in scales]
        multipliers, shifts = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
        if shifts.min() < _WORD:
            return None
        excess = np.maximum(shifts - _MAX_SHIFT, 0)
        multipliers, shifts = multipliers >> excess, shifts - excess
        half = np.int64(1) << (shifts - 1)
        added = np.rint(fractions * multipliers).astype(np.int64)
        return OffsetScaling(multipliers, added + half + (zero_point << shifts), shifts, clamp)


def requantize_with_offset(
    b: Builder, acc: ir.Value, scaling: OffsetScaling, channel: int
) -> ir.Value:
    """The layer's result; ``channel`` is the dimension that the scales run along."""
    shape = tuple(acc.type.shape)
    low = scaling.offsets.astype(np.uint64).astype(np.uint32).astype(np.int32)
    high = (scaling.offsets >> _WORD).astype(np.int32)
    shifts = (scaling.shifts - _WORD).astype(np.int32)
    tables = [b.constant(t) for t in (scaling.multipliers.astype(np.int32), low, high, shifts)]
    inputs = [(acc, list(range(len(shape)))), *((table, [channel]) for table in tables)]

    def body(
        value: ir.Value, m: ir.Value, low: ir.Value, high: ir.Value, shift: ir.Value, _: ir.Value
    ) -> ir.Value:
        product = arith.MulSIExtendedOp(value, m)
        total = arith.addi(product.low, low)
        carry = arith.extui(b.i32, arith.cmpi(arith.CmpIPredicate.ult, total, low))
        word = arith.addi(arith.addi(product.high, high), carry)
        result = arith.minsi(arith.shrsi(word, shift), b.scalar(scaling.clamp.high, b.i32))
        return arith.trunci(b.i8, arith.maxsi(result, b.scalar(scaling.clamp.low, b.i32)))

    return b.finish(b.generic(inputs, b.empty(shape, b.i8), body))
