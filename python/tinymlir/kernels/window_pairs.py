"""The windows of a few pixels side by side, two pixels in a word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinymlir.bindings import arith, func, ir, memref, scf
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.words import view

#: Operands gathered between two branches.
_UNROLL = 4


def emit_gather(conv: Convolution, layer: Layer, scratch: ir.Value, pixels: int) -> str:
    """``@layer<i>_gather<pixels>(input, scratch, row, column, first)``: windows of neighbours.

    Word ``operand · words + q`` of the scratch memory gets x₀ + 2¹⁶·x₁, the operand of the
    pixels 2q and 2q + 1, in the order kernel row, kernel column, channel; padding included.
    The last pixel of an odd number is alone in its word. ``first`` is the first column that
    is in memory.
    """
    symbol = f"{layer.function.name.value}_gather{pixels}"
    types = [layer.source.buffer.type, scratch.type, *[ir.IndexType.get()] * 3]
    with ir.InsertionPoint.after(layer.function.operation):
        helper = func.FuncOp(symbol, (types, []), visibility="private")
    with ir.InsertionPoint(helper.add_entry_block()):
        buffer, scratch, row, column, first = helper.arguments
        if isinstance(layer.source.first_column, int):
            first = layer.source.first_column
        source = replace(layer.source, buffer=buffer, first_column=first)
        _Windows(conv, layer.emitter, layer.pool, source, scratch, row, column, pixels).emit()
        func.ReturnOp([])
    return symbol


class _Windows:
    """The windows of neighbouring output pixels, on their way to scratch memory."""

    def __init__(
        self,
        conv: Convolution,
        emitter: Emitter,
        pool: ConstantPool,
        source: Rows,
        scratch: ir.Value,
        row: Index,
        column: Index,
        pixels: int,
    ) -> None:
        self.conv, self.emitter, self.pool = conv, emitter, pool
        self.source, self.scratch = source, view(scratch, 32)
        self.pixels, self.words = pixels, -(-pixels // 2)
        self.depth = conv.in_per_group
        #: operands of a kernel row
        self.run = conv.kernel[1] * self.depth
        self.top = input_row(emitter, conv, row, 0)
        self.left = input_column(emitter, conv, column)

    def emit(self) -> None:
        emitter, conv = self.emitter, self.conv

        def kernel_row(kh: Index) -> None:
            row = emitter.add(self.top, emitter.mul(kh, conv.dilation[0]))
            first = emitter.mul(kh, self.run)
            inside = self._inside(row)
            if inside is None:
                self._put_inside(row, first)
                return
            choice = scf.IfOp(inside, has_else=True)
            with ir.InsertionPoint(choice.then_block):
                self._put_inside(row, first)
                scf.yield_([])
            with ir.InsertionPoint(choice.else_block):
                self._put_at_border(row, first)
                scf.yield_([])

        emitter.loop(0, conv.kernel[0], 1, kernel_row)

    def _inside(self, row: Index) -> ir.Value | None:
        """Whether no padding lies under a kernel row of any pixel; None if it never does."""
        conv = self.conv
        reach = conv.dilation[1] * (conv.kernel[1] - 1) + conv.stride[1] * (self.pixels - 1)
        tests = []
        for axis, start, room in (
            (0, row, conv.in_hw[0]),
            (1, self.left, max(conv.in_hw[1] - reach, 0)),
        ):
            if len(conv.interior(axis)) < conv.out_hw[axis]:
                tests.append(self._below(start, room))
        if len(tests) == 2:
            return arith.andi(*tests)
        return tests[0] if tests else None

    def _below(self, position: Index, room: int) -> ir.Value:
        """Whether ``0 <= position < room``."""
        emitter = self.emitter
        return arith.cmpi(arith.CmpIPredicate.ult, emitter.index(position), emitter.index(room))

    def _put_inside(self, row: Index, first: Index) -> None:
        """A kernel row that is all input: its taps follow one another if not dilated."""
        emitter, conv = self.emitter, self.conv
        start = self.source.origin(emitter, row)
        origin = emitter.add(start, emitter.mul(self.left, self.depth))
        apart = conv.stride[1] * self.depth

        def operands(at: Index, begin: Index, count: int) -> None:
            def operand(r: Index) -> None:
                where = emitter.add(begin, r)
                self._put(
                    emitter.add(at, r),
                    [
                        emitter.load(self.source.buffer, [emitter.add(where, p * apart)])
                        for p in range(self.pixels)
                    ],
                )

            emitter.loop(0, count, 1, operand, unroll=_UNROLL)

        if conv.dilation[1] == 1:
            operands(first, origin, self.run)
            return

        def tap(kw: Index) -> None:
            step = emitter.mul(kw, conv.dilation[1] * self.depth)
            at = emitter.add(first, emitter.mul(kw, self.depth))
            operands(at, emitter.add(origin, step), self.depth)

        emitter.loop(0, conv.kernel[1], 1, tap)

    def _put_at_border(self, row: Index, first: Index) -> None:
        """A kernel row tap by tap, where a tap in the padding reads a pixel of padding."""
        emitter, conv = self.emitter, self.conv
        i8 = ir.IntegerType.get_signless(8)
        anywhere = ir.MemRefType.get([ir.ShapedType.get_dynamic_size()], i8)
        padding = self.pool.get(np.full(self.depth, conv.pad_value, np.int8), "padding")
        source, beside = memref.cast(anywhere, self.source.buffer), memref.cast(anywhere, padding)
        row_inside = self._below(row, conv.in_hw[0])
        row_start = self.source.origin(emitter, row)

        def tap(kw: Index) -> None:
            column = emitter.add(self.left, emitter.mul(kw, conv.dilation[1]))
            places = []
            for p in range(self.pixels):
                own = emitter.add(column, p * conv.stride[1])
                inside = arith.andi(row_inside, self._below(own, conv.in_hw[1]))
                start = emitter.add(row_start, emitter.mul(own, self.depth))
                zero = emitter.index(0)
                places.append(
                    (
                        arith.select(inside, source, beside),
                        arith.select(inside, emitter.index(start), zero),
                    )
                )
            at = emitter.add(first, emitter.mul(kw, self.depth))

            def operand(c: Index) -> None:
                self._put(
                    emitter.add(at, c),
                    [emitter.load(buffer, [emitter.add(start, c)]) for buffer, start in places],
                )

            emitter.loop(0, self.depth, 1, operand, unroll=_UNROLL)

        emitter.loop(0, conv.kernel[1], 1, tap)

    def _put(self, operand: Index, activations: list[ir.Value]) -> None:
        """One operand of all pixels."""
        emitter = self.emitter
        wide = [emitter.widen(value) for value in activations]
        for q in range(self.words):
            word = wide[2 * q]
            if 2 * q + 1 < self.pixels:
                high = arith.shli(wide[2 * q + 1], emitter.integer(16))
                word = arith.addi(word, high)
            where = emitter.add(emitter.mul(operand, self.words), q)
            emitter.store(word, self.scratch, [where])
