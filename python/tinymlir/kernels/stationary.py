"""Pointwise convolution of few input channels: activations stay in registers.

Two pixels are loaded and widened once, and take eight registers. Then the constants of one output
channel after the other come by in straight-line code, which leaves out pairs of weights that are
zero. Windows so short take less to multiply than to store as halfwords and to load for every block
of channels, as `im2col` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import channel_bytes, channel_tables, element_of
from tinymlir.kernels.columns import Columns, with_rest
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.late_steps import late_literals, late_literals_mix
from tinymlir.kernels.pairs import STEP, pair_words
from tinymlir.kernels.parking import opaque, park, repeat
from tinymlir.kernels.pixels import Site, finish, finish_mix, input_pixel
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.words import advance_bytes, below, extend, fetch, settled, stream
from tinymlir.targets import Target

#: Input channels: of two pixels, their pairs, two sums, two constants and two pointers take all
#: registers.
_CHANNELS = 8
#: Words that a load reaches from its pointer.
_REACH = 1024


class Stationary(Kernel):
    """All channels of two neighbouring pixels, block by block."""

    name = "stationary"
    by_rows = False
    in_order = True
    alike = False
    gathers = True
    steps_over = True

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.pixels = min(2, conv.out_hw[1])
        self.pairs = pair_words(conv)
        self.kept = int(np.count_nonzero(self.pairs))

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether a pixel is words that registers hold, without padding."""
        inside = all(len(conv.interior(axis)) == conv.out_hw[axis] for axis in (0, 1))
        pointwise = conv.kernel == (1, 1) and conv.groups == 1 and inside
        words = conv.in_per_group % STEP == 0 and conv.in_per_group <= _CHANNELS
        if not (core.has("dsp") and pointwise and words):
            return False
        return cls(conv, core).constant_bytes() <= 4 * _REACH

    def constant_bytes(self) -> int:
        return 4 * self.kept + channel_bytes(self.conv)

    def mix(self) -> Mix:
        rows, columns = self.conv.out_hw
        blocks = with_rest(0, columns, self.pixels).items()
        row = sum((loop(self._block_mix(n), (b - a) // n) for n, (a, b) in blocks), Mix())
        return function(loop(row + line(alu=6, load=2, store=2), rows))

    def _block_mix(self, pixels: int) -> Mix:
        """All channels of so many pixels."""
        conv, channels = self.conv, self.conv.out_per_group
        words = self.kept + channel_bytes(conv) // 4
        inputs = conv.in_per_group // STEP * pixels
        widened = line(load=inputs, alu=2 * inputs)
        sums = line(dual_mac=self.kept * pixels) + late_literals_mix(conv, pixels)
        # Each is loaded while what came before it is computed with, but for the first.
        constants = (line(load=3) + line(load=1) * (words / channels - 3)) * channels
        return line(alu=4) + widened + sums + constants + finish_mix(conv, pixels) * channels

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """Two for each pair that is kept."""
        height, width = self.conv.out_hw
        pixels = len(rows or range(height)) * len(columns or range(width))
        return 2 * self.kept * pixels

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        self.tables, self.late = channel_tables(self.conv, layer.root), late_literals(self.conv)
        channels = range(self.conv.out_per_group)
        #: constants of each channel
        self.words = [self._channel_words(channel) for channel in channels]

    def row(self, row: Index, columns: Columns) -> None:
        first, last = columns.spans[0]
        for pixels, (begin, end) in with_rest(first, last, self.pixels).items():
            self._run(row, begin, end, pixels)

    def _run(self, row: Index, first: int, last: int, pixels: int) -> None:
        """Blocks of so many pixels, from column ``first`` on up to ``last``."""
        conv, emitter = self.conv, self.layer.emitter
        source, target = self.layer.source, self.layer.target
        constants = stream(self.layer.pool.get(np.concatenate(self.words), "weights"))

        def input_at(column: int) -> ir.Value:
            site = Site(self.layer, row, column, (0, 0), (0, 0), border=False)
            return advance_bytes(stream(source.buffer), input_pixel(conv, site, 0))

        # LLVM would rather spill activations.
        at, end = park(input_at(first)), park(input_at(last))

        def block(place: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
            pointer = at.load()
            x = self._activations(pointer, pixels)
            at.store(advance_bytes(pointer, pixels * conv.stride[1] * source.channels))
            site = Site(self.layer, row, first, (0, 0), (0, 0), border=False, place=place)
            self._channels(site, x, constants)
            following = opaque(advance_bytes(place, pixels * target.channels))
            return below(at.load(), end.load()), [following]

        begin = target.position(emitter, [0, row, first, 0])
        repeat(block, [advance_bytes(stream(target.buffer), begin)])

    def _activations(self, pointer: ir.Value, pixels: int) -> list[list[ir.Value]]:
        """The pairs of each pixel."""
        apart = self.conv.stride[1] * self.layer.source.channels // STEP
        return [
            [
                settled(extend(word, odd))
                for word in [
                    fetch(pointer, p * apart + n, alignment=1)
                    for n in range(self.conv.in_per_group // STEP)
                ]
                for odd in (0, 1)
            ]
            for p in range(pixels)
        ]

    def _channels(self, site: Site, x: list[list[ir.Value]], constants: ir.Value) -> None:
        """All channels of the pixels whose activations are ``x``."""
        conv, emitter = self.conv, self.layer.emitter
        place = 0
        for channel, (pairs, own) in enumerate(zip(self.pairs, self.words, strict=True)):
            words = _each_after_next(constants, range(place, place + len(own)))
            place += len(own)
            start = next(words) if conv.has_biases else emitter.integer(0)
            sums = [start] * len(x)
            for pair in np.flatnonzero(pairs):
                weights = next(words)
                sums = [
                    tiny.DualMacOp(total, own[pair], weights).res
                    for total, own in zip(sums, x, strict=True)
                ]
            for late in self.late[channel]:
                sums = [tiny.StepOverOp(total, emitter.integer(late)).res for total in sums]
            known = {
                value: element_of(list(itertools.islice(words, table.itemsize // 4)))
                for value, table in self.tables.items()
            }
            for p, total in enumerate(sums):
                finish(conv, site, p, 0, total, known, lane=channel)

    def _channel_words(self, channel: int) -> np.ndarray:
        """Constants of a channel, i32, in the order of use: bias, weights and tables."""
        conv, one, pairs = self.conv, slice(channel, channel + 1), self.pairs[channel]
        tables = [table[one].view("<i4") for table in self.tables.values()]
        biases = conv.bias[one][: int(conv.has_biases)]
        return np.concatenate([biases, pairs[pairs != 0], *tables]).astype("<i4")


def _each_after_next(pointer: ir.Value, words: range) -> Iterator[ir.Value]:
    """Words from an address on, each when the one behind it is loaded too: none is waited for."""
    loads = map(partial(fetch, pointer), words)
    return (word for word, _ in itertools.pairwise(itertools.chain(loads, [None])))
