"""Sums whose ties fall as a float32 computation lets them fall.

Where the scales have a simple ratio, sums of two int8 numbers often lie exactly between
two results, or would if float32 did not round; its rounding errors then decide. The
fixed-point sum gives the result everywhere else, so only near a tie is the sum
computed to the last bit that the reference sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, scf, tensor
from tinymlir.numerics import IntArray

from .builder import Builder, Clamp

LEVELS = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1)
#: Results whose upper boundary can matter: one below the least, and all but the greatest.
_FIRST = numerics.I8_MIN - 1


@dataclass(frozen=True)
class SumReference:
    """How a reference adds two int8 numbers.

    Attributes:
        terms: for each operand the 256 reals that the reference adds. Its results rise
            with their exact sum.
        step: by how much that exceeds the sum for the result before, but for rounding.
        zero_point: the result of a sum of zero, but for rounding.
        results: the 256 x 256 int8 results.
    """

    terms: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    step: float
    zero_point: int
    results: npt.NDArray[np.int8]


@dataclass(frozen=True)
class FloatSum:
    """A sum in fixed point, and how it is decided near a tie.

    With ``fixed = factors[0] * a + factors[1] * b + offset`` for int8 ``a`` and ``b``, the
    result is ``fixed / 2**bits`` to the nearest integer, unless its fraction is within
    ``guard`` of one half. Then one is added to the whole part where
    ``(fine[0][a] + fine[1][b] - boundaries[whole]) mod 2**32`` is not negative: the distance
    from the boundary to the last bit, of which the high bits are known to be zero.
    """

    factors: tuple[int, int]
    offset: int
    bits: int
    guard: int
    fine: tuple[IntArray, IntArray]
    boundaries: IntArray

    def results(self) -> IntArray:
        """The 256 x 256 results, as the emitted code computes them."""
        fixed = (LEVELS * self.factors[0])[:, None] + LEVELS * self.factors[1] + self.offset
        half = 1 << (self.bits - 1)
        whole = fixed >> self.bits
        place = np.clip(whole, _FIRST, numerics.I8_MAX - 1) - _FIRST
        distance = self.fine[0][:, None] + self.fine[1] - self.boundaries[place]
        near = np.abs(fixed - (whole << self.bits) - half) <= self.guard
        up = np.where(near, _wrapped(distance) >= 0, (fixed + half) >> self.bits > whole)
        return np.clip(whole + up, numerics.I8_MIN, numerics.I8_MAX)


def fit_float_sum(reference: SumReference) -> FloatSum | None:
    """The sum that agrees with ``reference`` on all 65536 pairs; None if there is none."""
    total = (reference.terms[0][:, None] + reference.terms[1]) / reference.step
    total += reference.zero_point
    bits = 31 - max(1, math.ceil(math.log2(float(np.abs(total).max()) + 2)))
    if bits < 8:
        return None
    slopes = [(values[-1] - values[0]) / 255 for values in reference.terms]
    factors = [round(slope / reference.step * 2**bits) for slope in slopes]
    middle = total[-numerics.I8_MIN, -numerics.I8_MIN]
    offset = round(middle * 2**bits)
    fixed = (LEVELS * factors[0])[:, None] + LEVELS * factors[1] + offset
    if np.abs(fixed).max() >= 2**31:
        return None
    # What fixed point is off by, and how far from a tie the reference still errs.
    from_tie = np.abs(total - np.floor(total) - 0.5)
    erring = np.clip(np.floor(total + 0.5), numerics.I8_MIN, numerics.I8_MAX) != reference.results
    error = np.abs(fixed - total * 2**bits).max() + from_tie[erring].max(initial=0) * 2**bits
    guard = math.ceil(error) + 1
    if 2 * guard + 1 >= 2**bits:
        return None
    # As many fractional bits as distances within twice the guard leave of 32.
    places = 29 + bits - math.ceil(math.log2((2 * guard + 1) * reference.step))
    largest = max(float(np.abs(values).max()) for values in reference.terms)
    places = min(places, 61 - math.ceil(math.log2(largest)))
    fine = [np.rint(np.ldexp(values, places)).astype(np.int64) for values in reference.terms]
    boundaries = _boundaries(fine[0][:, None] + fine[1], reference, places)
    fitted = FloatSum((factors[0], factors[1]), offset, bits, guard, (fine[0], fine[1]), boundaries)
    return fitted if np.array_equal(fitted.results(), reference.results) else None


def _boundaries(total: IntArray, reference: SumReference, places: int) -> IntArray:
    """For each result from ``_FIRST`` on, the least sum that gives a greater one."""
    steps = np.arange(_FIRST, numerics.I8_MAX)
    order = np.argsort(total, axis=None, kind="stable")
    ordered, rising = total.reshape(-1)[order], reference.results.reshape(-1)[order]
    at = np.searchsorted(np.maximum.accumulate(rising), steps, side="right")
    found = np.append(ordered, np.iinfo(np.int64).max)[at]
    # Where no sum is close, one that is: the distance must fit.
    middle = np.ldexp((steps + 0.5 - reference.zero_point) * reference.step, places)
    middle = np.rint(middle).astype(np.int64)
    return np.clip(found, middle - 2**30, middle + 2**30)


def _wrapped(values: IntArray) -> IntArray:
    """Integers modulo 2**32, as i32."""
    return values.astype(np.uint64).astype(np.uint32).astype(np.int32).astype(np.int64)


def emit_float_sum(b: Builder, total: FloatSum, clamp: Clamp, p: ir.Value, q: ir.Value) -> ir.Value:
    """The i8 result for two int8 operands widened to i32."""

    def number(value: int) -> ir.Value:
        return b.scalar(value, b.i32)

    terms = [arith.muli(v, number(f)) for v, f in zip((p, q), total.factors, strict=True)]
    fixed = arith.addi(arith.addi(*terms), number(total.offset))
    whole = arith.shrsi(fixed, number(total.bits))
    half = 1 << (total.bits - 1)
    offset = arith.addi(fixed, number(total.guard - half))
    fraction = arith.andi(offset, number((1 << total.bits) - 1))
    near = arith.cmpi(arith.CmpIPredicate.ule, fraction, number(2 * total.guard))
    fine = [_term(b, values) for values in total.fine]
    boundaries = b.constant(_wrapped(total.boundaries).astype(np.int32))
    choice = scf.IfOp(near, [b.i32], has_else=True)
    with ir.InsertionPoint(choice.then_block):
        first, last = number(_FIRST), number(numerics.I8_MAX - 1)
        bounded = arith.maxsi(arith.minsi(whole, last), first)
        boundary = _entry(b, boundaries, arith.subi(bounded, first))
        distance = arith.subi(arith.addi(fine[0](p), fine[1](q)), boundary)
        up = arith.cmpi(arith.CmpIPredicate.sge, distance, number(0))
        scf.yield_([arith.addi(whole, arith.extui(b.i32, up))])
    with ir.InsertionPoint(choice.else_block):
        rounded = arith.addi(fixed, number(half))
        scf.yield_([arith.shrsi(rounded, number(total.bits))])
    result = arith.minsi(choice.results[0], number(clamp.high))
    return arith.trunci(b.i8, arith.maxsi(result, number(clamp.low)))


def _term(b: Builder, values: IntArray) -> Callable[[ir.Value], ir.Value]:
    """``values`` modulo 2**32 by int8 number: a product where they lie on a line, or a table."""
    slopes = set(np.diff(values).tolist())
    if len(slopes) == 1:
        line = np.array([slopes.pop(), values[-numerics.I8_MIN]])
        slope, start = (b.scalar(n, b.i32) for n in _wrapped(line).tolist())
        return lambda v: arith.addi(arith.muli(v, slope), start)
    table = b.constant(_wrapped(values).astype(np.int32))
    return lambda v: _entry(b, table, arith.subi(v, b.scalar(numerics.I8_MIN, b.i32)))


def _entry(b: Builder, table: ir.Value, place: ir.Value) -> ir.Value:
    return tensor.extract(table, [arith.index_cast(ir.IndexType.get(b.context), place)])
