"""Offsets of a rescaling as whole words: then only the high word of the product is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, ir
from tinymlir.kernels.channel_tables import channel_tables
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.requantization import read_requantization
from tinymlir.line_fit import Line, split_offsets


def short_tables(
    conv: Convolution, root: ir.Value
) -> tuple[Convolution, dict[ir.Value, np.ndarray]]:
    """The convolution and its `channel_tables`, with i32 words in the place of i64 offsets.

    The rest of an offset goes into the bias, by which the accumulators of a layer can be
    moved (`split_offsets`); where it cannot, everything stays as it is.
    """
    tables = channel_tables(conv, root)
    found = read_requantization(root.owner.operation)
    wide = [value for value, table in tables.items() if table.itemsize == 8]
    if found is None or found.op.name != "tiny.rescale" or len(wide) != 1:
        return conv, tables
    outputs = len(conv.bias)
    low, high = numerics.accumulator_range(conv.weights.reshape(outputs, -1), conv.bias)
    multipliers, offsets = (
        np.broadcast_to(c.reshape(-1), outputs).astype(np.int64) for c in found.constants
    )
    line = Line(multipliers, offsets, found.attribute("shift"))
    split = split_offsets(line, low, high, (found.attribute("min"), found.attribute("max")))
    if split is None or (low + split[0] < numerics.I32_MIN).any():
        return conv, tables
    biases, words = split
    moved = replace(conv, bias=(conv.bias + biases).astype(np.int32))
    return moved, {**tables, wide[0]: words.astype(np.int32)}


def element_of(value: ir.Value, words: list[ir.Value]) -> ir.Value:
    """An element of a table: an i32, or an i64 of two, or of its high word (`short_tables`)."""
    if len(words) == 1 and value.type.element_type.width == 32:
        return words[0]
    i64 = ir.IntegerType.get_signless(64)
    high = arith.shli(arith.extui(i64, words[-1]), arith.constant(i64, 32))
    return high if len(words) == 1 else arith.ori(arith.extui(i64, words[0]), high)
