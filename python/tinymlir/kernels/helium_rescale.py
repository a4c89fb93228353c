"""Requantization of four accumulators at a time, equal to the scalar one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, ir, llvm
from tinymlir.kernels import vectors
from tinymlir.kernels.emitter import Emitter
from tinymlir.kernels.requantization import Requantization
from tinymlir.linalg_info import constant_scalar
from tinymlir.line_fit import Line, split_offsets
from tinymlir.numerics import IntArray

#: Sums below this leave room for what rounding adds.
_SMALL = 1 << 30


@dataclass(frozen=True)
class HeliumRescale:
    """``emit(sums, elements)`` gives the i32 results, not limited, of four accumulators.

    ``biases`` (one for each channel) are added to the accumulators before. ``tables`` are
    further i32 constants, one element for each channel; ``elements`` holds theirs.
    """

    biases: IntArray
    tables: tuple[IntArray, ...]
    emit: Callable[[ir.Value, Sequence[ir.Value]], ir.Value]
    least: int
    most: int


def helium_rescale(
    requantization: Requantization, low: IntArray, high: IntArray, has_float: bool
) -> HeliumRescale | None:
    """The vector form; None where there is none, or none that is cheaper than the scalar one.

    Args:
        low, high: the accumulators that occur, for each channel.
        has_float: whether the core has vectors of float32.
    """
    # Sums that overflow wrap around, to anywhere.
    wraps = (low < numerics.I32_MIN) | (high > numerics.I32_MAX)
    low, high = np.where(wraps, numerics.I32_MIN, low), np.where(wraps, numerics.I32_MAX, high)
    constants = [np.broadcast_to(c.reshape(-1), low.shape) for c in requantization.constants]
    if requantization.op.name == "tiny.rescale":
        multipliers, offsets = (c.astype(np.int64) for c in constants)
        offsets = offsets << (64 - requantization.op.operands[2].type.width)
        line = Line(multipliers, offsets, requantization.attribute("shift"))
        return _line(requantization, line, low, high)
    multipliers, shifts = (c.astype(np.int64) for c in constants)
    rounding = requantization.op.attributes["rounding"].value
    if rounding == "float32" and has_float:
        return _float32(
            requantization, np.ldexp(multipliers.astype(np.float64), -shifts), low, high
        )
    if rounding == "nearest_up" and (shifts == shifts[0]).all() and shifts[0] > 32:
        zero_point, shift = requantization.attribute("zero_point"), int(shifts[0])
        nearest = np.full_like(multipliers, (zero_point << shift) + (1 << (shift - 1)))
        return _line(requantization, Line(multipliers, nearest, shift), low, high)
    if rounding == "double":
        return _double(requantization, multipliers, shifts, low, high)
    return None


def _line(
    requantization: Requantization, line: Line, low: IntArray, high: IntArray
) -> HeliumRescale | None:
    limits = requantization.attribute("min"), requantization.attribute("max")
    split = split_offsets(line, low, high, limits)
    if split is None:
        return None
    biases, words = split
    # An addition takes one word for all from a core register.
    alike = bool((words == words[0]).all())

    def emit(sums: ir.Value, elements: Sequence[ir.Value]) -> ir.Value:
        word = vectors.splat(int(words[0])) if alike else elements[1]
        return vectors.shift_down(
            arith.addi(vectors.high_product(sums, elements[0]), word), line.shift - 32
        )

    tables = (line.multipliers,) if alike else (line.multipliers, words)
    return HeliumRescale(biases, tables, emit, *limits)


def _float32(
    requantization: Requantization, scales: np.ndarray, low: IntArray, high: IntArray
) -> HeliumRescale | None:
    """As ONNX Runtime computes it: a float32 product, rounded to the nearest even integer."""
    if (np.maximum(-low, high) * scales >= _SMALL).any():
        return None
    zero_point = requantization.attribute("zero_point")

    def emit(sums: ir.Value, elements: Sequence[ir.Value]) -> ir.Value:
        return _float_product(sums, elements[0], zero_point)

    limits = requantization.attribute("min"), requantization.attribute("max")
    bits = scales.astype(np.float32).view(np.int32).astype(np.int64)
    return HeliumRescale(np.zeros_like(low), (bits,), emit, *limits)


def _float_product(sums: ir.Value, scale_bits: ir.Value, zero_point: int) -> ir.Value:
    floats = ir.VectorType.get(sums.type.shape, ir.F32Type.get())
    product = arith.mulf(arith.sitofp(floats, sums), arith.bitcast(floats, scale_bits))
    whole = arith.fptosi(sums.type, llvm.intr_roundeven(product))
    return arith.addi(whole, vectors.splat(zero_point)) if zero_point else whole


def _opaque(bits: int) -> ir.Value:
    """A constant that is not folded into one of floats, which LLVM releases spell differently."""
    emitter = Emitter()
    return arith.index_cast(ir.IntegerType.get_signless(32), emitter.opaque(bits))


def rescale_alike(
    op: ir.Operation, sums: ir.Value, others: Sequence[ir.Value], has_float: bool
) -> ir.Value | None:
    """Four i8 results of a tiny.requantize or tiny.rescale by constants; None without vector form.

    Args:
        sums: any four i32; ``others`` the other operands.
        has_float: whether the core has vectors of float32.
    """
    known = [constant_scalar(value) for value in others]
    least, most = (op.attributes[name].value for name in ("min", "max"))
    multiplier, other = known
    if multiplier is None or other is None:
        return None
    if op.name == "tiny.rescale":
        shift = op.attributes["shift"].value
        offset = other << (64 - others[1].type.width)
    else:
        zero_point, shift = op.attributes["zero_point"].value, other
        rounding = op.attributes["rounding"].value
        scale = np.ldexp(float(multiplier), -shift)
        if rounding == "float32" and has_float and scale * -numerics.I32_MIN <= _SMALL:
            bits = vectors.spread(_opaque(int(np.float32(scale).view(np.int32))))
            product = _float_product(sums, bits, zero_point)
            return vectors.narrow(product, least, most)
        if rounding != "nearest_up" or shift <= 32:
            return None
        offset = (zero_point << shift) + (1 << (shift - 1))
    word, rest = divmod(offset, 1 << 32)
    if rest or not numerics.I32_MIN <= word <= numerics.I32_MAX:
        return None
    product = vectors.high_product(sums, vectors.splat(multiplier))
    line = arith.addi(product, vectors.splat(word))
    return vectors.narrow(vectors.shift_down(line, shift - 32), least, most)


def _double(
    requantization: Requantization,
    multipliers: IntArray,
    shifts: IntArray,
    low: IntArray,
    high: IntArray,
) -> HeliumRescale | None:
    """gemmlowp's two roundings: the product to 31 bits less, ties up; then ties away from zero."""
    places = shifts - 31
    if (places < 1).any() or (places > 30).any() or (np.maximum(-low, high) >= _SMALL).any():
        return None
    zero_point = requantization.attribute("zero_point")

    def emit(sums: ir.Value, elements: Sequence[ir.Value]) -> ir.Value:
        factor, half, down = elements
        upper, lower = vectors.high_product(sums, factor), arith.muli(sums, factor)
        doubled = arith.ori(
            arith.shli(upper, vectors.splat(1)), arith.shrui(lower, vectors.splat(31))
        )
        tie = arith.andi(arith.shrui(lower, vectors.splat(30)), vectors.splat(1))
        rounded = arith.addi(doubled, tie)
        away = arith.addi(rounded, arith.shrsi(rounded, vectors.splat(31)))
        whole = arith.shrsi(arith.addi(away, half), down)
        return arith.addi(whole, vectors.splat(zero_point)) if zero_point else whole

    limits = requantization.attribute("min"), requantization.attribute("max")
    tables = (multipliers, np.int64(1) << (places - 1), places)
    return HeliumRescale(np.zeros_like(low), tables, emit, *limits)
