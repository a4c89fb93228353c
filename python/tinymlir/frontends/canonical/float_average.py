"""Average pooling whose ties fall as a float32 sum lets them fall.

A mean of int8 values often lies exactly between two int8 values. A reference that
dequantizes, adds in float32 and quantizes again then rounds what its own rounding
errors left. The integer sum gives the result everywhere else, so only near a tie
is the float32 sum computed, in the reference's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, linalg, scf, tensor
from tinymlir.dialects import tiny
from tinymlir.numerics import IntArray

from .builder import Builder, Clamp, Place
from .convolution import Window
from .tap_weights import TapWeights
from .tensors import Quantization

#: Significant bits of a float32, and the relative error of one rounding.
_BITS = 24
_UNIT = Fraction(1, 2**_BITS)
#: All taps one after the other, row by row; or the sums of the columns, these one after the other.
SumOrder: TypeAlias = Literal["rows", "columns"]
_LEVELS = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1)
_LARGEST = int(np.float32(np.finfo(np.float32).max).view(np.int32))


@dataclass(frozen=True)
class FloatMean:
    """How sums under a window become means.

    Attributes:
        bits: of the fraction of ``line = sum * multiplier + offset``, whose whole part is the
            result, zero point included, unless the fraction is below ``width``, a power of two:
            then it may be the one before.
        factor, finer: with weight w the multiplier is ``w * factor / 2**finer``, rounded.
        significand: the scale of the input, in units of a power of two.
        errors: in such units, what float32 adds to the product of the significand and each of
            the 256 numbers less their zero point.
        reach: the least and the greatest result, before they are limited. Of what is near a
            tie, the least is the next one.
        first: the least result whose boundary is in the table.
        slope, base, boundaries: a float32 sum in units, times w, reaches result r where
            ``sum * w - slope * r - base - boundaries[r - first]`` is not negative. Near a tie
            that is a small number, and needs no more than 32 bits.
    """

    bits: int
    offset: int
    width: int
    factor: int
    finer: int
    significand: int
    errors: IntArray
    reach: tuple[int, int]
    first: int
    slope: int
    base: int
    boundaries: IntArray

    @staticmethod
    def fit(
        source: Quantization,
        target: Quantization,
        clamp: Clamp,
        weights: TapWeights,
        valid: IntArray,
        rounded_with: int,
    ) -> FloatMean | None:
        """None where counts differ so much that 32 bits do not do.

        Args:
            valid: taps that are no padding, by rows and columns.
            rounded_with: what the reference adds, in float32, before it rounds.
        """
        scale = math.frexp(float(source.scale))
        unit = Fraction(2) ** (scale[1] - _BITS)
        ratio = Fraction(float(source.scale)) / Fraction(float(target.scale))
        each = Fraction(ratio, weights.count)
        least, most = numerics.I8_MIN - source.zero_point, numerics.I8_MAX - source.zero_point
        cases = weights.cases(valid)
        ends = [end * n * w * each for n, w in cases for end in (least, most)]
        low, high = (end + target.zero_point for end in (min(ends), max(ends)))
        bits = 31 - max(-math.floor(low) + 1, math.ceil(high) + 2).bit_length()
        factor, finer = _factor(each * 2**bits, weights.most)
        error = max(
            n * max(-least, most) * abs(_multiplier(factor, finer, w) - w * each * 2**bits)
            + _float_error(n, max(map(abs, ends)), rounded_with) * 2**bits
            for n, w in cases
        )
        # A power of two makes the test one of some bits.
        guard = 1 << math.ceil(error).bit_length()
        slope = Fraction(float(target.scale)) / unit * weights.count
        if 4 * guard >= 1 << bits or 4 * guard * slope >= 1 << (bits + 31):
            return None
        reach = tuple(
            math.floor(end + Fraction(1, 2) + sign * Fraction(2 * guard, 1 << bits))
            for end, sign in ((low, -1), (high, 1))
        )
        first = max(reach[0] + 1, clamp.low + 1)
        results = np.arange(first, max(min(reach[1], clamp.high), first) + 1)
        boundaries = _boundaries(results, unit, target, weights.count, rounded_with)
        rise = round(slope)
        rests = [b - rise * int(r) for r, b in zip(results, boundaries, strict=True)]
        base = (min(rests) + max(rests)) // 2
        return FloatMean(
            bits,
            (target.zero_point << bits) + (1 << (bits - 1)) + guard,
            2 * guard,
            factor,
            finer,
            int(scale[0] * 2**_BITS),
            _term_errors(source, unit),
            (reach[0], reach[1]),
            first,
            rise,
            base,
            np.array([rest - base for rest in rests], np.int64),
        )


def _float_error(taps: int, most: Fraction, rounded_with: int) -> Fraction:
    """By how much a result differs from the exact mean before it is rounded to an integer.

    Terms, additions, the division and the quantization are off by one rounding each.
    """
    roundings = (taps + 4) * _UNIT
    return (most + abs(rounded_with)) * roundings / (1 - roundings)


def _term_errors(source: Quantization, unit: Fraction) -> IntArray:
    """What rounding adds to each dequantised int8 number."""
    exact = (_LEVELS - source.zero_point) * int(Fraction(float(source.scale)) / unit)
    reals = (_LEVELS - source.zero_point).astype(np.float32) * np.float32(source.scale)
    rounded = [int(Fraction(float(real)) / unit) for real in reals]
    return np.array(rounded, np.int64) - exact


def _factor(each: Fraction, most: int) -> tuple[int, int]:
    """Factor and distance with which `_multiplier` is ``weight * each``, for weights up to a most.

    As fine as fits 31 bits.
    """
    if most == 1:
        return round(each), 0
    finer = max(30 - math.ceil(math.log2(most * each)), 0)
    return round(each * 2**finer), finer


def _multiplier(factor: int, finer: int, weight: int) -> int:
    return (weight * factor + ((1 << finer) >> 1)) >> finer


def _boundaries(
    results: IntArray, unit: Fraction, target: Quantization, count: int, rounded_with: int
) -> list[int]:
    """For each result, zero point included, ``count`` times the least mean that reaches it.

    In integers at or above which a sum is; a mean is the sum over its count, rounded once more.
    """

    def mean(ordered: IntArray) -> npt.NDArray[np.float32]:
        # Bits in an order that agrees with the numbers': negative ones with all but the sign
        # inverted.
        bits = np.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
        return bits.astype(np.int32).view(np.float32)

    wanted = results - target.zero_point
    low = np.full(wanted.shape, -_LARGEST - 1, np.int64)
    high = np.full(wanted.shape, _LARGEST, np.int64)
    with np.errstate(all="ignore"):
        while (low + 1 < high).any():
            middle = (low + high) // 2
            steps = mean(middle) / np.float32(target.scale) + np.float32(rounded_with)
            reached = np.rint(steps) - np.float32(rounded_with) >= wanted
            high = np.where(reached, middle, high)
            low = np.where(reached, low, middle)
    found = []
    for least, before, ordered in zip(mean(high), mean(low), high, strict=True):
        halfway = (Fraction(float(least)) + Fraction(float(before))) / 2 / unit * count
        # Halfway between two floats the even one is the mean.
        found.append(math.floor(halfway) + 1 if ordered % 2 else math.ceil(halfway))
    return found


def requantize_mean(
    b: Builder,
    acc: ir.Value,
    sums: ir.Value,
    mean: FloatMean,
    weights: TapWeights,
    clamp: Clamp,
) -> ir.Value:
    """i8 means.

    Args:
        acc: the sums of windows (``1 x R x C x channels``, i32).
        sums: the same as `float_sums`.
    """

    def body(total: ir.Value, *rest: ir.Value) -> ir.Value:
        weight = weights.of_body(b, rest[:-1])
        line = arith.muli(total, _multiplier_at(b, mean, weight))
        line = arith.addi(line, b.scalar(mean.offset, b.i32))
        at = [linalg.IndexOp(d).result for d in range(4)]
        fraction = arith.andi(line, b.scalar((1 << mean.bits) - mean.width, b.i32))
        near = arith.cmpi(arith.CmpIPredicate.eq, fraction, b.scalar(0, b.i32))
        choice = scf.IfOp(near, [b.i32], has_else=True)
        with ir.InsertionPoint(choice.then_block):
            scf.yield_([_look_closer(b, line, sums, at, mean, weight)])
        with ir.InsertionPoint(choice.else_block):
            scf.yield_([line])
        result = arith.shrsi(choice.results[0], b.scalar(mean.bits, b.i32))
        return arith.trunci(b.i8, _limited(b, result, mean.reach, clamp.low, clamp.high))

    inputs = [(acc, (0, 1, 2, 3)), *weights.inputs(b)]
    return b.generic(inputs, b.empty(acc.type.shape, b.i8), body)


def _multiplier_at(b: Builder, mean: FloatMean, weight: ir.Value | None) -> ir.Value:
    factor = b.scalar(mean.factor, b.i32)
    if weight is None:
        return factor
    product = arith.addi(arith.muli(weight, factor), b.scalar((1 << mean.finer) >> 1, b.i32))
    return arith.shrsi(product, b.scalar(mean.finer, b.i32))


def _look_closer(
    b: Builder,
    line: ir.Value,
    sums: ir.Value,
    at: list[ir.Value],
    mean: FloatMean,
    weight: ir.Value | None,
) -> ir.Value:
    """``line``, or one step less where the float32 sum does not reach its result."""
    total = arith.trunci(b.i32, tensor.extract(sums, at))
    if weight is not None:
        total = arith.muli(total, weight)
    last = mean.first + len(mean.boundaries) - 1
    result = arith.shrsi(line, b.scalar(mean.bits, b.i32))
    result = _limited(b, result, (mean.reach[0] + 1, mean.reach[1]), mean.first, last)
    place = arith.subi(result, b.scalar(mean.first, b.i32))
    boundary = arith.addi(
        arith.muli(result, b.scalar(_wrapped(mean.slope), b.i32)),
        arith.addi(b.scalar(_wrapped(mean.base), b.i32), _looked_up(b, mean.boundaries, place)),
    )
    distance = arith.subi(total, boundary)
    below = arith.cmpi(arith.CmpIPredicate.slt, distance, b.scalar(0, b.i32))
    return arith.select(below, arith.subi(line, b.scalar(mean.width, b.i32)), line)


def _limited(b: Builder, result: ir.Value, reach: tuple[int, int], low: int, high: int) -> ir.Value:
    """``result``, which is within ``reach``, brought into ``low..high``."""
    if reach[1] > high:
        result = arith.minsi(result, b.scalar(high, b.i32))
    return arith.maxsi(result, b.scalar(low, b.i32)) if reach[0] < low else result


def float_sums(
    b: Builder,
    pixels: ir.Value,
    shape: list[int],
    window: Window,
    mean: FloatMean,
    zero_point: int,
    order: SumOrder,
) -> ir.Value:
    """Sums of dequantised ``pixels`` under a window, rounded as float32.

    As integers, i64, in the units of ``mean``. Padding is ``zero_point``.
    """
    i64 = ir.IntegerType.get_signless(64, b.context)

    def dequantize(value: ir.Value, _: ir.Value) -> ir.Value:
        level = arith.extsi(b.i32, value)
        number = arith.subi(level, b.scalar(zero_point, b.i32))
        low = arith.muli(number, b.scalar(mean.significand, b.i32))
        if mean.errors.any():
            place = arith.subi(level, b.scalar(numerics.I8_MIN, b.i32))
            low = arith.addi(low, _looked_up(b, mean.errors, place))
        if zero_point == numerics.I8_MIN:
            return arith.extui(i64, low)
        # A product of 33 bits.
        sign = arith.extsi(i64, arith.shrsi(number, b.scalar(31, b.i32)))
        return arith.ori(arith.extui(i64, low), arith.shli(sign, b.scalar(32, i64)))

    def add(term: ir.Value, _: ir.Value, total: ir.Value) -> ir.Value:
        return tiny.AddFloat32Op(total, term).res

    terms = b.generic([(pixels, range(4))], b.empty(pixels.type.shape, i64), dequantize)
    (rows, columns), (below, beside) = window.strides, window.dilations
    high, wide = window.kernel
    if order == "rows":
        taps: list[Place] = [0, {1: rows, 4: below}, {2: columns, 5: beside}, 3]
        kernel = b.empty(window.kernel, b.i8)
        inputs: list[tuple[ir.Value, Sequence[Place]]] = [(terms, taps), (kernel, (4, 5))]
        return b.generic(inputs, b.fill(shape, 0, i64), add, reduced=(4, 5))
    down = [(terms, (0, {1: rows, 4: below}, 2, 3)), (b.empty([high], b.i8), (4,))]
    heights = [*shape[:2], *pixels.type.shape[2:]]
    sums = b.generic(down, b.fill(heights, 0, i64), add, reduced=(4,))
    right = [(sums, (0, 1, {2: columns, 4: beside}, 3)), (b.empty([wide], b.i8), (4,))]
    return b.generic(right, b.fill(shape, 0, i64), add, reduced=(4,))


def _looked_up(b: Builder, table: IntArray, place: ir.Value) -> ir.Value:
    """An i32 element of ``table``, which is kept in as few bits as hold it."""
    least = np.min_scalar_type(min(int(table.min()), -int(table.max()) - 1))
    index = arith.index_cast(ir.IndexType.get(), place)
    element = tensor.extract(b.constant(table.astype(least)), [index])
    return element if element.type == b.i32 else arith.extsi(b.i32, element)


def _wrapped(value: int) -> int:
    """``value`` modulo 2^32 as an i32."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)
