"""Between which numbers an integer of a layer lies."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import prod
from typing import TypeAlias

from tinymlir.bindings import ir
from tinymlir.linalg_info import broadcast_array, constant_scalar, is_linalg

#: The least and the greatest number.
Interval: TypeAlias = tuple[int, int]

_CORNERS: dict[str, Callable[[int, int], int]] = {
    "arith.addi": operator.add,
    "arith.subi": operator.sub,
    "arith.muli": operator.mul,
    "arith.minsi": min,
    "arith.maxsi": max,
}
#: Ops that leave a number, or its place, as it is.
_SAME = (
    "arith.extsi",
    "tensor.expand_shape",
    "tensor.collapse_shape",
    "tensor.extract_slice",
    "tensor.extract",
)
_SUM = "linalg.pooling_nhwc_sum"


def interval(value: ir.Value) -> Interval | None:
    """Least and greatest number that ``value``, a signed integer or a tensor of them, can be.

    Arithmetic and sums under a window are followed back to bytes and constants. None for what
    could overflow, and where nothing narrower than 32 bits is known.
    """
    element = getattr(value.type, "element_type", value.type)
    if not isinstance(element, ir.IntegerType):
        return None
    known = _computed(value)
    half = 1 << (element.width - 1)
    if known is not None and -half <= known[0] and known[1] < half:
        return known
    return (-half, half - 1) if element.width <= 16 else None


def _computed(value: ir.Value) -> Interval | None:
    """From what computes ``value``, overflow aside."""
    if isinstance(value, ir.BlockArgument):
        return _argument(value)
    op = value.owner.operation
    constant = constant_scalar(value)
    if constant is not None:
        return constant, constant
    if op.name in _SAME:
        return interval(op.operands[0])
    if op.name in _CORNERS:
        left, right = (interval(operand) for operand in op.operands)
        if left is None or right is None:
            return None
        corners = [_CORNERS[op.name](a, b) for a in left for b in right]
        return min(corners), max(corners)
    if op.name == "tensor.pad":
        yielded = list(op.regions[0].blocks[0].operations)[-1].operation.operands[0]
        return _union(interval(op.operands[0]), interval(yielded))
    if op.name == _SUM:
        return _window_sum(op)
    if not isinstance(value.type, ir.RankedTensorType):
        return None
    array = broadcast_array(value)
    if array is not None and array.size:
        return int(array.min()), int(array.max())
    if is_linalg(op) and len(op.results) == 1:
        body = list(op.regions[0].blocks[0].operations)
        return interval(body[-1].operation.operands[0])
    return None


def _argument(value: ir.BlockArgument) -> Interval | None:
    """Of the elements that the body of a linalg op gets; none of what it reduces into."""
    owner = value.owner.owner.operation
    if not is_linalg(owner) or value.arg_number == len(owner.operands) - 1:
        return None
    return interval(owner.operands[value.arg_number])


def _window_sum(op: ir.Operation) -> Interval | None:
    source, window, init = op.operands
    taps, start = interval(source), interval(init)
    if taps is None or start is None:
        return None
    count = prod(window.type.shape)
    return start[0] + count * taps[0], start[1] + count * taps[1]


def _union(first: Interval | None, second: Interval | None) -> Interval | None:
    if first is None or second is None:
        return None
    return min(first[0], second[0]), max(first[1], second[1])
