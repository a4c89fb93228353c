"""Demand-driven evaluation of a layer: one element of a tensor as scalar code.

Any DAG of linalg ops, pads and views can be asked for the element at an index;
what it needs is computed on the spot, reductions in registers. Kernels call this
for everything but their hot loop, and layers without a kernel of their own are
nothing but this inside a loop nest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod

from tinymlir.bindings import arith, ir, scf
from tinymlir.errors import PassFailure
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.rows import Rows
from tinymlir.linalg_info import (
    VIEW_OPS,
    constant_array,
    indexing_maps,
    is_linalg,
    iteration_space,
    pad_value,
)


class Evaluator:
    """Evaluates values of one layer function at the current insertion point.

    Args:
        emitter: where code goes.
        pool: where tensor constants go.
        buffers: memrefs that hold tensor values already, or rows of them.
        most_unrolled: elements of a reduction, a pooling window above all, without a loop.
    """

    def __init__(
        self,
        emitter: Emitter,
        pool: ConstantPool,
        buffers: dict[ir.Value, ir.Value | Rows],
        most_unrolled: int = 9,
    ) -> None:
        self.emitter, self.pool, self.buffers = emitter, pool, buffers
        self.most_unrolled = most_unrolled
        #: tensor values whose wanted element is in a register
        self.registers: dict[ir.Value, ir.Value] = {}

    def at(self, value: ir.Value, indices: Sequence[Index]) -> ir.Value:
        """The element of the tensor ``value`` at ``indices``."""
        if value in self.registers:
            return self.registers[value]
        if value in self.buffers:
            buffer = self.buffers[value]
            if isinstance(buffer, Rows):
                return self.emitter.load(buffer.buffer, [buffer.position(self.emitter, indices)])
            return self.emitter.load(buffer, indices)
        op = value.owner.operation
        if op.name == "arith.constant":
            return self._constant(value, indices)
        if op.name == "tensor.empty":
            return self._zero(value.type.element_type)
        if op.name == "linalg.fill":
            return self.scalar(op.operands[0])
        if op.name == "tensor.pad":
            return self._pad(op, indices)
        if op.name in VIEW_OPS:
            return self.at(op.operands[0], self.through_view(op, indices))
        if op.name == "tensor.concat":
            return self._concat(op, indices)
        if op.name == "tensor.insert_slice":
            return self._insertion(op, indices)
        if op.name == "tensor.extract_slice":
            return self._slice(op, indices)
        if is_linalg(op):
            return self._linalg(op, indices)
        raise PassFailure(op.location, f"has no lowering for '{op.name}' within a layer")

    def _zero(self, element: ir.Type) -> ir.Value:
        floating = isinstance(element, ir.F32Type)
        zero = ir.FloatAttr.get(element, 0.0) if floating else ir.IntegerAttr.get(element, 0)
        return arith.constant(element, zero)

    def scalar(self, value: ir.Value) -> ir.Value:
        """A scalar that the layer's function defines: only constants are taken."""
        op = value.owner.operation if not isinstance(value, ir.BlockArgument) else None
        if op is None or op.name != "arith.constant":
            raise PassFailure(value.location, "expects scalars used by a layer to be constants")
        return arith.constant(value.type, op.attributes["value"])

    def through_view(self, op: ir.Operation, indices: Sequence[Index]) -> list[Index]:
        """Indices into the source of an expand_shape or collapse_shape."""
        groups = [[i.value for i in group] for group in op.attributes["reassociation"]]
        wide = op.results[0].type if op.name == "tensor.expand_shape" else op.operands[0].type
        if op.name == "tensor.expand_shape":
            return [
                self.emitter.linear([indices[i] for i in g], [wide.shape[i] for i in g])
                for g in groups
            ]
        source: list[Index] = []
        for index, group in zip(indices, groups, strict=True):
            source += self._delinearize(index, [wide.shape[i] for i in group])
        return source

    def _delinearize(self, index: Index, shape: list[int]) -> list[Index]:
        parts: list[Index] = []
        for axis, size in enumerate(shape):
            inner = prod(shape[axis + 1 :])
            if size == 1:
                parts.append(0)
            elif isinstance(index, int):
                parts.append(index // inner % size)
            else:
                quotient = arith.divui(index, self.emitter.index(inner)) if inner != 1 else index
                outermost = prod(shape[:axis]) == 1
                parts.append(
                    quotient if outermost else arith.remui(quotient, self.emitter.index(size))
                )
        return parts

    def _constant(self, value: ir.Value, indices: Sequence[Index]) -> ir.Value:
        attribute = value.owner.operation.attributes["value"]
        if attribute.is_splat:
            return arith.constant(value.type.element_type, attribute.get_splat_value())
        element = value.type.element_type
        if not isinstance(element, ir.IntegerType) or element.width % 8:
            raise PassFailure(value.location, "expects constants that hold whole bytes")
        array = constant_array(value)
        assert array is not None
        return self.emitter.load(self.pool.get(array, "constant"), indices)

    def _pad(self, op: ir.Operation, indices: Sequence[Index]) -> ir.Value:
        starts = list(op.attributes["static_low"])
        return self._placed(op, starts, indices, lambda: self.scalar(pad_value(op)))

    def _insertion(self, op: ir.Operation, indices: Sequence[Index]) -> ir.Value:
        starts, steps = (list(op.attributes[f"static_{n}"]) for n in ("offsets", "strides"))
        source, target = list(op.operands)[:2]
        whole = len(source.type.shape) == len(target.type.shape) and set(steps) <= {1}
        if len(op.operands) > 2 or not whole:
            raise PassFailure(
                op.location, "expects an inserted slice to be static, dense and of the same rank"
            )
        return self._placed(op, starts, indices, lambda: self.at(target, indices))

    def _placed(
        self,
        op: ir.Operation,
        starts: Sequence[int],
        indices: Sequence[Index],
        outside: Callable[[], ir.Value],
    ) -> ir.Value:
        """An element of the result of ``op``, in which the first operand lies at ``starts``."""
        source = op.operands[0]
        inside: ir.Value | None = None
        shifted: list[Index] = []
        for axis, index in enumerate(indices):
            moved = self.emitter.sub(index, starts[axis])
            shifted.append(moved)
            size = source.type.shape[axis]
            if size == op.results[0].type.shape[axis]:
                continue
            # One unsigned comparison covers both ends.
            test = arith.cmpi(
                arith.CmpIPredicate.ult, self.emitter.index(moved), self.emitter.index(size)
            )
            inside = test if inside is None else arith.andi(inside, test)
        if inside is None:
            return self.at(source, shifted)
        return self._choose(
            inside, source.type.element_type, lambda: self.at(source, shifted), outside
        )

    def _choose(
        self,
        condition: ir.Value,
        kind: ir.Type,
        then: Callable[[], ir.Value],
        otherwise: Callable[[], ir.Value],
    ) -> ir.Value:
        """What one of two branches gives; only the one taken is evaluated."""
        choice = scf.IfOp(condition, [kind], has_else=True)
        with ir.InsertionPoint(choice.then_block):
            scf.yield_([then()])
        with ir.InsertionPoint(choice.else_block):
            scf.yield_([otherwise()])
        return choice.results[0]

    def _slice(self, op: ir.Operation, indices: Sequence[Index]) -> ir.Value:
        starts, steps = (list(op.attributes[f"static_{n}"]) for n in ("offsets", "strides"))
        if len(op.operands) > 1 or len(indices) != len(starts):
            raise PassFailure(op.location, "expects a slice to be static and to keep the rank")
        where = [
            self.emitter.add(self.emitter.mul(index, step), start)
            for index, step, start in zip(indices, steps, starts, strict=True)
        ]
        return self.at(op.operands[0], where)

    def _concat(self, op: ir.Operation, indices: Sequence[Index]) -> ir.Value:
        axis = op.attributes["dim"].value

        def pick(parts: list[ir.Value], start: int) -> ir.Value:
            local = list(indices)
            local[axis] = self.emitter.sub(indices[axis], start)
            if len(parts) == 1:
                return self.at(parts[0], local)
            end = start + parts[0].type.shape[axis]
            below = arith.cmpi(
                arith.CmpIPredicate.ult,
                self.emitter.index(indices[axis]),
                self.emitter.index(end),
            )
            return self._choose(
                below,
                op.results[0].type.element_type,
                lambda: self.at(parts[0], local),
                lambda: pick(parts[1:], end),
            )

        return pick(list(op.operands), 0)

    def part(
        self, op: ir.Operation, indices: Sequence[Index], fixed: dict[int, Index], carried: ir.Value
    ) -> ir.Value:
        """A reduction over what is not ``fixed`` of its loops, from ``carried`` on."""
        return self._linalg(op, indices, fixed, carried)

    def _linalg(
        self,
        op: ir.Operation,
        indices: Sequence[Index],
        fixed: dict[int, Index] | None = None,
        carried: ir.Value | None = None,
    ) -> ir.Value:
        if len(op.results) != 1:
            raise PassFailure(op.location, "expects linalg ops to have one result")
        maps = indexing_maps(op)
        output_map = maps[-1]
        dims: list[Index | None] = [None] * output_map.n_dims
        for expr, index in zip(output_map.results, indices, strict=True):
            if isinstance(expr, ir.AffineDimExpr):
                dims[expr.position] = index
            elif not isinstance(expr, ir.AffineConstantExpr):
                raise PassFailure(op.location, "expects outputs indexed by plain dimensions")
        for dim, index in (fixed or {}).items():
            dims[dim] = index
        reductions = [d for d, index in enumerate(dims) if index is None]
        extents = iteration_space(op)
        body = op.regions[0].blocks[0]
        outs = op.operands[len(op.operands) - 1]
        initial = carried
        if carried is None and reads(body.arguments[len(maps) - 1]):
            initial = self.at(outs, indices)

        def point(carried: ir.Value | None) -> ir.Value:
            scalars = {}
            for argument, operand, affine_map in zip(
                list(body.arguments)[:-1], list(op.operands)[:-1], maps[:-1], strict=True
            ):
                if not reads(argument):
                    continue
                if isinstance(operand.type, ir.RankedTensorType):
                    where = [self._affine(op, e, dims) for e in affine_map.results]
                    scalars[argument] = self.at(operand, where)
                else:
                    scalars[argument] = self.scalar(operand)
            if carried is not None:
                scalars[body.arguments[len(maps) - 1]] = carried
            return self._inline(body, scalars, dims)

        def nest(remaining: list[int], carried: ir.Value | None) -> ir.Value:
            if not remaining:
                return point(carried)

            def iterate(iv: Index, value: ir.Value) -> list[ir.Value]:
                dims[remaining[0]] = iv
                return [nest(remaining[1:], value)]

            extent = extents[remaining[0]]
            return self.emitter.loop(0, extent, 1, iterate, [carried], unroll=unroll)[0]

        whole = prod(extents[d] for d in reductions)
        unroll = whole if whole <= self.most_unrolled else 1
        return nest(reductions, initial)

    def _affine(self, op: ir.Operation, expr: ir.AffineExpr, dims: list[Index | None]) -> Index:
        if isinstance(expr, ir.AffineDimExpr):
            index = dims[expr.position]
            assert index is not None
            return index
        if isinstance(expr, ir.AffineConstantExpr):
            return expr.value
        if isinstance(expr, ir.AffineAddExpr):
            combine = self.emitter.add
        elif isinstance(expr, ir.AffineMulExpr):
            combine = self.emitter.mul
        else:
            raise PassFailure(op.location, f"has no lowering for the index '{expr}'")
        return combine(self._affine(op, expr.lhs, dims), self._affine(op, expr.rhs, dims))

    def _inline(
        self, body: ir.Block, scalars: dict[ir.Value, ir.Value], dims: list[Index | None]
    ) -> ir.Value:
        """Clone a block with its arguments bound to ``scalars``; what it yields."""

        def resolve(value: ir.Value) -> ir.Value:
            if value not in scalars:
                scalars[value] = self.scalar(value)
            return scalars[value]

        for nested in body.operations:
            op = nested.operation
            if op.name in ("linalg.yield", "scf.yield", "func.return"):
                return resolve(op.operands[0])
            if op.name == "linalg.index":
                made = self.emitter.index(dims[op.attributes["dim"].value] or 0)
            elif op.name == "tensor.extract":
                made = self.at(op.operands[0], [resolve(v) for v in list(op.operands)[1:]])
            elif op.name == "scf.if" and len(op.results) == 1:
                then, otherwise = (
                    functools.partial(self.branch, region.blocks[0], dict(scalars), dims)
                    for region in op.regions
                )
                condition = resolve(op.operands[0])
                made = self._choose(condition, op.results[0].type, then, otherwise)
            elif len(op.regions) or not len(op.results):
                raise PassFailure(op.location, f"has no lowering for '{op.name}' in a layer's body")
            else:
                clones = self._clone(op, [resolve(v) for v in op.operands])
                scalars.update(zip(op.results, clones, strict=True))
                continue
            scalars[op.results[0]] = made
        raise AssertionError("a body ends in a yield")

    def branch(
        self, block: ir.Block, scalars: dict[ir.Value, ir.Value], dims: list[Index | None]
    ) -> ir.Value:
        """What a block within a body yields where it runs."""
        return self._inline(block, scalars, dims)

    def _clone(self, op: ir.Operation, operands: list[ir.Value]) -> list[ir.Value]:
        """The results of ``op`` on other operands."""
        return clone_op(op, [result.type for result in op.results], operands)


def clone_op(op: ir.Operation, kinds: list[ir.Type], operands: list[ir.Value]) -> list[ir.Value]:
    """The results of an op like ``op``, of other types, on other operands."""
    clone = ir.Operation.create(
        op.name,
        results=kinds,
        operands=operands,
        attributes={a: op.attributes[a] for a in op.attributes},
        loc=op.location,
    )
    return list(clone.results)


def reads(argument: ir.Value) -> bool:
    return any(True for _ in argument.uses)
