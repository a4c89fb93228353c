"""How the windows of neighbouring pixels come to scratch memory (im2col).

Padding is included, so that the border needs no code of its own. A step is four operands, in the
form that the products take (`Form`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels import windows
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.forms import Form
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pairs import STEP
from tinymlir.kernels.parking import opaque
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.rows import Rows
from tinymlir.kernels.window_copy import call_to_scratch, emit_to_scratch
from tinymlir.kernels.words import COPIED, LOADED, advance, advance_bytes, copy_words, stream, view

#: Words copied between two branches.
_UNROLL = 8


class Gather(ABC):
    """Puts the windows of some neighbours of a row into scratch memory."""

    #: words from a pixel's window to the next pixel's
    pitch: int
    #: words from one word of a window to the next
    apart: int = 1
    #: whether columns beyond the end of a row can be the next row's
    can_wrap: ClassVar[bool] = False
    #: whether they are
    wraps: bool = False
    #: the function that copies them, from when it is first called
    symbol: str | None = None

    def __init__(self, conv: Convolution, form: Form) -> None:
        self.conv, self.form = conv, form

    @abstractmethod
    def scratch_bytes(self, pixels: int) -> int:
        """Scratch memory for the windows of ``pixels`` neighbours."""

    @abstractmethod
    def operands(self) -> np.ndarray:
        """Weights ``[channel, operand]`` in the order of a window's operands, in whole steps."""

    @abstractmethod
    def mix(self, pixels: int) -> Mix:
        """The function that `copy` calls, as often as for ``pixels`` neighbours."""

    def helper_mix(self, pixels: int, *, alone: bool) -> Mix:
        """The code of the layer's own function, if there is one."""
        return Mix() if self.shared_code() else self.mix(pixels).times(0)

    def copy_mix(self, pixels: int, *, alone: bool) -> Mix:
        """What `copy` emits for ``pixels`` neighbours; its function runs only."""
        return self.mix(pixels).elsewhere() + line(alu=6, load=2, store=2, call=1)

    def shared_code(self) -> Mapping[str, Mix]:
        """The function that `copy` calls, by a name that equal ones have, if layers share it."""
        return {}

    @abstractmethod
    def prepare(self, layer: Layer, scratch: ir.Value) -> None:
        """Note where to copy, or emit the function that `copy` calls."""

    @abstractmethod
    def copy(self, row: Index, column: Index, pixels: int, *, alone: bool) -> None:
        """Emit the copying of the windows of ``pixels`` neighbours.

        ``alone``: nowhere else, so this may take no function.
        """


def gather_of(conv: Convolution, form: Form) -> Gather:
    """The better way for ``conv``."""
    return (SharedColumns if SharedColumns.takes(conv) else SingleWindows)(conv, form)


def _in_steps(weights: np.ndarray) -> np.ndarray:
    """``[channel, ...]`` as ``[channel, operand]``, filled up to whole steps with zeros."""
    rows = weights.reshape(len(weights), -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % STEP)))


class SharedColumns(Gather):
    """Columns of input, each once, for all windows that reach it.

    A column is its ``KH × C`` operands, so a window is a run of columns, and the next pixel's
    begins a stride further on.
    """

    def __init__(self, conv: Convolution, form: Form) -> None:
        super().__init__(conv, form)
        #: input columns from one to the next in scratch memory, and of these to the next pixel
        self.spacing = conv.stride[1] if conv.kernel[1] == 1 else 1
        self.advance = 1 if conv.kernel[1] == 1 else conv.stride[1]
        #: words of a pixel
        self.pixel_words = conv.in_per_group // STEP * form.step_words
        self.column_words = conv.kernel[0] * self.pixel_words
        self.pitch = self.advance * self.column_words

    @staticmethod
    def takes(conv: Convolution) -> bool:
        """Whether pixels are whole words, and no column is copied in vain."""
        near = conv.stride[1] <= conv.kernel[1]
        apart = conv.kernel[1] == 1 and len(conv.interior(1)) == conv.out_hw[1]
        dense = conv.kernel[1] == 1 or conv.dilation[1] == 1
        return conv.in_per_group % STEP == 0 and dense and (near or apart)

    def _columns(self, pixels: int) -> int:
        return (pixels - 1) * self.advance + self.conv.kernel[1]

    def scratch_bytes(self, pixels: int) -> int:
        return self._columns(pixels) * self.column_words * 4

    def operands(self) -> np.ndarray:
        return _in_steps(self.conv.weights[0].swapaxes(1, 2))

    def mix(self, pixels: int) -> Mix:
        conv = self.conv
        together = math.gcd(conv.in_per_group // STEP, LOADED)
        some = line(load=together) + self.form.mix() * together
        put = loop(some, conv.in_per_group // STEP // together, _UNROLL // LOADED) + line(alu=4)
        row = loop(put, self._columns(pixels)) + line(alu=8, load=2)
        if self._has_padding():
            # Columns of padding have loops of their own.
            row += line(alu=20, load=4, skip=3) + loop(put, 2).times(0)
        return function(loop(row, conv.kernel[0]))

    def helper_mix(self, pixels: int, *, alone: bool) -> Mix:
        none = alone and self._is_one_run()
        return Mix() if none else super().helper_mix(pixels, alone=alone)

    def copy_mix(self, pixels: int, *, alone: bool) -> Mix:
        if not (alone and self._is_one_run()):
            return super().copy_mix(pixels, alone=alone)
        some = line(load=LOADED) + self.form.mix() * LOADED
        words = pixels * self.conv.in_per_group // STEP
        return line(alu=4, load=1) + loop(some, words / LOADED, COPIED // LOADED)

    def prepare(self, layer: Layer, scratch: ir.Value) -> None:
        self.layer, self.scratch = layer, scratch

    def copy(self, row: Index, column: Index, pixels: int, *, alone: bool) -> None:
        if alone and self._is_one_run():
            self._copy_run(row, column, pixels)
            return
        if self.symbol is None:
            self.symbol = emit_to_scratch(self.layer, self.scratch, "im2col", self._emit_rows)
        where = (row, column, self._columns(pixels))
        call_to_scratch(self.layer, self.symbol, self.scratch, where)

    def _is_one_run(self) -> bool:
        """Whether the windows of neighbours follow one another in the input, without padding."""
        return (self.conv.kernel, self.spacing) == ((1, 1), 1) and not self._has_padding()

    def _has_padding(self) -> bool:
        conv = self.conv
        return any(len(conv.interior(axis)) < conv.out_hw[axis] for axis in (0, 1))

    def _copy_run(self, row: Index, column: Index, pixels: int) -> None:
        conv, emitter, source = self.conv, self.layer.emitter, self.layer.source
        top, left = input_row(emitter, conv, row, 0), input_column(emitter, conv, column)
        depth = conv.in_per_group
        begin = emitter.add(source.origin(emitter, top), emitter.mul(left, depth))
        first, words = advance_bytes(stream(source.buffer), begin), pixels * depth // STEP
        copy_words(emitter, first, stream(self.scratch), words, parts=self.form.words)

    def _emit_rows(
        self, source: Rows, scratch: ir.Value, row: ir.Value, column: ir.Value, columns: ir.Value
    ) -> None:
        emitter = self.layer.emitter
        top, left = input_row(emitter, self.conv, row, 0), input_column(emitter, self.conv, column)
        emitter.loop(
            0,
            self.conv.kernel[0],
            1,
            lambda kh: self._kernel_row(source, scratch, kh, top, left, columns),
        )

    def _kernel_row(
        self, source: Rows, scratch: ir.Value, kh: Index, top: Index, left: Index, columns: ir.Value
    ) -> None:
        """The operands of all columns under one row of the kernel."""
        conv, emitter, words = self.conv, self.layer.emitter, view(scratch, 32)
        depth = conv.in_per_group
        row = emitter.add(top, emitter.mul(kh, conv.dilation[0]))
        origin = emitter.add(source.origin(emitter, row), emitter.mul(left, depth))
        filler, pointer = emitter.integer(self.form.filler(conv.pad_value)), stream(scratch)

        def place(column: Index) -> Index:
            start = emitter.mul(column, self.column_words)
            return emitter.add(start, emitter.mul(kh, self.pixel_words))

        def copy_from(column: Index, past: Index) -> None:
            begin = emitter.add(origin, emitter.mul(column, self.spacing * depth))
            ends = [advance_bytes(stream(source.buffer), begin), advance(pointer, place(column))]

            def copy(_: Index, source: ir.Value, target: ir.Value) -> list[ir.Value]:
                copy_words(emitter, source, target, depth // STEP, parts=self.form.words)
                following = advance_bytes(source, self.spacing * depth)
                return [opaque(end) for end in (following, advance(target, self.column_words))]

            emitter.loop(column, past, 1, copy, ends)

        def fill(column: Index) -> None:
            start = place(column)

            def step(q: Index) -> None:
                emitter.store(filler, words, [emitter.add(start, q)])

            emitter.loop(0, self.pixel_words, 1, step, unroll=_UNROLL)

        if not self._has_padding():
            copy_from(0, columns)
            return
        height, width = conv.in_hw
        inside = arith.cmpi(arith.CmpIPredicate.ult, emitter.index(row), emitter.index(height))
        low = emitter.minimum(emitter.maximum(emitter.sub(0, left), 0), columns)
        high = emitter.maximum(emitter.minimum(emitter.sub(width, left), columns), low)
        if self.spacing > 1:
            low, high = 0, columns
        begin = arith.select(inside, emitter.index(low), columns)
        end = arith.select(inside, emitter.index(high), columns)
        emitter.loop(0, begin, 1, fill)
        copy_from(begin, end)
        emitter.loop(end, columns, 1, fill)


class SingleWindows(Gather):
    """Window by window, in the order of rows, columns and channels."""

    can_wrap = True
    #: how they are copied, from when one is first copied
    copies: windows.Copies | None = None

    def __init__(self, conv: Convolution, form: Form) -> None:
        super().__init__(conv, form)
        self.pitch = windows.steps(conv) * form.step_words

    def scratch_bytes(self, pixels: int) -> int:
        return windows.scratch_bytes(self.conv, pixels, self.form)

    def operands(self) -> np.ndarray:
        return _in_steps(self.conv.weights[0])

    def mix(self, pixels: int) -> Mix:
        return function(loop(windows.copy_mix(self.conv, self.form) + line(alu=4), pixels))

    def helper_mix(self, pixels: int, *, alone: bool) -> Mix:
        border = windows.border_mix(self.conv, self.form).times(0)
        return border if alone else border + super().helper_mix(pixels, alone=alone)

    def copy_mix(self, pixels: int, *, alone: bool) -> Mix:
        if not alone:
            return super().copy_mix(pixels, alone=alone)
        return loop(windows.copy_mix(self.conv, self.form), pixels, windows.TOGETHER)

    def prepare(self, layer: Layer, scratch: ir.Value) -> None:
        self.layer, self.scratch = layer, scratch

    def copy(self, row: Index, column: Index, pixels: int, *, alone: bool) -> None:
        if self.copies is None:
            places = windows.Places(word=self.apart, pixel=self.pitch, form=self.form)
            self.copies = windows.Copies(self.conv, self.layer, self.scratch, places, self.wraps)
        if alone:
            self.copies.emit(self.layer.source, self.scratch, row, column, pixels)
            return
        if self.symbol is None:
            self.symbol = self.copies.function()
        call_to_scratch(self.layer, self.symbol, self.scratch, (row, column, pixels))
