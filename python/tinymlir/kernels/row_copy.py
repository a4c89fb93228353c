"""A row of the input, some channels of it, as a ring of rows in scratch memory has it."""

from __future__ import annotations

from typing import Protocol

from tinymlir.bindings import arith, func, ir, llvm
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.words import advance_bytes, fetch, fetch_byte, repeated, stream
from tinymlir.targets import Target

#: Channels of a ring: a word of activations.
CHANNEL_BLOCK = 4
#: Columns copied between two branches, which are loaded before they are stored.
_UNROLL = 4


class Ring(Protocol):
    """How columns lie in a ring of rows."""

    emitter: Emitter
    #: bytes from a column to the next one
    pitch: int

    def store(self, target: ir.Value, column: list[ir.Value]) -> None:
        """A column at ``target``: the bytes of its channels, i8, or all four of them as an i32."""


def ring_columns(conv: Convolution) -> int:
    """Columns of a row of the ring: all that windows reach."""
    return (conv.out_hw[1] - 1) * conv.stride[1] + conv.kernel[1]


def copy_mix(conv: Convolution, core: Target, stores: int, width: int) -> Mix:
    """The function that `emit_row_copy` emits, called once; ``stores`` for a column."""
    loads = 1 if core.has("unaligned") and width == CHANNEL_BLOCK else width
    column, columns = line(load=loads, store=stores), ring_columns(conv)
    # A leaf that saves few registers.
    copy = loop(column, columns, _UNROLL) + line(alu=12, store=2, load=2, call=1, jump=1)
    # A row is copied, or is all padding.
    return copy + loop(line(store=stores), columns, _UNROLL).times(0) * 3


def emit_row_copy(
    conv: Convolution, layer: Layer, core: Target, scratch_type: ir.Type, ring: Ring, width: int
) -> str:
    """``@layer<i>_row<width>(input, scratch, row, slot, channel)``: a row of the ring.

    The columns that windows reach, ``width`` channels of them; a row beside the image is
    all padding. ``slot`` counts columns.
    """
    symbol = f"{layer.function.name.value}_row{width}"
    index, emitter = ir.IndexType.get(), ring.emitter
    height, in_columns = conv.in_hw
    types = [layer.source.buffer.type, scratch_type, index, index, index]
    with ir.InsertionPoint.after(layer.function.operation):
        helper = func.FuncOp(symbol, (types, []), visibility="private")
    columns = ring_columns(conv)
    left = min(conv.pad[1], columns)
    right = min(left + in_columns, columns)
    whole = core.has("unaligned") and width == CHANNEL_BLOCK

    def load(source: ir.Value, place: int) -> list[ir.Value]:
        if whole:
            return [fetch(advance_bytes(source, place), 0, alignment=1)]
        return [fetch_byte(source, place + lane) for lane in range(width)]

    def copy(count: int, source: ir.Value, target: ir.Value) -> list[ir.Value]:
        found = [load(source, c * conv.groups) for c in range(count)]
        for c, column in enumerate(found):
            ring.store(advance_bytes(target, c * ring.pitch), column)
        return [
            advance_bytes(source, count * conv.groups),
            advance_bytes(target, count * ring.pitch),
        ]

    with ir.InsertionPoint(helper.add_entry_block()):
        source, scratch, row, slot, channel = helper.arguments
        filler = [emitter.integer(repeated(conv.pad_value, 8))]
        begin = advance_bytes(stream(scratch), emitter.mul(slot, ring.pitch))

        def fill(first: int, end: int) -> None:
            def some(count: int, target: ir.Value) -> list[ir.Value]:
                for c in range(count):
                    ring.store(advance_bytes(target, c * ring.pitch), filler)
                return [advance_bytes(target, count * ring.pitch)]

            at = [advance_bytes(begin, first * ring.pitch)]
            emitter.turns(end - first, _UNROLL, some, at)

        def image() -> None:
            fill(0, left)
            start = emitter.add(emitter.mul(row, in_columns * conv.groups), channel)
            ends = [advance_bytes(stream(source), start), advance_bytes(begin, left * ring.pitch)]
            emitter.turns(right - left, _UNROLL, copy, ends)
            fill(right, columns)

        inside = arith.cmpi(arith.CmpIPredicate.ult, row, emitter.index(height))
        emitter.either(inside, image, lambda: fill(0, columns))
        func.ReturnOp([])
    return symbol


class WordRing:
    """Columns as words: the channels of the block in their order."""

    pitch = CHANNEL_BLOCK

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter

    def store(self, target: ir.Value, column: list[ir.Value]) -> None:
        """A column: its word, or its bytes."""
        size = column[0].type.width // 8
        for lane, part in enumerate(column):
            llvm.store(part, advance_bytes(target, lane), alignment=size)


class PlaneRing:
    """Columns as bytes in the planes of their channels, ``plane`` bytes apart."""

    pitch = 1

    def __init__(self, emitter: Emitter, plane: int) -> None:
        self.emitter, self.plane = emitter, plane

    def store(self, target: ir.Value, column: list[ir.Value]) -> None:
        """The bytes of a column."""
        i8 = ir.IntegerType.get_signless(8)
        if column[0].type != i8:
            shifts = [self.emitter.integer(8 * lane) for lane in range(CHANNEL_BLOCK)]
            column = [arith.trunci(i8, arith.shrui(column[0], shift)) for shift in shifts]
        for lane, part in enumerate(column):
            llvm.store(part, advance_bytes(target, lane * self.plane), alignment=1)
