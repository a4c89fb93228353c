"""``tiny-expand-multiply``: 64-bit products for cores that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, ir

from ._pass import Pass, PassFailure, find_ops, register_pass


@register_pass
@dataclass(frozen=True)
class ExpandMultiply(Pass):
    """Replace arith.mulsi_extended by products of 16-bit halves

    On a core without a long multiply LLVM would call a run-time library that the
    object must not need. Works on i32.

    Before::

        func.func @f(%a: i32, %b: i32) -> i32 {
          %low, %high = arith.mulsi_extended %a, %b : i32
          return %high : i32
        }

    After::

        func.func @f(%a: i32, %b: i32) -> i32 {
          ...
          %al = arith.andi %a, %c65535 : i32
          %ah = arith.shrsi %a, %c16 : i32
          %bl = arith.andi %b, %c65535 : i32
          %bh = arith.shrsi %b, %c16 : i32
          %0 = arith.muli %al, %bl : i32
          %1 = arith.shrui %0, %c16 : i32
          %2 = arith.muli %ah, %bl : i32
          %middle = arith.addi %2, %1 : i32
          ...
          return %high : i32
        }
    """

    name: ClassVar[str] = "tiny-expand-multiply"

    def run(self, op: ir.Operation) -> None:
        found = find_ops(op, "arith.mulsi_extended")
        for product in found:
            if str(product.results[0].type) != "i32":
                kind = product.results[0].type
                raise PassFailure(product.location, f"has no long product of {kind} for this core")
            with ir.InsertionPoint(product), product.location:
                words = _multiply(*product.operands)
            for result, word in zip(product.results, words, strict=True):
                result.replace_all_uses_with(word)
            product.erase()


def _multiply(a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Low and high word. No sum of partial products leaves the range of an i32."""
    i32 = ir.IntegerType.get_signless(32)
    sixteen, mask = arith.constant(i32, 16), arith.constant(i32, 0xFFFF)
    a_low, a_high = arith.andi(a, mask), arith.shrsi(a, sixteen)
    b_low, b_high = arith.andi(b, mask), arith.shrsi(b, sixteen)
    lowest = arith.shrui(arith.muli(a_low, b_low), sixteen)
    middle = arith.addi(arith.muli(a_high, b_low), lowest)
    carry = arith.addi(arith.muli(a_low, b_high), arith.andi(middle, mask))
    highest = arith.addi(arith.muli(a_high, b_high), arith.shrsi(middle, sixteen))
    return arith.muli(a, b), arith.addi(highest, arith.shrsi(carry, sixteen))
