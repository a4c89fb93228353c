"""Convolution two MACs at a time: windows widened once, then dot products by SMLAD.

The windows of a block of pixels are copied to scratch memory as halfwords (im2col),
padding included, so that the border needs no code of its own. Every output channel
then reads them as pairs, against weights that stay bytes in flash and are widened
four at a time. The work of widening an activation is shared by all channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinymlir.bindings import arith, func, ir, memref
from tinymlir.dialects import tiny
from tinymlir.kernels.convolution import (
    Convolution,
    Site,
    finish,
    input_column,
    input_row,
)
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.evaluator import Evaluator

#: Output channels and pixels computed together: 4 accumulators, 4 activation pairs and 2
#: weight pairs leave Thumb-2's registers no room for more.
_CHANNELS = 2
PIXELS = 2
#: Operands of one step: a word of weights.
_STEP = 4
#: Scratch memory beyond which a layer is better off without.
_SCRATCH_LIMIT = 8192


def _row_length(conv: Convolution) -> int:
    """Operands per kernel row, filled up with zero weights to whole words."""
    return -(-conv.kernel[1] * conv.in_per_group // _STEP) * _STEP


def _whole_words(conv: Convolution) -> bool:
    """Whether pixels are whole words: then activations are loaded and widened four at a time."""
    return conv.in_per_group % _STEP == 0


def _steps(conv: Convolution) -> int:
    return conv.kernel[0] * _row_length(conv) // _STEP


def scratch_bytes(conv: Convolution) -> int:
    """Scratch memory: two words for each step and pixel."""
    return _steps(conv) * 2 * PIXELS * 4


def takes(conv: Convolution) -> bool:
    """Whether this kernel pays: enough channels to share the widening, and room for it."""
    enough = conv.out_per_group >= _STEP and conv.weights[0, 0].size >= 2 * _STEP
    plain = conv.groups == 1 and conv.dilation[1] == 1
    return plain and enough and scratch_bytes(conv) <= _SCRATCH_LIMIT


def executed_macs(conv: Convolution) -> int:
    """MACs of the dot products: padding under a window included."""
    rows, columns = conv.out_hw
    return rows * columns * conv.out_per_group * conv.weights[0, 0].size


def pack_words(conv: Convolution) -> np.ndarray:
    """Weights as words, ``[block][step][channel of block]``.

    `tiny.extend_bytes` pairs bytes 0 and 2, 1 and 3. Activations that are widened by
    it pair up alike; those that are stored one by one lie in order, and there the
    two middle bytes of each word change places.
    """
    out, kernel_h, _, _ = (conv.out_per_group, *conv.weights.shape[2:])
    length = _row_length(conv)
    rows = conv.weights[0].reshape(out, kernel_h, -1)
    padded = np.zeros((out, kernel_h, length), np.int8)
    padded[:, :, : rows.shape[2]] = rows
    words = padded.reshape(out, -1, _STEP)
    if not _whole_words(conv):
        words = words[:, :, [0, 2, 1, 3]]
    flat = np.ascontiguousarray(words).view("<i4")[:, :, 0]
    blocks = [flat[o : o + _CHANNELS].T.reshape(-1) for o in range(0, out, _CHANNELS)]
    return np.concatenate(blocks).astype(np.int32)


def emit_im2col_convolution(
    conv: Convolution,
    root: ir.Value,
    function: func.FuncOp,
    bind: Callable[[func.FuncOp], tuple[Evaluator, ir.Value, ir.Value]],
    scratch: ir.Value,
    emitter: Emitter,
    pool: ConstantPool,
) -> None:
    """The whole layer: for each block of pixels of a row, im2col and then all channels."""
    symbol = _emit_im2col(conv, function, scratch.type, emitter)
    evaluator, source, out = bind(function)

    def block(row: Index, column: Index, pixels: int) -> None:
        site = Site(evaluator, source, out, row, column, (0, 0), (0, 0), border=False)
        for p in range(pixels):
            where = [emitter.index(v) for v in (row, emitter.add(column, p), 2 * p)]
            func.call([], symbol, [source, scratch, *where])
        _emit_channels(conv, root, site, pixels, scratch, emitter, pool)

    def one_row(row: Index) -> None:
        columns = conv.out_hw[1]
        whole = columns // PIXELS * PIXELS
        emitter.loop(0, whole, PIXELS, lambda column: block(row, column, PIXELS))
        if whole < columns:
            block(row, whole, columns - whole)

    emitter.loop(0, conv.out_hw[0], 1, one_row)


def _emit_channels(
    conv: Convolution,
    root: ir.Value,
    site: Site,
    pixels: int,
    scratch: ir.Value,
    emitter: Emitter,
    pool: ConstantPool,
) -> None:
    steps = _steps(conv)
    words = _view(scratch, 32)
    weights = pool.get(pack_words(conv), "weights")
    bias = pool.get(conv.bias, "bias")

    def channel_block(first: Index, width: int) -> None:
        start = emitter.mul(first, steps)
        sums = [emitter.load(bias, [emitter.add(first, b)]) for b in range(width)] * pixels

        def step(k: Index, *carried: ir.Value) -> list[ir.Value]:
            place = emitter.mul(k, 2 * PIXELS)
            pairs = [
                [emitter.load(words, [emitter.add(place, 2 * p + half)]) for half in (0, 1)]
                for p in range(pixels)
            ]
            totals = list(carried)
            at = emitter.add(start, emitter.mul(k, width))
            for b in range(width):
                word = emitter.load(weights, [emitter.add(at, b)])
                for half in (0, 1):
                    widened = _extend(word, half)
                    for p in range(pixels):
                        index = p * width + b
                        totals[index] = tiny.DualMacOp(totals[index], pairs[p][half], widened).res
            return totals

        sums = emitter.loop(0, steps, 1, step, sums)
        for p in range(pixels):
            for b in range(width):
                finish(conv, site, root, p, emitter.add(first, b), sums[p * width + b])

    channels = conv.out_per_group
    whole = channels // _CHANNELS * _CHANNELS
    emitter.loop(0, whole, _CHANNELS, lambda first: channel_block(first, _CHANNELS))
    if whole < channels:
        channel_block(whole, channels - whole)


def _extend(word: ir.Value, first: int) -> ir.Value:
    i32 = ir.IntegerType.get_signless(32)
    return tiny.ExtendBytesOp(word, first=ir.IntegerAttr.get(i32, first)).res


def _emit_im2col(
    conv: Convolution, function: func.FuncOp, scratch_type: ir.Type, emitter: Emitter
) -> str:
    """``@layer<i>_im2col(input, scratch, row, column, place)``: one window, widened.

    ``place`` is the window's first word; the words of a step of all pixels lie
    side by side.
    """
    symbol = f"{function.name.value}_im2col"
    index = ir.IndexType.get()
    size = int(np.prod([*conv.in_hw, conv.in_per_group]))
    source_type = ir.MemRefType.get([size], ir.IntegerType.get_signless(8))
    with ir.InsertionPoint.after(function.operation):
        helper = func.FuncOp(
            symbol, ([source_type, scratch_type, index, index, index], []), visibility="private"
        )
    depth, length = conv.in_per_group, _row_length(conv)
    with ir.InsertionPoint(helper.add_entry_block()):
        source, scratch, row, column, place = helper.arguments
        put = _put_words if _whole_words(conv) else _put_halfwords
        start = input_column(emitter, conv, column)
        first, last = _column_taps(conv, emitter, start)
        low, high = emitter.mul(first, depth), emitter.mul(last, depth)

        def kernel_row(kh: Index) -> None:
            in_row = input_row(emitter, conv, row, kh)
            base = emitter.mul(emitter.add(emitter.mul(in_row, conv.in_hw[1]), start), depth)
            slot = emitter.mul(kh, length)
            inside = arith.cmpi(
                arith.CmpIPredicate.ult, emitter.index(in_row), emitter.index(conv.in_hw[0])
            )
            zero = emitter.index(0)
            begin = arith.select(inside, emitter.index(low), zero)
            end = arith.select(inside, emitter.index(high), zero)
            whole = conv.kernel[1] * depth
            put(emitter, scratch, place, slot, 0, begin, None, conv.pad_value)
            put(emitter, scratch, place, slot, begin, end, (source, base), conv.pad_value)
            put(emitter, scratch, place, slot, end, whole, None, conv.pad_value)

        emitter.loop(0, conv.kernel[0], 1, kernel_row)
        func.ReturnOp([])
    return symbol


def _column_taps(conv: Convolution, emitter: Emitter, start: Index) -> tuple[Index, Index]:
    """First and past-the-last kernel column that falls on the input."""
    first = emitter.maximum(emitter.sub(0, start), 0)
    last = emitter.minimum(emitter.sub(conv.in_hw[1], start), conv.kernel[1])
    # A window wholly beside the image has none.
    return emitter.minimum(first, conv.kernel[1]), emitter.maximum(last, first)


def _put_words(
    emitter: Emitter,
    scratch: ir.Value,
    place: ir.Value,
    slot: Index,
    begin: Index,
    end: Index,
    origin: tuple[ir.Value, Index] | None,
    fill: int,
) -> None:
    """Operands ``begin`` to ``end`` of a kernel row, both multiples of a word."""
    words = _view(scratch, 32)
    two = emitter.index(2)

    def quarter(position: Index) -> Index:
        if isinstance(position, int):
            return position // _STEP
        return arith.shrui(position, two)

    def one(q: Index) -> None:
        step = emitter.add(quarter(slot), q)
        at = emitter.add(emitter.mul(step, 2 * PIXELS), place)
        if origin is None:
            pairs = [emitter.integer(_both_halves(fill))] * 2
        else:
            source, base = origin
            word = _load_word(emitter, source, emitter.add(base, emitter.mul(q, _STEP)))
            pairs = [_extend(word, 0), _extend(word, 1)]
        for half, pair in enumerate(pairs):
            emitter.store(pair, words, [emitter.add(at, half)])

    emitter.loop(quarter(begin), quarter(end), 1, one)


def _put_halfwords(
    emitter: Emitter,
    scratch: ir.Value,
    place: ir.Value,
    slot: Index,
    begin: Index,
    end: Index,
    origin: tuple[ir.Value, Index] | None,
    fill: int,
) -> None:
    """Operands ``begin`` to ``end`` of a kernel row, one by one and in order."""
    halfwords = _view(scratch, 16)
    i16 = ir.IntegerType.get_signless(16)
    two, three = emitter.index(2), emitter.index(_STEP - 1)

    def one(r: Index) -> None:
        position = emitter.index(emitter.add(slot, r))
        step, lane = arith.shrui(position, two), arith.andi(position, three)
        word = emitter.add(emitter.mul(step, 2 * PIXELS), place)
        if origin is None:
            value = emitter.integer(fill, 16)
        else:
            source, base = origin
            value = arith.extsi(i16, emitter.load(source, [emitter.add(base, r)]))
        emitter.store(value, halfwords, [emitter.add(emitter.mul(word, 2), lane)])

    emitter.loop(begin, end, 1, one)


def _both_halves(value: int) -> int:
    """``value`` in both halfwords of an i32."""
    word = (value & 0xFFFF) * 0x10001
    return word - (1 << 32) if word >> 31 else word


def _view(scratch: ir.Value, width: int) -> ir.Value:
    """The scratch bytes as integers of ``width`` bits."""
    size = scratch.type.shape[0] * 8 // width
    kind = ir.MemRefType.get([size], ir.IntegerType.get_signless(width))
    return memref.view(kind, scratch, arith.constant(ir.IndexType.get(), 0), [])


def _load_word(emitter: Emitter, source: ir.Value, where: Index) -> ir.Value:
    """Four bytes as an i32, the first one lowest, wherever they lie.

    LLVM makes one load of it on cores that load words at any address.
    """
    i32 = ir.IntegerType.get_signless(32)
    word: ir.Value | None = None
    for position in range(_STEP):
        byte = arith.extui(i32, emitter.load(source, [emitter.add(where, position)]))
        shifted = arith.shli(byte, emitter.integer(8 * position)) if position else byte
        word = shifted if word is None else arith.ori(word, shifted)
    assert word is not None
    return word
