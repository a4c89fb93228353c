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
from tinymlir.line_fit import Line, fold_biases, split_offsets
from tinymlir.numerics import IntArray

#: Sums below this leave room for what rounding adds.
_SMALL = 1 << 30


@dataclass(frozen=True)
class HeliumRescale:
    """``emit(sums, elements)`` gives the i32 results, not limited, of four accumulators.

    Accumulators are first shifted up by so many ``places``, and ``biases`` (one for each channel)
    added. ``tables`` are further i32 constants, one element for each channel; ``elements`` holds
    theirs.
    """

    biases: IntArray
    tables: tuple[IntArray, ...]
    emit: Callable[[ir.Value, Sequence[ir.Value]], ir.Value]
    least: int
    most: int
    places: int = 0

    def addends(self, biases: np.ndarray) -> IntArray:
        """What is added to the sums of products, shifted up, with the biases of the layer."""
        return (biases.astype(np.int64) << self.places) + self.biases

    def started(self, products: ir.Value, addends: ir.Value) -> ir.Value:
        """What ``emit`` takes, of sums of products."""
        if self.places:
            products = arith.shli(products, vectors.splat(self.places))
        return arith.addi(products, addends)


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
    if split is None or not (split[1] == split[1][0]).all():
        folded = fold_biases(line, low, high, limits)
        if folded is not None:
            emit = _scaled(folded.shift - 32, folded.word)
            of_channels = (folded.multipliers,)
            return HeliumRescale(folded.biases, of_channels, emit, *limits, places=folded.places)
    if split is None:
        return None
    biases, words = split
    # An addition takes one word for all from a core register.
    alike = bool((words == words[0]).all())
    tables = (line.multipliers,) if alike else (line.multipliers, words)
    emit = _scaled(line.shift - 32, int(words[0]) if alike else None)
    return HeliumRescale(biases, tables, emit, *limits)


def _scaled(places: int, word: int | None) -> Callable[[ir.Value, Sequence[ir.Value]], ir.Value]:
    """High words of products with the first table, plus ``word`` or the second, shifted down."""

    def emit(sums: ir.Value, elements: Sequence[ir.Value]) -> ir.Value:
        product = vectors.high_product(sums, elements[0])
        if word != 0:
            offset = elements[1] if word is None else vectors.splat(word)
            product = arith.addi(product, offset)
        return vectors.shift_down(product, places)

    return emit


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
