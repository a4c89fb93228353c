"""``tiny-pin-loads``: vector loads that stay where a kernel has them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from tinymlir.bindings import ir

from ._pass import Pass, find_ops, register_pass


@register_pass
@dataclass(frozen=True)
class PinLoads(Pass):
    """Keep LLVM from moving vector loads out of loops

    A kernel loads a vector of constants where it needs it, in one instruction. LLVM would load
    all of them before the loop, which has no registers for them, and spill. Volatile loads stay.
    LLVM would also align constants to whole vectors, which loads do not ask for; it leaves
    those alone that are in a section by name.

    Before::

        llvm.func @f(%p: !llvm.ptr) -> vector<16xi8> {
          %v = llvm.load %p {alignment = 1 : i64} : !llvm.ptr -> vector<16xi8>
          llvm.return %v : vector<16xi8>
        }

    After::

        llvm.func @f(%p: !llvm.ptr) -> vector<16xi8> {
          %v = llvm.load volatile %p {alignment = 1 : i64} : !llvm.ptr -> vector<16xi8>
          llvm.return %v : vector<16xi8>
        }
    """

    name: ClassVar[str] = "tiny-pin-loads"
    #: section of constants, if not the one that LLVM chooses
    section: str = ""
    #: bits of the least vectors that stay
    least_bits: int = 0

    def run(self, op: ir.Operation) -> None:
        for constant in find_ops(op, "llvm.mlir.global") if self.section else ():
            constant.attributes["section"] = ir.StringAttr.get(self.section)
        for load in find_ops(op, "llvm.load"):
            kind = load.results[0].type
            if isinstance(kind, ir.VectorType) and _bits(kind) >= self.least_bits:
                load.attributes["volatile_"] = ir.UnitAttr.get()


def _bits(kind: ir.VectorType) -> int:
    return int(prod(kind.shape)) * int(kind.element_type.width)
