"""Elementwise TOSA on arrays: what a function of one or two int8 values makes of each.

Every operation wraps or saturates as the specification says; a rescale's result is
clipped to its type.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinymlir.bindings import ir
from tinymlir.numerics import IntArray

from .constants import constant, is_byte, single, width_of
from .rescale import Rescale


def _wrapped(values: IntArray, width: int) -> IntArray:
    low = values & ((1 << width) - 1)
    return low - ((low >> (width - 1)) << width) if width > 1 else low


def _multiply(op: ir.Operation, a: IntArray, b: IntArray) -> IntArray | None:
    shift = single(op.operands[2])
    if shift is None:
        return None
    product = a * b
    return product if shift == 0 else (product + (1 << (shift - 1))) >> shift


def _negate(op: ir.Operation, a: IntArray) -> IntArray | None:
    zeros = [single(op.operands[i]) for i in (1, 2)]
    if zeros[0] is None or zeros[1] is None:
        return None
    low = -(1 << (width_of(op.results[0]) - 1))
    return np.clip(zeros[0] + zeros[1] - a, low, -low - 1)


def _shift_right(op: ir.Operation, a: IntArray, b: IntArray) -> IntArray:
    half = (np.int64(1) << np.maximum(b - 1, 0)) * (b > 0)
    return (a + half if op.attributes["round"].value else a) >> b


def _table(op: ir.Operation, a: IntArray) -> IntArray | None:
    entries = constant(op.operands[1])
    if entries is None or entries.size != 256 or width_of(op.operands[0]) != 8:
        return None
    return entries[a + 128]


def _clamp(op: ir.Operation, a: IntArray) -> IntArray:
    return np.clip(a, op.attributes["min_val"].value, op.attributes["max_val"].value)


def _select(_: ir.Operation, condition: IntArray, a: IntArray, b: IntArray) -> IntArray:
    return np.where(condition != 0, a, b)


def _rescale(op: ir.Operation, a: IntArray) -> IntArray | None:
    rescale = Rescale.read(op)
    return rescale(a, width_of(op.operands[0])) if rescale.uniform else None


_Function = Callable[..., "IntArray | None"]

#: How many operands are data, and what becomes of them.
_FUNCTIONS: dict[str, tuple[int, _Function]] = {
    "tosa.abs": (1, lambda op, a: np.abs(a)),
    "tosa.add": (2, lambda op, a, b: a + b),
    "tosa.arithmetic_right_shift": (2, _shift_right),
    "tosa.bitwise_and": (2, lambda op, a, b: a & b),
    "tosa.bitwise_or": (2, lambda op, a, b: a | b),
    "tosa.bitwise_xor": (2, lambda op, a, b: a ^ b),
    "tosa.cast": (1, lambda op, a: a != 0 if width_of(op.results[0]) == 1 else a),
    "tosa.clamp": (1, _clamp),
    "tosa.equal": (2, lambda op, a, b: a == b),
    "tosa.greater": (2, lambda op, a, b: a > b),
    "tosa.greater_equal": (2, lambda op, a, b: a >= b),
    "tosa.identity": (1, lambda op, a: a),
    "tosa.logical_left_shift": (2, lambda op, a, b: a << b),
    "tosa.maximum": (2, lambda op, a, b: np.maximum(a, b)),
    "tosa.minimum": (2, lambda op, a, b: np.minimum(a, b)),
    "tosa.mul": (2, _multiply),
    "tosa.negate": (1, _negate),
    "tosa.rescale": (1, _rescale),
    # Of one element only.
    "tosa.reshape": (1, lambda op, a: a),
    "tosa.select": (3, _select),
    "tosa.sub": (2, lambda op, a, b: a - b),
    "tosa.table": (1, _table),
}


def data_operands(op: ir.Operation) -> list[ir.Value] | None:
    """The operands that an elementwise op reads place by place; None for other ops."""
    if op.name not in _FUNCTIONS:
        return None
    values = list(op.operands)[: _FUNCTIONS[op.name][0]]
    if op.name == "tosa.reshape" and any(n != 1 for n in values[0].type.shape):
        return None
    integers = all(
        isinstance(v.type, ir.RankedTensorType) and isinstance(v.type.element_type, ir.IntegerType)
        for v in [*values, *op.results]
    )
    return values if integers else None


def leaves(value: ir.Value) -> list[ir.Value] | None:
    """The 8-bit tensors that ``value``, an elementwise result, is computed from.

    None where it is computed otherwise, or from constants of more than one element.
    """
    found: list[ir.Value] = []

    def visit(operand: ir.Value, root: bool) -> bool:
        array = constant(operand)
        if array is not None:
            if is_byte(operand) and array.size > 1 and operand not in found:
                found.append(operand)
            return array.size == 1 or is_byte(operand)
        if is_byte(operand) and not root:
            if operand not in found:
                found.append(operand)
            return True
        operands = None
        if not isinstance(operand, ir.BlockArgument):
            operands = data_operands(operand.owner.operation)
        return operands is not None and all(visit(each, False) for each in operands)

    return found if visit(value, True) else None


def evaluate(value: ir.Value, known: dict[ir.Value, IntArray]) -> IntArray | None:
    """The numbers that ``value`` holds where its `leaves` hold those of ``known``.

    Arrays broadcast. None where an operation has no meaning here.
    """
    if value in known:
        return known[value]
    number = single(value)
    if number is not None:
        return np.array(number, np.int64)
    op = value.owner.operation
    operands = []
    for operand in data_operands(op) or []:
        array = evaluate(operand, known)
        if array is None:
            return None
        operands.append(array)
    result = _FUNCTIONS[op.name][1](op, *operands)
    if result is None or op.name == "tosa.rescale":
        return result
    return _wrapped(np.asarray(result, np.int64), width_of(value))
