"""Products of two int8 tensors."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, tensor
from tinymlir.numerics import IntArray

from .builder import Builder, Clamp, Scaling
from .elementwise import binary, pairwise, scalars, widened
from .tensors import Activation, Dequantized, Quantization


def multiply(
    b: Builder,
    name: str,
    x: Dequantized,
    y: Dequantized,
    target: Quantization,
    clamp: Clamp,
    rounded_with: int,
) -> Activation:
    """``x * y``; either may be broadcast. Raises `ValueError` as `add` does.

    Args:
        rounded_with: what the reference, ONNX Runtime's QLinearMul, adds in float32 before it
            rounds: the zero point of its own type.
    """
    xq, yq = x.quantization, y.quantization
    scale, zero_point = xq.scale * yq.scale / target.scale, target.zero_point

    def reference(acc: IntArray) -> npt.NDArray[np.float32]:
        return np.rint(acc.astype(np.float32) * scale + np.float32(rounded_with)) - rounded_with

    bound = 255 * 255
    scaling = Scaling.of(scale, zero_point, Clamp(), -bound, bound, reference)
    steps = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1)
    products = np.unique(np.outer(steps - xq.zero_point, steps - yq.zero_point))
    results = np.clip(reference(products) + zero_point, steps[0], steps[-1]).astype(np.int64)
    pair = (scaling.multipliers, scaling.shifts)
    fitted = numerics.requantize(products, *pair, zero_point, rounding=scaling.rounding)
    if np.array_equal(fitted, results):
        scaling = dataclasses.replace(scaling, clamp=clamp)
        return binary(b, name, "mul", x, y, scaling, lambda p, q: arith.MulIOp(p, q).result)
    # The least product of each result and above; the fitted result is off by one at most.
    known = np.append(products, numerics.I32_MAX)
    least = known[np.searchsorted(results, np.append(steps, numerics.I8_MAX + 1))]
    multiplier, shift = scalars(b, scaling)
    table = b.constant(least.astype(np.int32))
    index = ir.IndexType.get(b.context)

    def body(p: ir.Value, q: ir.Value) -> ir.Value:
        acc = arith.muli(widened(b, p, xq.zero_point), widened(b, q, yq.zero_point))
        near = b.requantize_op(acc, multiplier, shift, scaling)
        at = arith.index_cast(index, widened(b, near, numerics.I8_MIN))
        above = arith.addi(at, b.scalar(1, index))
        down = arith.cmpi(arith.CmpIPredicate.slt, acc, tensor.extract(table, [at]))
        up = arith.cmpi(arith.CmpIPredicate.sge, acc, tensor.extract(table, [above]))
        # As i8, true is minus one.
        result = arith.subi(arith.addi(near, arith.extsi(b.i8, down)), arith.extsi(b.i8, up))
        result = arith.minsi(result, b.scalar(clamp.high, b.i8))
        return arith.maxsi(result, b.scalar(clamp.low, b.i8))

    return pairwise(b, name, "mul", x.activation, y.activation, body)
