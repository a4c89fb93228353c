"""SOFTMAX in the fixed-point arithmetic of the reference kernel (gemmlowp ``fixedpoint.h``).

With ``d = max - x`` the exponentials ``e[d]`` come from a table of 31-bit fractions.
Their sum, in units of ``2**-19``, is normalised to ``[1/2, 1)``; three Newton steps give
its reciprocal, and each result is a product of that and ``e[d]``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir
from tinymlir.frontends.canonical.builder import Builder, Clamp, Scaling
from tinymlir.frontends.canonical.softmax import entry, without_tail
from tinymlir.frontends.canonical.tensors import Activation
from tinymlir.numerics import IntArray, divide_by_power, high_product

from . import arithmetic
from .operands import CONVERT_AGAIN, Operands
from .registry import operator
from .schema import Node
from .values import Integer, Value

#: Integer bits of an exponent, and of a sum of exponentials.
_EXPONENT_BITS, _SUM_BITS = 5, 12
_ONE = 2**31 - 1


def exponentials(scale: np.float32, beta: float) -> npt.NDArray[np.int32]:
    """``exp(-scale * beta * d)`` for d in 0..255 in units of ``2**-31``; zero where too small."""
    fraction = 31 - _EXPONENT_BITS
    real = float(beta) * float(scale) * 2.0**fraction
    if real >= 2.0**30:
        # One step is beyond the range of the exponential.
        return np.append(np.int32(_ONE), np.zeros(255, np.int32))
    multiplier, exponent = arithmetic.quantize_multiplier(real)
    radius = math.floor((2**_EXPONENT_BITS - 1) * 2.0 ** (fraction - exponent))
    d = np.arange(256, dtype=np.int64)
    kept = d <= radius
    raw = high_product(np.where(kept, -d, 0) << max(exponent, 0), multiplier)
    return np.where(kept, _exponential(raw), 0).astype(np.int32)


def _exponential(a: IntArray) -> IntArray:
    """``exp(a)`` for ``a <= 0`` in units of ``2**-26``: a polynomial on [-1/4, 0), then factors."""
    fraction = 31 - _EXPONENT_BITS
    quarter = 1 << (fraction - 2)
    inner = (a & (quarter - 1)) - quarter
    rest = inner - a
    # Taylor's series around -1/8.
    x = (inner << _EXPONENT_BITS) + (1 << 28)
    square = high_product(x, x)
    cube, fourth = high_product(square, x), high_product(square, square)
    third = round(2**31 / 3)
    tail = divide_by_power(high_product(divide_by_power(fourth, 2) + cube, third) + square, 1)
    constant = round(math.exp(-1 / 8) * 2**31)
    result = constant + high_product(constant, x + tail)
    for power in range(-2, _EXPONENT_BITS):
        factor = round(math.exp(-(2.0**power)) * 2**31)
        bit = (rest >> (fraction + power)) & 1
        result = np.where(bit == 1, high_product(result, factor), result)
    return np.where(a == 0, _ONE, result)


@operator("SOFTMAX", note="int8, over the last dimension")
def softmax(imp: Operands, node: Node) -> Value:
    x, target = imp.activation(node), imp.output(node)
    if not x.shape:
        imp.fail(node, "the input has no dimensions", CONVERT_AGAIN)
    if float(target.scale) != 1 / 256 or target.zero_point != numerics.I8_MIN:
        imp.fail(
            node,
            f"the result has scale {target.scale} and zero point {target.zero_point}",
            "the reference takes 1/256 and -128 only; convert the network again",
        )
    table = exponentials(x.quantization.scale, node.options["Beta"])
    return Integer(_layer(imp.builder, node.name, x.activation, table), target)


def _layer(b: Builder, name: str, x: Activation, table: npt.NDArray[np.int32]) -> Activation:
    """Softmax over the last logical dimension of ``x``."""
    last = set(x.layout.dims[-1])
    # One leading dimension of size one, so that the maximum and the sum have a dimension.
    shape = (1, *(atom.size for atom in x.layout.order))
    reduced = [i + 1 for i, atom in enumerate(x.layout.order) if atom in last]
    kept = [i for i in range(len(shape)) if i not in reduced]
    rows, everything = [shape[i] for i in kept], list(range(len(shape)))
    length = math.prod(shape[i] for i in reduced)
    with b.layer(name, "softmax"):
        value = b.reshape(x.value, shape)
        entries = b.constant(without_tail(table))
        top = b.generic(
            [(value, everything)],
            b.fill(rows, numerics.I8_MIN, b.i32),
            lambda q, greatest: arith.maxsi(greatest, arith.extsi(b.i32, q)),
            reduced=reduced,
        )

        def exponential(q: ir.Value, greatest: ir.Value) -> ir.Value:
            return entry(b, entries, arith.subi(greatest, arith.extsi(b.i32, q)))

        def accumulate(q: ir.Value, greatest: ir.Value, acc: ir.Value) -> ir.Value:
            half = b.scalar(1 << (_SUM_BITS - 1), b.i32)
            rounded = arith.addi(exponential(q, greatest), half)
            return arith.addi(acc, arith.shrui(rounded, b.scalar(_SUM_BITS, b.i32)))

        total = b.generic(
            [(value, everything), (top, kept)],
            b.fill(rows, 0, b.i32),
            accumulate,
            reduced=reduced,
        )
        loops = list(range(len(kept)))
        zeros = b.generic([(total, loops)], b.empty(rows, b.i32), lambda t, _: _leading_zeros(b, t))
        inverse = b.generic(
            [(total, loops), (zeros, loops)],
            b.empty(rows, b.i32),
            lambda t, z, _: _reciprocal(b, t, z, length),
        )
        scaling = Scaling(
            np.ones(1, np.int32), np.zeros(1, np.int32), numerics.I8_MIN, Clamp(), "double"
        )

        def quotient(
            q: ir.Value, greatest: ir.Value, factor: ir.Value, z: ir.Value, _: ir.Value
        ) -> ir.Value:
            # 31 for the product, 31 - 8 for the result, 12 - z for the sum's own exponent.
            shift = arith.subi(b.scalar(62 + _SUM_BITS - 8, b.i32), z)
            if length >= _FAINT:
                shift = arith.minsi(shift, b.scalar(62, b.i32))
            return b.requantize_op(exponential(q, greatest), factor, shift, scaling)

        operands = [(value, everything), (top, kept), (inverse, kept), (zeros, kept)]
        result = b.finish(b.generic(operands, b.empty(shape, b.i8), quotient))
    return Activation(b.reshape(result, x.value.type.shape), x.layout)


#: From so many elements on, all results may be too small for the reference's shift; they are zero.
_FAINT = 512


def _leading_zeros(b: Builder, value: ir.Value) -> ir.Value:
    """How many bits of a positive number are zero above the highest one."""
    count = b.scalar(0, b.i32)
    for step in (16, 8, 4, 2, 1):
        small = arith.cmpi(arith.CmpIPredicate.ult, value, b.scalar(1 << (32 - step), b.i32))
        width = arith.select(small, b.scalar(step, b.i32), b.scalar(0, b.i32))
        value, count = arith.shli(value, width), arith.addi(count, width)
    return count


def _reciprocal(b: Builder, total: ir.Value, zeros: ir.Value, length: int) -> ir.Value:
    """``1 / (2 * m)`` in units of ``2**-31``, m being ``total`` normalised to [1/2, 1).

    Newton's steps, in units of ``2**-29``, from the line 48/17 - 32/17 * m.
    """

    def product(x: ir.Value, y: ir.Value) -> ir.Value:
        """gemmlowp's high product: rounded, doubled."""
        low, high = arith.mulsi_extended(x, y)
        doubled = arith.ori(
            arith.shli(high, b.scalar(1, b.i32)), arith.shrui(low, b.scalar(31, b.i32))
        )
        half = arith.andi(arith.shrui(low, b.scalar(30, b.i32)), b.scalar(1, b.i32))
        return arith.addi(doubled, half)

    one = 1 << 29
    m = arith.shrui(arith.shli(total, zeros), b.scalar(1, b.i32))
    x = arith.addi(
        product(m, b.scalar(round(-32 / 17 * one), b.i32)), b.scalar(round(48 / 17 * one), b.i32)
    )
    for _ in range(3):
        error = arith.subi(b.scalar(one, b.i32), product(m, x))
        x = arith.addi(x, arith.shli(product(x, error), b.scalar(2, b.i32)))
    exceeds = arith.cmpi(arith.CmpIPredicate.sge, x, b.scalar(2 * one, b.i32))
    x = arith.select(exceeds, b.scalar(_ONE, b.i32), arith.shli(x, b.scalar(1, b.i32)))
    if length >= _FAINT:
        faint = arith.cmpi(arith.CmpIPredicate.ult, zeros, b.scalar(_SUM_BITS - 8, b.i32))
        x = arith.select(faint, b.scalar(0, b.i32), x)
    return x
