"""``tiny-lower-clamps``: values brought into their range by CORE-V's ``cv.clip``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, ir, llvm
from tinymlir.linalg_info import constant_scalar

from ._pass import Pass, find_ops, register_pass

_CLIP = "llvm.riscv.cv.alu.clip"


@register_pass
@dataclass(frozen=True)
class LowerClamps(Pass):
    """Bring values into the range of a signed integer by CORE-V's cv.clip

    The range is -2^n to 2^n - 1. LLVM has an intrinsic for that instruction, but finds a maximum
    and a minimum in its place, which need a register for each limit besides.

    Before::

        func.func @f(%x: i32) -> i32 {
          %most = arith.constant 127 : i32
          %least = arith.constant -128 : i32
          %0 = arith.minsi %x, %most : i32
          %1 = arith.maxsi %0, %least : i32
          return %1 : i32
        }

    After, canonicalized::

        func.func @f(%x: i32) -> i32 {
          %c127 = arith.constant 127 : i32
          %0 = llvm.call_intrinsic "llvm.riscv.cv.alu.clip"(%x, %c127) : (i32, i32) -> i32
          return %0 : i32
        }
    """

    name: ClassVar[str] = "tiny-lower-clamps"

    def run(self, op: ir.Operation) -> None:
        for outer in find_ops(op, "arith.maxsi", "arith.minsi"):
            found = _clamp(outer)
            if found is None:
                continue
            value, most = found
            kind = outer.results[0].type
            with ir.InsertionPoint(outer), outer.location:
                limit = arith.constant(kind, most)
                name = ir.StringAttr.get(_CLIP)
                clip = llvm.CallIntrinsicOp(
                    kind, name, [value, limit], [], ir.DenseI32ArrayAttr.get([])
                )
            outer.results[0].replace_all_uses_with(clip.operation.results[0])
            outer.erase()


def _clamp(outer: ir.Operation) -> tuple[ir.Value, int] | None:
    """What ``outer``, with the op before it, brings into -2^n to 2^n - 1, and 2^n - 1."""
    middle, second = outer.operands
    inner = None if isinstance(middle, ir.BlockArgument) else middle.owner.operation
    names = {"arith.maxsi", "arith.minsi"}
    if inner is None or {outer.name, inner.name} != names or str(middle.type) != "i32":
        return None
    limits = {outer.name: constant_scalar(second), inner.name: constant_scalar(inner.operands[1])}
    least, most = limits["arith.maxsi"], limits["arith.minsi"]
    if least is None or most is None or least != -most - 1 or most < 0 or most & (most + 1):
        return None
    return inner.operands[0], most
