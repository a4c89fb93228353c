"""A dense layer on a core that multiplies one pair at a time: one pixel, many channels.

Each activation is loaded once for a block of output channels, whose weights lie side by side. With
few registers weights come as words and are taken apart, two channels and two operands each:
ARMv6-M loads signed bytes from sums of registers alone, and there are eight to choose from.
"""

from __future__ import annotations

from tinymlir.bindings import arith, ir
from tinymlir.kernels.channel_tables import table_bytes
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.direct import pack_weights
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.pixels import Site, finish, finish_mix, input_pixel
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.words import advance_bytes, fetch, fetch_byte, stream
from tinymlir.targets import Target

#: Registers under which weights are loaded as words, for `_WORD_CHANNELS` channels at a time.
_FEW_REGISTERS = 12
_WORD_CHANNELS = 2
#: Channels together where registers are many, and weights loaded before any of them is used.
_CHANNELS, _LOADED = 6, 3
#: Operands between two branches.
_UNROLL = 4


class Dense(Kernel):
    """Blocks of output channels, in each of which a loop over the operands."""

    name = "dense"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.by_words = core.registers < _FEW_REGISTERS
        self.channels = _WORD_CHANNELS if self.by_words else _CHANNELS
        self.packed = pack_weights(conv.weights, self.channels)

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """One pixel, on a core that has neither vectors nor products of pairs."""
        single = conv.in_hw == conv.out_hw == conv.kernel == (1, 1) and conv.groups == 1
        return single and not core.has_vectors and not core.has("dsp")

    def constant_bytes(self) -> int:
        return self.packed.size + 4 * len(self.conv.bias) + table_bytes(self.conv)

    def mix(self) -> Mix:
        conv = self.conv

        def block(width: int) -> Mix:
            if self.by_words and width == _WORD_CHANNELS:
                operand = line(load=1, alu=1) + line(load=0.5, alu=3, mac=width)
            else:
                operand = line(load=1 + width, alu=self.by_words, mac=width)
            sums = loop(operand, conv.in_per_group, _UNROLL) + line(alu=2)
            tables = table_bytes(conv) // (4 * len(conv.bias)) * width
            return sums + line(load=width + tables, alu=4) + finish_mix(conv) * width

        whole, rest = divmod(conv.out_per_group, self.channels)
        blocks = loop(block(self.channels), whole)
        return function(blocks + block(rest) if rest else blocks)

    def row(self, row: Index, columns: Columns) -> None:
        layer, emitter, conv = self.layer, self.layer.emitter, self.conv
        weights = layer.pool.get(self.packed, "weights")
        bias = layer.pool.get(conv.bias, "bias")
        site = Site(layer, row, columns.first, (0, 1), (0, 1), border=False)
        activations = advance_bytes(stream(layer.source.buffer), input_pixel(conv, site, 0))

        def block(first: Index, width: int) -> None:
            sums = [emitter.load(bias, [emitter.add(first, c)]) for c in range(width)]
            at = advance_bytes(stream(weights), emitter.mul(first, conv.in_per_group))
            for c, total in enumerate(self._accumulate(at, activations, sums)):
                finish(conv, site, 0, emitter.add(first, c), total)

        whole = conv.out_per_group // self.channels * self.channels
        emitter.loop(0, whole, self.channels, lambda first: block(first, self.channels))
        if whole < conv.out_per_group:
            block(whole, conv.out_per_group - whole)

    def _accumulate(
        self, weights: ir.Value, activations: ir.Value, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """``sums`` plus the products of all operands with the weights of a block of channels."""
        emitter, width = self.layer.emitter, len(sums)
        # A word has the weights of two operands.
        together = 2 if self.by_words and width == _WORD_CHANNELS else 1
        step = _word_step if together == 2 else _byte_step

        def steps(count: int, w: ir.Value, x: ir.Value, *totals: ir.Value) -> list[ir.Value]:
            values = list(totals)
            for k in range(0, count, together):
                values = step(emitter, w, x, k, values)
            return [advance_bytes(w, count * width), advance_bytes(x, count), *values]

        depth = self.conv.in_per_group
        even = depth // together * together
        turns, rest = divmod(even, _UNROLL)
        carried = [weights, activations, *sums]
        carried = emitter.loop(0, turns, 1, lambda _, *v: steps(_UNROLL, *v), carried)
        w, x, *totals = steps(rest, *carried)
        return _byte_step(emitter, w, x, 0, totals) if even < depth else totals


def _byte_step(
    emitter: Emitter, w: ir.Value, x: ir.Value, k: int, sums: list[ir.Value]
) -> list[ir.Value]:
    """Operand ``k`` from the pointers on, weights byte by byte."""
    activation = emitter.widen(fetch_byte(x, k))
    totals: list[ir.Value] = []
    for first in range(0, len(sums), _LOADED):
        places = range(first, min(first + _LOADED, len(sums)))
        loaded = [emitter.widen(fetch_byte(w, k * len(sums) + place)) for place in places]
        for place, weight in zip(places, loaded, strict=True):
            totals.append(arith.addi(sums[place], arith.muli(activation, weight)))
    return totals


def _word_step(
    emitter: Emitter, w: ir.Value, x: ir.Value, k: int, sums: list[ir.Value]
) -> list[ir.Value]:
    """Operands ``k`` and ``k + 1`` of two channels, whose weights are a word."""
    word = fetch(w, k // 2)
    i8 = ir.IntegerType.get_signless(8)
    totals = list(sums)
    for operand in range(2):
        activation = emitter.widen(fetch_byte(x, k + operand))
        for channel in range(_WORD_CHANNELS):
            place = 2 * operand + channel
            if place == 3:
                weight = arith.shrsi(word, emitter.integer(24))
            else:
                down = arith.shrui(word, emitter.integer(8 * place)) if place else word
                weight = emitter.widen(arith.trunci(i8, down))
            totals[channel] = arith.addi(totals[channel], arith.muli(weight, activation))
    return totals
