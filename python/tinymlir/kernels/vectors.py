"""Vectors of 128 bits: loads, stores and arithmetic on them, in the standard dialects.

Nothing here is of one instruction set; LLVM finds the instructions, on Helium mostly one for
each function.
"""

from __future__ import annotations

from tinymlir.bindings import arith, ir, llvm, memref, vector
from tinymlir.kernels.emitter import Emitter, Index

#: Bytes of a vector, and 32-bit elements of one.
BYTES = 16
WORDS = 4
#: Vectors copied without a loop.
_MOST_COPIED = 16


def integers(count: int, width: int) -> ir.Type:
    """A vector type."""
    return ir.VectorType.get([count], ir.IntegerType.get_signless(width))


def splat(value: int, count: int = WORDS, width: int = 32) -> ir.Value:
    """``value`` in every element."""
    kind = integers(count, width)
    element = ir.IntegerAttr.get(kind.element_type, value)
    return arith.constant(kind, ir.DenseElementsAttr.get_splat(kind, element))


def spread(value: ir.Value) -> ir.Value:
    """A scalar in each of four 32-bit elements."""
    return vector.broadcast(integers(WORDS, 32), value)


def load(
    emitter: Emitter,
    buffer: ir.Value,
    at: Index,
    count: int,
    width: int,
    alignment: int = 1,
) -> ir.Value:
    """``count`` neighbours of ``width`` bits, from byte ``at`` of a flat buffer on."""
    place = _place(emitter, buffer, at, integers(count, width))
    return memref.load(place, [], alignment=alignment)


def store(emitter: Emitter, value: ir.Value, buffer: ir.Value, at: Index) -> None:
    """Write neighbours, from byte ``at`` of a flat buffer on."""
    memref.store(value, _place(emitter, buffer, at, value.type), [], alignment=1)


def copy(
    emitter: Emitter, source: ir.Value, at: Index, target: ir.Value, to: Index, count: int
) -> None:
    """Copy ``count`` bytes between flat buffers, some of them twice, but no byte more."""
    size = next(n for n in (BYTES, 4, 2, 1) if n <= count)

    def piece(offset: Index) -> None:
        value = load(emitter, source, emitter.add(at, offset), size, 8)
        store(emitter, value, target, emitter.add(to, offset))

    emitter.loop(0, count // size * size, size, piece, unroll=_MOST_COPIED)
    if count % size:
        piece(count - size)


def _place(emitter: Emitter, buffer: ir.Value, at: Index, kind: ir.Type) -> ir.Value:
    """A part of a buffer of bytes as one vector, whatever its elements."""
    return memref.view(ir.MemRefType.get([], kind), buffer, emitter.index(at), [])


def as_bytes(words: ir.Value) -> ir.Value:
    """The bytes of four 32-bit elements."""
    return vector.bitcast(integers(BYTES, 8), words)


def high_product(lhs: ir.Value, rhs: ir.Value) -> ir.Value:
    """The high words of the products of signed 32-bit elements: one VMULH."""
    return arith.mulsi_extended(lhs, rhs)[1]


def poison() -> ir.Value:
    """Four 32-bit elements to be filled with `with_element`."""
    return llvm.mlir_poison(integers(WORDS, 32))


def with_element(into: ir.Value, value: ir.Value, place: int) -> ir.Value:
    """``into`` with one element replaced; LLVM moves two at a time, of places 2 apart."""
    return vector.insert(value, into, [], [place])


def narrow(values: ir.Value, least: int, most: int) -> ir.Value:
    """32-bit elements as bytes, limited first."""
    return arith.trunci(integers(values.type.shape[0], 8), limit(values, least, most))


def shift_down(values: ir.Value, places: int) -> ir.Value:
    """An arithmetic shift by one number for all elements."""
    return arith.shrsi(values, splat(places)) if places else values


def element(values: ir.Value, place: int) -> ir.Value:
    """One element."""
    return vector.extract(values, [], [place])


def halves(values: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The elements at even and at odd places, each of twice the width."""
    count, width = values.type.shape[0], values.type.element_type.width
    wide = integers(count // 2, 2 * width)
    return tuple(
        arith.extsi(wide, vector.shuffle(values, values, list(range(odd, count, 2))))
        for odd in (0, 1)
    )


def products(lhs: ir.Value, rhs: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Products of bytes at even and at odd places, as halfwords: VMULLB and VMULLT."""
    return tuple(arith.muli(a, b) for a, b in zip(halves(lhs), halves(rhs), strict=True))


def join(even: ir.Value, odd: ir.Value) -> ir.Value:
    """The lower halves of elements, those of ``even`` at even places: one VMOVNT."""
    count, width = even.type.shape[0], even.type.element_type.width
    parts = [vector.bitcast(integers(2 * count, width // 2), v) for v in (even, odd)]
    mask = [i + 2 * count * odd for i in range(0, 2 * count, 2) for odd in (0, 1)]
    return vector.shuffle(*parts, mask)


def limit(values: ir.Value, least: int, most: int) -> ir.Value:
    """Each element, but no less than ``least`` and no more than ``most``."""
    return arith.minsi(arith.maxsi(values, splat(least)), splat(most))


def store_first(
    emitter: Emitter, values: ir.Value, buffer: ir.Value, at: Index, count: int
) -> None:
    """Write the first ``count`` of 16 bytes."""
    if count == BYTES:
        store(emitter, values, buffer, at)
        return
    words = vector.bitcast(integers(WORDS, 32), values)
    size = BYTES // WORDS
    for place in range(count // size):
        word = vector.bitcast(
            integers(size, 8), vector.from_elements(integers(1, 32), [element(words, place)])
        )
        store(emitter, word, buffer, emitter.add(at, place * size))
    for place in range(count // size * size, count):
        emitter.store(element(values, place), buffer, [emitter.add(at, place)])
