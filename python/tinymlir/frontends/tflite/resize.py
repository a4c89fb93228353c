"""Images at another size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymlir.bindings import arith, ir, linalg, tensor
from tinymlir.frontends.canonical import elementwise, movement
from tinymlir.frontends.canonical.builder import Builder, Clamp, Scaling
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import MAX_DIMENSION, Activation, row_major
from tinymlir.numerics import IntArray, round_away

from .operands import CONVERT_AGAIN, Operands
from .registry import operator
from .schema import Node
from .values import Integer, Value


def _operands(imp: Operands, node: Node) -> tuple[Integer, list[int]]:
    """The image, and its rows and columns afterwards."""
    x, size = imp.activation(node), imp.integers(node, 1)
    if (
        len(x.shape) != 4
        or x.shape[0] != 1
        or len(size) != 2
        or min(size) < 1
        or max(size) > MAX_DIMENSION
    ):
        imp.fail(node, f"{list(x.shape)} cannot be resized to {size}", CONVERT_AGAIN)
    return x, size


@operator("RESIZE_NEAREST_NEIGHBOR", note="int8")
def resize_nearest(imp: Operands, node: Node) -> Value:
    x, size = _operands(imp, node)
    places: list[Sequence[int]] = [range(n) for n in x.shape]
    for axis, result in zip((1, 2), size, strict=True):
        places[axis] = _nearest(x.shape[axis], result, node.options)
    whole = all(list(p) == list(range(n)) for p, n in zip(places, x.shape, strict=True))
    y = x.activation
    if not whole:
        y = movement.select(imp.builder, node.name, "resize", y, places)
    return Integer(y, imp.output(node))


def _nearest(size: int, result: int, options: dict[str, bool]) -> list[int]:
    """The input index for each place of the result, in the reference's float32."""
    aligned = 1 if options["AlignCorners"] and result > 1 else 0
    scale = np.float32(size - aligned) / np.float32(result - aligned)
    offset = np.float32(0.5 if options["HalfPixelCenters"] else 0)
    places = (np.arange(result).astype(np.float32) + offset) * scale
    rounded = round_away(places) if options["AlignCorners"] else np.floor(places)
    return np.clip(rounded, 0, size - 1).astype(np.int64).tolist()


#: Fractional bits of a place between two pixels.
_PLACE_BITS = 10
_UNIT = 1 << _PLACE_BITS


@operator("RESIZE_BILINEAR", note="int8")
def resize_bilinear(imp: Operands, node: Node) -> Value:
    x, size = _operands(imp, node)
    target = imp.output(node)
    if target != x.quantization:
        imp.fail(node, "operand and result differ in scale or zero point", CONVERT_AGAIN)
    axes = [_interpolated(n, m, node.options) for n, m in zip(x.shape[1:3], size, strict=True)]
    return Integer(_blended(imp.builder, node.name, x.activation, axes), target)


def _interpolated(size: int, result: int, options: dict[str, bool]) -> IntArray:
    """For each place of the result both neighbours and the weight of the second, in 1024ths.

    Weights may be negative or above one at the borders, where both neighbours are the same.
    """
    aligned = 1 if options["AlignCorners"] and result > 1 else 0
    steps, spans = result - aligned, size - aligned
    scale = (_UNIT * spans + steps // 2) // steps
    places = np.arange(result, dtype=np.int64) * scale
    if options["HalfPixelCenters"]:
        places += scale // 2 - _UNIT // 2
    first = np.maximum(places, 0) // _UNIT
    # Quotients of negative places are truncated.
    second = np.minimum(np.maximum(places + _UNIT - 1, 0) // _UNIT, size - 1)
    return np.stack([first, second, places - first * _UNIT], axis=1)


def _blended(b: Builder, name: str, x: Activation, axes: Sequence[IntArray]) -> Activation:
    """Four neighbours weighted and rounded once, ties away from zero."""
    x = row_major(b, name, x)
    value, channels = b.reshape(x.value, x.layout.shape[1:]), x.layout.shape[3]
    shape = (len(axes[0]), len(axes[1]), channels)
    index = ir.IndexType.get(b.context)
    # Slightly more than an exact power of two takes ties away from zero.
    bits = 30
    scaling = Scaling(
        np.array((1 << bits) + 1, np.int32),
        np.array(2 * _PLACE_BITS + bits, np.int32),
        0,
        Clamp(),
        "nearest_up",
    )
    with b.layer(name, "resize"):
        tables = [b.constant(np.ascontiguousarray(axis, np.int32)) for axis in axes]

        def known(axis: int, column: int) -> ir.Value:
            place = linalg.IndexOp(axis).result
            return tensor.ExtractOp(tables[axis], [place, b.scalar(column, index)]).result

        def body(_: ir.Value) -> ir.Value:
            channel = linalg.IndexOp(2).result
            row, column = (
                [arith.IndexCastOp(index, known(axis, i)).result for i in (0, 1)] for axis in (0, 1)
            )

            def between(p: ir.Value, q: ir.Value, weight: ir.Value) -> ir.Value:
                rest = arith.SubIOp(b.scalar(_UNIT, b.i32), weight).result
                return arith.AddIOp(
                    arith.MulIOp(p, rest).result, arith.MulIOp(q, weight).result
                ).result

            def pixel(i: int, j: int) -> ir.Value:
                element = tensor.ExtractOp(value, [row[i], column[j], channel]).result
                return arith.ExtSIOp(b.i32, element).result

            down, across = known(0, 2), known(1, 2)
            sides = [between(pixel(0, j), pixel(1, j), down) for j in (0, 1)]
            multiplier, shift = elementwise.scalars(b, scaling)
            return b.requantize_op(between(sides[0], sides[1], across), multiplier, shift, scaling)

        result = b.finish(b.generic([], b.empty(shape, b.i8), body))
    return Activation(b.reshape(result, (1, *shape)), Layout.of((1, *shape)))
