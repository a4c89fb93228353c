"""Sums, products and functions of one variable."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, tensor
from tinymlir.frontends.canonical import elementwise, movement
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.fitting import fit_sum
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation, Dequantized, Quantization

from . import arithmetic
from .operands import CONVERT_AGAIN, Operands
from .registry import operator
from .rounding import double_rounding
from .schema import Node
from .values import Integer, Value

#: Fractional bits that sums gain before they are scaled.
_SUM_BITS = 20


@operator("ADD", note="int8, broadcasting, constant operands")
def add(imp: Operands, node: Node) -> Value:
    return _sum(imp, node, subtract=False)


@operator("SUB", note="int8, broadcasting, constant operands")
def subtract(imp: Operands, node: Node) -> Value:
    return _sum(imp, node, subtract=True)


def _sum(imp: Operands, node: Node, *, subtract: bool) -> Integer:
    x, y = _pair(imp, node)
    target = imp.output(node)
    clamp = imp.clamp(node, target)
    xq, yq = x.quantization, y.quantization
    factors = arithmetic.sum_factors(xq, yq, target)
    wanted = arithmetic.sums(xq, yq, target, subtract=subtract)
    total = fit_sum(
        (float(xq.scale), float(yq.scale)),
        float(target.scale),
        (xq.zero_point, yq.zero_point, target.zero_point),
        -1 if subtract else 1,
        wanted,
    )
    if total.mismatches == 0:
        result = elementwise.weighted_sum(
            imp.builder, node.name, x, y, total, clamp, subtract=subtract
        )
        return Integer(result, target)
    # Step by step as the reference does it, the scaled operands from tables.
    scaling = double_rounding(factors[2], target.zero_point, clamp)
    sign = arith.SubIOp if subtract else arith.AddIOp
    scaled = [_scaled_operand(imp, q, factor) for q, factor in ((xq, factors[0]), (yq, factors[1]))]

    def combine(p: ir.Value, q: ir.Value) -> ir.Value:
        return sign(scaled[0](p), scaled[1](q)).result

    op = "sub" if subtract else "add"
    return Integer(elementwise.binary(imp.builder, node.name, op, x, y, scaling, combine), target)


def _scaled_operand(
    imp: Operands, quantization: Quantization, factor: float
) -> Callable[[ir.Value], ir.Value]:
    """An operand less its zero point, times ``2**20 * factor`` with the reference's rounding."""
    b = imp.builder
    if factor == 0.5:
        return lambda value: arith.ShLIOp(value, b.scalar(_SUM_BITS - 1, b.i32)).result
    zero_point = quantization.zero_point
    values = (arithmetic.LEVELS - zero_point) << _SUM_BITS
    table = arithmetic.scaled(values, arithmetic.quantize_multiplier(factor)).astype(np.int32)

    def read(value: ir.Value) -> ir.Value:
        place = arith.AddIOp(value, b.scalar(zero_point - numerics.I8_MIN, b.i32)).result
        index = arith.IndexCastOp(ir.IndexType.get(b.context), place).result
        return tensor.ExtractOp(entries, [index]).result

    entries = b.constant(table)
    return read


@operator("MUL", note="int8, broadcasting, constant operands")
def multiply(imp: Operands, node: Node) -> Value:
    x, y = _pair(imp, node)
    target = imp.output(node)
    # In float32, as the kernel prepares it.
    real = x.quantization.scale * y.quantization.scale / target.scale
    scaling = double_rounding(float(real), target.zero_point, imp.clamp(node, target))
    result = elementwise.binary(
        imp.builder, node.name, "mul", x, y, scaling, lambda p, q: arith.MulIOp(p, q).result
    )
    return Integer(result, target)


def _pair(imp: Operands, node: Node) -> tuple[Dequantized, Dequantized]:
    """Both operands, of which one has the shape of the result."""
    constant = [isinstance(imp.value(node, i), np.ndarray) for i in (0, 1)]
    pair = [imp.activation(node, i) for i in (0, 1)]
    for i in (0, 1):
        if constant[i] and not constant[1 - i]:
            pair[i] = imp.constant_activation(node, i, like=pair[1 - i].activation.layout)
    try:
        shape = np.broadcast_shapes(pair[0].shape, pair[1].shape)
    except ValueError:
        shapes = " and ".join(str(list(x.shape)) for x in pair)
        imp.fail(node, f"operands of the shapes {shapes} do not fit", CONVERT_AGAIN)
    if math.prod(shape) > max(math.prod(x.shape) for x in pair):
        pair[0] = _repeated(imp, node, pair[0], shape)
    return pair[0].operand, pair[1].operand


def _repeated(imp: Operands, node: Node, x: Integer, shape: tuple[int, ...]) -> Integer:
    """``x`` broadcast to ``shape`` in memory: neither operand has the result's shape."""
    layout = x.activation.layout
    ranked = Layout(((),) * (len(shape) - layout.rank) + layout.dims, layout.order)
    places = [
        range(n) if size == n else [0] * n for size, n in zip(ranked.shape, shape, strict=True)
    ]
    source = Activation(x.activation.value, ranked)
    whole = movement.select(imp.builder, f"{node.name}_repeat", "repeat", source, places)
    return Integer(whole, x.quantization)


def tabulated(
    imp: Operands,
    node: Node,
    x: Integer,
    table: npt.NDArray[np.int8],
    target: Quantization,
    *,
    unsigned: bool = False,
) -> Integer:
    """The function of one int8 value that ``table`` holds, as the cheapest layer.

    Args:
        unsigned: whether the result is a uint8 one, carried as int8.
    """
    b, activation = imp.builder, x.activation
    low, high = int(table.min()), int(table.max())
    if (table != np.clip(arithmetic.LEVELS, low, high)).any():
        activation = elementwise.lookup(b, node.name, activation, table)
    elif not Clamp(low, high).trivial:
        activation = elementwise.clamp(b, node.name, activation, Clamp(low, high))
    return Integer(activation, target, unsigned)


_Table = Callable[[Quantization, Quantization], npt.NDArray[np.int8]]


def _unary(imp: Operands, node: Node, table: _Table) -> Integer:
    x, target = imp.activation(node), imp.output(node)
    return tabulated(imp, node, x, table(x.quantization, target), target)


@operator(*arithmetic.RELU_LIMITS, note="int8; free after most layers")
def relu(imp: Operands, node: Node) -> Value:
    low, high = arithmetic.RELU_LIMITS[node.op]
    return _unary(imp, node, lambda x, y: arithmetic.relu(x, y, low, high))


@operator("LEAKY_RELU", note="int8, as a table of 256 bytes")
def leaky_relu(imp: Operands, node: Node) -> Value:
    alpha = node.options["Alpha"]
    return _unary(imp, node, lambda x, y: arithmetic.leaky_relu(x, y, alpha))


@operator("HARD_SWISH", note="int8, as a table of 256 bytes")
def hard_swish(imp: Operands, node: Node) -> Value:
    return _unary(imp, node, arithmetic.hard_swish)


@operator("ABS", note="int8, as a table of 256 bytes")
def absolute(imp: Operands, node: Node) -> Value:
    return _unary(imp, node, arithmetic.absolute)


@operator(*arithmetic.FUNCTIONS, note="int8, as a table of 256 bytes")
def function(imp: Operands, node: Node) -> Value:
    apply = arithmetic.FUNCTIONS[node.op]
    return _unary(imp, node, lambda x, y: arithmetic.from_float(x, y, apply))


@operator("GELU", note="int8, as a table of 256 bytes")
def gelu(imp: Operands, node: Node) -> Value:
    apply = arithmetic.approximate_gelu if node.options["Approximate"] else arithmetic.gelu
    return _unary(imp, node, lambda x, y: arithmetic.from_float(x, y, apply))


@operator("MAXIMUM", "MINIMUM", note="int8 of one scale, broadcasting, constant operands")
def extremum(imp: Operands, node: Node) -> Value:
    x, y = _pair(imp, node)
    target = imp.output(node)
    if not x.quantization == y.quantization == target:
        imp.fail(node, "operands and result differ in scale or zero point", CONVERT_AGAIN)
    pick = arith.MaxSIOp if node.op == "MAXIMUM" else arith.MinSIOp
    op = node.op.lower()
    result = elementwise.pairwise(
        imp.builder, node.name, op, x.activation, y.activation, lambda p, q: pick(p, q).result
    )
    return Integer(result, target)


@operator("PRELU", note="int8, broadcasting, constant slopes")
def prelu(imp: Operands, node: Node) -> Value:
    x, slope = _pair(imp, node)
    target, b = imp.output(node), imp.builder
    # In float32, as the kernel prepares them.
    identity = x.quantization.scale / target.scale
    sloped = x.quantization.scale * slope.quantization.scale / target.scale
    scalings = [
        double_rounding(float(real), target.zero_point, Clamp()) for real in (identity, sloped)
    ]
    factors = [elementwise.scalars(b, scaling) for scaling in scalings]

    def body(p: ir.Value, q: ir.Value) -> ir.Value:
        value = elementwise.widened(b, p, x.quantization.zero_point)
        product = arith.MulIOp(value, elementwise.widened(b, q, slope.quantization.zero_point))
        kept, bent = (
            b.requantize_op(acc, *factor, scaling)
            for acc, factor, scaling in zip((value, product.result), factors, scalings, strict=True)
        )
        positive = arith.CmpIOp(arith.CmpIPredicate.sge, value, b.scalar(0, b.i32)).result
        return arith.SelectOp(positive, kept, bent).result

    result = elementwise.pairwise(b, node.name, "prelu", x.activation, slope.activation, body)
    return Integer(result, target)
