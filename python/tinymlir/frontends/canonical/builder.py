"""Builds the canonical form, op by op (docs/design.md)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, linalg, tensor
from tinymlir.dialects import tiny

from .fitting import Reference, fit


@dataclass(frozen=True)
class Clamp:
    """The range of an i8 result, from an activation function."""

    low: int = numerics.I8_MIN
    high: int = numerics.I8_MAX

    @property
    def trivial(self) -> bool:
        return (self.low, self.high) == (numerics.I8_MIN, numerics.I8_MAX)


#: What indexes a dimension: a loop, or a sum of loops, each with its factor.
Place: TypeAlias = int | Mapping[int, int]


class Builder:
    """IR at the current insertion point; knows which layer it is in.

    Shapes are tuples of ints; values are ``ir.Value`` of ranked tensor type.
    """

    def __init__(self, context: ir.Context) -> None:
        self.context = context
        self.i8 = ir.IntegerType.get_signless(8, context)
        self.i32 = ir.IntegerType.get_signless(32, context)
        self._names: dict[str, int] = {}
        self._layer: tuple[str, str] = ("", "")
        self._parallel = ir.Attribute.parse("#linalg.iterator_type<parallel>", context)
        self._reduction = ir.Attribute.parse("#linalg.iterator_type<reduction>", context)

    @contextlib.contextmanager
    def layer(self, name: str, op: str) -> Iterator[None]:
        """Everything built inside belongs to one layer; see `finish`."""
        count = self._names[name] = self._names.get(name, -1) + 1
        unique = f"{name}_{count}" if count else name
        if count:
            self._names.setdefault(unique, 0)
        outer, self._layer = self._layer, (unique, op)
        with ir.Location.name(unique, context=self.context):
            yield
        self._layer = outer

    def finish(self, value: ir.Value) -> ir.Value:
        """Mark the op that yields the layer's i8 tensor."""
        attributes = value.owner.attributes
        name, op = self._layer
        attributes["tiny.layer"] = ir.StringAttr.get(name, self.context)
        attributes["tiny.op"] = ir.StringAttr.get(op, self.context)
        return value

    def tensor_type(self, shape: Sequence[int], element: ir.Type) -> ir.Type:
        return ir.RankedTensorType.get(list(shape), element)

    def scalar(self, value: int, element: ir.Type) -> ir.Value:
        return arith.ConstantOp(element, ir.IntegerAttr.get(element, int(value))).result

    def constant(self, array: npt.NDArray[np.signedinteger]) -> ir.Value:
        """A dense constant; the element type is the array's."""
        element = ir.IntegerType.get_signless(array.dtype.itemsize * 8, self.context)
        type_ = self.tensor_type(array.shape, element)
        data = np.ascontiguousarray(array)
        attribute = ir.DenseElementsAttr.get(data, type=element, shape=list(array.shape))
        return arith.ConstantOp(type_, attribute).result

    def empty(self, shape: Sequence[int], element: ir.Type) -> ir.Value:
        return tensor.EmptyOp(list(shape), element).result

    def fill(self, shape: Sequence[int], value: int, element: ir.Type) -> ir.Value:
        init = self.empty(shape, element)
        op = linalg.FillOp([init.type], [self.scalar(value, element)], [init])
        linalg.fill_builtin_region(op.operation)
        return op.results[0]

    def broadcast(self, value: ir.Value, shape: Sequence[int], dims: Sequence[int]) -> ir.Value:
        """``value`` repeated along the new dimensions ``dims`` of ``shape``."""
        init = self.empty(shape, value.type.element_type)
        return linalg.broadcast(value, outs=[init], dimensions=list(dims)).results[0]

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """A view: at most one collapse and one expand."""
        shape = tuple(shape)
        old = tuple(value.type.shape)
        if old == shape:
            return value
        groups = _reassociation(old, shape)
        coarse = [int(np.prod([old[i] for i in left], dtype=np.int64)) for left, _ in groups]
        element = value.type.element_type
        if len(old) > len(coarse):
            op = tensor.CollapseShapeOp(
                self.tensor_type(coarse, element), value, [list(left) for left, _ in groups]
            )
            value = op.result
        if len(shape) > len(coarse):
            op = tensor.ExpandShapeOp(
                self.tensor_type(shape, element),
                value,
                [list(right) for _, right in groups],
                [],
                list(shape),
            )
            value = op.result
        return value

    def pad(self, value: ir.Value, low: Sequence[int], high: Sequence[int], fill: int) -> ir.Value:
        """``tensor.pad`` with a constant; the value itself if there is nothing to pad."""
        if not any(low) and not any(high):
            return value
        shape = [a + n + b for a, n, b in zip(low, value.type.shape, high, strict=True)]
        element = value.type.element_type
        constant = self.scalar(fill, element)
        op = tensor.PadOp(self.tensor_type(shape, element), value, [], [], list(low), list(high))
        index = ir.IndexType.get(self.context)
        location = ir.Location.current
        block = op.regions[0].blocks.append(*[index] * len(shape), arg_locs=[location] * len(shape))
        with ir.InsertionPoint(block):
            tensor.YieldOp(constant)
        return op.result

    def generic(
        self,
        inputs: Sequence[tuple[ir.Value, Sequence[Place]]],
        init: ir.Value,
        body: Callable[..., ir.Value],
        *,
        reduced: Sequence[int] = (),
        rank: int | None = None,
    ) -> ir.Value:
        """``linalg.generic`` over ``rank`` loops (the rank of ``init`` plus the reduced ones).

        Args:
            inputs: each with what indexes its dimensions.
            init: the ``outs`` operand, indexed by the loops that are not reduced.
            body: takes one scalar for each input and the output, gives the new one.
            reduced: the loops that are reductions.
        """
        rank = len(init.type.shape) + len(reduced) if rank is None else rank
        kept = [loop for loop in range(rank) if loop not in reduced]
        with self.context:
            maps = [
                ir.AffineMapAttr.get(ir.AffineMap.get(rank, 0, [_expression(p) for p in places]))
                for places in [*(places for _, places in inputs), kept]
            ]
        iterators = [self._reduction if d in reduced else self._parallel for d in range(rank)]
        values = [value for value, _ in inputs]
        op = linalg.GenericOp(
            [init.type],
            values,
            [init],
            ir.ArrayAttr.get(maps, self.context),
            ir.ArrayAttr.get(iterators, self.context),
        )
        scalars = [value.type.element_type for value in [*values, init]]
        location = ir.Location.current
        block = op.regions[0].blocks.append(*scalars, arg_locs=[location] * len(scalars))
        with ir.InsertionPoint(block):
            linalg.YieldOp([body(*block.arguments)])
        return op.results[0]

    def structured(
        self,
        op_class: type,
        inputs: Sequence[ir.Value],
        init: ir.Value,
        strides: Sequence[int],
        dilations: Sequence[int],
    ) -> ir.Value:
        """A named convolution or pooling op of linalg."""
        op = op_class(
            result_tensors=[init.type],
            inputs=list(inputs),
            outputs=[init],
            strides=self._vector(strides),
            dilations=self._vector(dilations),
        )
        linalg.fill_builtin_region(op.operation)
        return op.result

    def _vector(self, values: Sequence[int]) -> ir.Attribute:
        return ir.DenseElementsAttr.get(np.array(values, np.int64), context=self.context)

    def requantize(self, acc: ir.Value, scaling: Scaling, channels: Sequence[int]) -> ir.Value:
        """The layer's result: ``acc`` scaled to i8.

        Args:
            acc: i32 accumulators.
            scaling: one scale, or an array of them.
            channels: the dimensions of ``acc`` that the array's dimensions run along.
        """
        shape = tuple(acc.type.shape)
        tables: list[npt.NDArray[Any]] = [scaling.multipliers, scaling.shifts]
        for special in scaling.specials:
            tables += [special.accumulators, special.results]
        inputs: list[tuple[ir.Value, Sequence[Place]]] = [(acc, range(len(shape)))]
        scalars: list[ir.Value] = []
        if scaling.uniform:
            widths = [ir.IntegerType.get_signless(t.itemsize * 8, self.context) for t in tables]
            scalars = [
                self.scalar(t.flat[0], width) for t, width in zip(tables, widths, strict=True)
            ]
        else:
            inputs += [(self.constant(table), channels) for table in tables]

        def body(value: ir.Value, *rest: ir.Value) -> ir.Value:
            multiplier, shift, *specials = scalars or rest[:-1]
            result = self.requantize_op(value, multiplier, shift, scaling)
            for at, known in zip(specials[::2], specials[1::2], strict=True):
                there = arith.CmpIOp(arith.CmpIPredicate.eq, value, at).result
                result = arith.SelectOp(there, known, result).result
            return result

        return self.finish(self.generic(inputs, self.empty(shape, self.i8), body))

    def requantize_op(
        self, acc: ir.Value, multiplier: ir.Value, shift: ir.Value, scaling: Scaling
    ) -> ir.Value:
        """One ``tiny.requantize``."""

        def integer(value: int) -> ir.Attribute:
            return ir.IntegerAttr.get(self.i32, value)

        return tiny.RequantizeOp(
            acc,
            multiplier,
            shift,
            zero_point=integer(scaling.zero_point),
            min=integer(scaling.clamp.low),
            max=integer(scaling.clamp.high),
            rounding=ir.StringAttr.get(scaling.rounding, self.context),
        ).res


@dataclass(frozen=True)
class Special:
    """One accumulator, or one for each channel, whose result no multiplier gives."""

    accumulators: npt.NDArray[np.int32]
    results: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Scaling:
    """Everything a requantisation needs; `scaling` makes one from real scales."""

    multipliers: npt.NDArray[np.int32]
    shifts: npt.NDArray[np.int32]
    zero_point: int
    clamp: Clamp
    rounding: str
    specials: tuple[Special, ...] = ()

    @property
    def uniform(self) -> bool:
        """One scale for all: the arrays hold a single pair."""
        return self.multipliers.size == 1

    @staticmethod
    def of(
        scales: npt.ArrayLike,
        zero_point: int,
        clamp: Clamp,
        low: npt.ArrayLike,
        high: npt.ArrayLike,
        reference: Reference | None = None,
    ) -> Scaling:
        """The integer form of a float32 requantisation (`fitting.fit`).

        Args:
            scales: from accumulator to result: one, or an array of any shape.
            low, high: reachable accumulators, of the same shape or for all scales.
            reference: what to agree with; a float32 product by the scales if absent.
        """
        real = np.asarray(scales)
        flat = real.reshape(-1)
        least, most = (np.broadcast_to(np.asarray(a), real.shape).reshape(-1) for a in (low, high))
        fitted = fit(flat, least, most, clamp.low - zero_point, clamp.high - zero_point, reference)
        multipliers, shifts, shape = fitted.multipliers, fitted.shifts, real.shape
        if len(np.unique(np.stack([multipliers, shifts]), axis=1).T) == 1:
            multipliers, shifts, shape = multipliers[:1], shifts[:1], ()
        return Scaling(
            multipliers.reshape(shape), shifts.reshape(shape), zero_point, clamp, fitted.rounding
        )


def _expression(place: Place) -> ir.AffineExpr:
    if isinstance(place, int):
        return ir.AffineExpr.get_dim(place)
    terms = [ir.AffineExpr.get_dim(loop) * factor for loop, factor in place.items()]
    return functools.reduce(ir.AffineExpr.get_add, terms)


def _reassociation(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Groups of neighbouring dimensions of equal size on both sides, as many as can be."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        left, right = [i], [j]
        a, b = old[i], new[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a *= old[i]
                left.append(i)
                i += 1
            else:
                b *= new[j]
                right.append(j)
                j += 1
        groups.append((left, right))
    for k in range(i, len(old)):  # trailing ones
        groups[-1][0].append(k)
    for k in range(j, len(new)):
        groups[-1][1].append(k)
    return groups
