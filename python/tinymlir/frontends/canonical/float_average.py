"""Average pooling whose ties fall as a float32 sum lets them fall.

A mean of int8 values often lies exactly between two int8 values. A reference that
dequantizes, adds in float32 and quantizes again then rounds what its own rounding
errors left. The integer sum gives the result everywhere else, so only near a tie
is the float32 sum computed, in the reference's order.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, linalg, scf, tensor

from .builder import Builder, Clamp, Scaling
from .convolution import Window
from .tensors import Quantization

#: The relative error of one float32 rounding.
_UNIT = Fraction(1, 2**24)
#: Results before clamp and zero point that can matter.
_RESULTS = np.arange(-255, 257)


def requantize_mean(
    b: Builder,
    acc: ir.Value,
    x: ir.Value,
    source: Quantization,
    target: Quantization,
    clamp: Clamp,
    window: Window,
    scaling: Scaling,
    rounded_with: int,
) -> ir.Value:
    """i8 means from the sums ``acc`` (``1 x R x C x channels``, i32) of windows on ``x``.

    The window must not be padded. Equals ``DequantizeLinear``, ``AveragePool`` with
    float32 additions in row-major order, ``QuantizeLinear``; ``rounded_with`` is added
    in float32 before rounding and taken off after it.
    """
    count = math.prod(window.kernel)
    ratio = Fraction(float(source.scale)) / Fraction(float(target.scale)) / count
    bound = 255 * count
    bits = 31 - max(1, math.ceil(math.log2(bound * ratio + 2)))
    factor = round(ratio * 2**bits)
    # The fixed-point product is off by half a unit per element of the sum; float32
    # additions, the division and the quantization by one rounding each.
    float_error = (count + 3) * _UNIT * 255 * count * ratio * 2**bits
    guard = math.ceil(Fraction(bound, 2) + float_error) + 1
    sums = _float_sums(b, x, acc.type.shape, source, window)
    steps = b.constant(_first_bits(count, float(target.scale), rounded_with))

    def body(total: ir.Value, _: ir.Value) -> ir.Value:
        multiplier = b.scalar(scaling.multipliers.flat[0], b.i32)
        shift = b.scalar(scaling.shifts.flat[0], b.i32)
        rounded = b.requantize_op(total, multiplier, shift, scaling)
        at = [linalg.IndexOp(d).result for d in range(4)]
        fixed = arith.muli(total, b.scalar(factor, b.i32))
        offset = arith.addi(fixed, b.scalar((1 << (bits - 1)) + guard, b.i32))
        fraction = arith.andi(offset, b.scalar((1 << bits) - 1, b.i32))
        width = min(2 * guard, (1 << bits) - 1)
        near = arith.cmpi(arith.CmpIPredicate.ule, fraction, b.scalar(width, b.i32))
        choice = scf.IfOp(near, [b.i8], has_else=True)
        with ir.InsertionPoint(choice.then_block):
            scf.yield_([_look_closer(b, fixed, bits, sums, at, steps, target.zero_point, clamp)])
        with ir.InsertionPoint(choice.else_block):
            scf.yield_([rounded])
        return choice.results[0]

    loops = list(range(4))
    return b.generic([(acc, loops)], b.empty(acc.type.shape, b.i8), body)


def _look_closer(
    b: Builder,
    fixed: ir.Value,
    bits: int,
    sums: ir.Value,
    at: list[ir.Value],
    steps: ir.Value,
    zero_point: int,
    clamp: Clamp,
) -> ir.Value:
    """Round up if the float32 sum reaches the first value that does."""
    index = ir.IndexType.get()
    raw = arith.bitcast(b.i32, tensor.extract(sums, at))
    sign = arith.shrsi(raw, b.scalar(31, b.i32))
    ordered = arith.xori(raw, arith.andi(sign, b.scalar(0x7FFFFFFF, b.i32)))
    below = arith.shrsi(fixed, b.scalar(bits, b.i32))
    above = arith.addi(below, b.scalar(1, b.i32))
    low, high = int(_RESULTS[0]), int(_RESULTS[-1])
    bounded = arith.maxsi(arith.minsi(above, b.scalar(high, b.i32)), b.scalar(low, b.i32))
    place = arith.index_cast(index, arith.subi(bounded, b.scalar(low, b.i32)))
    up = arith.cmpi(arith.CmpIPredicate.sge, ordered, tensor.extract(steps, [place]))
    result = arith.addi(arith.select(up, above, below), b.scalar(zero_point, b.i32))
    result = arith.minsi(result, b.scalar(clamp.high, b.i32))
    result = arith.maxsi(result, b.scalar(clamp.low, b.i32))
    return arith.trunci(b.i8, result)


def _float_sums(
    b: Builder, x: ir.Value, shape: list[int], source: Quantization, window: Window
) -> ir.Value:
    """float32 sums of the dequantized window, first row first."""
    f32 = ir.F32Type.get(b.context)
    levels = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1).astype(np.float32)
    table = (levels - np.float32(source.zero_point)) * np.float32(source.scale)
    # As bits: LLVM releases disagree on how float constants are spelled.
    bits = b.constant(table.view(np.int32))

    def dequantize(value: ir.Value, _: ir.Value) -> ir.Value:
        level = arith.subi(arith.extsi(b.i32, value), b.scalar(numerics.I8_MIN, b.i32))
        place = arith.index_cast(ir.IndexType.get(), level)
        return arith.bitcast(f32, tensor.extract(bits, [place]))

    real = b.generic([(x, list(range(4)))], b.empty(x.type.shape, f32), dequantize)
    zero = arith.ConstantOp(f32, ir.FloatAttr.get(f32, 0.0)).result
    empty = b.empty(shape, f32)
    init = linalg.FillOp([empty.type], [zero], [empty])
    linalg.fill_builtin_region(init.operation)
    kernel = b.empty(window.kernel, f32)
    return b.structured(
        linalg.PoolingNhwcSumOp,
        [real, kernel],
        init.results[0],
        window.strides,
        window.dilations,
    )


def _first_bits(count: int, target_scale: float, rounded_with: int) -> npt.NDArray[np.int32]:
    """For each of ``_RESULTS``, the least float32 sum whose mean rounds to it or more.

    As the float's bits in an order that agrees with the numbers': negative ones with
    all but the sign inverted. Found by bisection, since the mean rounds monotonically.
    """

    def rounds_to(ordered: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        raw = np.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).astype(np.int32)
        with np.errstate(all="ignore"):
            mean = raw.view(np.float32) / np.float32(count)
            level = mean / np.float32(target_scale) + np.float32(rounded_with)
            return np.rint(level) - np.float32(rounded_with)

    largest = int(np.float32(np.finfo(np.float32).max).view(np.int32))
    low = np.full(_RESULTS.shape, -largest - 1, np.int64)
    high = np.full(_RESULTS.shape, largest, np.int64)
    while (low + 1 < high).any():
        middle = (low + high) // 2
        reached = rounds_to(middle) >= _RESULTS
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle)
    return high.astype(np.int32)
