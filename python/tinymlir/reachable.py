"""Which numbers an integer of a layer can be."""

from __future__ import annotations

from math import prod

import numpy as np

from tinymlir.bindings import ir
from tinymlir.linalg_info import (
    VIEW_OPS,
    broadcast_array,
    constant_scalar,
    is_linalg,
    pad_value,
    yielded,
)
from tinymlir.numerics import I32_MAX, I32_MIN, IntArray

#: More numbers, or pairs of operands, than these are not looked at one by one.
_MOST = 1 << 17
#: Arithmetic of two integers, as NumPy does it.
ARITHMETIC: dict[str, np.ufunc] = {
    "arith.addi": np.add,
    "arith.subi": np.subtract,
    "arith.muli": np.multiply,
    "arith.minsi": np.minimum,
    "arith.maxsi": np.maximum,
}
#: Ops whose results are elements of their first operand.
_SAME = (
    "arith.extsi",
    *VIEW_OPS,
    "tensor.extract_slice",
    "tensor.extract",
)
_BYTES = np.arange(-128, 128)


def reachable(value: ir.Value) -> IntArray | None:
    """All that ``value``, an i8 or i32 or a tensor of them, can be, and maybe more; ascending.

    Arithmetic and sums under a window are followed back to bytes and constants. None where
    nothing is known, or too much to list, or 32 bits could overflow.
    """
    found = _computed(value)
    if str(getattr(value.type, "element_type", value.type)) == "i8":
        return _BYTES if found is None else found
    return found if found is not None and found[0] >= I32_MIN and found[-1] <= I32_MAX else None


def _computed(value: ir.Value) -> IntArray | None:
    if isinstance(value, ir.BlockArgument):
        return _argument(value)
    op = value.owner.operation
    constant = constant_scalar(value)
    if constant is not None:
        return np.array([constant], np.int64)
    if op.name in _SAME:
        return reachable(op.operands[0])
    if op.name in ARITHMETIC:
        return _pairs(ARITHMETIC[op.name], *(reachable(operand) for operand in op.operands))
    if op.name == "tensor.pad":
        inside, outside = reachable(op.operands[0]), reachable(pad_value(op))
        return None if inside is None or outside is None else np.union1d(inside, outside)
    if op.name == "linalg.pooling_nhwc_sum":
        return _window_sum(op)
    array = broadcast_array(value) if isinstance(value.type, ir.RankedTensorType) else None
    if array is not None and array.size:
        elements = np.unique(array).astype(np.int64)
        return elements if elements.size <= _MOST else None
    if is_linalg(op) and len(op.results) == 1:
        return reachable(yielded(op.regions[0].blocks[0]))
    return None


def _argument(value: ir.BlockArgument) -> IntArray | None:
    """The elements that the body of a linalg op gets; nothing of what it reduces into."""
    owner = value.owner.owner.operation
    if not is_linalg(owner) or value.arg_number == len(owner.operands) - 1:
        return None
    return reachable(owner.operands[value.arg_number])


def _pairs(function: np.ufunc, left: IntArray | None, right: IntArray | None) -> IntArray | None:
    if left is None or right is None or left.size * right.size > _MOST:
        return None
    found: IntArray = np.unique(function.outer(left, right))
    return found


def _window_sum(op: ir.Operation) -> IntArray | None:
    source, window, init = op.operands
    taps, starts = reachable(source), reachable(init)
    if taps is None or starts is None:
        return None
    count = prod(window.type.shape)
    first, last = starts[0] + count * taps[0], starts[-1] + count * taps[-1]
    return np.arange(first, last + 1) if last - first < _MOST else None
