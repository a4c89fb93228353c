"""Which tensors of a stage keep columns from one strip to the next: all choices worth a look."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymlir.fusion.costs import Stage
from tinymlir.fusion.graph import Ints


class CachingStage(Stage):
    """A stage in all numbers of strips, with and without a cache for each tensor of which two need
    columns.

    Every choice is a variant, but those that another beats however the stage grows on: one with
    the same strips that has no more bytes, fewer MACs or as many and no more elements, and needs no
    more columns of the tensors that are still to be made.
    """

    def grow(self) -> bool:
        before = len(self.strips)
        grown = super().grow()
        if len(self.strips) > before:
            self._prune()
        return grown

    def _caching(self, overlap: Ints) -> npt.NDArray[np.bool_]:
        count, again = len(self.strips), np.flatnonzero(overlap)
        if not len(again):
            return super()._caching(overlap)
        self._select(np.append(np.arange(count), again))
        self.chosen[count:] = [(*each, self.first) for each in self.chosen[count:]]
        return np.arange(len(self.strips)) >= count

    def _select(self, places: Ints) -> None:
        """Have the variants that are in these places now."""
        begin, self.strips = self._begin[places], self.strips[places]
        self._number_strips()
        strips = np.arange(self.strips.sum()) + np.repeat(begin - self._begin, self.strips)
        self._columns = {
            tensor: (low[strips], high[strips])
            for tensor, (low, high) in self._columns.items()
            if tensor not in self._made
        }
        self._made.clear()
        self.macs, self.elements = self.macs[places], self.elements[places]
        self.widths = {tensor: each[places] for tensor, each in self.widths.items()}
        self.caches.clear()
        self._scratch = self._scratch[:, places]
        self._ring_bytes = self._ring_bytes[places]
        self._cache_bytes = self._cache_bytes[places]
        self.chosen = [self.chosen[place] for place in places]

    def _prune(self) -> None:
        """Drop the variants that another one beats."""
        costs = self._costs()
        lows = [low for tensor, (low, _) in self._columns.items() if tensor not in self._made]
        kept = []
        for strips in np.unique(self.strips):
            places = np.flatnonzero(self.strips == strips)
            if len(places) > 1:
                begins = self._begin[places][:, None] + np.arange(strips)
                columns = np.concatenate([low[begins] for low in lows], axis=1)
                places = places[_unbeaten(costs[:, places], columns)]
            kept.append(places)
        self._select(np.concatenate(kept))

    def _costs(self) -> Ints:
        """What each variant has to pay, whatever layers join; one row for each kind of cost."""
        size = self._ring_bytes + self._cache_bytes
        # Rings that will get another number of rows, so that bytes now say nothing.
        changing, later = set(), self.timeline.grown
        while later is not None:
            rows = later.rows
            changing |= {ring for ring, now in self.timeline.rows.items() if rows[ring] != now}
            later = later.grown
        for ring in changing:
            size = size - self._bytes_of_ring(ring)
        widths = [self.widths[ring] for ring in sorted(changing)]
        _, work = np.unique(np.stack([self.macs, self.elements]), axis=1, return_inverse=True)
        return np.stack([size, work.reshape(-1), *self._scratch, *widths])


def _unbeaten(costs: Ints, lows: Ints) -> npt.NDArray[np.bool_]:
    """Which variants no other beats; of equal ones the first.

    Args:
        costs: of each kind, for each variant.
        lows: for each variant the first columns that its strips need; the last are those of all.
    """
    states, state = np.unique(lows, axis=0, return_inverse=True)
    state = state.reshape(-1)
    within = np.all(states[:, None] >= states[None, :], axis=2)
    beats = within[state[:, None], state[None, :]]
    for cost in costs:
        beats &= cost[:, None] <= cost[None, :]
    # Of two that beat each other, only the first does.
    beats &= ~(beats.T & np.tri(len(beats), dtype=bool))
    np.fill_diagonal(beats, False)
    return ~beats.any(axis=0)
