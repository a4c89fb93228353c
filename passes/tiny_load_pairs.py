"""``tiny-load-pairs``: 64-bit loads that stay one instruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir

from ._pass import Pass, find_ops, register_pass

#: Words are what our buffers are aligned to.
_ALIGNMENT = 4


@register_pass
@dataclass(frozen=True)
class LoadPairs(Pass):
    """Align 64-bit loads to words, and keep each of them one instruction

    Kernels load two words at a time as one i64. LLVM would split it and schedule the
    halves apart; a volatile load becomes LDRD. With ``ldrd=true``:

    Before::

        llvm.func @f(%p: !llvm.ptr) -> i64 {
          %v = llvm.load %p : !llvm.ptr -> i64
          llvm.return %v : i64
        }

    After::

        llvm.func @f(%p: !llvm.ptr) -> i64 {
          %v = llvm.load volatile %p {alignment = 4 : i64} : !llvm.ptr -> i64
          llvm.return %v : i64
        }
    """

    name: ClassVar[str] = "tiny-load-pairs"
    #: whether the core loads two registers at once
    ldrd: bool = False

    def run(self, op: ir.Operation) -> None:
        i64 = ir.IntegerType.get_signless(64)
        for load in find_ops(op, "llvm.load"):
            if load.results[0].type != i64:
                continue
            load.attributes["alignment"] = ir.IntegerAttr.get(i64, _ALIGNMENT)
            if self.ldrd:
                load.attributes["volatile_"] = ir.UnitAttr.get()
