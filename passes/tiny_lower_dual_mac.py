"""``tiny-lower-dual-mac``: packed arithmetic as instructions of the core, or as plain arith."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tinymlir import stand_ins
from tinymlir.bindings import arith, ir, llvm, vector

from ._pass import Pass, find_ops, register_pass


@register_pass
@dataclass(frozen=True)
class LowerDualMac(Pass):
    """Turn packed arithmetic into instructions of the core, or into arith

    tiny.dual_mac, tiny.extend_bytes, tiny.add_halves and tiny.max_bytes become SMLAD, SXTB16,
    SADD16, SSUB8 and SEL on cores with the DSP extension, tiny.dot becomes VMLADAVA on those
    with Helium. tiny.quad_mac and tiny.max_bytes become the stand-ins of cv.sdotsp.b and cv.max.b
    on cores with CORE-V's SIMD. On others, the host among them, the same arithmetic is spelled out.
    With ``dsp=true``:

    Before::

        func.func @f(%acc: i32, %x: i32, %word: i32) -> i32 {
          %w = "tiny.extend_bytes"(%word) {first = 1 : i32} : (i32) -> i32
          %s = "tiny.dual_mac"(%acc, %x, %w) : (i32, i32, i32) -> i32
          return %s : i32
        }

    After::

        func.func @f(%acc: i32, %x: i32, %word: i32) -> i32 {
          %c8 = arith.constant 8 : i32
          %0 = llvm.intr.fshr(%word, %word, %c8) : (i32, i32, i32) -> i32
          %w = llvm.call_intrinsic "llvm.arm.sxtb16"(%0) : (i32) -> i32
          %s = llvm.call_intrinsic "llvm.arm.smlad"(%x, %w, %acc) : (i32, i32, i32) -> i32
          return %s : i32
        }
    """

    name: ClassVar[str] = "tiny-lower-dual-mac"
    #: whether the core has SMLAD and SXTB16
    dsp: bool = False
    #: whether it has VMLADAVA
    mve: bool = False
    #: whether it has CORE-V's SIMD (XCVsimd)
    xcvsimd: bool = False

    def run(self, op: ir.Operation) -> None:
        lowerings = {
            "tiny.mac": _mac,
            "tiny.add_halves": _sadd16 if self.dsp else _add_halves,
            "tiny.dual_mac": _smlad if self.dsp else _dual_mac,
            "tiny.extend_bytes": _sxtb16 if self.dsp else _extend_bytes,
            "tiny.quad_mac": _sdotsp if self.xcvsimd else _quad_mac,
            "tiny.max_bytes": self._maximum(),
            "tiny.dot": _vmladava if self.mve else _dot,
        }
        found = find_ops(op, *lowerings)
        for packed in found:
            with ir.InsertionPoint(packed), packed.location:
                result = lowerings[packed.name](packed)
            packed.results[0].replace_all_uses_with(result)
            packed.erase()

    def _maximum(self) -> Callable[[ir.Operation], ir.Value]:
        if self.xcvsimd:
            return _max_b
        return _sel if self.dsp else _max_bytes


def _i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def _mac(op: ir.Operation) -> ir.Value:
    accumulator, lhs, rhs = op.operands
    return arith.addi(accumulator, arith.muli(lhs, rhs))


def _c(value: int) -> ir.Value:
    return arith.constant(_i32(), value)


def _intrinsic(name: str, operands: list[ir.Value]) -> ir.Value:
    return llvm.CallIntrinsicOp(
        _i32(), ir.StringAttr.get(name), operands, [], ir.DenseI32ArrayAttr.get([])
    ).operation.results[0]


def _sadd16(op: ir.Operation) -> ir.Value:
    return _intrinsic("llvm.arm.sadd16", list(op.operands))


def _add_halves(op: ir.Operation) -> ir.Value:
    lhs, rhs = op.operands
    low = arith.andi(arith.addi(lhs, rhs), _c(0xFFFF))
    high = arith.addi(arith.andi(lhs, _c(-0x10000)), arith.andi(rhs, _c(-0x10000)))
    return arith.ori(low, high)


def _smlad(op: ir.Operation) -> ir.Value:
    accumulator, lhs, rhs = op.operands
    return _intrinsic("llvm.arm.smlad", [lhs, rhs, accumulator])


def _sxtb16(op: ir.Operation) -> ir.Value:
    word = op.operands[0]
    if op.attributes["first"].value:
        word = llvm.intr_fshr(word, word, _c(8))
    return _intrinsic("llvm.arm.sxtb16", [word])


def _sel(op: ir.Operation) -> ir.Value:
    """SSUB8 leaves in the flags which bytes are no less, by which SEL picks."""
    lhs, rhs = op.operands
    _intrinsic("llvm.arm.ssub8", [lhs, rhs])
    return _intrinsic("llvm.arm.sel", [lhs, rhs])


def _vmladava(op: ir.Operation) -> ir.Value:
    accumulator, lhs, rhs = op.operands
    # Signed; not subtracted, not exchanged.
    return _intrinsic("llvm.arm.mve.vmldava.v16i8", [_c(0), _c(0), _c(0), accumulator, lhs, rhs])


def _sdotsp(op: ir.Operation) -> ir.Value:
    accumulator, lhs, rhs = op.operands
    return _stand_in(stand_ins.SDOTSP_B, [lhs, rhs, accumulator])


def _max_b(op: ir.Operation) -> ir.Value:
    return _stand_in(stand_ins.MAX_B, list(op.operands))


def _stand_in(instruction: stand_ins.Instruction, operands: list[ir.Value]) -> ir.Value:
    return _intrinsic(instruction.intrinsic, [*operands, _c(instruction.immediate)])


def _quad_mac(op: ir.Operation) -> ir.Value:
    accumulator, lhs, rhs = op.operands
    lanes = ir.VectorType.get([4], ir.IntegerType.get_signless(8))
    return _add_products(accumulator, llvm.bitcast(lanes, lhs), llvm.bitcast(lanes, rhs))


def _dual_mac(op: ir.Operation) -> ir.Value:
    accumulator, lhs, rhs = op.operands
    sixteen = _c(16)

    def low(value: ir.Value) -> ir.Value:
        return arith.shrsi(arith.shli(value, sixteen), sixteen)

    def high(value: ir.Value) -> ir.Value:
        return arith.shrsi(value, sixteen)

    total = arith.addi(accumulator, arith.muli(low(lhs), low(rhs)))
    return arith.addi(total, arith.muli(high(lhs), high(rhs)))


def _extend_bytes(op: ir.Operation) -> ir.Value:
    word, first = op.operands[0], op.attributes["first"].value
    low = arith.shrsi(arith.shli(word, _c(24 - 8 * first)), _c(24))
    high = arith.shrsi(arith.shli(word, _c(8 - 8 * first)), _c(24))
    return arith.ori(arith.andi(low, _c(0xFFFF)), arith.shli(high, _c(16)))


def _max_bytes(op: ir.Operation) -> ir.Value:
    lanes = ir.VectorType.get([4], ir.IntegerType.get_signless(8))
    lhs, rhs = (llvm.bitcast(lanes, operand) for operand in op.operands)
    return llvm.bitcast(_i32(), llvm.intr_smax(lhs, rhs))


def _dot(op: ir.Operation) -> ir.Value:
    return _add_products(*op.operands)


def _add_products(accumulator: ir.Value, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
    wide = ir.VectorType.get(lhs.type.shape, _i32())
    products = arith.muli(arith.extsi(wide, lhs), arith.extsi(wide, rhs))
    return arith.addi(accumulator, vector.reduction(_i32(), vector.CombiningKind.ADD, products))
