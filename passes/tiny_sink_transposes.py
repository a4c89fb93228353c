"""``tiny-sink-transposes``: layout changes move out of the network, or cancel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymlir.bindings import func, ir, linalg, tensor
from tinymlir.frontends.canonical.builder import Builder
from tinymlir.frontends.canonical.ports import permuted
from tinymlir.linalg_info import constant_array, constant_scalar, indexing_maps
from tinymlir.transposes import (
    first_transpose,
    groups_of,
    is_elementwise,
    is_i8,
    is_parallel,
    is_plain,
    is_scalar_code,
    renamed,
    transpose_of,
)

from ._pass import Pass, register_pass

_FACTS = ("tiny.layer", "tiny.op")


@register_pass
@dataclass(frozen=True)
class SinkTransposes(Pass):
    """Move transposes behind the ops that read them, until they cancel or leave

    An elementwise op reads what its transposed operands hold and makes its result
    transposed; padding and concatenation do likewise. A transpose that only moves
    dimensions of one is a reshape; one of a constant is another constant; one before
    a flattened product goes into the weights. Arguments and results of the network
    take the order that the network wants, and say so in ``tiny.permutation``.

    Before::

        func.func @main(%x: tensor<1x3x4x4xi8>) -> tensor<1x3x4x4xi8> {
          %e = tensor.empty() : tensor<1x4x4x3xi8>
          %t = linalg.transpose ins(%x : tensor<1x3x4x4xi8>)
                                outs(%e : tensor<1x4x4x3xi8>) permutation = [0, 2, 3, 1]
          %k = arith.constant dense<0> : tensor<3xi8>
          %f = tensor.empty() : tensor<1x4x4x3xi8>
          %b = linalg.broadcast ins(%k : tensor<3xi8>)
                                outs(%f : tensor<1x4x4x3xi8>) dimensions = [0, 1, 2]
          %m = linalg.max ins(%t, %b : tensor<1x4x4x3xi8>, tensor<1x4x4x3xi8>)
                          outs(%f : tensor<1x4x4x3xi8>) -> tensor<1x4x4x3xi8>
          %g = tensor.empty() : tensor<1x3x4x4xi8>
          %y = linalg.transpose ins(%m : tensor<1x4x4x3xi8>)
                                outs(%g : tensor<1x3x4x4xi8>) permutation = [0, 3, 1, 2]
          return %y : tensor<1x3x4x4xi8>
        }

    After::

        func.func @main(%x: tensor<1x4x4x3xi8> {tiny.model_shape = array<i64: 1, 3, 4, 4>,
                                                tiny.permutation = array<i64: 0, 2, 3, 1>})
            -> (tensor<1x4x4x3xi8> {tiny.model_shape = array<i64: 1, 3, 4, 4>,
                                    tiny.permutation = array<i64: 0, 2, 3, 1>}) {
          ...
          %b = linalg.broadcast ins(%k : tensor<3xi8>)
                                outs(%f : tensor<1x4x4x3xi8>) dimensions = [0, 1, 2]
          %g = tensor.empty() : tensor<1x4x4x3xi8>
          %m = linalg.generic ... ins(%x, %b : tensor<1x4x4x3xi8>, tensor<1x4x4x3xi8>)
                                     outs(%g : tensor<1x4x4x3xi8>) {
          ...
          return %m : tensor<1x4x4x3xi8>
        }
    """

    name: ClassVar[str] = "tiny-sink-transposes"

    def run(self, op: ir.Operation) -> None:
        for child in list(op.regions[0].blocks[0].operations):
            if isinstance(child, func.FuncOp) and len(child.body.blocks) == 1:
                _Sinker(child).run()


class _Sinker:
    """Rewrites one function, in sweeps from top to bottom until nothing changes."""

    def __init__(self, function: func.FuncOp) -> None:
        self.function, self.block = function, function.body.blocks[0]
        self.builder = Builder(function.operation.context)
        self._rules: tuple[Callable[[ir.Operation], ir.Value | None], ...] = (
            self._transpose,
            self._pad,
            self._concat,
            self._expand,
            self._collapse,
            self._product,
            self._linalg,
        )

    def run(self) -> None:
        for index in range(len(self.block.arguments)):
            self._meet_argument(index)
        changed = True
        while changed:
            changed = False
            for op in [o.operation for o in self.block.operations]:
                changed |= self._rewrite(op)
            self._erase_dead()

    def _rewrite(self, op: ir.Operation) -> bool:
        """Change ``op`` if a rule fits; it is erased then."""
        if op.name == "func.return":
            return self._return(op)
        with ir.InsertionPoint(op), op.location:
            for rule in self._rules:
                result = rule(op)
                if result is not None:
                    op.results[0].replace_all_uses_with(result)
                    op.erase()
                    return True
        return False

    def _transposed(self, value: ir.Value, permutation: Sequence[int]) -> ir.Value:
        """``numpy.transpose(value, permutation)``."""
        shape = [value.type.shape[d] for d in permutation]
        init = self.builder.empty(shape, value.type.element_type)
        return linalg.transpose(value, outs=[init], permutation=list(permutation)).results[0]

    def _transpose(self, op: ir.Operation) -> ir.Value | None:
        """A transpose that is none, that follows another, or that moves nothing."""
        found = transpose_of(op.results[0]) if op.results else None
        if found is None:
            return None
        source, permutation = found
        if permutation == sorted(permutation):
            return source
        earlier = transpose_of(source)
        if earlier is not None:
            return self._transposed(earlier[0], [earlier[1][d] for d in permutation])
        array = constant_array(source)
        if array is not None:
            return self.builder.constant(array.transpose(permutation))
        moved = [d for d in permutation if source.type.shape[d] != 1]
        # A reshape would hide an accumulator from the op that reads it.
        if moved == sorted(moved) and is_i8(source):
            return self.builder.reshape(source, op.results[0].type.shape)
        return None

    def _pad(self, op: ir.Operation) -> ir.Value | None:
        """Pad first, transpose then."""
        if op.name != "tensor.pad":
            return None
        found = transpose_of(op.operands[0])
        block = op.regions[0].blocks[0]
        fill = constant_scalar(block.operations[len(block.operations) - 1].operation.operands[0])
        if found is None or fill is None:
            return None
        source, permutation = found
        sides = [list(op.attributes[name]) for name in ("static_low", "static_high")]
        low, high = ([side[permutation.index(d)] for d in range(len(side))] for side in sides)
        return self._transposed(self.builder.pad(source, low, high, fill), permutation)

    def _concat(self, op: ir.Operation) -> ir.Value | None:
        """Join first, transpose then, where all parts are transposed alike."""
        if op.name != "tensor.concat":
            return None
        parts = [transpose_of(value) for value in op.operands]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or any(part[1] != known[0][1] for part in known):
            return None
        permutation, kind = known[0][1], op.results[0].type
        shape = [kind.shape[permutation.index(d)] for d in range(len(permutation))]
        joined = tensor.ConcatOp(
            self.builder.tensor_type(shape, kind.element_type),
            permutation[op.attributes["dim"].value],
            [part[0] for part in known],
        ).result
        return self._transposed(joined, permutation)

    def _expand(self, op: ir.Operation) -> ir.Value | None:
        """Split dimensions first, transpose then."""
        found = transpose_of(op.operands[0]) if op.name == "tensor.expand_shape" else None
        if found is None:
            return None
        source, permutation = found
        groups, shape = groups_of(op), op.results[0].type.shape
        sizes = [[shape[i] for i in groups[permutation.index(d)]] for d in range(len(groups))]
        starts = [sum(map(len, sizes[:d])) for d in range(len(groups))]
        split = self.builder.reshape(source, [n for each in sizes for n in each])
        order = [starts[d] + i for d in permutation for i in range(len(sizes[d]))]
        return self._transposed(split, order)

    def _collapse(self, op: ir.Operation) -> ir.Value | None:
        """Merge dimensions first, transpose then, where they are neighbours before, too."""
        found = transpose_of(op.operands[0]) if op.name == "tensor.collapse_shape" else None
        if found is None:
            return None
        source, permutation = found
        merged = [[permutation[d] for d in group] for group in groups_of(op)]
        if any(each != list(range(each[0], each[0] + len(each))) for each in merged):
            return None
        ordered = sorted(merged)
        shape = [math.prod(source.type.shape[d] for d in each) for each in ordered]
        return self._transposed(
            self.builder.reshape(source, shape), [ordered.index(each) for each in merged]
        )

    def _product(self, op: ir.Operation) -> ir.Value | None:
        """A product of a flattened transpose: its weights are transposed instead."""
        if op.name != "linalg.matmul" or isinstance(op.operands[0], ir.BlockArgument):
            return None
        flat, weights = op.operands[0].owner.operation, constant_array(op.operands[1])
        if flat.name != "tensor.collapse_shape" or weights is None:
            return None
        found = transpose_of(flat.operands[0])
        groups = groups_of(flat)
        kept = len(groups[0])
        if found is None or found[1][:kept] != list(range(kept)):
            return None
        source, permutation = found
        sizes = [source.type.shape[d] for d in permutation[kept:]]
        axes = [permutation.index(d) - kept for d in range(kept, len(permutation))]
        columns = weights.shape[1]
        moved = weights.reshape(*sizes, columns).transpose(*axes, len(axes))
        data = tensor.CollapseShapeOp(flat.results[0].type, source, groups).result
        constant = self.builder.constant(np.ascontiguousarray(moved.reshape(-1, columns)))
        return linalg.matmul(data, constant, outs=[op.operands[2]])

    def _linalg(self, op: ir.Operation) -> ir.Value | None:
        """Read through the transposes of operands; an elementwise op keeps the order it finds."""
        if not is_scalar_code(op):
            return None
        operands, maps = list(op.operands), indexing_maps(op)
        found = [transpose_of(value) for value in operands[:-1]]
        if not any(found):
            return None
        exprs = [list(each.results) for each in maps]
        for index, transpose in enumerate(found):
            if transpose is not None:
                operands[index], permutation = transpose
                old = list(exprs[index])
                for k, d in enumerate(permutation):
                    exprs[index][d] = old[k]
        order = list(range(maps[0].n_dims))
        elementwise = is_elementwise(op)
        if elementwise:
            order = self._order(operands, exprs, [i for i, t in enumerate(found) if t])
        if order != sorted(order) and not all(map(is_plain, exprs)):
            return None
        new = [renamed(each, order) for each in exprs]
        outs = op.operands[len(op.operands) - 1]
        result = [expr.position for expr in new[-1]] if elementwise else []
        if elementwise:
            extents = {d: n for d, n in zip(result, outs.type.shape, strict=True)}
            outs = self.builder.empty(
                [extents[d] for d in range(len(order))], outs.type.element_type
            )
            new[-1] = [ir.AffineExpr.get_dim(d) for d in range(len(order))]
        value = self._generic(op, [*operands[:-1], outs], new)
        return self._transposed(value, result) if elementwise else value

    def _order(
        self, operands: list[ir.Value], exprs: list[list[ir.AffineExpr]], transposed: list[int]
    ) -> list[int]:
        """The loops of an elementwise op, outermost first: as an operand nests its elements.

        An accumulator goes before tensors in memory: kernels make it in that order only.
        """
        rank = len(exprs[-1])
        for index in sorted(transposed, key=lambda i: (is_i8(operands[i]), i)):
            loops = [e.position for e in exprs[index] if isinstance(e, ir.AffineDimExpr)]
            if sorted(loops) == list(range(rank)):
                return loops
        return list(range(rank))

    def _generic(
        self, op: ir.Operation, operands: list[ir.Value], exprs: list[list[ir.AffineExpr]]
    ) -> ir.Value:
        """``op`` as a ``linalg.generic`` of the same body over other operands."""
        rank = indexing_maps(op)[0].n_dims
        maps = [ir.AffineMapAttr.get(ir.AffineMap.get(rank, 0, each)) for each in exprs]
        kinds = [
            "parallel" if is_elementwise(op) or is_parallel(op, d) else "reduction"
            for d in range(rank)
        ]
        iterators = [ir.Attribute.parse(f"#linalg.iterator_type<{kind}>") for kind in kinds]
        generic = linalg.GenericOp(
            [operands[-1].type],
            operands[:-1],
            operands[-1:],
            ir.ArrayAttr.get(maps),
            ir.ArrayAttr.get(iterators),
        )
        op.regions[0].blocks[0].append_to(generic.operation.regions[0])
        for name in _FACTS:
            if name in op.attributes:
                generic.operation.attributes[name] = op.attributes[name]
        return generic.results[0]

    def _return(self, op: ir.Operation) -> bool:
        """Give back what a transpose was made of, and say so."""
        changed = False
        for index, value in enumerate(op.operands):
            found = transpose_of(value)
            if found is None or isinstance(found[0], ir.BlockArgument):
                continue
            source, permutation = found
            op.operands[index] = source
            inverse = [permutation.index(d) for d in range(len(permutation))]
            self._permute("res_attrs", index, value.type, inverse)
            changed = True
        if changed:
            self._update_type()
        return changed

    def _meet_argument(self, index: int) -> None:
        """Take an argument in the order in which the network reads it."""
        argument = self.block.arguments[index]
        permutation = first_transpose(argument)
        if permutation is None:
            return
        kind = argument.type
        self._permute("arg_attrs", index, kind, permutation)
        shape = [kind.shape[d] for d in permutation]
        argument.set_type(self.builder.tensor_type(shape, kind.element_type))
        inverse = [permutation.index(d) for d in range(len(permutation))]
        with ir.InsertionPoint.at_block_begin(self.block), self.function.location:
            old = self._transposed(argument, inverse)
        argument.replace_all_uses_except(old, old.owner.operation)
        self._update_type()

    def _permute(self, key: str, index: int, kind: ir.Type, permutation: list[int]) -> None:
        """Record that an argument or result of type ``kind`` is permuted from now on."""
        attributes = self.function.operation.attributes
        count = len(self.function.type.inputs if key == "arg_attrs" else self.function.type.results)
        given = list(attributes[key]) if key in attributes else [ir.DictAttr.get({})] * count
        given[index] = permuted(given[index], kind.shape, permutation)
        attributes[key] = ir.ArrayAttr.get(given)

    def _update_type(self) -> None:
        last = self.block.operations[len(self.block.operations) - 1]
        types = [a.type for a in self.block.arguments], [v.type for v in last.operands]
        self.function.operation.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get(*types)
        )

    def _erase_dead(self) -> None:
        for op in reversed([o.operation for o in self.block.operations]):
            pure = op.name.startswith(("arith.", "linalg.", "tensor."))
            if pure and not any(True for result in op.results for _ in result.uses):
                op.erase()
