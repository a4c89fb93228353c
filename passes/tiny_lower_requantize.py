"""``tiny-lower-requantize``: scalar integer arithmetic for ``tiny.requantize``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import numpy as np

from tinymlir.bindings import arith, func, ir, llvm, scf
from tinymlir.kernels.words import settled
from tinymlir.linalg_info import constant_array, constant_scalar, indexing_maps, is_linalg
from tinymlir.numerics import NEAR_LINE_SHIFTS
from tinymlir.symbols import find_symbol

from ._float32 import FAST_SHIFT, NEAR_TIE, emit_near_tie, near_tie
from ._pass import Pass, PassFailure, find_ops, register_pass
from ._words import constant, i32, sub

#: Multipliers at least this large leave no precision unused.
_NORMALIZED = 1 << 30
#: With fewer bits of the fraction in the high word, too many results would seem near a tie.
_FEW_BITS = 6
#: Additions that are worth a register.
_SEVERAL = 3
#: One shift for all, with room for the zero point above the fraction in the high word.
_LINE_SHIFTS = range(FAST_SHIFT, NEAR_LINE_SHIFTS.stop)


@register_pass
@dataclass(frozen=True)
class LowerRequantize(Pass):
    """Turn tiny.requantize, tiny.rescale and tiny.step_over into integer arithmetic

    Only the high word of the product is shifted: with a total shift s of at least 33,
    ``floor((acc·m + 2^(s-1)) / 2^s)`` equals ``(hi + 2^(s-33)) >> (s-32)``, since the
    half cannot carry out of the low word; the zero point goes in with the half where the
    shift is one constant. Smaller shifts scale the accumulator up
    first, after clamping it to where the result saturates anyway. ``float32`` takes
    this path as well, except near a tie, where ``@round_near_tie`` looks closer; which is seldom
    if the accumulator may be scaled up first (``tiny.headroom``).
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
    #: whether the core adds the high word of a product to a register (SMMLA)
    mac_high: bool = False

    def run(self, op: ir.Operation) -> None:
        rescales = find_ops(op, "tiny.rescale")
        if self.mac_high:
            _keep_offsets(rescales)
        for rescale in rescales:
            with ir.InsertionPoint(rescale), rescale.location:
                result = _rescale(rescale)
            rescale.results[0].replace_all_uses_with(result)
            rescale.erase()
        for step in find_ops(op, "tiny.step_over"):
            with ir.InsertionPoint(step), step.location:
                late = arith.cmpi(arith.CmpIPredicate.eq, *step.operands)
                result = arith.addi(step.operands[0], arith.extui(i32(), late))
            step.results[0].replace_all_uses_with(result)
            step.erase()
        found = find_ops(op, "tiny.requantize")
        if any(r.attributes["rounding"].value == "float32" for r in found):
            with ir.InsertionPoint.at_block_begin(op.regions[0].blocks[0]), op.location:
                emit_near_tie(lanes=self.lanes)
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
            below = known - 32
            if "tiny.headroom" in op.attributes:
                places = op.attributes["tiny.headroom"].value
                accumulator, below = arith.shli(accumulator, constant(places)), below + places
            value = self._near_line(accumulator, multiplier, below, limits[0])
            return _saturate(value, 0, *limits[1:])
        if rounding == "nearest_up" and known is not None and known in _LINE_SHIFTS:
            _, high = arith.mulsi_extended(accumulator, multiplier)
            below = known - 32
            line = arith.addi(high, constant(_nearest_offset(below, limits[0])))
            return _saturate(arith.shrsi(line, constant(below)), 0, *limits[1:])
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
        if least_shift < FAST_SHIFT:
            multipliers = _values(op, multiplier)
            if _read_together(multiplier, shift):
                multipliers = multipliers[shifts < FAST_SHIFT]
            if least_shift < 3 or int(multipliers.min()) < _NORMALIZED:
                raise PassFailure(
                    op.location,
                    "expects a multiplier of at least 2^30 and a shift of at least 3"
                    " where a shift is below 33",
                )
            accumulator, shift = _scale_up(accumulator, shift, least_shift == most_shift)
        low, high = arith.mulsi_extended(accumulator, multiplier)
        down = sub(shift, constant(FAST_SHIFT))
        truncated = arith.shrsi(high, down)
        rounded = arith.shrsi(arith.addi(truncated, constant(1)), constant(1))
        if rounding == "nearest_up":
            return rounded
        if rounding == "float32":
            least_down = max(least_shift - FAST_SHIFT, 0)
            near = near_tie(low, high, down, self.lanes or least_down < _FEW_BITS, least_down)
            choice = scf.IfOp(near, [i32()], has_else=True)
            with ir.InsertionPoint(choice.then_block):
                scf.yield_([func.call([i32()], NEAR_TIE, [accumulator, multiplier, shift])])
            with ir.InsertionPoint(choice.else_block):
                scf.yield_([rounded])
            return choice.results[0]
        # A tie: nothing below the half bit, neither in the low word nor in the high one.
        exact = arith.cmpi(arith.CmpIPredicate.eq, low, constant(0))
        whole = arith.cmpi(arith.CmpIPredicate.eq, arith.shli(truncated, down), high)
        half = arith.andi(truncated, rounded)
        odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(half, constant(1)), constant(0))
        tie = arith.andi(arith.andi(exact, whole), odd)
        return sub(rounded, arith.extui(i32(), tie))

    def _near_line(
        self, accumulator: ir.Value, multiplier: ir.Value, below: int, zero_point: int
    ) -> ir.Value:
        """``float32`` with one shift for all: the high word ends in ``below`` fraction bits."""
        # The nearest float32 is within 2^-15 of the product (see _near_tie).
        guard = 1 << max(below - 15, 0)
        offset = _nearest_offset(below, zero_point) + guard
        _, high = arith.mulsi_extended(accumulator, multiplier)
        line = arith.addi(high, constant(offset))
        # Away from a tie the guard does not carry into the result.
        fraction = arith.andi(line, constant((1 << below) - 2 * guard))
        near = arith.cmpi(arith.CmpIPredicate.eq, fraction, constant(0))
        false = arith.constant(ir.IntegerType.get_signless(1), 0)
        choice = scf.IfOp(llvm.intr_expect(near, false), [i32()], has_else=True)
        with ir.InsertionPoint(choice.then_block):
            exact = func.call([i32()], NEAR_TIE, [accumulator, multiplier, constant(32 + below)])
            # Shifted as the line is, so that the way back is one with the saturation.
            scf.yield_([arith.shli(arith.addi(exact, constant(zero_point)), constant(below))])
        with ir.InsertionPoint(choice.else_block):
            scf.yield_([line])
        return arith.shrsi(choice.results[0], constant(below))

    def _double(
        self, op: ir.Operation, accumulator: ir.Value, multiplier: ir.Value, shift: ir.Value
    ) -> ir.Value:
        """gemmlowp's SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT.

        The division by 2^e sends ties away from zero: with e >= 1 it is
        ``floor((x + 2^(e-1) - (x < 0)) / 2^e)``, here in steps that cannot overflow.
        """
        c0, c1, c31 = constant(0), constant(1), constant(31)
        try:
            shrinks = "tiny.shrinks" in op.attributes or int(_values(op, shift).min()) > 31
        except PassFailure:
            # Any shift will do, only not as fast.
            shrinks = False
        if not shrinks:
            accumulator = arith.shli(accumulator, arith.maxsi(sub(c31, shift), c0))
        low, high = arith.mulsi_extended(accumulator, multiplier)
        doubled = arith.ori(arith.shli(high, c1), arith.shrui(low, c31))
        nudge = arith.andi(arith.shrui(low, constant(30)), c1)
        value = arith.addi(doubled, nudge)
        if shrinks:
            away = arith.addi(value, arith.shrsi(value, c31))
            halved = arith.shrsi(away, sub(shift, constant(32)))
            return arith.shrsi(arith.addi(halved, c1), c1)
        down = arith.maxsi(sub(shift, c31), c0)
        mask = sub(arith.shli(c1, down), c1)
        remainder = arith.andi(value, mask)
        threshold = arith.addi(arith.shrui(mask, c1), arith.shrui(value, c31))
        above = arith.cmpi(arith.CmpIPredicate.sgt, remainder, threshold)
        # Bounded before the zero point is added, so that the sum cannot wrap.
        rounded = arith.addi(arith.shrsi(value, down), arith.extui(i32(), above))
        return arith.maxsi(arith.minsi(rounded, constant(512)), constant(-512))


def _nearest_offset(below: int, zero_point: int) -> int:
    """What rounds a number of ``below`` fraction bits to nearest and adds the zero point."""
    return (1 << (below - 1)) + (zero_point << below)


def _keep_offsets(rescales: list[ir.Operation]) -> None:
    """Put offsets that several ops of a block add into a register, once.

    LLVM would add a constant after the product, by an instruction for each.
    """
    for _, some in groupby(rescales, key=_block_and_offset):
        ops = list(some)
        if len(ops) < _SEVERAL or constant_scalar(ops[0].operands[2]) in (None, 0):
            continue
        with ir.InsertionPoint(ops[0]), ops[0].location:
            kept = settled(ops[0].operands[2])
        for rescale in ops:
            rescale.operands[2] = kept


def _block_and_offset(rescale: ir.Operation) -> tuple[ir.Block, int | None]:
    offset = rescale.operands[2]
    return rescale.block, constant_scalar(offset) if offset.type.width == 32 else None


def _rescale(op: ir.Operation) -> ir.Value:
    """64-bit arithmetic: cores with a long multiply have instructions for it."""
    i64 = ir.IntegerType.get_signless(64)
    accumulator, multiplier, offset = op.operands
    shift, least, most = (op.attributes[name].value for name in ("shift", "min", "max"))
    low, high = arith.mulsi_extended(accumulator, multiplier)
    if offset.type.width == 32:
        line = arith.addi(high, offset)
        return _saturate(arith.shrsi(line, constant(shift - 32)), 0, least, most)
    top = arith.shli(arith.extsi(i64, high), arith.constant(i64, 32))
    line = arith.addi(arith.ori(top, arith.extui(i64, low)), offset)
    # Whole words first: what is left fits 32 bits, whose saturation cores have instructions for.
    upper = arith.trunci(i32(), arith.shrsi(line, arith.constant(i64, 32)))
    return _saturate(arith.shrsi(upper, constant(shift - 32)), 0, least, most)


def _normalized(multiplier: ir.Value, shift: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The same scale with the largest multiplier, where both are constants."""
    m, s = constant_scalar(multiplier), constant_scalar(shift)
    if m is None or s is None or m == 0:
        return multiplier, shift
    spare = 31 - m.bit_length()
    return constant(m << spare), constant(s + spare)


def _scale_up(accumulator: ir.Value, shift: ir.Value, uniform: bool) -> tuple[ir.Value, ir.Value]:
    """Move a shift below 33 into the accumulator, saturating it where the result would."""
    c1 = constant(1)
    up = sub(constant(FAST_SHIFT), shift)
    if not uniform:
        up = arith.maxsi(up, constant(0))
    known = constant_scalar(up)
    if known is not None:
        limit = constant((1 << (31 - known)) - 1)
        least = constant(-((1 << (31 - known)) - 1))
    else:
        limit = arith.subi(arith.shrui(constant(-(1 << 31)), up), c1)
        least = arith.subi(constant(0), limit)
    clamped = arith.maxsi(arith.minsi(accumulator, limit), least)
    known_shift = constant_scalar(shift)
    total = constant(FAST_SHIFT) if known_shift is not None else arith.addi(shift, up)
    return arith.shli(clamped, up), total


def _saturate(value: ir.Value, zero_point: int, low: int, high: int) -> ir.Value:
    if zero_point:
        value = arith.addi(value, constant(zero_point))
    value = arith.maxsi(arith.minsi(value, constant(high)), constant(low))
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
    found = find_symbol(op, op.attributes["name"].value)
    if found is None or any(n not in found.attributes for n in ("initial_value", "constant")):
        return None
    initial = found.attributes["initial_value"]
    if initial.is_splat:
        return np.full(initial.type.shape, initial.get_splat_value().value)
    return np.array(initial)
