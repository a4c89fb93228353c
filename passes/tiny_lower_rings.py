"""``tiny-lower-rings``: slots of ring buffers as arithmetic on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, ir

from ._pass import Pass, find_ops, register_pass


@register_pass
@dataclass(frozen=True)
class LowerRings(Pass):
    """Turn tiny.ring_slot into a remainder, or a mask where the slots are a power of two

    Rows have numbers of 16 bits: such a remainder is a product on every core.

    Before::

        func.func @f(%row: index) -> (index, index) {
          %a = "tiny.ring_slot"(%row) {slots = 3 : i64} : (index) -> index
          %b = "tiny.ring_slot"(%row) {slots = 4 : i64} : (index) -> index
          return %a, %b : index, index
        }

    After::

        func.func @f(%row: index) -> (index, index) {
          %short = arith.index_cast %row : index to i16
          %c3 = arith.constant 3 : i16
          %rest = arith.remui %short, %c3 : i16
          %a = arith.index_castui %rest : i16 to index
          %mask = arith.constant 3 : index
          %b = arith.andi %row, %mask : index
          return %a, %b : index, index
        }
    """

    name: ClassVar[str] = "tiny-lower-rings"

    def run(self, op: ir.Operation) -> None:
        for slot in find_ops(op, "tiny.ring_slot"):
            slots, row = slot.attributes["slots"].value, slot.operands[0]
            with ir.InsertionPoint(slot), slot.location:
                if slots & (slots - 1):
                    i16 = ir.IntegerType.get_signless(16)
                    number = arith.index_cast(i16, row)
                    rest = arith.remui(number, arith.constant(i16, slots))
                    result = arith.index_castui(row.type, rest)
                else:
                    result = arith.andi(row, arith.constant(row.type, slots - 1))
            slot.results[0].replace_all_uses_with(result)
            slot.erase()
