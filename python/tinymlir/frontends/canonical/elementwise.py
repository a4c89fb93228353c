"""Layers that work element by element: rescaling, clamping, sums and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, tensor
from tinymlir.numerics import IntArray

from .builder import Builder, Clamp, Scaling
from .fitting import Sum, fit_sum
from .float_sum import SumReference, emit_float_sum, fit_float_sum
from .layout import Layout, refine
from .tensors import (
    Activation,
    Dequantized,
    Quantization,
    arrange,
    element_count,
    natural_shape,
    row_major,
)


def widened(b: Builder, value: ir.Value, zero_point: int) -> ir.Value:
    """``value - zero_point`` in i32."""
    wide = arith.ExtSIOp(b.i32, value).result
    return arith.SubIOp(wide, b.scalar(zero_point, b.i32)).result if zero_point else wide


def _weighted(b: Builder, value: ir.Value, weight: int) -> ir.Value:
    return arith.MulIOp(value, b.scalar(weight, b.i32)).result if weight != 1 else value


def tabulate(
    b: Builder,
    name: str,
    x: Activation,
    table: npt.NDArray[np.int8],
    source: Quantization | None = None,
    target: Quantization | None = None,
) -> Activation:
    """``table[x + 128]`` as the cheapest layer: none, a clamp, a requantization or a lookup.

    Args:
        source, target: where the table changes scale and zero point, perhaps with limits:
            the old and the new ones.
    """
    limits = Clamp(int(table.min()), int(table.max()))
    levels = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1)
    if np.array_equal(table, np.clip(levels, limits.low, limits.high)):
        return x if limits.trivial else clamp(b, name, x, limits)
    if source is None or target is None:
        return lookup(b, name, x, table)
    steps, zero_point = levels - source.zero_point, target.zero_point

    def reference(acc: IntArray) -> npt.NDArray[np.float32]:
        return np.rint(acc.astype(np.float32) * source.scale / target.scale)

    scale = float(source.scale) / float(target.scale)
    scaling = Scaling.of(scale, zero_point, limits, steps[0], steps[-1], reference)
    fitted = numerics.requantize(
        steps,
        scaling.multipliers,
        scaling.shifts,
        zero_point,
        limits.low,
        limits.high,
        scaling.rounding,
    )
    if not np.array_equal(fitted, table):
        return lookup(b, name, x, table)
    with b.layer(name, "requantize"):
        multiplier, shift = scalars(b, scaling)

        def body(value: ir.Value, _: ir.Value) -> ir.Value:
            acc = widened(b, value, source.zero_point)
            return b.requantize_op(acc, multiplier, shift, scaling)

        value = b.finish(_unary(b, x.value, body))
    return Activation(value, x.layout)


def _unary(b: Builder, value: ir.Value, body: Callable[..., ir.Value]) -> ir.Value:
    shape = value.type.shape
    return b.generic([(value, range(len(shape)))], b.empty(shape, b.i8), body)


def clamp(b: Builder, name: str, x: Activation, limits: Clamp) -> Activation:
    """``x`` limited to a range of int8 values."""
    with b.layer(name, "clamp"):
        low, high = b.scalar(limits.low, b.i8), b.scalar(limits.high, b.i8)

        def body(value: ir.Value, _: ir.Value) -> ir.Value:
            return arith.MinSIOp(arith.MaxSIOp(value, low).result, high).result

        value = b.finish(_unary(b, x.value, body))
    return Activation(value, x.layout)


def add(
    b: Builder,
    name: str,
    x: Dequantized,
    y: Dequantized,
    target: Quantization,
    clamp: Clamp,
    reference: SumReference,
    *,
    subtract: bool = False,
) -> Activation:
    """``x + y`` (or ``x - y``); either may be broadcast.

    Args:
        reference: what all 65536 pairs of operands shall give.

    Raises:
        ValueError: the shapes do not fit.
    """
    xq, yq = x.quantization, y.quantization
    total = fit_sum(
        (float(xq.scale), float(yq.scale)),
        float(target.scale),
        (xq.zero_point, yq.zero_point, target.zero_point),
        -1 if subtract else 1,
        reference.results.astype(np.int64).reshape(-1),
    )
    close = total.mismatches and not total.exceptions
    exact = fit_float_sum(reference) if close else None
    if exact is None:
        return weighted_sum(b, name, x, y, total, clamp, subtract=subtract)

    def combine(p: ir.Value, q: ir.Value) -> ir.Value:
        return emit_float_sum(b, exact, clamp, widened(b, p, 0), widened(b, q, 0))

    return pairwise(b, name, "sub" if subtract else "add", x.activation, y.activation, combine)


def weighted_sum(
    b: Builder,
    name: str,
    x: Dequantized,
    y: Dequantized,
    total: Sum,
    clamp: Clamp,
    *,
    subtract: bool = False,
) -> Activation:
    """What ``total`` says. Raises `ValueError` as `add` does."""
    multiplier, shift = np.int32(total.multiplier), np.int32(total.shift)
    scaling = Scaling(
        multiplier.reshape(()), shift.reshape(()), total.zero_point, clamp, total.rounding
    )
    mx, my = total.weights
    sign = arith.SubIOp if subtract else arith.AddIOp

    factors = scalars(b, scaling)

    def body(p: ir.Value, q: ir.Value) -> ir.Value:
        left, right = (
            widened(b, p, x.quantization.zero_point),
            widened(b, q, y.quantization.zero_point),
        )
        acc = sign(_weighted(b, left, mx), _weighted(b, right, my)).result
        if total.offset:
            acc = arith.AddIOp(acc, b.scalar(total.offset, b.i32)).result
        result = b.requantize_op(acc, *factors, scaling)
        for at, known in total.exceptions:
            there = arith.cmpi(arith.CmpIPredicate.eq, acc, b.scalar(at, b.i32))
            limited = min(max(known, clamp.low), clamp.high)
            result = arith.select(there, b.scalar(limited, b.i8), result)
        return result

    op = "sub" if subtract else "add"
    return pairwise(b, name, op, x.activation, y.activation, body)


def add_constant(
    b: Builder,
    name: str,
    x: Dequantized,
    addend: npt.NDArray[np.float64],
    target: Quantization,
    clamp: Clamp,
    *,
    negate: bool = False,
) -> Activation:
    """``x + addend`` (``addend - x`` if ``negate``) for a real constant that broadcasts to ``x``.

    The accumulator is ``m * (x - zero_point) + k``; ``m`` is the greatest power
    of two at which it fits i32, so ``k`` is exact to a small part of a step.

    Raises:
        ValueError: the shapes do not fit.
    """
    left, xq = x.activation, x.quantization
    steps = addend / np.float64(xq.scale)
    bound = 256 + float(np.abs(steps).max(initial=0))
    exponent = 30 - int(np.ceil(np.log2(bound)))
    if exponent < 0:
        raise ValueError("the constant is too large for the scale of the other operand")
    weight = 1 << exponent
    k = np.rint(steps * weight).astype(np.int64)
    sign = -1 if negate else 1
    k -= sign * weight * xq.zero_point
    scale = float(xq.scale) / float(target.scale) / weight
    scaling = Scaling.of(scale, target.zero_point, clamp, -(2**31), 2**31 - 1)
    with b.layer(name, "add"):
        multiplier, shift = scalars(b, scaling)
        constant, shape, loops = _constant_operand(b, left.layout, k.astype(np.int32))

        def body(value: ir.Value, offset: ir.Value, _: ir.Value) -> ir.Value:
            wide = _weighted(b, arith.ExtSIOp(b.i32, value).result, sign * weight)
            return b.requantize_op(arith.AddIOp(wide, offset).result, multiplier, shift, scaling)

        source = b.reshape(left.value, shape)
        init = b.empty(shape, b.i8)
        value = b.generic([(source, range(len(shape))), (constant, loops)], init, body)
        b.finish(value)
    return Activation(b.reshape(value, left.value.type.shape), left.layout)


def lookup(b: Builder, name: str, x: Activation, table: npt.NDArray[np.int8]) -> Activation:
    """``table[x + 128]``: any function of one int8 value."""
    with b.layer(name, "lookup"):
        entries = b.constant(table)

        def body(value: ir.Value, _: ir.Value) -> ir.Value:
            place = widened(b, value, numerics.I8_MIN)
            index = arith.IndexCastOp(ir.IndexType.get(b.context), place).result
            return tensor.ExtractOp(entries, [index]).result

        value = b.finish(_unary(b, x.value, body))
    return Activation(value, x.layout)


def scalars(b: Builder, scaling: Scaling) -> tuple[ir.Value, ir.Value]:
    return (
        b.scalar(scaling.multipliers.flat[0], b.i32),
        b.scalar(scaling.shifts.flat[0], b.i32),
    )


def binary(
    b: Builder,
    name: str,
    op: str,
    x: Dequantized,
    y: Dequantized,
    scaling: Scaling,
    combine: Callable[[ir.Value, ir.Value], ir.Value],
) -> Activation:
    """One i8 result from two i8 operands, of which one may be broadcast.

    Args:
        op: the kind of layer.
        combine: the accumulator from both operands less their zero points, in i32.

    Raises:
        ValueError: the shapes do not fit.
    """
    xq, yq = x.quantization, y.quantization
    multiplier, shift = scalars(b, scaling)

    def body(p: ir.Value, q: ir.Value) -> ir.Value:
        acc = combine(widened(b, p, xq.zero_point), widened(b, q, yq.zero_point))
        return b.requantize_op(acc, multiplier, shift, scaling)

    return pairwise(b, name, op, x.activation, y.activation, body)


def pairwise(
    b: Builder,
    name: str,
    op: str,
    x: Activation,
    y: Activation,
    body: Callable[[ir.Value, ir.Value], ir.Value],
) -> Activation:
    """One i8 result from two i8 operands, of which one may be broadcast.

    Args:
        op: the kind of layer.
        body: the result from one element of each.

    Raises:
        ValueError: the shapes do not fit.
    """
    rank = max(x.layout.rank, y.layout.rank)
    left, right = _with_rank(x, rank), _with_rank(y, rank)
    swapped = element_count(left.layout) < element_count(right.layout)
    whole, part = (right, left) if swapped else (left, right)
    _check_broadcast(whole.layout.shape, part.layout.shape)
    refined = refine(whole.layout, part.layout)
    if refined is None:
        whole, part = row_major(b, name, whole), row_major(b, name, part)
        refined = refine(whole.layout, part.layout)
        assert refined is not None
    whole, part = Activation(whole.value, refined[0]), Activation(part.value, refined[1])
    present = set(part.layout.order)
    part = arrange(b, name, part, tuple(a for a in whole.layout.order if a in present))
    shape, loops = _iteration(whole.layout, part.layout.shape)
    with b.layer(name, op):
        sources = (
            (b.reshape(whole.value, shape), range(len(shape))),
            (b.reshape(part.value, [shape[i] for i in loops]), loops),
        )
        init = b.empty(shape, b.i8)
        value = b.generic(sources, init, lambda p, q, _: body(q, p) if swapped else body(p, q))
        b.finish(value)
    return Activation(value, whole.layout)


def _with_rank(x: Activation, rank: int) -> Activation:
    """Leading dimensions of size one added, as broadcasting does."""
    missing = rank - x.layout.rank
    return Activation(x.value, Layout(((),) * missing + x.layout.dims, x.layout.order))


def _check_broadcast(whole: Sequence[int], part: Sequence[int]) -> None:
    if any(n not in (1, m) for m, n in zip(whole, part, strict=True)):
        raise ValueError(
            f"of shapes {list(whole)} and {list(part)} neither operand has the result's shape"
        )


def _iteration(whole: Layout, part: Sequence[int]) -> tuple[tuple[int, ...], list[int]]:
    """The physical shape to iterate over, and which of its dimensions ``part`` has."""
    if part == whole.shape:
        shape = natural_shape(whole)
        return shape, list(range(len(shape)))
    order, shape = whole.dim_order(), natural_shape(whole)
    if order is not None:
        loops = [i for i, d in enumerate(order) if part[d] > 1]
    else:
        present = {a for atoms, n in zip(whole.dims, part, strict=True) if n > 1 for a in atoms}
        loops = [i for i, atom in enumerate(whole.order) if atom in present]
    # A single number is read through a dimension of size one.
    return (shape, loops) if loops else ((1, *shape), [0])


def _constant_operand(
    b: Builder, whole: Layout, array: npt.NDArray[np.int32]
) -> tuple[ir.Value, tuple[int, ...], list[int]]:
    """A constant that broadcasts to ``whole``, arranged as its buffer is.

    Returns:
        The value, the shape to iterate over and the loops that index the value.
    """
    if array.ndim > whole.rank:
        raise ValueError("the constant has more dimensions than the other operand")
    array = array.reshape((1,) * (whole.rank - array.ndim) + array.shape)
    _check_broadcast(whole.shape, array.shape)
    shape, loops = _iteration(whole, array.shape)
    present_dims = [d for d in range(whole.rank) if array.shape[d] > 1]
    logical = [atom for d in present_dims for atom in whole.dims[d]]
    present = set(logical)
    physical = [logical.index(atom) for atom in whole.order if atom in present]
    arranged = array.reshape([atom.size for atom in logical]).transpose(physical)
    return b.constant(arranged.reshape([shape[i] for i in loops])), shape, loops
