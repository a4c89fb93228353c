"""The fusion graph: every way to run a part of the network, and its costs.

Nodes are the places between layers, edges a layer by itself or a stage of several, each in the
numbers of strips that it divides into.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.arena import APART, shared_bytes
from tinymlir.fusion.costs import Stage, aligned
from tinymlir.fusion.graph import Graph, Ints
from tinymlir.fusion.setting import InputMode, Scheme


@dataclass(frozen=True)
class Edges:
    """Ways to run the layers from ``first`` to ``last``, by numbers of strips.

    No strips (0) means a layer by itself. ``bytes`` are those in the arena; ``elements`` those of
    tensors that are made, which costs time where there are no MACs; ``lean`` whether kernels take
    little work space.
    """

    first: int
    last: int
    strips: Ints
    bytes: Ints
    macs: Ints
    elements: Ints
    lean: npt.NDArray[np.bool_]

    def of(self, schemes: Sequence[Scheme]) -> Edges:
        """Those that need no other schemes."""
        keep = (self.strips <= 1) | ("strips" in schemes)
        keep &= ~self.lean | ("lean" in schemes)
        strips, size, macs = self.strips[keep], self.bytes[keep], self.macs[keep]
        return Edges(
            self.first, self.last, strips, size, macs, self.elements[keep], self.lean[keep]
        )


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


def edges(graph: Graph, mode: InputMode) -> Iterator[list[Edges]]:
    """All edges that end at each layer in turn."""
    memory = Memory(graph, mode)
    for last in range(len(graph.layers)):
        found = []
        if mode != "streamed" or not set(graph.inputs) & {
            r.tensor for r in graph.layers[last].reads
        }:
            found.append(alone(graph, memory, last))
        if graph.layers[last].fusable:
            found += _stages(graph, memory, last, mode == "streamed")
        yield found


def alone(graph: Graph, memory: Memory, position: int) -> Edges:
    """The costs of a layer that runs by itself."""
    layer = graph.layers[position]
    saved = memory.saved(position, ((r.tensor, r.overlap, APART) for r in layer.reads))
    size = memory.live(position, position) - saved + aligned(layer.scratch_bytes)
    costs = (0, size, layer.macs, graph.tensors[layer.output].bytes, False)
    return Edges(position, position, *(np.array([cost]) for cost in costs))


def _stages(graph: Graph, memory: Memory, last: int, streamed: bool) -> Iterator[Edges]:
    stage = Stage(graph, last)
    growing = True
    while growing:
        if streamed and stage.first == 0:
            if stage.stream():
                yield stage_edge(memory, stage, most_strips=1)
        elif stage.first < last:
            yield stage_edge(memory, stage)
        growing = stage.grow()


def stage_edge(memory: Memory, stage: Stage, most_strips: int | None = None) -> Edges:
    """The costs of a stage in the network, with and without lean kernels."""
    keep = stage.strips <= (most_strips or stage.strips.max())
    saves = keep & (stage.lean_saves > 0)
    sizes = []
    for lean in (False, True):
        stage.lean = lean
        sizes.append(_bytes(memory, stage))
    return Edges(
        stage.first,
        stage.last,
        np.concatenate([stage.strips[keep], stage.strips[saves]]),
        np.concatenate([sizes[0][keep], sizes[1][saves]]),
        np.concatenate([stage.macs[keep], stage.macs[saves]]),
        # Lean kernels are slower: as if there were more to make.
        np.concatenate([stage.elements[keep], 2 * stage.elements[saves]]),
        np.repeat([False, True], [keep.sum(), saves.sum()]),
    )


def _bytes(memory: Memory, stage: Stage) -> Ints:
    """Bytes in the arena while a stage runs."""
    size = stage.bytes + memory.live(stage.first, stage.last)
    if stage.strips[0] == 1:
        ends = list(itertools.accumulate(int(buffer.size[0]) for buffer in stage.buffers))
        reach = ((t, stage.overlap(t), stage.work_overlap(t, ends)) for t in stage.inputs)
        size[0] -= memory.saved(stage.last, reach, ends[-1])
    return size
