"""Words in memory and pairs of words in a register pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinymlir.bindings import arith, builtin, ir, llvm, memref
from tinymlir.dialects import tiny
from tinymlir.kernels.emitter import Emitter, Index

#: Words copied between two branches, and loaded before any of them is stored.
COPIED, LOADED = 16, 4


def view(scratch: ir.Value, width: int) -> ir.Value:
    """Scratch bytes as integers of ``width`` bits."""
    size = scratch.type.shape[0] * 8 // width
    kind = ir.MemRefType.get([size], ir.IntegerType.get_signless(width))
    return memref.view(kind, scratch, arith.constant(ir.IndexType.get(), 0), [])


def moved(emitter: Emitter, buffer: ir.Value, by: Index) -> ir.Value:
    """The bytes of ``buffer`` that begin ``by`` further on."""
    return memref.view(buffer.type, buffer, emitter.index(by), [])


def stream(buffer: ir.Value) -> ir.Value:
    """A pointer to the first byte of a one-dimensional buffer, for `fetch` and `advance`.

    A loop that carries it gives LLVM one pointer with constant offsets.
    """
    pointer = ir.Type.parse("!llvm.ptr")
    # What a memref is once it is lowered, with the 32-bit index of all our conversions.
    descriptor = ir.Type.parse("!llvm.struct<(ptr, ptr, i32, array<1 x i32>, array<1 x i32>)>")
    lowered = builtin.unrealized_conversion_cast([descriptor], [buffer])
    return llvm.extractvalue(pointer, lowered, [1])


#: What llvm.getelementptr has in the place of an index that is an operand.
_DYNAMIC = -(1 << 31)


def advance(pointer: ir.Value, words: Index) -> ir.Value:
    """The address so many words further on."""
    return _advance(pointer, words, 32)


def advance_bytes(pointer: ir.Value, count: Index) -> ir.Value:
    """The address so many bytes further on."""
    return _advance(pointer, count, 8)


def _advance(pointer: ir.Value, count: Index, width: int) -> ir.Value:
    kind = ir.TypeAttr.get(ir.IntegerType.get_signless(width))
    if isinstance(count, int):
        return llvm.getelementptr(pointer.type, pointer, [], [count], kind, 0) if count else pointer
    operand = arith.index_cast(ir.IntegerType.get_signless(32), count)
    return llvm.getelementptr(pointer.type, pointer, [operand], [_DYNAMIC], kind, 0)


def below(a: ir.Value, b: ir.Value) -> ir.Value:
    """Whether an address comes before another one."""
    return llvm.icmp(6, a, b)


def fetch(pointer: ir.Value, word: int, alignment: int = 4) -> ir.Value:
    """The i32 that lies ``word`` words from an address, loaded where this is emitted.

    The load is volatile, since LLVM would hoist it until accumulators spill.
    """
    i32 = ir.IntegerType.get_signless(32)
    return llvm.load(i32, advance(pointer, word), volatile_=True, alignment=alignment)


def fetch_byte(pointer: ir.Value, byte: int) -> ir.Value:
    """The i8 that lies ``byte`` bytes from an address, loaded where this is emitted (`fetch`)."""
    i8 = ir.IntegerType.get_signless(8)
    return llvm.load(i8, advance_bytes(pointer, byte), volatile_=True, alignment=1)


def put(word: ir.Value, pointer: ir.Value, place: Index, alignment: int = 4) -> None:
    """Store an i32 ``place`` words from an address, where this is emitted.

    The store is volatile: two of them take less than the instruction that LLVM would make of both.
    """
    llvm.store(word, advance(pointer, place), volatile_=True, alignment=alignment)


def copy_words(
    emitter: Emitter,
    source: ir.Value,
    target: ir.Value,
    count: int,
    alignment: int = 4,
    parts: Callable[[ir.Value], list[ir.Value]] = lambda word: [word],
) -> None:
    """Copy ``count`` words, or what ``parts`` makes of each, from any address to ``alignment``."""

    def copy(words: int, source: ir.Value, target: ir.Value) -> list[ir.Value]:
        return put_words(source, target, words, alignment, parts)

    emitter.turns(count, COPIED, copy, [source, target])


def put_words(
    source: ir.Value,
    target: ir.Value,
    count: int,
    alignment: int,
    parts: Callable[[ir.Value], list[ir.Value]],
    apart: int = 1,
) -> list[ir.Value]:
    """`copy_words` without a branch, one part ``apart`` words after the other.

    Returns where the next words come from and go to.
    """
    place = 0
    for first in range(0, count, LOADED):
        # None is stored right after it is loaded, and loads one after the other take less.
        some = range(first, min(first + LOADED, count))
        for word in [fetch(source, number, alignment=1) for number in some]:
            for part in parts(word):
                put(part, target, place, alignment)
                place += apart
    return [advance(source, count), advance(target, place)]


def copy_bytes(emitter: Emitter, source: ir.Value, target: ir.Value, count: int) -> None:
    """Copy ``count`` bytes between any addresses."""
    copy_words(emitter, source, target, count // 4, alignment=1)
    for place in range(count // 4 * 4, count):
        llvm.store(fetch_byte(source, place), advance_bytes(target, place), alignment=1)


def load_word(emitter: Emitter, source: ir.Value, positions: Sequence[Index]) -> ir.Value:
    """Up to four bytes as an i32, the first one lowest, wherever they lie.

    LLVM makes one load of neighbours on cores that load words at any address.
    """
    i32 = ir.IntegerType.get_signless(32)
    word: ir.Value | None = None
    for lane, where in enumerate(positions):
        byte = arith.extui(i32, emitter.load(source, [where]))
        shifted = arith.shli(byte, emitter.integer(8 * lane)) if lane else byte
        word = shifted if word is None else arith.ori(word, shifted)
    assert word is not None
    return word


def store_word(
    emitter: Emitter, word: ir.Value, target: ir.Value, positions: Sequence[Index]
) -> None:
    """Put the four bytes of an i32, the lowest first, wherever they go.

    LLVM makes one store of neighbours on cores that store words at any address.
    """
    i8 = ir.IntegerType.get_signless(8)
    for lane, where in enumerate(positions):
        part = arith.shrui(word, emitter.integer(8 * lane)) if lane else word
        emitter.store(arith.trunci(i8, part), target, [where])


def load_any(emitter: Emitter, source: ir.Value, where: Index) -> ir.Value:
    """The four bytes from ``where`` on as an i32, the first one lowest; no alignment is asked.

    LLVM splits the load on cores that load words at multiples of four only.
    """
    word = ir.MemRefType.get([1], ir.IntegerType.get_signless(32))
    there = memref.view(word, source, emitter.index(where), [])
    return memref.load(there, [emitter.index(0)], alignment=1)


def store_any(emitter: Emitter, word: ir.Value, target: ir.Value, where: Index) -> None:
    """Put the four bytes of an i32, the lowest first, from ``where`` on; no alignment is asked."""
    kind = ir.MemRefType.get([1], ir.IntegerType.get_signless(32))
    there = memref.view(kind, target, emitter.index(where), [])
    memref.store(word, there, [emitter.index(0)], alignment=1)


def halves(emitter: Emitter, pair: ir.Value) -> list[ir.Value]:
    """The low and the high word of an i64."""
    i32, high = ir.IntegerType.get_signless(32), emitter.integer(32, 64)
    return [arith.trunci(i32, pair), arith.trunci(i32, arith.shrui(pair, high))]


def half(word: ir.Value, high: int) -> ir.Value:
    """The low or the high halfword of an i32, sign-extended."""
    i16, i32 = (ir.IntegerType.get_signless(width) for width in (16, 32))
    if high:
        return arith.shrsi(word, arith.constant(i32, 16))
    return arith.extsi(i32, arith.trunci(i16, word))


def halves_of(word: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The low and the high halfword of an i32, as unsigned numbers."""
    i32 = ir.IntegerType.get_signless(32)
    low = arith.andi(word, arith.constant(i32, 0xFFFF))
    return low, arith.shrui(word, arith.constant(i32, 16))


def extend(word: ir.Value, first: int) -> ir.Value:
    """`tiny.extend_bytes`: bytes 0 and 2 (``first`` 0) or 1 and 3 as halfwords."""
    return tiny.ExtendBytesOp(
        word, first=ir.IntegerAttr.get(ir.IntegerType.get_signless(32), first)
    ).res


def neighbours(first: ir.Value, second: ir.Value) -> list[ir.Value]:
    """The bytes of two words as halfwords: the first byte of each in a word, then the second…"""
    i32 = first.type
    low, high = arith.constant(i32, 0xFFFF), arith.constant(i32, -(1 << 16))
    sixteen = arith.constant(i32, 16)
    lows = arith.ori(arith.andi(first, low), arith.shli(second, sixteen))
    highs = arith.ori(arith.shrui(first, sixteen), arith.andi(second, high))
    return [extend(word, odd) for word in (lows, highs) for odd in (0, 1)]


def settled(value: ir.Value) -> ir.Value:
    """``value``, computed where this is emitted, as one of which LLVM knows nothing.

    LLVM moves what one of two branches uses into it, and has what that is made of wait in
    registers.
    """
    return llvm.inline_asm(value.type, [value], "", "=r,0", has_side_effects=True)


def repeated(value: int, width: int) -> int:
    """``value`` in every ``width`` bits of an i32."""
    part = (1 << width) - 1
    word = (value & part) * (0xFFFFFFFF // part)
    return word - (1 << 32) if word >> 31 else word
