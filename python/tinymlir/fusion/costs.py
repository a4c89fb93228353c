"""What a stage costs: bytes of its buffers and multiply-accumulates, exactly (docs/fusion.md).

A stage grows from its last layer towards the front, for all numbers of strips at once: what its
later layers need does not change when an earlier one joins.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tinymlir.arena import ALIGNMENT
from tinymlir.bindings import ir
from tinymlir.errors import PassFailure
from tinymlir.fusion.graph import Graph, Ints, Layer
from tinymlir.fusion.timeline import Timeline

Size = TypeVar("Size", int, Ints)
#: The counter of a step: rows made.
STATE_BYTES = 2
#: Buffers of a stage besides rings, sums and caches.
COUNTERS, SCRATCH = "counters", "scratch"
#: Bytes of a sum that a reduction keeps for each channel.
_SUM_BYTES = 4


class Cache(NamedTuple):
    """The buffer for columns of ``tensor`` that one strip keeps for the next."""

    tensor: int


#: Of a buffer: the tensor of a ring, the negative number that a reduction's steps pass on
#: (`tinymlir.fusion.schedule.steps_of`), or what else it is.
Name = int | str | Cache


def aligned(size: Size) -> Size:
    """``size`` as it counts in the arena."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def strip_counts(columns: int) -> list[int]:
    """Numbers of strips of equal width, the last perhaps narrower, that ``columns`` divide into."""
    widths = sorted({-(-columns // n) for n in range(1, columns + 1)}, reverse=True)
    return [-(-columns // width) for width in widths]


@dataclass(frozen=True)
class Buffer:
    """A part of a stage's memory; ``begin`` is when it is first written."""

    name: Name
    begin: int
    size: int


class Stage:
    """A block of layers that ends with ``last`` and so far begins with ``first``.

    It has variants, which differ in strips and caches; arrays below have one element for each.

    Attributes:
        timeline: in which order rows are made, and how many of them are kept.
        strips: numbers of strips.
        chosen: layers of whose outputs strips keep the columns that the next one needs too.
        widths: columns that the ring of a tensor has.
        macs: multiply-accumulates.
        elements: of all tensors, how many are made, or kept from one strip to the next.
        sums: bytes of the accumulators of each reduction.
        caches: columns of a tensor that are kept from one strip to the next at the most.
        lean: whether layers take the kernels that want the least work space.
    """

    def __init__(
        self,
        graph: Graph,
        last: int,
        strips: Sequence[int] | None = None,
        lean: bool = False,
        cached: Collection[int] = (),
    ) -> None:
        """A stage of one layer, which must be fusable.

        Args:
            strips: all numbers there are if not given.
            cached: what is ``chosen`` in all variants.
        """
        self._graph, self.lean = graph, lean
        self.timeline = Timeline(graph, last)
        columns = graph.tensors[self.output].columns
        self.strips = np.array(strip_counts(columns) if strips is None else strips)
        self.chosen = [tuple(cached)] * len(self.strips)
        self._number_strips()
        index = np.arange(self.strips.sum()) - np.repeat(self._begin, self.strips)
        width = np.repeat(-(-columns // self.strips), self.strips)
        #: first, and past the last, column that each strip needs of a tensor
        self._columns = {self.output: (index * width, np.minimum((index + 1) * width, columns))}
        #: the first of them that it makes
        self._made: dict[int, Ints] = {}
        zeros = np.zeros(len(self.strips), np.int64)
        self.macs, self.elements = zeros, zeros
        self.widths: dict[int, Ints] = {}
        self.caches: dict[int, Ints] = {}
        self.sums: dict[int, int] = {}
        #: work space of the layers, by their usual kernels and by lean ones
        self._scratch = np.stack([zeros, zeros])
        #: bytes of rings and of caches
        self._ring_bytes, self._cache_bytes = zeros, zeros
        self._add_layer({})

    @property
    def first(self) -> int:
        return self.timeline.first

    @property
    def last(self) -> int:
        return self.timeline.last

    @property
    def output(self) -> int:
        """The tensor that the last layer makes."""
        return self.timeline.output

    def _number_strips(self) -> None:
        #: where the strips of each variant begin among all
        self._begin = np.concatenate([[0], np.cumsum(self.strips)[:-1]])

    def columns(self, tensor: int) -> tuple[Ints, Ints]:
        """First, and past the last, column that each strip needs of a tensor, strip after strip."""
        return self._columns[tensor]

    def columns_made(self, tensor: int) -> tuple[Ints, Ints]:
        """Those of ``columns`` that each strip makes; it has the others from the strip before."""
        return self._made[tensor], self._columns[tensor][1]

    def ring(self, tensor: int) -> tuple[int, int]:
        """Rows and columns of a ring, in the first variant."""
        return self.timeline.rows[tensor], int(self.widths[tensor][0])

    def buffers(self) -> list[Buffer]:
        """What the first variant needs besides input and output, in the order of first use.

        Counters and work space first, then rings and sums. In this order they lie in memory, since
        the last ones may lie over an input of which they need room only when it is read; caches,
        which no stage of one strip has, come last.
        """
        found = [
            Buffer(COUNTERS, 0, self._counter_bytes),
            Buffer(SCRATCH, 0, int(aligned(self._scratch[int(self.lean)])[0])),
        ]
        begins = self.timeline.begins()
        for name in sorted(begins, key=lambda name: (begins[name], name)):
            if name < 0:
                size = self.sums[name]
            else:
                rows, columns = self.ring(name)
                size = rows * columns * self._graph.tensors[name].channels
            found.append(Buffer(name, begins[name], aligned(size)))
        for tensor, kept in self.caches.items():
            size = int(self._bytes_of_cache(tensor, kept)[0])
            found += [Buffer(Cache(tensor), 0, size)] if size else []
        return found

    @property
    def bytes(self) -> Ints:
        """All buffers."""
        fixed = self._counter_bytes + sum(aligned(size) for size in self.sums.values())
        return self._ring_bytes + self._cache_bytes + aligned(self._scratch[int(self.lean)]) + fixed

    @property
    def _counter_bytes(self) -> int:
        return aligned(STATE_BYTES * len(self.timeline.steps))

    def _bytes_of_cache(self, tensor: int, columns: Ints) -> Ints:
        """All rows of so many columns: of a strip all are made before the next one reads them."""
        return aligned(
            self.timeline.rows_made(tensor) * columns * self._graph.tensors[tensor].channels
        )

    def grow(self) -> bool:
        """Take in the layer before the first; False, and nothing changes, where that cannot be."""
        grown = self.timeline.grown
        if grown is None:
            return False
        rows, self.timeline = self.timeline.rows, grown
        self._add_layer(rows)
        return True

    def _caching(self, overlap: Ints) -> npt.NDArray[np.bool_]:
        """Of which variants a cache keeps columns of the tensor that a new first layer makes.

        Args:
            overlap: how many columns at the most two strips need of it.
        """
        return np.array([self.first in layers for layers in self.chosen])

    def _add_layer(self, rows: dict[int, int]) -> None:
        """Count what the first layer costs; ``rows`` are those of rings without it."""
        graph, layer = self._graph, self._graph.layers[self.first]
        output, tensor = layer.output, graph.tensors[layer.output]
        cached = self._caching(self._widest(self._first_new(output) - self._columns[output][0]))
        low, high = self._columns[output]
        made = np.where(np.repeat(cached, self.strips), self._first_new(output), low)
        self._made[output] = made
        self._add_ring(output, rows)
        rows_made = self.timeline.rows_made(output)
        if cached.any():
            self.caches[output] = self._widest(made - low)
            self._cache_bytes = self._cache_bytes + self._bytes_of_cache(
                output, self.caches[output]
            )
        pixels = np.add.reduceat(high - made, self._begin) * rows_made
        self.macs = self.macs + layer.macs // (tensor.rows * tensor.columns) * pixels
        kept = np.add.reduceat(made - low, self._begin) * rows_made
        self.elements = self.elements + tensor.channels * (pixels + kept)
        self._widen_scratch(layer, self._widest(high - made))
        if layer.accumulates:
            self.sums[-1 - self.first] = _SUM_BYTES * tensor.channels * tensor.columns
        for read in layer.reads:
            size = graph.tensors[read.tensor].columns
            begin, end = read.columns.begin(made, size), read.columns.end(high, size)
            if read.tensor in self._columns:
                known = self._columns[read.tensor]
                begin, end = np.minimum(begin, known[0]), np.maximum(end, known[1])
            # Without strips rows are made from their first column.
            begin = np.where(np.repeat(self.strips, self.strips) == 1, 0, begin)
            self._columns[read.tensor] = begin, end

    def _first_new(self, tensor: int) -> Ints:
        """The first column of each strip that the one before does not need; the last at the most,
        so that each strip makes a column.
        """
        low, high = self._columns[tensor]
        before = np.append(0, high[:-1])
        before[self._begin] = 0
        return np.minimum(np.maximum(low, before), high - 1)

    def _widest(self, columns: Ints) -> Ints:
        """The most of the strips of each variant."""
        return np.maximum.reduceat(columns, self._begin)

    def _add_ring(self, tensor: int, rows: dict[int, int]) -> None:
        """Count the ring of ``tensor``, if it has one; ``rows`` are those of rings without it."""
        low, high = self._columns[tensor]
        now, added = self.timeline.rows, []
        if tensor in now:
            self.widths[tensor] = self._widest(high - low)
            added = [tensor]
        if any(now[ring] != count for ring, count in rows.items()):
            # The schedule has changed.
            added, self._ring_bytes = list(now), np.zeros(len(self.strips), np.int64)
        for ring in added:
            self._ring_bytes = self._ring_bytes + self._bytes_of_ring(ring)

    def _bytes_of_ring(self, tensor: int) -> Ints:
        pixels = self.timeline.rows[tensor] * self.widths[tensor]
        return aligned(pixels * self._graph.tensors[tensor].channels)

    @property
    def lean_saves(self) -> Ints:
        """Bytes of work space that lean kernels do without."""
        return aligned(self._scratch[0]) - aligned(self._scratch[1])

    def _widen_scratch(self, layer: Layer, columns: Ints) -> None:
        """Make room for the work space of a layer that computes so many columns at most."""
        wanted = [
            np.array(table)[np.minimum(columns, len(table)) - 1]
            for table in (layer.row_scratch_bytes, layer.lean_scratch_bytes)
        ]
        self._scratch = np.maximum(self._scratch, wanted)

    def stream(self) -> bool:
        """Let the rows of the network's input arrive one by one; False where they cannot.

        That is where others read it too, or it gives one of several outputs of the network.
        """
        streamed = self.timeline.streamed
        if streamed is None:
            return False
        rows, self.timeline = self.timeline.rows, streamed
        self._add_ring(self._graph.inputs[0], rows)
        return True

    def reach(self) -> list[tuple[int, int, int]]:
        """Each input, with how far above the output and above the buffers it must start to share
        their memory. For one strip.
        """
        ends = list(itertools.accumulate(buffer.size for buffer in self.buffers()))
        inputs = self.timeline.inputs
        return [(t, self.overlap(t), self.work_overlap(t, ends)) for t in inputs]

    def overlap(self, tensor: int) -> int:
        """Bytes above the output that input ``tensor`` must start for both to share memory.

        Holds where there is one strip: then rows of both go by in order.
        """
        output, times = self._graph.tensors[self.output], self.timeline.output_times()
        written = (np.arange(len(times)) + 1) * output.columns * output.channels
        return max(0, int((written - self.timeline.freed(tensor, times)).max()))

    def work_overlap(self, tensor: int, ends: Sequence[int]) -> int:
        """Bytes above the ``buffers`` that input ``tensor`` must start to share their memory.

        A buffer may lie over rows that were read before it is first written. For one strip.

        Args:
            ends: where each buffer ends.
        """
        begins = np.array([buffer.begin for buffer in self.buffers()])
        return max(0, int((np.array(ends) - self.timeline.freed(tensor, begins)).max()))

    def needless_caches(self) -> list[int]:
        """Layers of which columns are to be cached, and no two strips need the same."""
        tensors = {self._graph.layers[position].output: position for position in self.chosen[0]}
        return [p for t, p in tensors.items() if t in self.caches and not self.caches[t].any()]


def whole_stage(
    where: ir.Location,
    graph: Graph,
    strips: int,
    *,
    streamed: bool = False,
    lean: bool = False,
    cached: Collection[int] = (),
) -> Stage:
    """All layers of ``graph`` as one stage, to which the rows of its input arrive if ``streamed``.

    Raises:
        PassFailure: they cannot run row by row together.
    """
    last = len(graph.layers) - 1
    for layer in graph.layers:
        if not layer.fusable:
            raise PassFailure(where, f"cannot run '{layer.name}' ({layer.op}) row by row")
    if graph.outputs != (graph.layers[last].output,):
        raise PassFailure(where, "expects to yield the result of the last layer")
    columns = graph.tensors[graph.layers[last].output].columns
    if strips not in strip_counts(columns):
        raise PassFailure(where, f"cannot make {columns} columns in {strips} strips of one width")
    stage = Stage(graph, last, [strips], lean, cached)
    while stage.first > 0:
        if not stage.grow():
            name = graph.layers[stage.first - 1].name
            raise PassFailure(where, f"makes '{name}', but no later layer reads it")
    for position in stage.needless_caches():
        name = graph.layers[position].name
        raise PassFailure(where, f"caches columns of '{name}', which no two strips need")
    if streamed and (strips > 1 or not stage.stream()):
        raise PassFailure(where, "takes rows as they come: expects one strip and one input")
    return stage
