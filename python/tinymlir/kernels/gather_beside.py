"""Windows of neighbouring pixels side by side in scratch memory: word by word those of all.

Wherever the layer's sizes are, distances from a window to the next one are the same for all layers.
"""

from __future__ import annotations

import math

from tinymlir.bindings import func, ir
from tinymlir.kernels import windows
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.forms import Form
from tinymlir.kernels.gather import Gather, SingleWindows
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pairs import STEP
from tinymlir.kernels.parking import opaque
from tinymlir.kernels.pixels import input_column, input_row
from tinymlir.kernels.price import Mix, function, line
from tinymlir.kernels.words import LOADED, advance, advance_bytes, put_words, stream


def gather_beside(conv: Convolution, form: Form) -> Gather:
    """The better way for ``conv``."""
    return (PixelsBeside if PixelsBeside.takes(conv) else WindowsBeside)(conv, form)


class WindowsBeside(SingleWindows):
    """Window by window, in the order of rows, columns and channels."""

    def __init__(self, conv: Convolution, form: Form) -> None:
        super().__init__(conv, form)
        self.pitch = 1

    def scratch_bytes(self, pixels: int) -> int:
        staging = windows.staging_bytes(self.conv) if pixels > 1 else 0
        return super().scratch_bytes(pixels) + staging


class PixelsBeside(WindowsBeside):
    """Windows of one pixel each, by a function that layers have in common."""

    can_wrap = False

    @staticmethod
    def takes(conv: Convolution) -> bool:
        """Whether windows are single pixels of whole words, none of them padding."""
        whole = all(len(conv.interior(axis)) == conv.out_hw[axis] for axis in (0, 1))
        return conv.kernel == (1, 1) and conv.in_per_group % STEP == 0 and whole

    @property
    def _unroll(self) -> int:
        """Words copied between two branches: as many as are loaded together, if they divide all."""
        return math.gcd(self.conv.in_per_group // STEP, LOADED)

    def mix(self, pixels: int) -> Mix:
        words = line(load=self._unroll) + self.form.mix() * self._unroll + line(alu=2)
        copy = words.times(self.conv.in_per_group // STEP // self._unroll)
        return function((copy + line(alu=8, branch=2)).times(pixels))

    def helper_mix(self, pixels: int, *, alone: bool) -> Mix:
        return Gather.helper_mix(self, pixels, alone=alone)

    def copy_mix(self, pixels: int, *, alone: bool) -> Mix:
        return Gather.copy_mix(self, pixels, alone=alone)

    def shared_code(self) -> dict[str, Mix]:
        return {f"pixels{self._unroll} {self.apart}": self.mix(1)}

    def prepare(self, layer: Layer, scratch: ir.Value) -> None:
        self.layer, self.scratch = layer, scratch
        self.symbol = f"{layer.function.name.value}_pixels{self.conv.suffix}"
        pointer, index = ir.Type.parse("!llvm.ptr"), ir.IndexType.get()
        types = [pointer, pointer, index, index, index]
        with ir.InsertionPoint.after(layer.function.operation):
            helper = func.FuncOp(self.symbol, (types, []), visibility="private")
        with ir.InsertionPoint(helper.add_entry_block()):
            self._emit_copy(*helper.arguments)
            func.ReturnOp([])

    def _emit_copy(
        self, source: ir.Value, target: ir.Value, pixels: Index, turns: Index, pitch: Index
    ) -> None:
        emitter = self.layer.emitter

        def turn(_: Index, source: ir.Value, target: ir.Value) -> list[ir.Value]:
            ends = put_words(source, target, self._unroll, 4, self.form.words, self.apart)
            return [opaque(end) for end in ends]

        def pixel(_: Index, source: ir.Value, target: ir.Value) -> list[ir.Value]:
            emitter.loop(0, turns, 1, turn, [source, target])
            return [advance_bytes(source, pitch), advance(target, 1)]

        emitter.loop(0, pixels, 1, pixel, [source, target])

    def copy(self, row: Index, column: Index, pixels: int, *, alone: bool) -> None:
        conv, emitter, source = self.conv, self.layer.emitter, self.layer.source
        top, left = input_row(emitter, conv, row, 0), input_column(emitter, conv, column)
        begin = source.position(emitter, [0, top, left, conv.first_input])
        first = advance_bytes(stream(source.buffer), begin)
        turns = conv.in_per_group // STEP // self._unroll
        sizes = [emitter.index(n) for n in (pixels, turns, conv.stride[1] * source.channels)]
        func.call([], self.symbol, [first, stream(self.scratch), *sizes])
