"""Operations that only place elements."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import ir
from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.tensors import Activation, reshaped

from .constants import constant, single
from .converter import Converter
from .names import name_of

_Pair = tuple[int, int]


def _moved(conv: Converter, op: ir.Operation) -> Activation:
    """The first operand; the result is unsigned if it is."""
    source = op.operands[0]
    activation = conv.activation(source)
    if source in conv.unsigned:
        conv.unsigned.add(op.results[0])
    return activation


def reshape(conv: Converter, op: ir.Operation) -> Activation:
    return reshaped(conv.builder, name_of(op), _moved(conv, op), op.results[0].type.shape)


def identity(conv: Converter, op: ir.Operation) -> Activation:
    return _moved(conv, op)


def transpose(conv: Converter, op: ir.Operation) -> Activation:
    x = _moved(conv, op)
    return Activation(x.value, x.layout.transposed(list(op.attributes["perms"])))


def concat(conv: Converter, op: ir.Operation) -> Activation:
    parts = [conv.activation(value) for value in op.operands]
    unsigned = [value in conv.unsigned for value in op.operands]
    if all(unsigned):
        conv.unsigned.add(op.results[0])
    elif any(unsigned):
        parts = [conv.signed(op, value) for value in op.operands]
    return movement.concat(conv.builder, name_of(op), parts, op.attributes["axis"].value)


def _padding(op: ir.Operation) -> tuple[list[int], list[int], int] | None:
    """Elements before and after each dimension, and what they are."""
    amounts, fill = constant(op.operands[1]), single(op.operands[2])
    if amounts is None or fill is None:
        return None
    return amounts[0::2].tolist(), amounts[1::2].tolist(), fill


def pad(conv: Converter, op: ir.Operation) -> Activation | None:
    padding = _padding(op)
    if padding is None:
        return None
    low, high, fill = padding
    x = conv.signed(op, op.operands[0])
    return movement.pad(conv.builder, name_of(op), x, low, high, fill)


def absorbed_padding(
    conv: Converter, op: ir.Operation, value: ir.Value, fill: int
) -> tuple[Activation, _Pair, _Pair]:
    """A convolution's input without the padding that the convolution can do by itself.

    Args:
        fill: what that pads with.

    Returns:
        The input, and the rows and columns of padding before and after it.
    """
    producer = None if isinstance(value, ir.BlockArgument) else value.owner.operation
    if producer is not None and producer.name == "tosa.pad":
        padding = _padding(producer)
        if padding is not None:
            low, high, pads = padding
            outer = (low[0], low[3], high[0], high[3])
            if pads == fill and not any(outer):
                source = conv.signed(op, producer.operands[0])
                return source, (low[1], low[2]), (high[1], high[2])
    return conv.signed(op, value), (0, 0), (0, 0)


def uncropped(op: ir.Operation, value: ir.Value) -> ir.Value:
    """``value`` before rows and columns were cut off that no window of ``op`` reaches anyway.

    TOSA demands that windows fit exactly, so producers crop the input of strided ones.
    """
    if isinstance(value, ir.BlockArgument) or value.owner.name != "tosa.slice":
        return value
    crop = value.owner.operation
    source, start = crop.operands[0], constant(crop.operands[1])
    if start is None or start.any():
        return value
    lost = [a - b for a, b in zip(source.type.shape, value.type.shape, strict=True)]
    _, bottom, _, right = op.attributes["pad"]
    rows, columns = op.attributes["stride"]
    unreached = [0, 0 if bottom else rows - 1, 0 if right else columns - 1, 0]
    return source if all(a <= b for a, b in zip(lost, unreached, strict=True)) else value


def slice_(conv: Converter, op: ir.Operation) -> Activation | None:
    start = constant(op.operands[1])
    if start is None:
        return None
    x = _moved(conv, op)
    # The sizes may be -1, for what the result's type says.
    sizes = op.results[0].type.shape
    places = [range(a, a + n) for a, n in zip(start.tolist(), sizes, strict=True)]
    return movement.select(conv.builder, name_of(op), "slice", x, places)


def reverse(conv: Converter, op: ir.Operation) -> Activation:
    x = _moved(conv, op)
    places = [range(n) for n in x.layout.shape]
    axis = op.attributes["axis"].value
    places[axis] = places[axis][::-1]
    return movement.select(conv.builder, name_of(op), "reverse", x, places)


def tile(conv: Converter, op: ir.Operation) -> Activation | None:
    multiples = constant(op.operands[1])
    if multiples is None:
        return None
    x = _moved(conv, op)
    places = [
        list(range(n)) * count for n, count in zip(x.layout.shape, multiples.tolist(), strict=True)
    ]
    return movement.select(conv.builder, name_of(op), "tile", x, places)


def resize(conv: Converter, op: ir.Operation) -> Activation | None:
    """Nearest neighbours: along each axis, the input index of each output index."""
    scale, offset = (constant(op.operands[i]) for i in (1, 2))
    nearest = "NEAREST" in str(op.attributes["mode"])
    if scale is None or offset is None or not nearest:
        return None
    x = _moved(conv, op)
    shape = op.results[0].type.shape
    places: list[Sequence[int]] = [range(n) for n in x.layout.shape]
    for axis in (0, 1):
        numerator, denominator = scale.tolist()[2 * axis : 2 * axis + 2]
        last = x.layout.shape[1 + axis] - 1
        taken = []
        for position in range(shape[1 + axis]):
            index, rest = divmod(position * denominator + offset.tolist()[axis], numerator)
            taken.append(min(max(index + (2 * rest >= numerator), 0), last))
        places[1 + axis] = taken
    return movement.select(conv.builder, name_of(op), "resize_nearest", x, places)
