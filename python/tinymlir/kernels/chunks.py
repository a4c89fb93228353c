"""Weights in chunks whose sums, over any activations, stay within a halfword.

The sum of x·w over a chunk is at most 128·Σ|w| in magnitude, so with Σ|w| ≤ 255 it fits 16 bits.
Large chunks cost fewer splits of a sum, but more of them reach beyond; what a weight is too much
there, its *excess*, is taken off it and multiplied apart: w·x = (w − e)·x + e·x, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The most that the magnitudes of a chunk's weights may add up to.
_MOST = 255
_SIZES = range(2, 9)
#: Instructions per pixel pair and channel: an operand with its share of loads, the split of a
#: sum, the product of an excess with the search for its operand, and what goes with any.
_OPERAND, _SPLIT, _EXCESS, _ANY_EXCESS = 1.5, 2.0, 5.0, 4.0


@dataclass(frozen=True)
class Chunks:
    """Weights as ``channels × chunks × size``, filled up with zeros, and the excess.

    ``places`` and ``excess`` are ``channels × n``: operands, and what their weights lack; each
    channel has its ``excesses`` first.
    """

    weights: np.ndarray
    places: np.ndarray
    excess: np.ndarray

    @property
    def count(self) -> int:
        return int(self.weights.shape[1])

    @property
    def size(self) -> int:
        return int(self.weights.shape[2])

    @property
    def excesses(self) -> np.ndarray:
        """How many operands of each channel have an excess."""
        counts: np.ndarray = np.count_nonzero(self.excess, axis=1)
        return counts

    @property
    def excess_is_a_chunk(self) -> bool:
        """Whether the sums of each channel's excess fit a halfword as well."""
        magnitudes = np.abs(self.excess.astype(np.int64))
        return not (magnitudes.sum(axis=1) > _MOST).any() and not (magnitudes > 127).any()

    @property
    def cost(self) -> float:
        """Instructions per pixel pair and channel, about."""
        chunks = self.count * (self.size * _OPERAND + _SPLIT)
        if not self.excess.size:
            return chunks
        return chunks + _ANY_EXCESS + _EXCESS * float(self.excesses.mean())


def chunkings(weights: np.ndarray) -> list[Chunks]:
    """``channels × operands`` weights in chunks of every size that leaves an excess of a chunk."""
    found = (in_chunks(weights, size) for size in _SIZES)
    return [chunks for chunks in found if chunks.excess_is_a_chunk]


def best_chunks(weights: np.ndarray) -> Chunks | None:
    """The cheapest of `chunkings`."""
    return min(chunkings(weights), key=lambda chunks: chunks.cost, default=None)


def in_chunks(flat: np.ndarray, size: int) -> Chunks:
    """``channels × operands`` weights in chunks of a size."""
    channels, window = flat.shape
    count = -(-window // size)
    magnitudes = np.zeros((channels, count * size), np.int64)
    magnitudes[:, :window] = np.abs(flat.astype(np.int64))
    kept = magnitudes.reshape(channels, count, size).copy()
    rest = np.maximum(kept.sum(axis=2) - _MOST, 0)
    while rest.any():
        # The largest weight of each chunk that is too much gives what it can.
        largest = kept.argmax(axis=2)[..., None]
        given = np.minimum(np.take_along_axis(kept, largest, 2), rest[..., None])
        np.put_along_axis(kept, largest, np.take_along_axis(kept, largest, 2) - given, 2)
        rest -= given[..., 0]
    excess = magnitudes - kept.reshape(channels, -1)
    most = int((excess > 0).sum(axis=1).max())
    # Operands with an excess first, in order.
    places = np.argsort(excess == 0, axis=1, kind="stable")[:, :most]
    signs = np.zeros_like(magnitudes)
    signs[:, :window] = np.sign(flat)
    chosen = np.take_along_axis(signs * excess, places, 1)
    weights = (signs * kept.reshape(channels, -1)).reshape(channels, count, size)
    return Chunks(weights.astype(np.int8), places, chosen.astype(np.int8))
