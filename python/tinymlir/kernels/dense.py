"""A dense layer: one pixel, of which every operand is read where it lies, for some channels at a
time (`OperandSums`).
"""

from __future__ import annotations

from tinymlir.kernels.channel_tables import channel_bytes, channel_words
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.operand_sums import operand_sums
from tinymlir.kernels.pixels import Site, finish, finish_mix, input_pixel, load_biases
from tinymlir.kernels.price import Mix, function, line, loop
from tinymlir.kernels.words import advance_bytes, stream
from tinymlir.targets import Target


class Dense(Kernel):
    """Blocks of output channels, in each of which a loop over the operands."""

    name = "dense"

    def __init__(self, conv: Convolution, core: Target) -> None:
        super().__init__(conv, core)
        self.sums = operand_sums(core, conv.in_per_group)
        self.packed = self.sums.pack(conv.weights[0, :, 0, 0])

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """One pixel, on a core without vectors."""
        single = conv.in_hw == conv.out_hw == conv.kernel == (1, 1) and conv.groups == 1
        return single and not core.has_vectors

    def constant_bytes(self) -> int:
        return self.packed.size + channel_bytes(self.conv)

    def mix(self) -> Mix:
        conv = self.conv

        def block(width: int) -> Mix:
            words = channel_words(conv)
            ends = line(load=words * width, alu=4) + finish_mix(conv) * width
            return self.sums.mix(width, conv.in_per_group) + ends

        whole, rest = divmod(conv.out_per_group, self.sums.channels)
        blocks = loop(block(self.sums.channels), whole)
        return function(blocks + block(rest) if rest else blocks)

    def row(self, row: Index, columns: Columns) -> None:
        layer, emitter, conv = self.layer, self.layer.emitter, self.conv
        depth, channels = conv.in_per_group, self.sums.channels
        weights = layer.pool.get(self.packed, "weights")
        site = Site(layer, row, columns.first, (0, 1), (0, 1), border=False)
        activations = advance_bytes(stream(layer.source.buffer), input_pixel(conv, site, 0))
        block_bytes = self.sums.block_bytes(channels, depth)

        def block(number: Index, width: int) -> None:
            first = emitter.mul(number, channels)
            start = load_biases(layer, conv.bias, first, width)
            at = advance_bytes(stream(weights), emitter.mul(number, block_bytes))
            for c, total in enumerate(self.sums.emit(emitter, at, activations, start, depth)):
                finish(conv, site, 0, emitter.add(first, c), total)

        whole, rest = divmod(conv.out_per_group, channels)
        emitter.loop(0, whole, 1, lambda number: block(number, channels))
        if rest:
            block(whole, rest)
