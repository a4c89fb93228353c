"""``tiny-lower-add-float32``: float32 addition in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, ir
from tinymlir.linalg_info import constant_scalar

from ._pass import Pass, find_ops, register_pass
from ._words import constant, i32

#: Significant bits of a float32.
_BITS = 24


@register_pass
@dataclass(frozen=True)
class LowerAddFloat32(Pass):
    """Turn tiny.add_float32 into integer arithmetic

    The sum of 64 bits is rounded to 24 significant ones. Where its magnitude has more, ``mask``
    covers those that go: its magnitude without the last 24 bits, with all bits below the
    highest set. So no core needs an instruction that counts leading zeros. Adding half of the
    last place that stays rounds ties up; the odd ones among them lose that place again. Zero
    plus a number is that number.

    Before::

        func.func @f(%a: i64, %b: i64) -> i64 {
          %s = "tiny.add_float32"(%a, %b) : (i64, i64) -> i64
          return %s : i64
        }

    After, canonicalized::

        func.func @f(%a: i64, %b: i64) -> i64 {
          ...
          %sum = arith.addi %a, %b : i64
          %low = arith.shrui %sum, %c24_i64 : i64
          %top = arith.trunci %low : i64 to i32
          %negative = arith.shrsi %top, %c31 : i32
          %magnitude = arith.xori %top, %negative : i32
          ...
          %next = arith.addi %mask, %c1 : i32
          %half = arith.shrui %next, %c1 : i32
          %wide = arith.extui %half : i32 to i64
          %up = arith.addi %sum, %wide : i64
          ...
          %tie = arith.cmpi eq, %rest, %c0 : i32
          %twice = arith.shli %half, %c1 : i32
          %even = arith.ori %mask, %twice : i32
          %gone = arith.select %tie, %even, %mask : i32
          %mask64 = arith.extui %gone : i32 to i64
          %kept = arith.xori %mask64, %c-1_i64 : i64
          %s = arith.andi %up, %kept : i64
          return %s : i64
        }
    """

    name: ClassVar[str] = "tiny-lower-add-float32"

    def run(self, op: ir.Operation) -> None:
        for addition in find_ops(op, "tiny.add_float32"):
            left, right = addition.operands
            with ir.InsertionPoint(addition), addition.location:
                if constant_scalar(left) == 0:
                    total = right
                elif constant_scalar(right) == 0:
                    total = left
                else:
                    total = _rounded(arith.addi(left, right))
            addition.results[0].replace_all_uses_with(total)
            addition.erase()


def _rounded(total: ir.Value) -> ir.Value:
    """``total`` rounded to 24 significant bits."""
    i64 = total.type
    one = constant(1)
    top = arith.trunci(i32(), arith.shrui(total, arith.constant(i64, _BITS)))
    # Of the negative numbers, a power of two has a bit less than its magnitude, but is exact.
    mask = arith.xori(top, arith.shrsi(top, constant(31)))
    for step in (1, 2, 4, 8, 16):
        mask = arith.ori(mask, arith.shrui(mask, constant(step)))
    half = arith.shrui(arith.addi(mask, one), one)
    up = arith.addi(total, arith.extui(i64, half))
    rest = arith.andi(arith.trunci(i32(), up), mask)
    tie = arith.cmpi(arith.CmpIPredicate.eq, rest, constant(0))
    gone = arith.select(tie, arith.ori(mask, arith.shli(half, one)), mask)
    kept = arith.xori(arith.extui(i64, gone), arith.constant(i64, -1))
    return arith.andi(up, kept)
