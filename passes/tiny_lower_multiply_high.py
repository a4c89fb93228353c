"""``tiny-lower-multiply-high``: the high words of vector products, by the core's ``vmulh``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, ir, llvm, vector

from ._pass import Pass, find_ops, register_pass

#: What LLVM counts scalable vectors in: a group of one register has 64 bits times vscale.
_BLOCK_BITS = 64
#: Words of a vector of Helium.
_HELIUM_LANES = 4
#: A lane of a shuffle that may hold anything.
_POISON = -1


@register_pass
@dataclass(frozen=True)
class LowerMultiplyHigh(Pass):
    """Compute high words of i32 vector products by llvm.riscv.vmulh, or llvm.arm.mve.vmulh

    LLVM knows the instruction by a product of 64 bits that it can see whole. Loops move a part
    of that out, or another shift joins that of the product, and no lanes are of 64 bits, so that
    it would go lane by lane. ``vector-bits`` is the least length of a vector register of RISC-V;
    ``mve``: vectors are Helium's, of four. By default:

    Before::

        func.func @f(%a: vector<8xi32>, %b: vector<8xi32>) -> vector<8xi32> {
          %low, %high = arith.mulsi_extended %a, %b : vector<8xi32>
          return %high : vector<8xi32>
        }

    After::

        func.func @f(%a: vector<8xi32>, %b: vector<8xi32>) -> vector<8xi32> {
          %none = llvm.mlir.poison : vector<[4]xi32>
          %0 = vector.scalable.insert %a, %none[0] : vector<8xi32> into vector<[4]xi32>
          %1 = vector.scalable.insert %b, %none[0] : vector<8xi32> into vector<[4]xi32>
          %vl = arith.constant 8 : i32
          %2 = llvm.call_intrinsic "llvm.riscv.vmulh"(%none, %0, %1, %vl)
                 : (vector<[4]xi32>, vector<[4]xi32>, vector<[4]xi32>, i32) -> vector<[4]xi32>
          %high = vector.scalable.extract %2[0] : vector<8xi32> from vector<[4]xi32>
          return %high : vector<8xi32>
        }
    """

    name: ClassVar[str] = "tiny-lower-multiply-high"
    #: bits that a vector register has at least
    vector_bits: int = 128
    #: whether vectors are Helium's
    mve: bool = False

    def run(self, op: ir.Operation) -> None:
        for product in find_ops(op, "arith.mulsi_extended"):
            low, high = product.results
            words = isinstance(high.type, ir.VectorType) and str(high.type.element_type) == "i32"
            ours = words and (not self.mve or list(high.type.shape) == [_HELIUM_LANES])
            if not ours or any(True for _ in low.uses):
                continue
            with ir.InsertionPoint(product), product.location:
                high.replace_all_uses_with(self._multiply(*product.operands))
            product.erase()

    def _multiply(self, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        i32 = ir.IntegerType.get_signless(32)
        if self.mve:
            return _intrinsic("llvm.arm.mve.vmulh.v4i32", [lhs, rhs, arith.constant(i32, 0)])
        (lanes,) = lhs.type.shape
        full = 1 << (lanes - 1).bit_length()
        known = max(full * _BLOCK_BITS // self.vector_bits, _BLOCK_BITS // 32)
        scalable = ir.VectorType.get([known], i32, scalable=[True])
        none = llvm.mlir_poison(scalable)
        operands = (vector.scalable_insert(_resized(v, full), none, 0) for v in (lhs, rhs))
        product = _intrinsic("llvm.riscv.vmulh", [none, *operands, arith.constant(i32, lanes)])
        group = ir.VectorType.get([full], i32)
        return _resized(vector.scalable_extract(group, product, 0), lanes)


def _intrinsic(name: str, operands: list[ir.Value]) -> ir.Value:
    """A call, of an intrinsic whose result is as its first operand."""
    call = llvm.CallIntrinsicOp(
        operands[0].type, ir.StringAttr.get(name), operands, [], ir.DenseI32ArrayAttr.get([])
    )
    return call.operation.results[0]


def _resized(value: ir.Value, lanes: int) -> ir.Value:
    """The first lanes of ``value``, others undefined: scalable vectors take powers of two."""
    (given,) = value.type.shape
    if given == lanes:
        return value
    mask = [lane if lane < given else _POISON for lane in range(lanes)]
    kind = ir.VectorType.get([lanes], value.type.element_type)
    return vector.shuffle(value, value, mask, results=[kind])
