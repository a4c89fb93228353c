"""Elementwise layers: rescales, sums, products, and whatever is a function of one int8 value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, ir, tensor
from tinymlir.frontends.canonical import elementwise
from tinymlir.frontends.canonical.builder import Builder, Clamp, Scaling
from tinymlir.frontends.canonical.fitting import Sum, fit_sum
from tinymlir.frontends.canonical.tensors import Activation, Dequantized, Quantization
from tinymlir.numerics import IntArray

from .constants import constant, is_byte, is_unsigned, single
from .converter import Converter
from .evaluate import data_operands, evaluate, leaves
from .linear import accumulated
from .names import name_of
from .rescale import Rescale

_LEVELS = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1, dtype=np.int64)
#: Operations on two accumulators that a layer can end in, before its rescale.
_COMBINING = {
    "tosa.add": ("add", arith.AddIOp),
    "tosa.maximum": ("maximum", arith.MaxSIOp),
    "tosa.minimum": ("minimum", arith.MinSIOp),
    "tosa.mul": ("mul", arith.MulIOp),
    "tosa.sub": ("sub", arith.SubIOp),
}


def rescaled(conv: Converter, op: ir.Operation) -> Activation | None:
    """A rescale to 8 bits: the end of a layer, whatever comes before it."""
    rescale = Rescale.read(op)
    if rescale.output_unsigned:
        conv.unsigned.add(op.results[0])
    if not is_byte(op.operands[0]):
        made = accumulated(conv, op.operands[0], rescale)
        if made is not None:
            return made
    return function(conv, op)


def clamped(conv: Converter, op: ir.Operation) -> Activation | None:
    """A clamp of an int8 tensor; it goes into the layer before it where that can be."""
    limits = [op.attributes[name].value for name in ("min_val", "max_val")]
    x = conv.signed(op, op.operands[0])
    return elementwise.clamp(conv.builder, name_of(op), x, Clamp(limits[0], limits[1]))


def function(conv: Converter, op: ir.Operation) -> Activation | None:
    """An elementwise result of one or two 8-bit tensors."""
    result = op.results[0]
    operands = leaves(result)
    if operands is None or data_operands(op) is None:
        return None
    if is_unsigned(result):
        conv.unsigned.add(result)
    known = {operand: array for operand in operands if (array := constant(operand)) is not None}
    if len(known) == len(operands):
        array = evaluate(result, known)
        return None if array is None else conv.constant(result, _spread(array, result))
    if len(operands) == 1:
        return _unary(conv, op, operands[0])
    if len(operands) == 2 and op.name == "tosa.rescale":
        return _binary(conv, op, *operands)
    return None


def _spread(array: IntArray, result: ir.Value) -> IntArray:
    return np.broadcast_to(array, result.type.shape)


def _levels(conv: Converter, value: ir.Value) -> IntArray:
    """The numbers that the stored values of an 8-bit tensor, from -128 on, stand for."""
    return _LEVELS + (128 if value in conv.unsigned else 0)


def _unary(conv: Converter, op: ir.Operation, operand: ir.Value) -> Activation | None:
    """A function of one value: nothing, a clamp, or a table."""
    x, name = conv.activation(operand), name_of(op)
    values = evaluate(op.results[0], {operand: _levels(conv, operand)})
    if values is None:
        return None
    lowered = 128 if op.results[0] in conv.unsigned else 0
    table = np.broadcast_to(values, _LEVELS.shape) - lowered
    low, high = int(table.min()), int(table.max())
    if (table != np.clip(_LEVELS, low, high)).any():
        return elementwise.lookup(conv.builder, name, x, table.astype(np.int8))
    limits = Clamp(low, high)
    return x if limits.trivial else elementwise.clamp(conv.builder, name, x, limits)


@dataclass(frozen=True)
class _Side:
    """One side of a sum or product: a function of one stored int8 value.

    ``values`` are its results from -128 on. It is ``slope * (x - zero)``, exactly where
    ``linear`` says so, nearly otherwise.
    """

    operand: Activation
    values: IntArray
    slope: float
    zero: int

    @staticmethod
    def of(operand: Activation, values: IntArray) -> _Side:
        slope = float(values[-1] - values[0]) / 255
        zero = round(-128 - values[0] / slope) if slope else 0
        return _Side(operand, values, slope, zero)

    @property
    def linear(self) -> bool:
        return bool((self.values == self.slope * (_LEVELS - self.zero)).all())

    @property
    def zero_point(self) -> int:
        """What is taken off the operand before `emit`."""
        return self.zero if self.linear else numerics.I8_MIN

    @property
    def dequantized(self) -> Dequantized:
        return Dequantized(self.operand, Quantization(np.float32(1), self.zero_point))

    def emit(self, b: Builder) -> Callable[[ir.Value], ir.Value]:
        """Code for the function, given an operand less `zero_point`, in i32."""
        if self.linear:
            slope = int(self.slope)
            return lambda x: arith.MulIOp(x, b.scalar(slope, b.i32)).result if slope != 1 else x
        entries = b.constant(self.values.astype(np.int32))

        def read(x: ir.Value) -> ir.Value:
            index = arith.IndexCastOp(ir.IndexType.get(b.context), x).result
            return tensor.ExtractOp(entries, [index]).result

        return read


def _binary(
    conv: Converter, op: ir.Operation, first: ir.Value, second: ir.Value
) -> Activation | None:
    """The rescaled sum, difference or product of two functions of one value each."""
    combined, rescale = op.operands[0], Rescale.read(op)
    inner = None if isinstance(combined, ir.BlockArgument) else combined.owner.operation
    if inner is None or inner.name not in _COMBINING or not rescale.uniform:
        return None
    shapes = [list(value.type.shape) for value in (first, second)]
    if list(combined.type.shape) not in shapes or str(combined.type.element_type) != "i32":
        return None
    if inner.name == "tosa.mul" and single(inner.operands[2]) != 0:
        return None
    operands = list(inner.operands)[:2]
    if leaves(operands[0]) == [second]:
        first, second = second, first
    if [leaves(value) for value in operands] != [[first], [second]]:
        return None
    sides = []
    for value, leaf in zip(operands, (first, second), strict=True):
        values = evaluate(value, {leaf: _levels(conv, leaf)})
        if values is None:
            return None
        sides.append(_Side.of(conv.activation(leaf), values))
    b, name, scaling = conv.builder, name_of(inner), rescale.scaling()
    kind, combining = _COMBINING[inner.name]
    if kind in ("add", "sub"):
        total = _fitted_sum(sides, scaling, subtract=kind == "sub")
        if total is not None:
            x, y = (
                Dequantized(side.operand, Quantization(np.float32(1), side.zero)) for side in sides
            )
            return elementwise.weighted_sum(
                b, name, x, y, total, scaling.clamp, subtract=kind == "sub"
            )
    emitters = [side.emit(b) for side in sides]

    def combine(p: ir.Value, q: ir.Value) -> ir.Value:
        return combining(emitters[0](p), emitters[1](q)).result

    x, y = (side.dequantized for side in sides)
    return elementwise.binary(b, name, kind, x, y, scaling, combine)


def _fitted_sum(sides: list[_Side], scaling: Scaling, *, subtract: bool) -> Sum | None:
    """One multiplication for each operand that equals the given arithmetic on all pairs."""
    if any(side.slope <= 0 or not -256 <= side.zero <= 256 for side in sides):
        return None
    sign = -1 if subtract else 1
    accumulators = sides[0].values[:, None] + sign * sides[1].values[None, :]
    multiplier, shift = int(scaling.multipliers), int(scaling.shifts)
    wanted = numerics.requantize(
        accumulators, multiplier, shift, scaling.zero_point, rounding=scaling.rounding
    )
    unit = np.ldexp(float(multiplier), -shift)
    zeros = (sides[0].zero, sides[1].zero, scaling.zero_point)
    total = fit_sum(
        (sides[0].slope * unit, sides[1].slope * unit),
        1.0,
        zeros,
        sign,
        wanted.astype(np.int64).reshape(-1),
    )
    ma, mb = total.weights
    p, q = (_LEVELS - side.zero for side in sides)
    got = numerics.requantize(
        ma * p[:, None] + sign * mb * q[None, :] + total.offset,
        total.multiplier,
        total.shift,
        total.zero_point,
        rounding=total.rounding,
    )
    return total if (got == wanted).all() else None
