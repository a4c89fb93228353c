"""``tiny-lower-requantize``: scalar integer arithmetic for ``tiny.requantize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tinymlir.bindings import arith, ir
from tinymlir.linalg_info import constant_scalar

from ._pass import Pass, PassFailure, register_pass

#: Least total shift of the fast form: the product's high word, rounded by one more bit.
_FAST_SHIFT = 33
#: Multipliers at least this large leave no precision unused.
_NORMALIZED = 1 << 30


@register_pass
@dataclass(frozen=True)
class LowerRequantize(Pass):
    """Turn tiny.requantize into i32 arithmetic

    Only the high word of the product is shifted: with a total shift of at least 33,
    ``floor((acc·m + 2^(s−1)) / 2^s)`` equals ``((hi >> (s−33)) + 1) >> 1``, since the
    half cannot carry out of the low word. Smaller shifts scale the accumulator up
    first, after clamping it to where the result saturates anyway. Without
    ``long-multiply`` the high word is made of 16-bit halves, so that no library
    call is left.

    Before::

        func.func @f(%acc: i32) -> i8 {
          %m = arith.constant 1431655765 : i32
          %s = arith.constant 40 : i32
          %q = "tiny.requantize"(%acc, %m, %s) {zero_point = -3 : i32, min = -128 : i32,
                 max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
          return %q : i8
        }

    After::

        func.func @f(%acc: i32) -> i8 {
          %low, %high = arith.mulsi_extended %acc, %m : i32
          %0 = arith.shrsi %high, %c7 : i32
          %1 = arith.addi %0, %c1 : i32
          %2 = arith.shrsi %1, %c1 : i32
          %3 = arith.addi %2, %c-3 : i32
          %4 = arith.minsi %3, %c127 : i32
          %5 = arith.maxsi %4, %c-128 : i32
          %q = arith.trunci %5 : i32 to i8
          return %q : i8
        }
    """

    name: ClassVar[str] = "tiny-lower-requantize"
    long_multiply: bool = True

    def run(self, op: ir.Operation) -> None:
        found: list[ir.Operation] = []

        def collect(nested: ir.Operation) -> ir.WalkResult:
            if nested.name == "tiny.requantize":
                found.append(nested)
            return ir.WalkResult.ADVANCE

        op.walk(collect)
        for requantize in found:
            with ir.InsertionPoint(requantize), requantize.location:
                result = self._lower(requantize)
            requantize.results[0].replace_all_uses_with(result)
            requantize.erase()

    def _lower(self, op: ir.Operation) -> ir.Value:
        accumulator, multiplier, shift = op.operands
        rounding = op.attributes["rounding"].value
        limits = [op.attributes[n].value for n in ("zero_point", "min", "max")]
        if rounding == "double":
            value = self._double(accumulator, multiplier, shift)
        else:
            value = self._nearest(op, accumulator, multiplier, shift, rounding == "nearest_even")
        return _saturate(value, *limits)

    def _nearest(
        self,
        op: ir.Operation,
        accumulator: ir.Value,
        multiplier: ir.Value,
        shift: ir.Value,
        ties_to_even: bool,
    ) -> ir.Value:
        multiplier, shift = _normalized(multiplier, shift)
        least_shift, most_shift = _range(op, shift)
        if least_shift < _FAST_SHIFT:
            if least_shift < 3 or _range(op, multiplier)[0] < _NORMALIZED:
                raise PassFailure(
                    op.location,
                    "expects a multiplier of at least 2^30 and a shift of at least 3"
                    " where a shift is below 33",
                )
            accumulator, shift = _scale_up(accumulator, shift, least_shift == most_shift)
        low, high = self._multiply(accumulator, multiplier)
        down = _sub(shift, _constant(_FAST_SHIFT))
        truncated = arith.shrsi(high, down)
        rounded = arith.shrsi(arith.addi(truncated, _constant(1)), _constant(1))
        if not ties_to_even:
            return rounded
        # A tie: nothing below the half bit, neither in the low word nor in the high one.
        exact = arith.cmpi(arith.CmpIPredicate.eq, low, _constant(0))
        whole = arith.cmpi(arith.CmpIPredicate.eq, arith.shli(truncated, down), high)
        half = arith.andi(truncated, rounded)
        odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(half, _constant(1)), _constant(0))
        tie = arith.andi(arith.andi(exact, whole), odd)
        return _sub(rounded, arith.extui(_i32(), tie))

    def _double(self, accumulator: ir.Value, multiplier: ir.Value, shift: ir.Value) -> ir.Value:
        """gemmlowp's SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT."""
        c0, c1, c31 = _constant(0), _constant(1), _constant(31)
        up = arith.maxsi(_sub(c31, shift), c0)
        down = arith.maxsi(_sub(shift, c31), c0)
        low, high = self._multiply(arith.shli(accumulator, up), multiplier)
        doubled = arith.ori(arith.shli(high, c1), arith.shrui(low, c31))
        nudge = arith.andi(arith.shrui(low, _constant(30)), c1)
        value = arith.addi(doubled, nudge)
        mask = _sub(arith.shli(c1, down), c1)
        remainder = arith.andi(value, mask)
        threshold = arith.addi(arith.shrui(mask, c1), arith.shrui(value, c31))
        above = arith.cmpi(arith.CmpIPredicate.sgt, remainder, threshold)
        # Bounded before the zero point is added, so that the sum cannot wrap.
        rounded = arith.addi(arith.shrsi(value, down), arith.extui(_i32(), above))
        return arith.maxsi(arith.minsi(rounded, _constant(512)), _constant(-512))

    def _multiply(self, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Low and high word of ``a · b``, where ``b`` is not negative."""
        if self.long_multiply:
            low, high = arith.mulsi_extended(a, b)
            return low, high
        sixteen, mask = _constant(16), _constant(0xFFFF)
        a_low, a_high = arith.andi(a, mask), arith.shrsi(a, sixteen)
        b_low, b_high = arith.andi(b, mask), arith.shrui(b, sixteen)
        middle = arith.addi(
            arith.muli(a_high, b_low), arith.shrui(arith.muli(a_low, b_low), sixteen)
        )
        carry = arith.addi(arith.muli(a_low, b_high), arith.andi(middle, mask))
        high = arith.addi(
            arith.addi(arith.muli(a_high, b_high), arith.shrsi(middle, sixteen)),
            arith.shrsi(carry, sixteen),
        )
        return arith.muli(a, b), high


def _i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def _constant(value: int) -> ir.Value:
    return arith.constant(_i32(), value)


def _sub(a: ir.Value, b: ir.Value) -> ir.Value:
    known_a, known_b = constant_scalar(a), constant_scalar(b)
    if known_a is not None and known_b is not None:
        return _constant(known_a - known_b)
    return arith.subi(a, b)


def _normalized(multiplier: ir.Value, shift: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The same scale with the largest multiplier, where both are constants."""
    m, s = constant_scalar(multiplier), constant_scalar(shift)
    if m is None or s is None or m == 0:
        return multiplier, shift
    spare = 31 - m.bit_length()
    return _constant(m << spare), _constant(s + spare)


def _scale_up(accumulator: ir.Value, shift: ir.Value, uniform: bool) -> tuple[ir.Value, ir.Value]:
    """Move a shift below 33 into the accumulator, saturating it where the result would."""
    c1 = _constant(1)
    up = _sub(_constant(_FAST_SHIFT), shift)
    if not uniform:
        up = arith.maxsi(up, _constant(0))
    known = constant_scalar(up)
    if known is not None:
        limit = _constant((1 << (31 - known)) - 1)
        least = _constant(-((1 << (31 - known)) - 1))
    else:
        limit = arith.subi(arith.shrui(_constant(-(1 << 31)), up), c1)
        least = arith.subi(_constant(0), limit)
    clamped = arith.maxsi(arith.minsi(accumulator, limit), least)
    known_shift = constant_scalar(shift)
    total = _constant(_FAST_SHIFT) if known_shift is not None else arith.addi(shift, up)
    return arith.shli(clamped, up), total


def _saturate(value: ir.Value, zero_point: int, low: int, high: int) -> ir.Value:
    if zero_point:
        value = arith.addi(value, _constant(zero_point))
    value = arith.maxsi(arith.minsi(value, _constant(high)), _constant(low))
    return arith.trunci(ir.IntegerType.get_signless(8), value)


def _range(op: ir.Operation, value: ir.Value) -> tuple[int, int]:
    """Least and greatest value: of a constant, or of the constant table it is read from.

    Raises:
        PassFailure: for anything else.
    """
    known = constant_scalar(value)
    if known is not None:
        return known, known
    producer = None if isinstance(value, ir.BlockArgument) else value.owner.operation
    if producer is not None and producer.name == "memref.load":
        table = _constant_table(producer.operands[0])
        if table is not None:
            return int(table.min()), int(table.max())
    raise PassFailure(
        op.location, "expects multiplier and shift to be constants or read from a constant global"
    )


def _constant_table(buffer: ir.Value) -> np.ndarray | None:
    if isinstance(buffer, ir.BlockArgument):
        return None
    op = buffer.owner.operation
    if op.name != "memref.get_global":
        return None
    symbol = op.attributes["name"].value
    module = op
    while module.parent is not None:
        module = module.parent
    for child in module.regions[0].blocks[0].operations:
        attributes = child.operation.attributes
        if child.operation.name == "memref.global" and attributes["sym_name"].value == symbol:
            initial = attributes["initial_value"] if "initial_value" in attributes else None
            if initial is None or "constant" not in attributes:
                return None
            if initial.is_splat:
                return np.array([initial.get_splat_value().value])
            return np.array(initial)
    return None
