"""``tiny-lower-requantize``: scalar integer arithmetic for ``tiny.requantize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymlir.bindings import arith, func, ir, llvm, scf
from tinymlir.linalg_info import constant_array, constant_scalar, indexing_maps, is_linalg
from tinymlir.numerics import NEAR_LINE_SHIFTS

from ._pass import Pass, PassFailure, find_ops, register_pass

#: Least total shift of the fast form: the product's high word, rounded by one more bit.
_FAST_SHIFT = 33
#: Multipliers at least this large leave no precision unused.
_NORMALIZED = 1 << 30
#: With fewer bits of the fraction in the high word, too many results would seem near a tie.
_FEW_BITS = 6
#: One shift for all, with room for the zero point above the fraction in the high word.
_LINE_SHIFTS = range(_FAST_SHIFT, NEAR_LINE_SHIFTS.stop)
_NEAR_TIE = "round_near_tie"


@register_pass
@dataclass(frozen=True)
class LowerRequantize(Pass):
    """Turn tiny.requantize and tiny.rescale into integer arithmetic

    Only the high word of the product is shifted: with a total shift s of at least 33,
    ``floor((acc·m + 2^(s-1)) / 2^s)`` equals ``(hi + 2^(s-33)) >> (s-32)``, since the
    half cannot carry out of the low word; the zero point goes in with the half where the
    shift is one constant. Smaller shifts scale the accumulator up
    first, after clamping it to where the result saturates anyway. ``float32`` takes
    this path as well, except near a tie, where ``@round_near_tie`` looks closer.
    tiny.rescale adds an offset of 64 bits to the whole product.

    Before::

        func.func @f(%acc: i32) -> i8 {
          %m = arith.constant 1431655765 : i32
          %s = arith.constant 40 : i32
          %q = "tiny.requantize"(%acc, %m, %s) {zero_point = -3 : i32, min = -128 : i32,
                 max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
          return %q : i8
        }

    After, canonicalized::

        func.func @f(%acc: i32) -> i8 {
          ...
          %low, %high = arith.mulsi_extended %acc, %m : i32
          %0 = arith.addi %high, %c-640 : i32
          %1 = arith.shrsi %0, %c8 : i32
          %2 = arith.minsi %1, %c127 : i32
          %3 = arith.maxsi %2, %c-128 : i32
          %q = arith.trunci %3 : i32 to i8
          return %q : i8
        }
    """

    name: ClassVar[str] = "tiny-lower-requantize"
    #: whether the results will be computed in the lanes of vectors: then a way that few of
    #: them take is taken by all, and ties are told from what is near one as well as can be
    lanes: bool = False

    def run(self, op: ir.Operation) -> None:
        for rescale in find_ops(op, "tiny.rescale"):
            with ir.InsertionPoint(rescale), rescale.location:
                result = _rescale(rescale)
            rescale.results[0].replace_all_uses_with(result)
            rescale.erase()
        found = find_ops(op, "tiny.requantize")
        if any(r.attributes["rounding"].value == "float32" for r in found):
            with ir.InsertionPoint.at_block_begin(op.regions[0].blocks[0]), op.location:
                self._emit_near_tie()
        for requantize in found:
            with ir.InsertionPoint(requantize), requantize.location:
                result = self._lower(requantize)
            requantize.results[0].replace_all_uses_with(result)
            requantize.erase()

    def _lower(self, op: ir.Operation) -> ir.Value:
        accumulator, multiplier, shift = op.operands
        rounding = op.attributes["rounding"].value
        limits = [op.attributes[n].value for n in ("zero_point", "min", "max")]
        known = constant_scalar(shift)
        near_line = rounding == "float32" and not self.lanes
        if near_line and known is not None and known in NEAR_LINE_SHIFTS:
            value = self._near_line(accumulator, multiplier, known - 32, limits[0])
            return _saturate(value, 0, *limits[1:])
        if rounding == "nearest_up" and known is not None and known in _LINE_SHIFTS:
            _, high = arith.mulsi_extended(accumulator, multiplier)
            below = known - 32
            line = arith.addi(high, _constant(_nearest_offset(below, limits[0])))
            return _saturate(arith.shrsi(line, _constant(below)), 0, *limits[1:])
        if rounding == "double":
            value = self._double(op, accumulator, multiplier, shift)
        else:
            value = self._nearest(op, accumulator, multiplier, shift, rounding)
        return _saturate(value, *limits)

    def _nearest(
        self,
        op: ir.Operation,
        accumulator: ir.Value,
        multiplier: ir.Value,
        shift: ir.Value,
        rounding: str,
    ) -> ir.Value:
        multiplier, shift = _normalized(multiplier, shift)
        shifts = _values(op, shift)
        least_shift, most_shift = int(shifts.min()), int(shifts.max())
        if least_shift < _FAST_SHIFT:
            multipliers = _values(op, multiplier)
            if _read_together(multiplier, shift):
                multipliers = multipliers[shifts < _FAST_SHIFT]
            if least_shift < 3 or int(multipliers.min()) < _NORMALIZED:
                raise PassFailure(
                    op.location,
                    "expects a multiplier of at least 2^30 and a shift of at least 3"
                    " where a shift is below 33",
                )
            accumulator, shift = _scale_up(accumulator, shift, least_shift == most_shift)
        low, high = arith.mulsi_extended(accumulator, multiplier)
        down = _sub(shift, _constant(_FAST_SHIFT))
        truncated = arith.shrsi(high, down)
        rounded = arith.shrsi(arith.addi(truncated, _constant(1)), _constant(1))
        if rounding == "nearest_up":
            return rounded
        if rounding == "float32":
            least_down = max(least_shift - _FAST_SHIFT, 0)
            near = _near_tie(low, high, down, self.lanes or least_down < _FEW_BITS, least_down)
            choice = scf.IfOp(near, [_i32()], has_else=True)
            with ir.InsertionPoint(choice.then_block):
                scf.yield_([func.call([_i32()], _NEAR_TIE, [accumulator, multiplier, shift])])
            with ir.InsertionPoint(choice.else_block):
                scf.yield_([rounded])
            return choice.results[0]
        # A tie: nothing below the half bit, neither in the low word nor in the high one.
        exact = arith.cmpi(arith.CmpIPredicate.eq, low, _constant(0))
        whole = arith.cmpi(arith.CmpIPredicate.eq, arith.shli(truncated, down), high)
        half = arith.andi(truncated, rounded)
        odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(half, _constant(1)), _constant(0))
        tie = arith.andi(arith.andi(exact, whole), odd)
        return _sub(rounded, arith.extui(_i32(), tie))

    def _near_line(
        self, accumulator: ir.Value, multiplier: ir.Value, below: int, zero_point: int
    ) -> ir.Value:
        """``float32`` with one shift for all: the high word ends in ``below`` fraction bits."""
        # The nearest float32 is within 2^-15 of the product (see _near_tie).
        guard = 1 << max(below - 15, 0)
        offset = _nearest_offset(below, zero_point) + guard
        _, high = arith.mulsi_extended(accumulator, multiplier)
        line = arith.addi(high, _constant(offset))
        # Away from a tie the guard does not carry into the result.
        fraction = arith.andi(line, _constant((1 << below) - 2 * guard))
        near = arith.cmpi(arith.CmpIPredicate.eq, fraction, _constant(0))
        false = arith.constant(ir.IntegerType.get_signless(1), 0)
        choice = scf.IfOp(llvm.intr_expect(near, false), [_i32()], has_else=True)
        with ir.InsertionPoint(choice.then_block):
            exact = func.call([_i32()], _NEAR_TIE, [accumulator, multiplier, _constant(32 + below)])
            # Shifted as the line is, so that the way back is one with the saturation.
            scf.yield_([arith.shli(arith.addi(exact, _constant(zero_point)), _constant(below))])
        with ir.InsertionPoint(choice.else_block):
            scf.yield_([line])
        return arith.shrsi(choice.results[0], _constant(below))

    def _emit_near_tie(self) -> None:
        """``@round_near_tie(acc, m, s)``: what a float32 product rounds to, in integers.

        Write v for the product of the accumulator, rounded to 24 bits, and the
        scale; k for floor(v). The float32 next to v is a tie exactly if v is within
        half a unit in the last place (ulp) of k + 1/2; ties go to the even
        neighbour. So v goes up if it is more than ulp/2 above k + 1/2 where k is
        even, and not more than ulp/2 below where k is odd. Near k + 1/2, ulp/2 is
        the highest power of two in |k + 1/2|, times 2^-24.

        Callers look at the high word of the product, which may have but a few bits of the
        fraction; most of what they take for near is not, if one looks at the low word too.
        """
        function = func.FuncOp(_NEAR_TIE, ([_i32()] * 3, [_i32()]), visibility="private")
        with ir.InsertionPoint(function.add_entry_block()):
            accumulator, multiplier, shift = function.arguments
            down = arith.subi(shift, _constant(_FAST_SHIFT))
            if self.lanes:
                func.ReturnOp([_rounded_like_float32(accumulator, multiplier, down)])
                return
            low, high = arith.mulsi_extended(accumulator, multiplier)
            near = _near_tie(low, high, down, both=True, least_down=0)
            choice = scf.IfOp(near, [_i32()], has_else=True)
            with ir.InsertionPoint(choice.then_block):
                scf.yield_([_rounded_like_float32(accumulator, multiplier, down)])
            with ir.InsertionPoint(choice.else_block):
                one = _constant(1)
                scf.yield_([arith.shrsi(arith.addi(arith.shrsi(high, down), one), one)])
            func.ReturnOp([choice.results[0]])

    def _double(
        self, op: ir.Operation, accumulator: ir.Value, multiplier: ir.Value, shift: ir.Value
    ) -> ir.Value:
        """gemmlowp's SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT.

        The division by 2^e sends ties away from zero: with e >= 1 it is
        ``floor((x + 2^(e-1) - (x < 0)) / 2^e)``, here in steps that cannot overflow.
        """
        c0, c1, c31 = _constant(0), _constant(1), _constant(31)
        try:
            shrinks = int(_values(op, shift).min()) > 31
        except PassFailure:
            # Any shift will do, only not as fast.
            shrinks = False
        if not shrinks:
            accumulator = arith.shli(accumulator, arith.maxsi(_sub(c31, shift), c0))
        low, high = arith.mulsi_extended(accumulator, multiplier)
        doubled = arith.ori(arith.shli(high, c1), arith.shrui(low, c31))
        nudge = arith.andi(arith.shrui(low, _constant(30)), c1)
        value = arith.addi(doubled, nudge)
        if shrinks:
            away = arith.addi(value, arith.shrsi(value, c31))
            halved = arith.shrsi(away, _sub(shift, _constant(32)))
            return arith.shrsi(arith.addi(halved, c1), c1)
        down = arith.maxsi(_sub(shift, c31), c0)
        mask = _sub(arith.shli(c1, down), c1)
        remainder = arith.andi(value, mask)
        threshold = arith.addi(arith.shrui(mask, c1), arith.shrui(value, c31))
        above = arith.cmpi(arith.CmpIPredicate.sgt, remainder, threshold)
        # Bounded before the zero point is added, so that the sum cannot wrap.
        rounded = arith.addi(arith.shrsi(value, down), arith.extui(_i32(), above))
        return arith.maxsi(arith.minsi(rounded, _constant(512)), _constant(-512))


def _nearest_offset(below: int, zero_point: int) -> int:
    """What rounds a number of ``below`` fraction bits to nearest and adds the zero point."""
    return (1 << (below - 1)) + (zero_point << below)


def _rescale(op: ir.Operation) -> ir.Value:
    """64-bit arithmetic: cores with a long multiply have instructions for it."""
    i64 = ir.IntegerType.get_signless(64)
    accumulator, multiplier, offset = op.operands
    shift, least, most = (op.attributes[name].value for name in ("shift", "min", "max"))
    low, high = arith.mulsi_extended(accumulator, multiplier)
    if offset.type.width == 32:
        line = arith.addi(high, offset)
        return _saturate(arith.shrsi(line, _constant(shift - 32)), 0, least, most)
    top = arith.shli(arith.extsi(i64, high), arith.constant(i64, 32))
    line = arith.addi(arith.ori(top, arith.extui(i64, low)), offset)
    # Whole words first: what is left fits 32 bits, whose saturation cores have instructions for.
    upper = arith.trunci(_i32(), arith.shrsi(line, arith.constant(i64, 32)))
    return _saturate(arith.shrsi(upper, _constant(shift - 32)), 0, least, most)


def _near_tie(
    low: ir.Value, high: ir.Value, down: ir.Value, both: bool, least_down: int
) -> ir.Value:
    """Whether the product's fraction is so near one half that float32 rounding decides.

    Saturation aside, the product is below 256, where it and a float32 product of a
    float32 accumulator differ by less than 2^-15. Where the high word holds too few
    bits of the fraction, bits of the low word are added to it (``both``).
    """
    c31 = _constant(31)
    fraction = arith.shli(high, _sub(c31, down))
    guard = 1 << 17
    if both:
        fraction = arith.ori(fraction, arith.shrui(low, arith.addi(down, _constant(1))))
    else:
        guard = max(guard, 1 << (31 - least_down))
    shifted = arith.addi(fraction, _constant(_wrap((1 << 31) + guard)))
    return arith.cmpi(arith.CmpIPredicate.ult, shifted, _constant(_wrap(2 * guard)))


def _rounded_like_float32(accumulator: ir.Value, multiplier: ir.Value, down: ir.Value) -> ir.Value:
    """The body of ``@round_near_tie``, which see."""
    c0, c1, c31, top = (_constant(v) for v in (0, 1, 31, -(1 << 31)))
    low, high = arith.mulsi_extended(_to_float32(accumulator), multiplier)
    whole = arith.shrsi(arith.shrsi(high, down), c1)
    below = arith.addi(down, c1)
    fraction = arith.ori(arith.shli(high, arith.subi(c31, down)), arith.shrui(low, below))
    beyond = arith.andi(low, arith.subi(arith.shli(c1, below), c1))
    distance = arith.subi(fraction, top)
    magnitude = arith.xori(whole, arith.shrsi(whole, c31))
    for step in (1, 2, 4):
        magnitude = arith.ori(magnitude, arith.shrui(magnitude, _constant(step)))
    half_ulp = arith.shli(arith.addi(magnitude, c1), _constant(7))
    more = arith.cmpi(arith.CmpIPredicate.sgt, distance, half_ulp)
    equal = arith.cmpi(arith.CmpIPredicate.eq, distance, half_ulp)
    inexact = arith.cmpi(arith.CmpIPredicate.ne, beyond, c0)
    even_up = arith.ori(more, arith.andi(equal, inexact))
    odd_up = arith.cmpi(arith.CmpIPredicate.sge, distance, arith.subi(c0, half_ulp))
    odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(whole, c1), c0)
    up = arith.select(odd, odd_up, even_up)
    return arith.addi(whole, arith.extui(_i32(), up))


def _to_float32(value: ir.Value) -> ir.Value:
    """``value`` rounded to the 24 significant bits of a float32, ties to even."""
    c0, c1, c31 = (_constant(v) for v in (0, 1, 31))
    sign = arith.shrsi(value, c31)
    magnitude = arith.subi(arith.xori(value, sign), sign)
    smeared = magnitude
    for step in (1, 2, 4, 8, 16):
        smeared = arith.ori(smeared, arith.shrui(smeared, _constant(step)))
    dropped = arith.shrui(smeared, _constant(24))
    unit = arith.addi(dropped, c1)
    half = arith.shrui(unit, c1)
    rest = arith.andi(magnitude, dropped)
    kept = arith.subi(magnitude, rest)
    odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(kept, unit), c0)
    tie = arith.andi(arith.cmpi(arith.CmpIPredicate.eq, rest, half), odd)
    more = arith.cmpi(arith.CmpIPredicate.ugt, rest, half)
    some = arith.cmpi(arith.CmpIPredicate.ne, dropped, c0)
    up = arith.andi(some, arith.ori(more, tie))
    rounded = arith.select(up, arith.addi(kept, unit), kept)
    # Rounding 2^31 - 1 up would wrap; it saturates the result either way.
    bounded = arith.minui(rounded, _constant((1 << 31) - (1 << 7)))
    return arith.subi(arith.xori(bounded, sign), sign)


def _wrap(value: int) -> int:
    """``value`` modulo 2^32 as an i32."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


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


def _values(op: ir.Operation, value: ir.Value) -> np.ndarray:
    """All there can be: the one of a constant, those of the constant table it is read from.

    Raises:
        PassFailure: for anything else.
    """
    known = constant_scalar(value)
    if known is not None:
        return np.array([known])
    load = _load(value)
    table = _linalg_table(value) if load is None else _constant_table(load.operands[0])
    if table is not None:
        return table
    raise PassFailure(
        op.location, "expects multiplier and shift to be constants or read from a constant table"
    )


def _load(value: ir.Value) -> ir.Operation | None:
    """The memref.load that gives ``value``, if one does."""
    op = None if isinstance(value, ir.BlockArgument) else value.owner.operation
    return op if op is not None and op.name == "memref.load" else None


def _linalg_table(value: ir.Value) -> np.ndarray | None:
    """The constant tensor of which the body of a linalg op gets an element as ``value``."""
    if not isinstance(value, ir.BlockArgument):
        return None
    op = value.owner.owner.operation
    return constant_array(op.operands[value.arg_number]) if is_linalg(op) else None


def _read_together(a: ir.Value, b: ir.Value) -> bool:
    """Whether two tables of one shape are read at the same place."""
    if _linalg_table(a) is not None and _linalg_table(b) is not None:
        maps = indexing_maps(a.owner.owner.operation)
        return bool(maps[a.arg_number] == maps[b.arg_number])
    first, second = _load(a), _load(b)
    if first is None or second is None:
        return False
    return (
        first.operands[0].type == second.operands[0].type
        and list(first.operands)[1:] == list(second.operands)[1:]
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
            if "initial_value" not in attributes or "constant" not in attributes:
                return None
            initial = attributes["initial_value"]
            if initial.is_splat:
                return np.full(initial.type.shape, initial.get_splat_value().value)
            return np.array(initial)
    return None
