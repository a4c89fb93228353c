"""Neighbouring elements computed together, each in a lane of a vector.

The elements differ in their last index only: operands are loaded and results stored as they lie
in memory. What depends on that index is a vector, everything else stays scalar until it meets
one. Vectors are upstream's, of a fixed length and of no instruction set; LLVM groups as many
registers as one takes (LMUL on RISC-V), however long these are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import prod

from tinymlir.bindings import arith, func, ir, scf, vector
from tinymlir.kernels.branches import BranchingEvaluator
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.evaluator import Evaluator, clone_op, reads
from tinymlir.kernels.rows import Rows
from tinymlir.linalg_info import VIEW_OPS, constant_array, indexing_maps, is_linalg
from tinymlir.symbols import find_symbol

#: Registers that a vector of 32-bit lanes may take: RISC-V's greatest group.
_MOST_REGISTERS = 8
#: Fewer elements than this are computed one by one.
LEAST_LANES = 4
_ELEMENTS = ("i1", "i8", "i16", "i32")
_DYNAMIC = ir.ShapedType.get_dynamic_size()
_DIVISION = re.compile(r"arith\.((ceil|floor)?div|rem)")
_YIELDS = ("linalg.yield", "scf.yield", "func.return")


@dataclass(frozen=True)
class Lanes:
    """The index of neighbouring elements, of which ``first`` is the first."""

    first: Index


def most_lanes(vector_bits: int, element_bits: int = 32) -> int:
    """Lanes computed together on registers of ``vector_bits``."""
    return _MOST_REGISTERS * vector_bits // element_bits


def load_lanes(emitter: Emitter, buffer: ir.Value, first: Index, lanes: int) -> ir.Value:
    """``lanes`` neighbours of a one-dimensional buffer."""
    kind = ir.VectorType.get([lanes], buffer.type.element_type)
    return vector.load(kind, buffer, [emitter.index(first)])


def store_lanes(emitter: Emitter, value: ir.Value, buffer: ir.Value, first: Index) -> None:
    vector.store(value, buffer, [emitter.index(first)])


def spread(value: ir.Value, lanes: int) -> ir.Value:
    """A scalar in all lanes; a vector as it is."""
    if _is_vector(value):
        return value
    return vector.broadcast(ir.VectorType.get([lanes], value.type), value)


def widen_lanes(value: ir.Value) -> ir.Value:
    """Sign-extended to i32."""
    i32 = ir.IntegerType.get_signless(32)
    return arith.extsi(ir.VectorType.get(value.type.shape, i32), value)


def any_lane(condition: ir.Value) -> ir.Value:
    """Whether ``condition`` holds in any lane."""
    i1 = ir.IntegerType.get_signless(1)
    return vector.reduction(i1, vector.CombiningKind.OR, condition)


def _is_vector(value: ir.Value) -> bool:
    return isinstance(value.type, ir.VectorType)


class LanesEvaluator(Evaluator):
    """Evaluates ``lanes`` elements at once, wherever the last index is `Lanes`.

    What it is asked for must be of a form that `has_lanes` knows. Where lanes may go different
    ways (``scf.if``), both ways are evaluated if any lane takes the first; or the second alone
    if ``doubts`` is a list, to which the condition goes: then the results are right where it
    is false in all lanes.
    """

    def __init__(
        self,
        emitter: Emitter,
        pool: ConstantPool,
        buffers: dict[ir.Value, ir.Value | Rows],
        lanes: int,
        doubts: list[ir.Value] | None = None,
    ) -> None:
        super().__init__(emitter, pool, buffers)
        self.lanes, self.doubts = lanes, doubts

    def at(self, value: ir.Value, indices: Sequence[Index | Lanes]) -> ir.Value:
        """The elements of ``value`` at ``indices``: a vector where these end in `Lanes`."""
        if not indices or not isinstance(indices[-1], Lanes):
            return super().at(value, indices)
        if value in self.registers:
            return self.registers[value]
        starts = [*indices[:-1], indices[-1].first]
        buffer = self.buffers.get(value)
        if isinstance(buffer, Rows):
            where = buffer.position(self.emitter, starts)
            return load_lanes(self.emitter, buffer.buffer, where, self.lanes)
        if buffer is None:
            array = constant_array(value)
            if array is None or (array == array.flat[0]).all():
                return spread(super().at(value, indices), self.lanes)
            buffer = self.pool.get(array, "constant")
        where = self.emitter.linear(starts, buffer.type.shape)
        return load_lanes(self.emitter, self.emitter.flat(buffer), where, self.lanes)

    def _choose(
        self,
        condition: ir.Value,
        kind: ir.Type,
        then: Callable[[], ir.Value],
        otherwise: Callable[[], ir.Value],
    ) -> ir.Value:
        def second() -> ir.Value:
            return spread(otherwise(), self.lanes)

        def both() -> ir.Value:
            return arith.select(condition, spread(then(), self.lanes), second())

        wide = ir.VectorType.get([self.lanes], kind)
        if not _is_vector(condition):
            return super()._choose(condition, wide, lambda: spread(then(), self.lanes), second)
        if self.doubts is not None:
            self.doubts.append(condition)
            return second()
        return super()._choose(any_lane(condition), wide, both, second)

    def _clone(self, op: ir.Operation, operands: list[ir.Value]) -> list[ir.Value]:
        if op.name == "llvm.intr.expect":
            return operands[:1]
        if not any(map(_is_vector, operands)):
            return super()._clone(op, operands)
        wide = [spread(operand, self.lanes) for operand in operands]
        if op.name == "arith.mulsi_extended":
            # Two products, each of which is one instruction.
            return [arith.muli(*wide), arith.mulsi_extended(*wide)[1]]
        if op.name == "func.call":
            return [self._call(op, wide)]
        return clone_op(op, [ir.VectorType.get([self.lanes], r.type) for r in op.results], wide)

    def _call(self, op: ir.Operation, operands: list[ir.Value]) -> ir.Value:
        """Call the function that ``op`` calls as it is on vectors, made where it is new."""
        callee = _callee(op)
        symbol = f"{callee.name.value}_x{self.lanes}"
        kind = ir.VectorType.get([self.lanes], op.results[0].type)
        if find_symbol(op, symbol) is None:
            with ir.InsertionPoint.after(callee.operation):
                made = func.FuncOp(
                    symbol, ([o.type for o in operands], [kind]), visibility="private"
                )
            with ir.InsertionPoint(made.add_entry_block()):
                body = callee.body.blocks[0]
                known = dict(zip(body.arguments, made.arguments, strict=True))
                func.ReturnOp([spread(self._inline(body, known, []), self.lanes)])
        return func.call([kind], symbol, operands)


def _callee(op: ir.Operation) -> func.FuncOp:
    callee = find_symbol(op, op.attributes["callee"].value)
    assert callee is not None
    return callee.opview


def has_lanes(root: ir.Value, known: Collection[ir.Value] = (), ops: Collection[str] = ()) -> bool:
    """Whether neighbours along the last dimension of ``root`` can be computed by lanes.

    Args:
        root: a tensor.
        known: tensors whose elements will be in registers.
        ops: names of ops in bodies that the evaluator knows besides upstream's. With ``scf.if``
            among them, what that does first is left to scalars (`LanesEvaluator`'s doubts).
    """
    kind = root.type
    if not isinstance(kind, ir.RankedTensorType) or not kind.rank:
        return False
    if str(kind.element_type) not in _ELEMENTS:
        return False
    if isinstance(root, ir.BlockArgument) or root in known:
        return True
    op = root.owner.operation
    if op.name in ("arith.constant", "tensor.empty", "linalg.fill"):
        return True
    if op.name == "tensor.pad":
        ends = (list(op.attributes[f"static_{end}"])[-1] for end in ("low", "high"))
        return not any(ends) and has_lanes(op.operands[0], known, ops)
    if op.name in VIEW_OPS:
        last = list(op.attributes["reassociation"])[-1]
        return len(last) == 1 and has_lanes(op.operands[0], known, ops)
    return is_linalg(op) and len(op.results) == 1 and _linalg_has_lanes(op, known, ops)


def _linalg_has_lanes(op: ir.Operation, known: Collection[ir.Value], ops: Collection[str]) -> bool:
    maps, body = indexing_maps(op), op.regions[0].blocks[0]
    last = list(maps[-1].results)[-1]
    if not isinstance(last, ir.AffineDimExpr) or not _body_has_lanes(body, ops):
        return False
    lane = re.compile(rf"\bd{last.position}\b")
    for operand, affine_map, argument in zip(op.operands, maps, body.arguments, strict=True):
        exprs = list(affine_map.results)
        if not reads(argument) or not any(lane.search(str(e)) for e in exprs):
            continue
        if any(lane.search(str(e)) for e in exprs[:-1]) or str(exprs[-1]) != str(last):
            return False
        if not has_lanes(operand, known, ops):
            return False
    return True


def _body_has_lanes(block: ir.Block, ops: Collection[str], guarded: bool = False) -> bool:
    """Whether every op of a body is the same on vectors."""
    for nested in block.operations:
        op = nested.operation
        if op.name == "scf.if" and op.name in ops:
            if not _body_has_lanes(op.regions[1].blocks[0], ops, guarded):
                return False
            continue
        # Of no use but to what scalars do.
        if op.name == "linalg.index" and "scf.if" in ops:
            continue
        if op.name in _YIELDS or op.name in ops:
            continue
        if any(str(value.type) not in _ELEMENTS for value in (*op.operands, *op.results)):
            return False
        if op.name == "scf.if":
            if not all(_body_has_lanes(region.blocks[0], ops, True) for region in op.regions):
                return False
        elif op.name == "func.call":
            if not _body_has_lanes(_callee(op).body.blocks[0], ops, guarded):
                return False
        elif guarded and _DIVISION.match(op.name):
            # Lanes that do not meet the condition would divide as well, by zero at worst.
            return False
        elif not op.name.startswith("arith.") and op.name != "llvm.intr.expect":
            return False
    return True


def is_one_run(root: ir.Value) -> bool:
    """Whether each element of ``root`` depends on those at its own place alone."""
    if isinstance(root, ir.BlockArgument) or not is_linalg(root.owner.operation):
        return isinstance(root, ir.BlockArgument)
    op = root.owner.operation
    operands = list(op.operands)[:-1]
    identity = ir.AffineMap.get_identity(root.type.rank)
    return all(affine_map == identity for affine_map in indexing_maps(op)) and all(
        operand.type.shape == root.type.shape and is_one_run(operand) for operand in operands
    )


def emit_by_lanes(evaluator: Evaluator, root: ir.Value, out: ir.Value, most: int) -> bool:
    """Fill ``out`` with ``root`` in row-major order, up to ``most`` neighbours together.

    Returns False where that cannot be, or does not pay; then nothing was emitted. A core
    without vectors computes none (``most`` of 0). Where only some lanes go a way that has no
    vectors, these are computed again, one by one.
    """
    shape = list(root.type.shape)
    if not most:
        return False
    whole_body = has_lanes(root)
    if not whole_body and not has_lanes(root, ops=("scf.if",)):
        return False
    outer, size = shape[:-1], shape[-1]
    if is_one_run(root):
        outer, size = [1] * len(outer), prod(shape)
    if size < LEAST_LANES:
        return False
    emitter = evaluator.emitter
    scalars = BranchingEvaluator(evaluator)

    def run(indices: list[Index], first: Index, lanes: int) -> None:
        doubts: list[ir.Value] | None = None if whole_body else []
        by_lanes = LanesEvaluator(emitter, evaluator.pool, evaluator.buffers, lanes, doubts)
        values = by_lanes.at(root, [*indices, Lanes(first)])
        where = emitter.linear([*indices, first], shape)
        store_lanes(emitter, values, emitter.flat(out), where)
        for doubt in doubts or ():
            _again(scalars, root, out, [*indices, first], doubt)

    def nest(indices: list[Index]) -> None:
        if len(indices) < len(outer):
            emitter.loop(0, outer[len(indices)], 1, lambda i: nest([*indices, i]))
            return
        whole = size // most * most
        emitter.loop(0, whole, most, lambda first: run(indices, first, most))
        if whole < size:
            run(indices, whole, size - whole)

    nest([])
    return True


def _again(
    scalars: Evaluator, root: ir.Value, out: ir.Value, start: list[Index], doubt: ir.Value
) -> None:
    """Elements from ``start`` on, one by one, in whose lanes ``doubt`` holds."""
    emitter, lanes = scalars.emitter, doubt.type.shape[0]
    any_doubt = scf.IfOp(any_lane(doubt))
    with ir.InsertionPoint(any_doubt.then_block):
        # A lane of bytes can be any, one of bits cannot.
        i8 = ir.IntegerType.get_signless(8)
        bytes_ = arith.extui(ir.VectorType.get([lanes], i8), doubt)

        def element(lane: Index) -> None:
            byte = vector.extract(bytes_, [emitter.index(lane)], [_DYNAMIC])
            zero = arith.constant(i8, 0)
            doubted = scf.IfOp(arith.cmpi(arith.CmpIPredicate.ne, byte, zero))
            with ir.InsertionPoint(doubted.then_block):
                where = [*start[:-1], emitter.add(start[-1], lane)]
                value = scalars.at(root, where)
                emitter.store(value, emitter.flat(out), [emitter.linear(where, root.type.shape)])
                scf.yield_([])

        emitter.loop(0, lanes, 1, element)
        scf.yield_([])
