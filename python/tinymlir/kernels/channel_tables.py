"""What a layer knows of each output channel besides weights: scales, offsets and their like."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.evaluator import reads
from tinymlir.linalg_info import VIEW_OPS, constant_array, constant_scalar, indexing_maps, is_linalg
from tinymlir.numerics import NEAR_LINE_SHIFTS


def channel_tables(conv: Convolution, root: ir.Value) -> dict[ir.Value, np.ndarray]:
    """Constants that the way from the accumulator to ``root`` reads at its channel.

    Kernels store them beside the weights, where one pointer reaches all. Only i32 and i64
    tables with one element for each channel, and not those that ``tiny-lower-requantize`` must
    see as tables: it looks at all multipliers and shifts of other roundings.
    """
    found: dict[ir.Value, np.ndarray] = {}
    reads: Counter[ir.Value] = Counter()
    seen: set[ir.Value] = set()
    channels = conv.part[1] * len(conv.bias)
    own = slice(conv.first_channel, conv.first_channel + len(conv.bias))

    def visit(value: ir.Value) -> None:
        if isinstance(value, ir.BlockArgument) or value == conv.sums or value in seen:
            return
        seen.add(value)
        op = value.owner.operation
        if not is_linalg(op):
            return
        maps = indexing_maps(op)
        if not _is_identity(maps[-1]):
            return
        for operand, affine_map in zip(list(op.operands)[:-1], maps[:-1], strict=True):
            if _is_identity(affine_map):
                visit(operand)
            if not _is_last_dimension(affine_map):
                continue
            array = constant_array(operand)
            if array is None or array.size != channels or _lowering_needs_tables(op):
                continue
            if array.itemsize in (4, 8):
                found[operand] = array[own]
                reads[operand] += 1

    visit(root)
    # What is read at another place as well has no one element.
    return {value: a for value, a in found.items() if reads[value] == len(list(value.uses))}


def element_of(words: list[ir.Value]) -> ir.Value:
    """An element of a table: an i32, or an i64 of two."""
    if len(words) == 1:
        return words[0]
    i64 = ir.IntegerType.get_signless(64)
    high = arith.shli(arith.extui(i64, words[1]), arith.constant(i64, 32))
    return arith.ori(arith.extui(i64, words[0]), high)


def place_of(tables: Mapping[ir.Value, np.ndarray], wanted: ir.Value) -> int:
    """The words of a channel's elements before that of one of the ``tables``."""
    before = itertools.takewhile(lambda value: value != wanted, tables)
    return sum(tables[value].itemsize // 4 for value in before)


def table_bytes(conv: Convolution) -> int:
    """Bytes of all `channel_tables`."""
    return sum(table.nbytes for table in channel_tables(conv, conv.root).values())


def channel_bytes(conv: Convolution) -> int:
    """Bytes of all that channels have beside weights: biases and `channel_tables`."""
    return conv.bias_bytes + table_bytes(conv)


def channel_words(conv: Convolution) -> int:
    """The words of that of one channel."""
    return channel_bytes(conv) // (4 * len(conv.bias))


def needs_channel_alone(conv: Convolution) -> bool:
    """Whether results depend on nothing but accumulators and `channel_tables`."""
    known = channel_tables(conv, conv.root)
    for op in _way(conv):
        body = op.regions[0].blocks[0]
        for operand, argument in zip(op.operands, body.arguments, strict=True):
            constant = isinstance(operand.type, ir.RankedTensorType) and operand not in known
            if constant and not _is_on_way(operand, conv) and reads(argument):
                return False
        if any(nested.operation.name == "linalg.index" for nested in body.operations):
            return False
    return True


def scalar_code(conv: Convolution) -> str:
    """What becomes of an accumulator, but for constants that are no parts of instructions."""
    parts = []
    for op in _way(conv):
        for nested in op.regions[0].blocks[0].operations:
            inner = nested.operation
            facts = {a: str(inner.attributes[a]) for a in inner.attributes if a != "zero_point"}
            kinds = [str(operand.type) for operand in inner.operands]
            # How far to shift is the last operand.
            shifts = inner.name == "tiny.requantize"
            places = constant_scalar(inner.operands[2]) if shifts else None
            parts.append(f"{inner.name} {facts} {kinds} {places}")
    return "; ".join(parts)


def _way(conv: Convolution) -> list[ir.Operation]:
    """The linalg ops from the layer's result to the accumulators."""
    found: list[ir.Operation] = []

    def visit(value: ir.Value) -> None:
        if value == conv.sums or isinstance(value, ir.BlockArgument):
            return
        op = value.owner.operation
        if op.name in VIEW_OPS:
            visit(op.operands[0])
        elif is_linalg(op) and op not in found and _is_on_way(value, conv):
            found.append(op)
            for operand in op.operands:
                visit(operand)

    visit(conv.root)
    return found


def _is_on_way(value: ir.Value, conv: Convolution) -> bool:
    """Whether ``value`` is made of the accumulators."""
    if value == conv.sums:
        return True
    if isinstance(value, ir.BlockArgument):
        return False
    op = value.owner.operation
    return (is_linalg(op) or op.name in VIEW_OPS) and any(
        _is_on_way(operand, conv) for operand in op.operands
    )


def _lowering_needs_tables(op: ir.Operation) -> bool:
    for nested in op.regions[0].blocks[0].operations:
        requantize = nested.operation
        if requantize.name != "tiny.requantize":
            continue
        if "tiny.shrinks" in requantize.attributes:
            continue
        near_line = constant_scalar(requantize.operands[2]) in NEAR_LINE_SHIFTS
        if not near_line or requantize.attributes["rounding"].value != "float32":
            return True
    return False


def _is_identity(affine_map: ir.AffineMap) -> bool:
    return bool(affine_map == ir.AffineMap.get_identity(affine_map.n_dims))


def _is_last_dimension(affine_map: ir.AffineMap) -> bool:
    last = ir.AffineMap.get(affine_map.n_dims, 0, [ir.AffineExpr.get_dim(affine_map.n_dims - 1)])
    return bool(affine_map == last)
