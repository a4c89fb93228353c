"""Constants of a TOSA function, as arrays."""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import ir
from tinymlir.numerics import IntArray

_VALUES = {"tosa.const": "values", "tosa.const_shape": "values", "arith.constant": "value"}


def element_of(value: ir.Value) -> str:
    """The element type of a tensor, as text: ``i8``, ``ui8``, ``i32``."""
    return str(value.type.element_type)


def is_unsigned(value: ir.Value) -> bool:
    return element_of(value).startswith("ui")


def is_byte(value: ir.Value) -> bool:
    """Whether ``value`` is a tensor of 8-bit integers."""
    return isinstance(value.type, ir.RankedTensorType) and element_of(value) in ("i8", "ui8", "si8")


def width_of(value: ir.Value) -> int:
    """Bits of an element of an integer tensor."""
    return ir.IntegerType(value.type.element_type).width


def constant(value: ir.Value) -> IntArray | None:
    """The elements of an integer constant, looking through reshapes; None for other values."""
    if isinstance(value, ir.BlockArgument):
        return None
    op = value.owner.operation
    if op.name in _VALUES:
        return _elements(op.attributes[_VALUES[op.name]])
    if op.name in ("tosa.reshape", "tosa.identity", "tosa.transpose"):
        array = constant(op.operands[0])
        if array is None:
            return None
        if op.name == "tosa.transpose":
            return array.transpose(list(op.attributes["perms"]))
        return array.reshape(value.type.shape)
    return None


def _elements(attribute: ir.Attribute) -> IntArray | None:
    if isinstance(attribute, ir.IntegerAttr):
        return np.array(attribute.value, np.int64)
    if not isinstance(attribute, ir.DenseIntElementsAttr):
        return None
    if attribute.is_splat:
        # Without copies: a splat may stand for any number of elements.
        return np.broadcast_to(np.int64(attribute.get_splat_value().value), attribute.type.shape)
    return np.array(attribute).astype(np.int64)


def single(value: ir.Value) -> int | None:
    """The one number of a constant of one element."""
    array = constant(value)
    return None if array is None or array.size != 1 else int(array.reshape(-1)[0])
