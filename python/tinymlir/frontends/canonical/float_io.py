"""Layers between float32 and int8, exact on cores that cannot compute in float32.

A float32 is ordered by its bits, so quantising it is a search among the 255 values at
which the result changes, and dequantising is a table of 256.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, tensor

from .builder import Builder
from .tensors import Quantization

#: The bits of infinity; those of what is no number lie beyond.
_INFINITY = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF


def thresholds(quantization: Quantization, rounding: str) -> npt.NDArray[np.int32]:
    """For each result but -128 the least float32 that gives it or more.

    As keys: the bits of a float32, those of negative ones but the sign inverted, which
    orders them as the numbers are. A result that no float32 gives has the next one's key.
    """
    wanted = np.arange(numerics.I8_MIN + 1, numerics.I8_MAX + 1)

    def result(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        bits = np.where(keys < 0, keys ^ _MAGNITUDE, keys).astype(np.int32)
        return numerics.quantize_float32(
            bits.view(np.float32), quantization.scale, quantization.zero_point, rounding
        )

    below = np.full(len(wanted), -_INFINITY - 1, np.int64)
    above = np.full(len(wanted), _INFINITY, np.int64)
    while (above - below > 1).any():
        middle = (below + above) >> 1
        enough = result(middle) >= wanted
        above, below = np.where(enough, middle, above), np.where(enough, below, middle)
    return above.astype(np.int32)


def quantize(
    b: Builder, name: str, x: ir.Value, quantization: Quantization, rounding: str
) -> ir.Value:
    """A float32 tensor as int8, by ``clamp(round(x / scale) + zero_point)`` in float32.

    What is not a number becomes -128.
    """
    with b.layer(name, "quantize"):
        table = b.constant(thresholds(quantization, rounding))
        index = ir.IndexType.get(b.context)

        def body(value: ir.Value, _: ir.Value) -> ir.Value:
            bits = arith.bitcast(b.i32, value)
            negative = arith.shrsi(bits, b.scalar(31, b.i32))
            key = arith.xori(bits, arith.andi(negative, b.scalar(_MAGNITUDE, b.i32)))
            # Eight comparisons find how many of the 255 thresholds are reached.
            reached = b.scalar(0, b.i32)
            for step in (128, 64, 32, 16, 8, 4, 2, 1):
                place = arith.addi(reached, b.scalar(step - 1, b.i32))
                threshold = tensor.extract(table, [arith.index_cast(index, place)])
                more = arith.cmpi(arith.CmpIPredicate.sge, key, threshold)
                reached = arith.select(more, arith.addi(reached, b.scalar(step, b.i32)), reached)
            number = arith.cmpi(arith.CmpIPredicate.sle, key, b.scalar(_INFINITY, b.i32))
            reached = arith.select(number, reached, b.scalar(0, b.i32))
            result = arith.addi(reached, b.scalar(numerics.I8_MIN, b.i32))
            return arith.trunci(b.i8, result)

        shape = x.type.shape
        return b.finish(b.generic([(x, range(len(shape)))], b.empty(shape, b.i8), body))


def dequantize(b: Builder, name: str, x: ir.Value, quantization: Quantization) -> ir.Value:
    """An int8 tensor as float32, ``scale * (x - zero_point)``."""
    levels = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1) - quantization.zero_point
    real = np.float32(quantization.scale) * levels.astype(np.float32)
    with b.layer(name, "dequantize"):
        # Bits: how text spells float constants differs between versions of LLVM.
        table = b.constant(real.view(np.int32))
        f32, index = ir.F32Type.get(b.context), ir.IndexType.get(b.context)

        def body(value: ir.Value, _: ir.Value) -> ir.Value:
            wide = arith.extsi(b.i32, value)
            place = arith.subi(wide, b.scalar(numerics.I8_MIN, b.i32))
            return arith.bitcast(f32, tensor.extract(table, [arith.index_cast(index, place)]))

        shape = x.type.shape
        return b.finish(b.generic([(x, range(len(shape)))], b.empty(shape, f32), body))
