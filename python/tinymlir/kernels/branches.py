"""Branches of a layer's body as functions of their own, where they compute more than the rest."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from tinymlir.bindings import func, ir
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.rows import Rows
from tinymlir.linalg_info import constant_array, constant_scalar

#: Elements of a reduction that get by without a loop where that runs seldom.
_MOST_UNROLLED = 4


class BranchingEvaluator(Evaluator):
    """An evaluator that calls a function where a branch looks at tensors that are not there.

    A body that decides by a cheap test whether a dear one is needed stays short, however often
    it is unrolled: all copies call the one function.

    Args:
        evaluator: whose buffers it has.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__(evaluator.emitter, evaluator.pool, evaluator.buffers)
        self._symbols: dict[ir.Block, str] = {}

    def branch(
        self, block: ir.Block, scalars: dict[ir.Value, ir.Value], dims: list[Index | None]
    ) -> ir.Value:
        if not any(self._computes(op) for op in _operations(block)):
            return super().branch(block, scalars, dims)
        given = [v for v in _from_outside(block) if constant_scalar(v) is None]
        result = block.operations[len(block.operations) - 1].operands[0].type
        firsts = [b.first_column for b in self.buffers.values() if isinstance(b, Rows)]
        arguments = [
            *(b.buffer if isinstance(b, Rows) else b for b in self.buffers.values()),
            *(first for first in firsts if not isinstance(first, int)),
            *(scalars[value] for value in given),
        ]
        if block not in self._symbols:
            types = [argument.type for argument in arguments]
            self._symbols[block] = self._emit(block, given, types, result)
        return func.call([result], self._symbols[block], arguments)

    def _computes(self, op: ir.Operation) -> bool:
        """Whether ``op`` takes an element that has to be computed first."""
        if op.name != "tensor.extract":
            return False
        source = op.operands[0]
        return source not in self.buffers and constant_array(source) is None

    def _emit(
        self,
        block: ir.Block,
        given: list[ir.Value],
        types: list[ir.Type],
        result: ir.Type,
    ) -> str:
        around = _function_around(ir.InsertionPoint.current.block.owner)
        others = around.operation.parent.regions[0].blocks[0].operations
        taken = {o.name.value for o in others if isinstance(o, func.FuncOp)}
        names = (f"{around.name.value}_branch{n}" for n in itertools.count())
        symbol = next(name for name in names if name not in taken)
        with ir.InsertionPoint.after(around.operation):
            function = func.FuncOp(symbol, (types, [result]), visibility="private")
        with ir.InsertionPoint(function.add_entry_block()):
            own = iter(function.arguments)
            memrefs = [next(own) for _ in self.buffers]
            buffers = {
                tensor: _moved(buffer, memref, own)
                for (tensor, buffer), memref in zip(self.buffers.items(), memrefs, strict=True)
            }
            scalars = {value: next(own) for value in given}
            evaluator = Evaluator(self.emitter, self.pool, buffers, _MOST_UNROLLED)
            func.ReturnOp([evaluator.branch(block, scalars, [])])
        return symbol


def _moved(buffer: ir.Value | Rows, memref: ir.Value, rest: Iterator[ir.Value]) -> ir.Value | Rows:
    """``buffer`` in ``memref``, where it may begin with a column of ``rest``."""
    if not isinstance(buffer, Rows):
        return memref
    first = buffer.first_column if isinstance(buffer.first_column, int) else next(rest)
    return dataclasses.replace(buffer, buffer=memref, first_column=first)


def _function_around(op: ir.Operation) -> func.FuncOp:
    while op.name != "func.func":
        op = op.parent
    return op.opview


def _operations(block: ir.Block) -> Iterator[ir.Operation]:
    for child in block.operations:
        yield child.operation
        for region in child.operation.regions:
            for inner in region.blocks:
                yield from _operations(inner)


def _from_outside(block: ir.Block) -> list[ir.Value]:
    """The scalars that ``block`` takes from around it."""
    operations = list(_operations(block))
    own = {result for op in operations for result in op.results}
    used = [value for op in operations for value in op.operands]
    scalars = [v for v in used if not isinstance(v.type, ir.RankedTensorType) and v not in own]
    return list(dict.fromkeys(scalars))
