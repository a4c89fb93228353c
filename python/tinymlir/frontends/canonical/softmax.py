"""Softmax in integers."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, tensor

from .builder import Builder, Clamp
from .tensors import Activation, Dequantized, Quantization


def softmax(
    b: Builder,
    name: str,
    operand: Dequantized,
    target: Quantization,
    clamp: Clamp,
    dims: Collection[int],
) -> Activation:
    """``exp(x) / sum(exp(x))`` over the logical dimensions ``dims``.

    With ``d = max - x`` in 0..255 and a table ``e[d] = exp(-scale * d)`` in fixed
    point, the result is ``(e[d] * steps + sum / 2) / sum`` with ``steps`` output
    steps to one, a quotient of unsigned 32-bit integers. As in ONNX Runtime's
    QLinearSoftmax, ``steps`` is the whole part of ``1 / target.scale``. Of two elements, each is
    looked up by how much it exceeds the other.
    """
    x = operand.activation
    reduced_atoms = {atom for d in dims for atom in x.layout.dims[d]}
    order = x.layout.order
    loops = [i for i, atom in enumerate(order) if atom in reduced_atoms]
    # One leading dimension of size one, so that the maximum and the sum have a dimension.
    shape = (1, *(atom.size for atom in order))
    reduced = [i + 1 for i in loops]
    kept = [d for d in range(len(shape)) if d not in reduced]
    everything = list(range(len(shape)))
    length = int(np.prod([shape[d] for d in reduced], dtype=np.int64))
    steps = max(1, int(np.floor(np.float32(1) / target.scale)))
    table = _exponentials(float(operand.quantization.scale), length, steps)
    rows = [shape[d] for d in kept]
    with b.layer(name, "softmax"):
        value = b.reshape(x.value, shape)
        if length == 2:
            both = b.generic(
                [(value, everything)],
                b.fill(rows, 0, b.i32),
                lambda q, acc: arith.addi(acc, arith.extsi(b.i32, q)),
                reduced=reduced,
            )
            results = b.constant(_of_two(table, steps, target, clamp))

            def result_of(q: ir.Value, both: ir.Value, _: ir.Value) -> ir.Value:
                twice = arith.shli(arith.extsi(b.i32, q), b.scalar(1, b.i32))
                excess = arith.subi(twice, both)
                return entry(b, results, arith.addi(excess, b.scalar(255, b.i32)))

            operands = [(value, everything), (both, kept)]
            result = b.finish(b.generic(operands, b.empty(shape, b.i8), result_of))
            return Activation(b.reshape(result, x.value.type.shape), x.layout)
        top = b.generic(
            [(value, everything)],
            b.fill(rows, numerics.I8_MIN, b.i8),
            lambda q, greatest: arith.MaxSIOp(greatest, q).result,
            reduced=reduced,
        )
        entries = b.constant(without_tail(table))

        def exponential(q: ir.Value, greatest: ir.Value) -> ir.Value:
            wide = [arith.ExtSIOp(b.i32, v).result for v in (greatest, q)]
            return entry(b, entries, arith.SubIOp(*wide).result)

        total = b.generic(
            [(value, everything), (top, kept)],
            b.fill(rows, 0, b.i32),
            lambda q, greatest, acc: arith.AddIOp(acc, exponential(q, greatest)).result,
            reduced=reduced,
        )

        def quotient(q: ir.Value, greatest: ir.Value, acc: ir.Value, _: ir.Value) -> ir.Value:
            scaled = arith.MulIOp(exponential(q, greatest), b.scalar(steps, b.i32)).result
            half = arith.ShRUIOp(acc, b.scalar(1, b.i32)).result
            ratio = arith.DivUIOp(arith.AddIOp(scaled, half).result, acc).result
            result = arith.AddIOp(ratio, b.scalar(target.zero_point, b.i32)).result
            result = arith.MinSIOp(result, b.scalar(clamp.high, b.i32)).result
            result = arith.MaxSIOp(result, b.scalar(clamp.low, b.i32)).result
            return arith.TruncIOp(b.i8, result).result

        result = b.generic(
            [(value, everything), (top, kept), (total, kept)], b.empty(shape, b.i8), quotient
        )
        b.finish(result)
    return Activation(b.reshape(result, x.value.type.shape), x.layout)


def without_tail(table: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """A table up to the entry that all others after it equal: `entry` takes it for these."""
    others = np.flatnonzero(table != table[-1])
    return table[: others[-1] + 2] if len(others) else table[:1]


def entry(b: Builder, entries: ir.Value, number: ir.Value) -> ir.Value:
    """The entry of that number in 0..255 of a table `without_tail`."""
    last = entries.type.shape[0] - 1
    if last < 255:
        number = arith.minsi(number, b.scalar(last, b.i32))
    return tensor.extract(entries, [arith.index_cast(ir.IndexType.get(b.context), number)])


def _of_two(
    table: npt.NDArray[np.int32], steps: int, target: Quantization, clamp: Clamp
) -> npt.NDArray[np.int8]:
    """What becomes of an element that exceeds the other one by -255..255."""
    excess = np.arange(-255, 256)
    own, other = (table[np.maximum(side, 0)].astype(np.int64) for side in (-excess, excess))
    ratio = (own * steps + (own + other) // 2) // (own + other)
    return np.clip(ratio + target.zero_point, clamp.low, clamp.high).astype(np.int8)


def _exponentials(scale: float, length: int, steps: int) -> npt.NDArray[np.int32]:
    """``exp(-scale * d)`` for d in 0..255, as large as the sums and quotients allow.

    ``length * one + steps * one < 2**32`` keeps every intermediate unsigned 32-bit.
    """
    one = min(2**31 // max(length, steps), 2**30)
    return np.rint(np.exp(-scale * np.arange(256)) * one).astype(np.int32)
