"""``tiny-sink-transposes``: layout changes move out of the network, or cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymlir.bindings import func, ir, linalg, tensor
from tinymlir.frontends.canonical.builder import Builder
from tinymlir.frontends.canonical.ports import permuted
from tinymlir.linalg_info import constant_array, constant_scalar, indexing_maps, is_linalg

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
          %m = linalg.generic {{.*}} ins(%x, %b : tensor<1x4x4x3xi8>, tensor<1x4x4x3xi8>)
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
            for rule in (self._transpose, self._pad, self._concat, self._product, self._linalg):
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
        found = _transpose_of(op.results[0]) if op.results else None
        if found is None:
            return None
        source, permutation = found
        if permutation == sorted(permutation):
            return source
        earlier = _transpose_of(source)
        if earlier is not None:
            return self._transposed(earlier[0], [earlier[1][d] for d in permutation])
        array = constant_array(source)
        if array is not None:
            return self.builder.constant(array.transpose(permutation))
        moved = [d for d in permutation if source.type.shape[d] != 1]
        # A reshape would hide an accumulator from the op that reads it.
        if moved == sorted(moved) and _is_i8(source):
            return self.builder.reshape(source, op.results[0].type.shape)
        return None

    def _pad(self, op: ir.Operation) -> ir.Value | None:
        """Pad first, transpose then."""
        if op.name != "tensor.pad":
            return None
        found = _transpose_of(op.operands[0])
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
        parts = [_transpose_of(value) for value in op.operands]
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

    def _product(self, op: ir.Operation) -> ir.Value | None:
        """A product of a flattened transpose: its weights are transposed instead."""
        if op.name != "linalg.matmul" or isinstance(op.operands[0], ir.BlockArgument):
            return None
        flat, weights = op.operands[0].owner.operation, constant_array(op.operands[1])
        if flat.name != "tensor.collapse_shape" or weights is None:
            return None
        found = _transpose_of(flat.operands[0])
        groups = [[i.value for i in group] for group in flat.attributes["reassociation"]]
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
        if not _is_scalar_code(op):
            return None
        operands, maps = list(op.operands), indexing_maps(op)
        found = [_transpose_of(value) for value in operands[:-1]]
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
        elementwise = _is_elementwise(op)
        if elementwise:
            order = self._order(operands, exprs, [i for i, t in enumerate(found) if t])
        if order != sorted(order) and not all(map(_is_plain, exprs)):
            return None
        new = [_renamed(each, order) for each in exprs]
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
        for index in sorted(transposed, key=lambda i: (_is_i8(operands[i]), i)):
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
            "parallel" if _is_elementwise(op) or _is_parallel(op, d) else "reduction"
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
            found = _transpose_of(value)
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
        permutation = _first_transpose(argument)
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


def _is_i8(value: ir.Value) -> bool:
    return str(value.type.element_type) == "i8"


def _transpose_of(value: ir.Value) -> tuple[ir.Value, list[int]] | None:
    """Source and permutation, if ``value`` is a transposed tensor."""
    if isinstance(value, ir.BlockArgument) or value.owner.operation.name != "linalg.transpose":
        return None
    op = value.owner.operation
    return op.operands[0], [int(d) for d in op.attributes["permutation"]]


def _is_scalar_code(op: ir.Operation) -> bool:
    """Whether ``op`` is linalg whose body may be run over operands that lie otherwise."""
    if not is_linalg(op) or len(op.results) != 1 or op.name in ("linalg.fill", "linalg.broadcast"):
        return False
    if op.name not in ("linalg.generic", "linalg.reduce") and not _is_elementwise(op):
        return False
    return not any(o.operation.name == "linalg.index" for o in op.regions[0].blocks[0].operations)


def _is_elementwise(op: ir.Operation) -> bool:
    """Whether each element of the result is computed once, from operands alone."""
    block = op.regions[0].blocks[0]
    reads_outs = any(True for _ in block.arguments[len(block.arguments) - 1].uses)
    return indexing_maps(op)[-1].is_permutation and not reads_outs


def _is_parallel(op: ir.Operation, dimension: int) -> bool:
    results = indexing_maps(op)[-1].results
    return any(isinstance(e, ir.AffineDimExpr) and e.position == dimension for e in results)


def _is_plain(exprs: list[ir.AffineExpr]) -> bool:
    """Whether an operand is indexed by loops and numbers alone."""
    return all(isinstance(e, ir.AffineDimExpr | ir.AffineConstantExpr) for e in exprs)


def _renamed(exprs: list[ir.AffineExpr], order: list[int]) -> list[ir.AffineExpr]:
    """Index expressions over the loops in another order."""
    if order == sorted(order):
        return exprs
    return [
        ir.AffineExpr.get_dim(order.index(e.position)) if isinstance(e, ir.AffineDimExpr) else e
        for e in exprs
    ]


def _first_transpose(argument: ir.Value) -> list[int] | None:
    """How the first transpose that ``argument`` reaches permutes it, elementwise ops aside."""
    queue, seen = [argument], {argument}
    while queue:
        for use in queue.pop(0).uses:
            user = use.owner.operation
            found = _transpose_of(user.results[0]) if user.results else None
            if found is not None:
                return found[1]
            passes_on = user.name == "tensor.pad" or (
                _is_scalar_code(user)
                and _is_elementwise(user)
                and indexing_maps(user)[use.operand_number] == indexing_maps(user)[-1]
            )
            if passes_on and user.results[0] not in seen:
                seen.add(user.results[0])
                queue.append(user.results[0])
    return None
