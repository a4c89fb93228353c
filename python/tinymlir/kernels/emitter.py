"""A thin builder over scf, arith and memref that folds index arithmetic in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from tinymlir.bindings import arith, ir, llvm, memref, scf

#: A position: known now, or an SSA value of type index.
Index: TypeAlias = int | ir.Value


def buffer_type(tensor: ir.Type) -> ir.Type:
    """The type of a buffer that holds a tensor, row by row."""
    return ir.MemRefType.get(tensor.shape, tensor.element_type)


class Emitter:
    """Emits at the current insertion point of the bindings."""

    def index(self, value: Index) -> ir.Value:
        """``value`` as an SSA index."""
        if isinstance(value, int):
            return arith.constant(ir.IndexType.get(), value)
        return value

    def integer(self, value: int, width: int = 32) -> ir.Value:
        return arith.constant(ir.IntegerType.get_signless(width), value)

    def word(self, value: Index) -> ir.Value:
        """``value`` as an i32."""
        if isinstance(value, int):
            return self.integer(value)
        return arith.index_cast(ir.IntegerType.get_signless(32), value)

    def opaque(self, value: Index) -> ir.Value:
        """``value`` in a register of its own: nobody knows that it equals the other one.

        What is loaded from there is loaded again, instead of kept in registers that there
        are not.
        """
        word = self.word(value)
        same = llvm.inline_asm(word.type, [word], "", "=r,0")
        return arith.index_cast(ir.IndexType.get(), same)

    def add(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        if b == 0:
            return a
        return arith.addi(self.index(a), self.index(b))

    def sub(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else arith.subi(self.index(a), self.index(b))

    def mul(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        if a == 1:
            return b
        if b == 1:
            return a
        return arith.muli(self.index(a), self.index(b))

    def minimum(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return arith.minsi(self.index(a), self.index(b))

    def maximum(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return arith.maxsi(self.index(a), self.index(b))

    def ceildiv(self, a: Index, divisor: int) -> Index:
        """``ceil(a / divisor)`` of a non-negative ``a``."""
        if isinstance(a, int):
            return -(-a // divisor)
        if divisor == 1:
            return a
        return arith.divui(self.index(self.add(a, divisor - 1)), self.index(divisor))

    def half(self, a: Index) -> Index:
        """Half of a non-negative even ``a``."""
        if isinstance(a, int):
            return a // 2
        return arith.shrui(self.index(a), self.index(1))

    def down(self, a: Index, multiple: int) -> Index:
        """The largest multiple of ``multiple`` that a non-negative ``a`` holds."""
        if isinstance(a, int):
            return a // multiple * multiple
        if multiple == 1:
            return a
        return self.sub(a, arith.remui(a, self.index(multiple)))

    def linear(self, indices: Sequence[Index], shape: Sequence[int]) -> Index:
        """Row-major position of ``indices`` within ``shape``."""
        position: Index = 0
        for index, size in zip(indices, shape, strict=True):
            position = self.add(self.mul(position, size), index)
        return position

    def load(self, buffer: ir.Value, indices: Sequence[Index]) -> ir.Value:
        return memref.load(buffer, [self.index(i) for i in indices])

    def store(self, value: ir.Value, buffer: ir.Value, indices: Sequence[Index]) -> None:
        memref.store(value, buffer, [self.index(i) for i in indices])

    def widen(self, value: ir.Value) -> ir.Value:
        """Sign-extend to i32."""
        return arith.extsi(ir.IntegerType.get_signless(32), value)

    def flat(self, buffer: ir.Value) -> ir.Value:
        """A one-dimensional view of a contiguous memref."""
        rank = buffer.type.rank
        if rank == 1:
            return buffer
        size = int(np.prod(buffer.type.shape))
        flat_type = ir.MemRefType.get([size], buffer.type.element_type)
        return memref.collapse_shape(flat_type, buffer, [list(range(rank))])

    def loop(
        self,
        lower: Index,
        upper: Index,
        step: int,
        body: Callable[..., Sequence[ir.Value] | None],
        inits: Sequence[ir.Value] = (),
        unroll: int = 1,
    ) -> list[ir.Value]:
        """``for`` with loop-carried values.

        ``body(iv, *carried)`` returns the next carried values. A loop whose trips are
        known runs ``unroll`` of them a turn, and what is left over after it; if all fit
        one turn, it leaves no trace in the IR.
        """
        factor, whole = 1, upper
        if isinstance(lower, int) and isinstance(upper, int):
            trips = max(0, -(-(upper - lower) // step))
            factor = min(max(unroll, 1), max(trips, 1))
            whole = lower + trips // factor * factor * step

        def bodies(first: Index, count: int, carried: Sequence[ir.Value]) -> list[ir.Value]:
            for copy in range(count):
                carried = body(self.add(first, copy * step), *carried) or ()
            return list(carried)

        if not (isinstance(lower, int) and isinstance(whole, int)):
            return self._loop(lower, whole, step, lambda i, *v: bodies(i, 1, v), inits)
        turns = (whole - lower) // (step * factor)
        if turns == 1:
            values = bodies(lower, factor, inits)
        elif turns:
            values = self._loop(
                lower, whole, step * factor, lambda i, *v: bodies(i, factor, v), inits
            )
        else:
            values = list(inits)
        return bodies(whole, trips % factor, values)

    def turns(
        self,
        count: int,
        most: int,
        body: Callable[..., Sequence[ir.Value]],
        carried: Sequence[ir.Value],
    ) -> list[ir.Value]:
        """``count`` things, ``most`` of them a turn, and after the last turn what is left.

        ``body(number, *carried)`` does so many and returns the next carried values: pointers
        that go on, from which it has constant offsets.
        """
        whole, rest = divmod(count, most)
        carried = self.loop(0, whole, 1, lambda _, *values: body(most, *values), carried)
        return list(body(rest, *carried))

    def when(self, condition: ir.Value, then: Callable[[], object]) -> None:
        """``then`` if the condition holds."""
        with ir.InsertionPoint(scf.IfOp(condition).then_block):
            then()
            scf.yield_([])

    def either(
        self, condition: ir.Value, then: Callable[[], object], otherwise: Callable[[], object]
    ) -> None:
        """``then`` if the condition holds, or else the other."""
        choice = scf.IfOp(condition, has_else=True)
        for block, body in ((choice.then_block, then), (choice.else_block, otherwise)):
            with ir.InsertionPoint(block):
                body()
                scf.yield_([])

    def _loop(
        self,
        lower: Index,
        upper: Index,
        step: int,
        body: Callable[..., Sequence[ir.Value]],
        inits: Sequence[ir.Value],
    ) -> list[ir.Value]:
        loop = scf.ForOp(*(self.index(v) for v in (lower, upper, step)), list(inits))
        with ir.InsertionPoint(loop.body):
            scf.yield_(body(loop.induction_variable, *loop.inner_iter_args))
        return list(loop.results)


_GLOBAL = "memref.global"


class ConstantPool:
    """Constant globals of a module; equal contents are one constant."""

    def __init__(self, module: ir.Operation) -> None:
        self._block = module.regions[0].blocks[0]
        self._symbols: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        there = [o.operation for o in self._block.operations if o.operation.name == _GLOBAL]
        self._anchor: ir.Operation | None = there[-1] if there else None
        #: constants that passes before this one have made
        self._taken = len(there)
        #: bytes of the constants made since the layer began
        self.layer_bytes = 0

    def begin_layer(self) -> None:
        self.layer_bytes = 0

    def get(self, array: np.ndarray, name: str) -> ir.Value:
        """The memref of a constant that holds ``array``, made where it is new."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        width = array.dtype.itemsize * 8
        element = ir.IntegerType.get_signless(width)
        buffer_type = ir.MemRefType.get(array.shape, element)
        if key not in self._symbols:
            self._symbols[key] = symbol = f"{name}_{self._taken + len(self._symbols)}"
            self.layer_bytes += array.nbytes
            where = (
                ir.InsertionPoint.at_block_begin(self._block)
                if self._anchor is None
                else ir.InsertionPoint.after(self._anchor)
            )
            # A splat prints and parses alike whether or not it is stored as one.
            tensor_type = ir.RankedTensorType.get(array.shape, element)
            with where:
                made = memref.GlobalOp(
                    sym_name=ir.StringAttr.get(symbol),
                    type_=ir.TypeAttr.get(buffer_type),
                    sym_visibility=ir.StringAttr.get("private"),
                    initial_value=ir.DenseElementsAttr.get(array, type=tensor_type),
                    constant=True,
                    alignment=4,
                )
            self._anchor = made.operation
        return memref.get_global(buffer_type, self._symbols[key])
