"""``tiny-expand-float``: float32 addition in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, func, ir

from ._pass import Pass, find_ops, register_pass

_HELPER = "add_float32"
#: Bits below the last place that alignment and rounding keep.
_EXTRA = 6


@register_pass
@dataclass(frozen=True)
class ExpandFloat(Pass):
    """Replace arith.addf on f32 by a call to an integer routine

    Rounds to nearest, ties to even, as IEEE 754 asks; for finite normal numbers
    and zero, which is all that dequantized values are. Networks need it where the
    order of a reference's float additions decides a tie: on every core, with a
    floating-point unit or without, the bytes are then the same.

    Before::

        func.func @f(%a: f32, %b: f32) -> f32 {
          %s = arith.addf %a, %b : f32
          return %s : f32
        }

    After::

        func.func private @add_float32(%a: i32, %b: i32) -> i32 { ... }
        func.func @f(%a: f32, %b: f32) -> f32 {
          %0 = arith.bitcast %a : f32 to i32
          %1 = arith.bitcast %b : f32 to i32
          %2 = call @add_float32(%0, %1) : (i32, i32) -> i32
          %s = arith.bitcast %2 : i32 to f32
          return %s : f32
        }
    """

    name: ClassVar[str] = "tiny-expand-float"

    def run(self, op: ir.Operation) -> None:
        additions = find_ops(op, "arith.addf")
        found = [a for a in additions if isinstance(a.results[0].type, ir.F32Type)]
        if not found:
            return
        with ir.InsertionPoint.at_block_begin(op.regions[0].blocks[0]), op.location:
            _emit_add()
        i32 = _i32()
        for addition in found:
            with ir.InsertionPoint(addition), addition.location:
                bits = [arith.bitcast(i32, value) for value in addition.operands]
                total = arith.bitcast(ir.F32Type.get(), func.call([i32], _HELPER, bits))
            addition.results[0].replace_all_uses_with(total)
            addition.erase()


def _i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def _emit_add() -> None:
    def c(value: int) -> ir.Value:
        return arith.constant(_i32(), value - (1 << 32) if value >= 1 << 31 else value)

    def compare(predicate: str, a: ir.Value, b: ir.Value) -> ir.Value:
        return arith.cmpi(getattr(arith.CmpIPredicate, predicate), a, b)

    function = func.FuncOp(_HELPER, ([_i32(), _i32()], [_i32()]), visibility="private")
    with ir.InsertionPoint(function.add_entry_block()):
        first, second = function.arguments
        magnitude_mask, one, zero = c(0x7FFFFFFF), c(1), c(0)
        swapped = compare(
            "ult", arith.andi(first, magnitude_mask), arith.andi(second, magnitude_mask)
        )
        large = arith.select(swapped, second, first)
        small = arith.select(swapped, first, second)

        def exponent(bits: ir.Value) -> ir.Value:
            return arith.andi(arith.shrui(bits, c(23)), c(0xFF))

        def significand(bits: ir.Value) -> ir.Value:
            full = arith.ori(arith.andi(bits, c(0x7FFFFF)), c(0x800000))
            present = arith.select(compare("ne", exponent(bits), zero), full, zero)
            return arith.shli(present, c(_EXTRA))

        # Align the smaller one; what falls off leaves a sticky bit.
        distance = arith.minui(arith.subi(exponent(large), exponent(small)), c(31))
        shifted = arith.shrui(significand(small), distance)
        lost = compare("ne", arith.shli(shifted, distance), significand(small))
        aligned = arith.ori(shifted, arith.extui(_i32(), lost))
        same_sign = compare("sge", arith.xori(large, small), zero)
        total = arith.select(
            same_sign,
            arith.addi(significand(large), aligned),
            arith.subi(significand(large), aligned),
        )
        # Normalize to 24 + _EXTRA bits: down by one at most, or up by any number.
        scale = exponent(large)
        carried = compare("uge", total, c(1 << (24 + _EXTRA)))
        halved = arith.ori(arith.shrui(total, one), arith.andi(total, one))
        total = arith.select(carried, halved, total)
        scale = arith.addi(scale, arith.extui(_i32(), carried))
        for step in (16, 8, 4, 2, 1):
            low = compare("ult", total, c(1 << (24 + _EXTRA - step)))
            total = arith.select(low, arith.shli(total, c(step)), total)
            scale = arith.select(low, arith.subi(scale, c(step)), scale)
        # Round to nearest, ties to even; a carry runs into the exponent, as it should.
        rest = arith.andi(total, c((1 << _EXTRA) - 1))
        kept = arith.shrui(total, c(_EXTRA))
        half = c(1 << (_EXTRA - 1))
        tie_up = arith.andi(compare("eq", rest, half), compare("ne", arith.andi(kept, one), zero))
        up = arith.ori(compare("ugt", rest, half), tie_up)
        kept = arith.addi(kept, arith.extui(_i32(), up))
        packed = arith.addi(arith.shli(scale, c(23)), arith.subi(kept, c(0x800000)))
        signed = arith.ori(packed, arith.andi(large, c(0x80000000)))
        empty = compare("eq", total, zero)
        func.ReturnOp([arith.select(empty, zero, signed)])
