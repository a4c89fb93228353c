"""The fusion graph: every way to run a part of the network, and its costs.

Nodes are the places between layers, edges a layer by itself or a stage of several, each in the
numbers of strips that it divides into, with and without column caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.arena import APART, shared_bytes
from tinymlir.fusion.caches import CachingStage
from tinymlir.fusion.costs import Stage, aligned
from tinymlir.fusion.graph import Graph, Ints
from tinymlir.fusion.setting import DEFAULT_SCHEMES, InputMode, Scheme


@dataclass(frozen=True)
class Edges:
    """Ways to run the layers from ``first`` to ``last``, by numbers of strips.

    No strips (0) means a layer by itself. ``bytes`` are those in the arena; ``elements`` those of
    tensors that are made, which costs time where there are no MACs; ``lean`` whether kernels take
    little work space; ``cached`` the layers whose output has a column cache.
    """

    first: int
    last: int
    strips: Ints
    bytes: Ints
    macs: Ints
    elements: Ints
    lean: npt.NDArray[np.bool_]
    cached: Sequence[tuple[int, ...]]

    def of(self, schemes: Sequence[Scheme]) -> Edges:
        """Those that need no other schemes."""
        keep = (self.strips <= 1) | ("strips" in schemes)
        keep &= ~self.lean | ("lean" in schemes)
        if "columns" not in schemes:
            keep &= [not each for each in self.cached]
        return self.at(np.flatnonzero(keep))

    def at(self, places: Ints) -> Edges:
        """Those in these places."""
        return Edges(
            self.first,
            self.last,
            self.strips[places],
            self.bytes[places],
            self.macs[places],
            self.elements[places],
            self.lean[places],
            [self.cached[place] for place in places],
        )

    @staticmethod
    def one(
        first: int, last: int, strips: int, *, size: int, macs: int, elements: int = 0
    ) -> Edges:
        """A single way, without caches."""
        counts, sizes, work, made = (np.array([n]) for n in (strips, size, macs, elements))
        return Edges(first, last, counts, sizes, work, made, np.array([False]), [()])

    def useful(self) -> Edges:
        """Without those with caches that no setting takes, since another has at most the bytes and
        fewer MACs, or as many and at most the elements.
        """
        work, keep = np.empty(len(self.bytes), np.int64), np.array([not c for c in self.cached])
        work[np.lexsort((self.elements, self.macs))] = np.arange(len(work))
        for lean in (False, True):
            places = np.flatnonzero(self.lean == lean)
            keep[places[unbeaten(self.bytes[places], work[places])]] = True
        return self.at(np.flatnonzero(keep))


def unbeaten(size: Ints, work: Ints) -> Ints:
    """Places of the pairs that no other beats in both, by size; of equal ones the first."""
    order = np.lexsort((work, size))
    before = np.append(np.iinfo(np.int64).max, np.minimum.accumulate(work[order]))
    return order[work[order] < before[:-1]]


class Memory:
    """What of the network is in the arena besides the buffers of a stage."""

    def __init__(self, graph: Graph, mode: InputMode) -> None:
        self._graph, self._mode = graph, mode
        absent = {*graph.outputs, *(graph.inputs if mode != "in-arena" else ())}
        #: bytes of each tensor in the arena; none where the caller holds it
        self.sizes = [
            0 if index in absent else aligned(tensor.bytes)
            for index, tensor in enumerate(graph.tensors)
        ]

    def live(self, first: int, last: int) -> int:
        """Bytes of whole tensors while the layers from ``first`` to ``last`` run."""
        graph = self._graph
        crossing = sum(
            size
            for size, born, used in zip(self.sizes, graph.birth, graph.last_use, strict=True)
            if born < first <= used
        )
        return crossing + self.made(first, last)

    def made(self, first: int, last: int) -> int:
        """Bytes of the output of the layers from ``first`` to ``last``.

        What is made while the input arrives is in the arena even if it is an output of the network,
        of which nobody has told yet where it shall go.
        """
        output = self._graph.layers[last].output
        if self._mode == "streamed" and first == 0:
            return aligned(self._graph.tensors[output].bytes)
        return self.sizes[output]

    def saved(self, last: int, reach: Iterable[tuple[int, int, int]], work: int = 0) -> int:
        """Bytes that an input, which ends at ``last``, shares with output and ``work`` space.

        Args:
            reach: inputs, and how far above the output and above the work space each must start.
        """
        output = self.sizes[self._graph.layers[last].output]
        most = 0
        for tensor, *distances in reach:
            if self._graph.last_use[tensor] <= last:
                over = [
                    (size, aligned(max(distance, 0)))
                    for size, distance in zip((output, work), distances, strict=True)
                    if size and distance != APART
                ]
                most = max(most, shared_bytes(self.sizes[tensor], over))
        return most


def edges(
    graph: Graph, mode: InputMode, schemes: Sequence[Scheme] = DEFAULT_SCHEMES
) -> Iterator[list[Edges]]:
    """All edges that end at each layer in turn, as far as ``schemes`` have a use for them."""
    memory = Memory(graph, mode)
    for last in range(len(graph.layers)):
        found = []
        if mode != "streamed" or not set(graph.inputs) & {
            r.tensor for r in graph.layers[last].reads
        }:
            found.append(alone(graph, memory, last))
        if graph.layers[last].fusable:
            stage = (CachingStage if "columns" in schemes else Stage)(graph, last)
            found += _stages(memory, stage, mode == "streamed")
        yield found


def alone(graph: Graph, memory: Memory, position: int) -> Edges:
    """The costs of a layer that runs by itself, and where that takes less, by a lean kernel."""
    layer, elements = graph.layers[position], graph.tensors[graph.layers[position].output].bytes
    lean = [False] if layer.lean_alone_bytes is None else [False, True]
    sizes = []
    for which in lean:
        work, reach = layer.alone(which)
        saved = memory.saved(position, ((tensor, above, APART) for tensor, above in reach))
        sizes.append(memory.live(position, position) - saved + aligned(work))
    strips, macs = np.zeros(len(lean), np.int64), np.repeat(layer.macs, len(lean))
    # Lean kernels are slower: as if there were more to make.
    made = elements * np.arange(1, len(lean) + 1)
    none: list[tuple[int, ...]] = [()] * len(lean)
    return Edges(position, position, strips, np.array(sizes), macs, made, np.array(lean), none)


def _stages(memory: Memory, stage: Stage, streamed: bool) -> Iterator[Edges]:
    """A stage of one layer as it grows to the front."""
    growing = True
    while growing:
        if streamed and stage.first == 0:
            if stage.stream():
                yield stage_edge(memory, stage, most_strips=1)
        elif stage.first < stage.last:
            yield stage_edge(memory, stage)
        growing = stage.grow()


def stage_edge(memory: Memory, stage: Stage, most_strips: int | None = None) -> Edges:
    """The costs of a stage in the network, with and without lean kernels."""
    keep = stage.strips <= (most_strips or stage.strips.max())
    usual, lean = np.flatnonzero(keep), np.flatnonzero(keep & (stage.lean_saves > 0))
    sizes = []
    for stage.lean in (False, True):
        sizes.append(_bytes(memory, stage))
    both = np.append(usual, lean)
    return Edges(
        stage.first,
        stage.last,
        stage.strips[both],
        np.append(sizes[0][usual], sizes[1][lean]),
        stage.macs[both],
        # Lean kernels are slower: as if there were more to make.
        np.append(stage.elements[usual], 2 * stage.elements[lean]),
        np.repeat([False, True], [len(usual), len(lean)]),
        [stage.chosen[place] for place in both],
    ).useful()


def _bytes(memory: Memory, stage: Stage) -> Ints:
    """Bytes in the arena while a stage runs."""
    size = stage.bytes + memory.live(stage.first, stage.last)
    if stage.strips[0] == 1:
        size[0] -= memory.saved(stage.last, stage.reach(), int(stage.bytes[0]))
    return size
