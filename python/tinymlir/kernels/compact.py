"""Convolution as a loop over the weights that are not zero, which stay bytes in flash.

Each output channel is a list of its pairs: how far on the activations of the next one lie, and
its weights. Where weights must share flash with much else, this leaves zeros out at three bytes
a pair, in a loop that a cache holds.
"""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.blocks import Blocks
from tinymlir.kernels.channel_tables import channel_tables
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.pairs import pair_words
from tinymlir.kernels.pixels import Site, finish, finish_mix
from tinymlir.kernels.price import Mix, line, loop
from tinymlir.kernels.words import extend, halves, moved, view
from tinymlir.targets import Target

#: Pixels computed together: bytes that the activations of a pair take are four times that.
PIXELS = 4
#: Pairs between two branches: a word of distances, and two words of weights.
GROUP = 4
_GROUP_BYTES = 12
_PAIR_BYTES = 4 * PIXELS
#: Pairs that a distance of one byte can go on.
_FARTHEST = 255 // _PAIR_BYTES


class Compact(Blocks):
    """A loop over channels, in each of which a loop over its kept pairs, four at a time."""

    name = "compact"
    pixels = PIXELS

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether there is more than one pixel to compute at a time."""
        return conv.out_hw != (1, 1) and super().takes(conv, core)

    def constant_bytes(self) -> int:
        return len(pack(self.conv, list(channel_tables(self.conv, self.conv.root).values())))

    def channel_mix(self) -> Mix:
        groups = [-(-len(_entries(words)[0]) // GROUP) for words in pair_words(self.conv)]
        pair = line(load_pair=PIXELS / 2, alu=2, dual_mac=PIXELS)
        sums = loop(pair * GROUP + line(load=1, load_pair=1, alu=1), float(np.mean(groups)))
        tables = len(channel_tables(self.conv, self.conv.root))
        ends = line(load_pair=1 + tables, alu=6 + PIXELS) + finish_mix(self.conv, PIXELS)
        return loop(sums + ends, self.conv.out_per_group)

    def channel_sums(self, conv: Convolution, row: Index, first: Index, last: Index) -> None:
        layer, emitter, scratch = self.layer, self.layer.emitter, self.scratch
        assert scratch is not None
        tables = channel_tables(conv, layer.root)
        stream = layer.pool.get(pack(conv, list(tables.values())), "pairs")
        places = self.places(first, last)

        def pairs(_: Index, place: ir.Value, at: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            result = list(sums)
            distances = emitter.load(view(place, 32), [0])
            weights = emitter.load(view(moved(emitter, place, 4), 64), [0])
            words = halves(emitter, weights)
            for k in range(GROUP):
                at = moved(emitter, at, _byte(emitter.integer(8 * k), distances))
                activations, weight = view(at, 64), extend(words[k // 2], k % 2)
                for p in range(0, PIXELS, 2):
                    for half, x in enumerate(halves(emitter, emitter.load(activations, [p // 2]))):
                        result[p + half] = tiny.DualMacOp(result[p + half], x, weight).res
            return [moved(emitter, place, _GROUP_BYTES), at, *result]

        def channel(number: Index, place: ir.Value) -> list[ir.Value]:
            bias, count = halves(emitter, emitter.load(view(place, 64), [0]))
            groups = arith.index_cast(ir.IndexType.get(), count)
            inits = [moved(emitter, place, 8), scratch, *[bias] * PIXELS]
            place, _, *sums = emitter.loop(0, groups, 1, pairs, inits)
            elements = {}
            for value, table in tables.items():
                elements[value] = emitter.load(view(place, 8 * table.itemsize), [0])
                place = moved(emitter, place, table.itemsize)
            for pixel, total in zip(places, sums, strict=True):
                site = Site(layer, row, pixel, (0, 0), (0, 0), border=False)
                finish(conv, site, 0, number, total, elements)
            return [place]

        emitter.loop(0, conv.out_per_group, 1, channel, [stream])


def _byte(shift: ir.Value, word: ir.Value) -> ir.Value:
    """One byte of ``word`` as an index."""
    mask = arith.constant(word.type, 255)
    return arith.index_cast(ir.IndexType.get(), arith.andi(arith.shrui(word, shift), mask))


def pack(conv: Convolution, tables: list[np.ndarray]) -> np.ndarray:
    """Channel by channel: bias, number of groups, the groups, its elements of ``tables``; bytes.

    A group is the distances of four pairs, each in bytes from the one before, then the weights
    of pairs 0 and 1, and of 2 and 3, as `tiny.extend_bytes` takes them apart.
    """
    parts = []
    for number, words in enumerate(pair_words(conv)):
        distances, kept = _entries(words)
        weights = kept.view("<i2").reshape(-1, 2, 2).astype(np.int8)  # group half, pair, operand
        groups = [distances.reshape(-1, GROUP), weights.swapaxes(1, 2).reshape(-1, 2 * GROUP)]
        body = np.concatenate([g.view(np.int8) for g in groups], axis=1)
        head = np.array([conv.bias[number], len(body)], "<i4")
        elements = [np.ascontiguousarray(table[number : number + 1]) for table in tables]
        parts += [a.reshape(-1).view(np.int8) for a in (head, body, *elements)]
    return np.concatenate(parts)


def _entries(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (u8) and weights (i32) of a channel's pairs, whole groups of them.

    Too wide a gap has pairs of zeros in it.
    """
    at = 0
    places: list[int] = []
    for place in np.flatnonzero(words):
        places += [*range(at + _FARTHEST, place, _FARTHEST), int(place)]
        at = places[-1]
    whole = -(-len(places) // GROUP) * GROUP
    distances, weights = np.zeros(whole, np.uint8), np.zeros(whole, "<i4")
    distances[: len(places)] = np.diff(places, prepend=0) * _PAIR_BYTES
    weights[: len(places)] = words[places]
    return distances, weights
