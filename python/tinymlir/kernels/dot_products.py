"""Dot products of windows with blocks of output channels, two MACs an instruction.

Windows are pairs of halfwords in scratch memory. Weights stay bytes in flash: a word of them
holds a pair of operands of two channels, and widening it serves all pixels of a block.
"""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.channel_tables import channel_tables
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.pairs import STEP, operand_pairs
from tinymlir.kernels.pixels import Site, finish
from tinymlir.kernels.words import advance, extend, fetch, join, stream

#: Steps between two branches, about 120 bytes of code each; without a branch; in small code.
_MOST_STEPS_A_TURN = 12
MOST_STEPS_AT_ONCE = 16
_SMALL_TURN = 4


class DotProducts:
    """All output channels of some pixels, whose windows lie in scratch memory.

    A window takes ``steps`` of four operands, two words each; the next pixel's begins ``pitch``
    words after it. Up to ``pixels`` are computed together, with ``channels``: these make pixels
    times channels accumulators, which share Thumb-2's registers with two activations, two weights
    and two pointers.
    """

    def __init__(
        self,
        conv: Convolution,
        layer: Layer,
        operands: np.ndarray,
        pitch: int,
        pixels: int,
        channels: int,
    ) -> None:
        self.conv, self.layer = conv, layer
        self.steps, self.pitch, self.pixels = operands.shape[1] // STEP, pitch, pixels
        self.tables = channel_tables(conv, layer.root)
        #: channels computed together, the first of them, and their constants block by block
        self.blocks: list[tuple[int, int, np.ndarray]] = []
        start = 0
        while start < conv.out_per_group:
            stop = start + (conv.out_per_group - start) // channels * channels
            if stop > start:
                packed = [self._pack(operands, c, channels) for c in range(start, stop, channels)]
                self.blocks.append((channels, start, np.stack(packed)))
            start, channels = stop, channels // 2

    def _pack(self, operands: np.ndarray, first: int, channels: int) -> np.ndarray:
        """Constants of a block of channels, i32, in the order in which they are read."""
        picked = slice(first, first + channels)
        columns = [table.reshape(-1, 1).view("<i4")[picked] for table in self.tables.values()]
        tables = np.concatenate([np.zeros((channels, 0), "<i4"), *columns], axis=1).reshape(-1)
        return np.concatenate([self.conv.bias[picked], pack_words(operands[picked]), tables])

    def emit(self, site: Site, pixels: int, scratch: ir.Value) -> None:
        """All channels of ``pixels`` neighbours, from ``site`` on."""
        emitter, pool = self.layer.emitter, self.layer.pool
        for channels, start, packed in self.blocks:

            def block(
                number: Index, w: ir.Value, channels: int = channels, start: int = start
            ) -> list[ir.Value]:
                first = emitter.add(emitter.mul(number, channels), start)
                return [self._block(site, pixels, scratch, w, first, channels)]

            constants = pool.get(packed.reshape(-1), "weights")
            emitter.loop(0, len(packed), 1, block, [stream(constants)])

    def _block(
        self, site: Site, pixels: int, scratch: ir.Value, w: ir.Value, first: Index, channels: int
    ) -> ir.Value:
        """A block of channels, whose constants begin at ``w``; where they end."""
        biases = [fetch(w, b) for b in range(channels)] * pixels
        w, sums = self._sums(advance(w, channels), stream(scratch), biases, channels)
        place = 0
        for b in range(channels):
            known = {}
            for value, table in self.tables.items():
                words = [fetch(w, place + word) for word in range(table.itemsize // 4)]
                known[value] = words[0] if len(words) == 1 else join(*words)
                place += len(words)
            for p in range(pixels):
                finish(self.conv, site, p, first, sums[p * channels + b], known, lane=b)
        return advance(w, place)

    def _sums(
        self, weights: ir.Value, activations: ir.Value, biases: list[ir.Value], channels: int
    ) -> tuple[ir.Value, list[ir.Value]]:
        """Past the last of the weights, and the dot products ``[pixel · channels + channel]``."""
        emitter = self.layer.emitter

        def turn(steps: int, w: ir.Value, a: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            totals = list(sums)
            for step in range(steps):
                totals = self._step(step, w, a, totals, channels)
            return [advance(w, steps * channels), advance(a, 2 * steps), *totals]

        # A pixel left over of a row runs too seldom to be worth much code.
        size = _turn(self.steps, small=len(biases) == channels < self.pixels * channels)
        carried = [weights, activations, *biases]
        carried = emitter.loop(0, self.steps // size, 1, lambda _, *v: turn(size, *v), carried)
        end, _, *sums = turn(self.steps % size, *carried)
        return end, sums

    def _step(
        self, step: int, w: ir.Value, a: ir.Value, totals: list[ir.Value], channels: int
    ) -> list[ir.Value]:
        """``totals`` plus the products of four operands."""
        totals = list(totals)
        pixels = len(totals) // channels
        words = [fetch(w, step)] if channels == 1 else []
        for half in (0, 1):
            if channels > 1:
                at = (step * 2 + half) * (channels // 2)
                words = [fetch(w, at + i) for i in range(channels // 2)]
            pairs: list[ir.Value] = []
            # Two pixels at a time leave registers for the accumulators.
            for begin in range(0, pixels, 2):
                together = range(begin, min(begin + 2, pixels))
                at = step * 2 + half
                x = [fetch(a, p * self.pitch + at) for p in together]
                if not pairs:
                    halves = (half,) if channels == 1 else (0, 1)
                    pairs = [extend(word, h) for word in words for h in halves]
                for b, weight in enumerate(pairs):
                    for p, pair in zip(together, x, strict=True):
                        i = p * channels + b
                        totals[i] = tiny.DualMacOp(totals[i], pair, weight).res
        return totals


def _turn(steps: int, small: bool) -> int:
    """Steps between two branches: the most that divide all, if not too few do."""
    most = _SMALL_TURN if small else _MOST_STEPS_A_TURN
    if steps <= (most if small else MOST_STEPS_AT_ONCE):
        return steps
    return max((n for n in range(most // 2, most + 1) if steps % n == 0), default=most)


def pack_words(weights: np.ndarray) -> np.ndarray:
    """Weights ``[channel, operand]`` of one channel or an even number, i8, as words in order.

    Of one channel, a word is a step. Of more, it is a pair of operands of two channels: the
    first operand of both, then the second.
    """
    channels, operands = weights.shape
    if channels == 1:
        return np.ascontiguousarray(weights).reshape(-1).view("<i4")
    pairs = weights.reshape(channels // 2, 2, operands)[..., operand_pairs(operands)]
    return np.ascontiguousarray(pairs.transpose(2, 0, 3, 1)).reshape(-1).view("<i4")
