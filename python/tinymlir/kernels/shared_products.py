"""Dot products of windows with all output channels, as a function that layers have in common.

Neither sizes nor addresses are parts of its instructions: the windows of neighbouring pixels lie
side by side, so the distances between them are the same for any layer, and the rest are arguments.
`tiny-merge-functions` makes one function of those of all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.kernels.channel_tables import channel_words, scalar_code
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.dot_products import DotProducts
from tinymlir.kernels.gather import Gather
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.late_steps import late_steps
from tinymlir.kernels.parking import Parked, park
from tinymlir.kernels.pixels import Site, finish
from tinymlir.kernels.price import Mix, function, line
from tinymlir.kernels.words import advance, advance_bytes, below, stream

#: The most steps between two branches: more are all that a window has, without a loop.
LONGEST_TURN = 8
#: Steps of the loop that computes what no turn of the other one does.
_REST = 1


class SharedProducts(DotProducts):
    """`DotProducts` of windows that lie side by side, ``apart`` words from one pair to the next.

    A function goes through all blocks of channels of some pixels, and through the steps of each
    in turns of ``unroll``, then one by one where some are left; if ``unroll`` is all steps, and
    more than `LONGEST_TURN`, without a loop. It parks all that these loops do not need.
    """

    shared = True

    def __init__(
        self, conv: Convolution, layer: Layer, gather: Gather, channels: int, unroll: int
    ) -> None:
        super().__init__(conv, layer, gather, channels, unroll)
        self.symbols: dict[tuple[int, int], str] = {}

    def emit(self, site: Site, pixels: int, scratch: ir.Value) -> None:
        emitter, target = self.layer.emitter, self.layer.target
        windows = stream(scratch)
        first_pixel = target.position(emitter, [0, site.row, site.column, 0])
        turn = self.turn(pixels, self.unroll)
        last = {self.steps // turn * turn, self.steps} if turn <= LONGEST_TURN else set()
        ends = [advance(windows, n * self.step_words) for n in sorted(last)]
        for channels, start, count, packed in self.blocks:
            first = emitter.add(first_pixel, self.conv.first_channel + start)
            place = advance_bytes(stream(target.buffer), first)
            constants = stream(self.layer.pool.get(packed, "weights"))
            sizes = [emitter.index(count * channels), emitter.integer(target.channels)]
            if (pixels, channels) not in self.symbols:
                symbol = self._emit_function(pixels, channels, len(ends))
                self.symbols[pixels, channels] = symbol
            operands = [windows, constants, place, *ends, *sizes]
            func.call([], self.symbols[pixels, channels], operands)

    def _emit_function(self, pixels: int, channels: int, ends: int) -> str:
        """``@layer<i>_products…(windows, constants, place, ends…, channels, pitch)``.

        ``ends`` are where turns end in the first window and, if some steps are left, where it
        ends; the results of the next pixel lie ``pitch`` bytes on.
        """
        function = self.layer.function
        symbol = f"{function.name.value}_products{pixels}x{channels}{self.conv.suffix}"
        pointer, i32 = ir.Type.parse("!llvm.ptr"), ir.IntegerType.get_signless(32)
        types = [*[pointer] * (3 + ends), ir.IndexType.get(), i32]
        with ir.InsertionPoint.after(function.operation):
            helper = func.FuncOp(symbol, (types, []), visibility="private")
        with ir.InsertionPoint(helper.add_entry_block()):
            self._emit_blocks(helper.arguments, pixels, channels)
            func.ReturnOp([])
        return symbol

    def _emit_blocks(self, arguments: Sequence[ir.Value], pixels: int, channels: int) -> None:
        *pointers, count, pitch = arguments
        windows, constants, place, *ends = map(park, pointers)
        last, pitch = park(advance_bytes(pointers[2], count)), park(pitch)
        blocks = scf.WhileOp([], [])
        with ir.InsertionPoint(blocks.regions[0].blocks.append()):
            w, biases = self._biases(constants.load(), channels)
            carried = [w, windows.load(), *biases * pixels]
            turn = self.turn(pixels, self.unroll)
            if not ends:
                carried = self._turn(turn, channels, carried)
            for number, end in enumerate(ends):
                size, first = (_REST, False) if number else (turn, True)
                carried = self._turns(size, end, channels, carried, first=first)
            tables, _, *sums = carried
            sums = self._of_channels(sums, channels)
            past = advance(tables, channels * self.table_words)
            constants.store(past)
            sums, multiplier = self._stepped(sums, channels, past)
            to = place.load()
            self._finish_at(to, pitch, channels, sums, past, multiplier)
            following = advance_bytes(to, channels)
            place.store(following)
            scf.condition(below(following, last.load()), [])
        with ir.InsertionPoint(blocks.regions[1].blocks.append()):
            scf.yield_([])

    def _finish_at(
        self,
        place: ir.Value,
        pitch: Parked,
        channels: int,
        sums: list[ir.Value],
        past: ir.Value,
        multiplier: ir.Value | None,
    ) -> None:
        """Store what becomes of the sums of a block, the first pixel's at ``place``."""
        distance = arith.index_cast(ir.IndexType.get(), pitch.load())
        places = [place]
        while len(places) < len(sums) // channels:
            places.append(advance_bytes(places[-1], distance))
        for b in range(channels):
            known = self._elements(past, channels, b, multiplier)
            for place, total in zip(places, sums[b::channels], strict=True):
                site = Site(self.layer, 0, 0, (0, 0), (0, 0), border=False, place=place)
                finish(self.conv, site, 0, 0, total, known, lane=b)

    @staticmethod
    def turn(pixels: int, unroll: int) -> int:
        """Steps without a branch: of one pixel alone, no more than a loop has."""
        return min(unroll, LONGEST_TURN) if pixels == 1 else unroll

    @classmethod
    def key(cls, conv: Convolution, steps: int, pixels: int, channels: int, unroll: int) -> str:
        """A name that functions share which are the same but for constants."""
        turn = cls.turn(pixels, unroll)
        facts = "+" * conv.has_biases + "j" * cls.is_joint(conv) + "r" * (steps % turn > 0)
        facts += "l" * (late_steps(conv, shared=True) is not None)
        return f"products{pixels}x{channels}.{turn}{facts} {scalar_code(conv)}"

    @classmethod
    def function_mix(
        cls, conv: Convolution, steps: int, pixels: int, channels: int, unroll: int, blocks: int
    ) -> Mix:
        """The function, called once for ``blocks`` blocks of channels."""
        words = channel_words(conv)
        branch = cls.turn_mix(pixels, channels) + line(alu=1, branch=1)
        step, turn = cls.step_mix(conv, pixels, channels), cls.turn(pixels, unroll)
        sums = step * turn
        if turn <= LONGEST_TURN:
            sums = (sums + branch).times(steps // turn)
        if steps % turn:
            sums += (step + branch).times(steps % turn)
        block = line(load=words * channels, alu=6, store=2) + line(load=5, alu=pixels) + sums
        block += cls.results_mix(conv, pixels, channels)
        loop = (block + line(load=1, alu=1, branch=1)).times(blocks)
        return function(loop + line(alu=2, store=7, load=2))
