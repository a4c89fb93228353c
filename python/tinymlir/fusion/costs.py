"""What a stage costs: bytes of its buffers and multiply-accumulates, exactly (docs/fusion.md).

A stage grows from its last layer towards the front, for all numbers of strips at once: what its
later layers need does not change when an earlier one joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tinymlir.arena import ALIGNMENT
from tinymlir.bindings import ir
from tinymlir.errors import PassFailure
from tinymlir.fusion.graph import Graph, Ints, Layer, Window
from tinymlir.fusion.schedule import Step, row_range, simulate, steps_of

Size = TypeVar("Size", int, Ints)
#: The counter of a step: rows made.
STATE_BYTES = 2
#: Buffers of a stage besides rings and sums, which have numbers.
COUNTERS, SCRATCH = "counters", "scratch"
Name = int | str
#: Bytes of a sum that a reduction keeps for each channel.
_SUM_BYTES = 4


def aligned(size: Size) -> Size:
    """``size`` as it counts in the arena."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def strip_counts(columns: int) -> list[int]:
    """Numbers of strips of equal width, the last perhaps narrower, that ``columns`` divide into."""
    widths = sorted({-(-columns // n) for n in range(1, columns + 1)}, reverse=True)
    return [-(-columns // width) for width in widths]


@dataclass
class Ring:
    """Rows of a tensor that are kept, and how many columns, for each number of strips."""

    rows: int
    columns: Ints


@dataclass(frozen=True)
class Buffer:
    """A part of a stage's memory.

    ``name`` is the tensor of a ring, or the one that a reduction's steps pass on (`steps_of`);
    ``begin`` is when it is first written, ``size`` how many bytes for each number of strips.
    """

    name: Name
    begin: int
    size: Ints


class Stage:
    """A block of layers that ends with ``last`` and so far begins with ``first``.

    Attributes:
        strips: numbers of strips; arrays below have one element for each.
        rings: what is kept of the tensors inside.
        shared: tensors whose rows lie in the ring, or in the whole output, of another since an
            elementwise layer works in place.
        macs: multiply-accumulates.
        elements: of all tensors, how many are made.
        sums: bytes of the accumulators of each reduction.
        lean: whether layers take the kernels that want the least work space.
    """

    def __init__(
        self, graph: Graph, last: int, strips: Sequence[int] | None = None, lean: bool = False
    ) -> None:
        """A stage of one layer, which must be fusable; ``strips``: all there are if not given."""
        self._graph, self.lean = graph, lean
        self.output = graph.layers[last].output
        self.first, self.last = last + 1, last
        columns = graph.tensors[self.output].columns
        self.strips = np.array(strip_counts(columns) if strips is None else strips)
        #: where the strips of each number begin among all
        self._begin = np.concatenate([[0], np.cumsum(self.strips)[:-1]])
        index = np.arange(self.strips.sum()) - np.repeat(self._begin, self.strips)
        width = np.repeat(-(-columns // self.strips), self.strips)
        #: first, and past the last, column that each strip needs of a tensor
        self._columns = {self.output: (index * width, np.minimum((index + 1) * width, columns))}
        #: from the last to the first, so that places do not change
        self._steps: list[Step] = []
        self._slices: list[slice] = []
        #: when the rows of all steps are made; ``_slices`` says which are whose
        self._clock = np.empty(0, np.int64)
        #: windows on each tensor, with the step that has it
        self._readers: dict[int, list[tuple[Window, int]]] = {}
        #: the step that first writes rows of the output
        self._writer = 0
        self.rings: dict[int, Ring] = {}
        self.shared: dict[int, int] = {}
        self.macs = np.zeros(len(self.strips), np.int64)
        self.elements = np.zeros(len(self.strips), np.int64)
        self.sums: dict[Name, int] = {}
        #: work space of the layers, by their usual kernels and by lean ones
        self._scratch = np.zeros((2, len(self.strips)), np.int64)
        self.grow()

    @property
    def inputs(self) -> list[int]:
        """Tensors that the stage reads and does not make."""
        made = {step.tensor for step in self._steps}
        return sorted(tensor for tensor in self._readers if tensor not in made)

    def columns(self, tensor: int) -> tuple[Ints, Ints]:
        """First, and past the last, column that each strip needs of a tensor, strip after strip."""
        return self._columns[tensor]

    @property
    def steps(self) -> list[Step]:
        """All steps, from the first layer's to the last's."""
        return self._steps[::-1]

    def sequence(self) -> list[int]:
        """The order in which ``steps`` make their rows: the number of a step for each row."""
        times = [self._times(step) for step in reversed(range(len(self._steps)))]
        number = np.repeat(np.arange(len(times)), [len(each) for each in times])
        return list(number[np.argsort(np.concatenate(times))])

    def rows_made(self, tensor: int) -> int:
        """Rows of ``tensor`` that the stage computes: as many as are needed."""
        number = next(i for i, step in enumerate(self._steps) if step.tensor == tensor)
        return len(self._times(number))

    @property
    def buffers(self) -> list[Buffer]:
        """What the stage needs besides its input and output, in the order of first use.

        Counters and work space first, then rings and sums. In this order they lie in memory, since
        the last ones may lie over an input of which they need room only when it is read.
        """
        begins: dict[Name, int] = {}
        for index, step in enumerate(self._steps):
            place, begin = self.place(step.tensor), int(self._times(index)[0])
            begins[place] = min(begin, begins.get(place, begin))
        made = np.ones(len(self.strips), np.int64)
        found = [
            Buffer(COUNTERS, 0, aligned(STATE_BYTES * len(self._steps)) * made),
            Buffer(SCRATCH, 0, aligned(self._scratch[int(self.lean)])),
        ]
        for name in sorted(begins.keys() - {self.output}, key=lambda name: (begins[name], name)):
            if name in self.rings:
                ring = self.rings[name]
                size = ring.rows * ring.columns * self._graph.tensors[name].channels
            else:
                size = self.sums[name] * made
            found.append(Buffer(name, begins[name], aligned(size)))
        return found

    @property
    def bytes(self) -> Ints:
        """All ``buffers``."""
        return sum((b.size for b in self.buffers), np.zeros(len(self.strips), np.int64))

    def place(self, tensor: int) -> int:
        """The tensor in whose ring, or output, the rows of ``tensor`` lie."""
        while tensor in self.shared:
            tensor = self.shared[tensor]
        return tensor

    def grow(self) -> bool:
        """Take in the layer before the first; False, and nothing changes, where that cannot be."""
        graph, position = self._graph, self.first - 1
        if position < 0 or not graph.layers[position].fusable:
            return False
        layer = graph.layers[position]
        inside = layer.output in self._readers and graph.last_use[layer.output] <= self.last
        if layer.output != self.output and not inside:
            return False
        self.first = position
        low, high = self._columns[layer.output]
        self._share(position)
        steps = steps_of(graph, position)
        for step in reversed(steps):
            self._prepend(step, high - low)
        tensor = graph.tensors[layer.output]
        made = len(self._times(len(self._steps) - len(steps)))
        pixels = np.add.reduceat(high - low, self._begin) * made
        self.macs += layer.macs // (tensor.rows * tensor.columns) * pixels
        self.elements += tensor.channels * pixels
        self._widen_scratch(layer, np.maximum.reduceat(high - low, self._begin))
        if layer.accumulates:
            self.sums[steps[0].tensor] = _SUM_BYTES * tensor.channels * tensor.columns
        for read in layer.reads:
            size = graph.tensors[read.tensor].columns
            begin, end = read.columns.begin(low, size), read.columns.end(high, size)
            if read.tensor in self._columns:
                known = self._columns[read.tensor]
                begin, end = np.minimum(begin, known[0]), np.maximum(end, known[1])
            # Without strips rows are made from their first column.
            begin = np.where(np.repeat(self.strips, self.strips) == 1, 0, begin)
            self._columns[read.tensor] = begin, end
        return True

    @property
    def lean_saves(self) -> Ints:
        """Bytes of work space that lean kernels do without."""
        return aligned(self._scratch[0]) - aligned(self._scratch[1])

    def _widen_scratch(self, layer: Layer, columns: Ints) -> None:
        """Make room for the work space of a layer that computes so many columns at most."""
        for place, table in enumerate((layer.row_scratch_bytes, layer.lean_scratch_bytes)):
            wanted = np.array(table)[np.minimum(columns, len(table)) - 1]
            self._scratch[place] = np.maximum(self._scratch[place], wanted)

    def stream(self) -> bool:
        """Let the rows of the network's input arrive one by one.

        False where others read it too, or where it gives one of several outputs of the network.
        """
        graph, source = self._graph, self._graph.inputs[0]
        if self.inputs != [source] or graph.last_use[source] > self.last:
            return False
        if self.output in graph.outputs and self.last + 1 < len(graph.layers):
            return False
        low, high = self._columns[source]
        self._prepend(Step(None, source, self._graph.tensors[source].rows, ()), high - low)
        return True

    def overlap(self, tensor: int) -> int:
        """Bytes above the output that input ``tensor`` must start for both to share memory.

        Holds where there is one strip: then rows of both go by in order.
        """
        output, times = self._graph.tensors[self.output], self._times(self._writer)
        written = (np.arange(len(times)) + 1) * output.columns * output.channels
        return max(0, int((written - self._freed(tensor, times)).max()))

    def work_overlap(self, tensor: int, ends: Sequence[int]) -> int:
        """Bytes above the ``buffers`` that input ``tensor`` must start to share their memory.

        A buffer may lie over rows that were read before it is first written. For one strip.

        Args:
            ends: where each buffer ends.
        """
        begins = np.array([buffer.begin for buffer in self.buffers])
        return max(0, int((np.array(ends) - self._freed(tensor, begins)).max()))

    def _freed(self, tensor: int, times: Ints) -> Ints:
        """Bytes at the start of input ``tensor`` that nothing reads at those times or later."""
        source = self._graph.tensors[tensor]
        still_read = np.full(len(times), source.rows)
        for window, step in self._readers[tensor]:
            read = self._times(step)
            begins = np.append(row_range(window, len(read), source.rows)[0], source.rows)
            still_read = np.minimum(still_read, begins[np.searchsorted(read, times)])
        return still_read * source.columns * source.channels

    def _times(self, step: int) -> Ints:
        return self._clock[self._slices[step]]

    def _share(self, position: int) -> None:
        """Let a layer write its rows over those of an operand that ends here, pixel by pixel."""
        graph, layer = self._graph, self._graph.layers[position]
        own = [
            read.tensor
            for read in layer.reads
            if read.in_place
            and graph.readers[read.tensor] == (position,)
            and graph.birth[read.tensor] >= 0
            and graph.tensors[read.tensor] == graph.tensors[layer.output]
        ]
        if layer.elementwise and own:
            self.shared[max(own, key=lambda tensor: graph.birth[tensor])] = layer.output

    def _prepend(self, step: Step, widths: Ints) -> None:
        """Put a step before the first one, and keep its rows as long as they are read."""
        self._steps.append(step)
        last = len(self._steps) - 1
        if step.tensor == self.output:
            self._append(np.arange(step.rows))
        elif not self._insert(step):
            self._simulate()
            for ring in self.rings.values():
                ring.rows = 0
            for index in range(last):
                self._keep(index)
        for tensor, window in step.reads:
            self._readers.setdefault(tensor, []).append((window, last))
        if step.tensor >= 0 and step.tensor not in (self.output, *self.shared):
            columns = np.maximum.reduceat(widths, self._begin)
            self.rings[step.tensor] = Ring(0, columns)
        self._keep(last)

    def _append(self, times: Ints) -> None:
        self._slices.append(slice(len(self._clock), len(self._clock) + len(times)))
        self._clock = np.concatenate([self._clock, times])

    def _insert(self, step: Step) -> bool:
        """Put the rows of a new first step right before those of the next step that need them.

        That is the schedule, unless another step would read a row that the next step did not
        have made before: then False, and nothing changes.
        """
        following = len(self._slices) - 1
        rows = {
            index: np.zeros(len(self._times(index)), np.int64)
            for _, index in self._readers[step.tensor]
        }
        for window, index in self._readers[step.tensor]:
            ends = row_range(window, len(rows[index]), step.rows)[1]
            rows[index] = np.maximum(rows[index], ends)
        if following not in rows:
            return False
        clock, demand = self._times(following), rows.pop(following)
        for index, ends in rows.items():
            before = np.searchsorted(clock, self._times(index))
            if (np.append(0, demand)[before] < ends).any():
                return False
        new = clock[np.searchsorted(demand, np.arange(demand[-1]), "right")]
        moved = np.append(0, demand)[np.searchsorted(clock, self._clock, "right")]
        self._clock = self._clock + moved
        self._append(new + np.arange(len(new)))
        return True

    def _simulate(self) -> None:
        """Find the schedule from the beginning."""
        times = simulate(self._steps[::-1])[::-1]
        self._clock, self._slices = np.empty(0, np.int64), []
        for each in times:
            self._append(each)

    def _last_read(self, tensor: int, height: int, made: Ints) -> Ints:
        """When the rows of a tensor with ``height``, made then, are read for the last time."""
        last, rows = made, np.arange(len(made))
        for window, step in self._readers.get(tensor, []):
            times = self._times(step)
            begins, ends = row_range(window, len(times), height)
            reader = np.searchsorted(begins, rows, "right") - 1
            read = (reader >= 0) & (ends[reader] > rows)
            last = np.maximum(last, np.where(read, times[reader], 0))
        return last

    def _keep(self, index: int) -> None:
        """Find how many rows of the step's tensor must be kept."""
        step, made = self._steps[index], self._times(index)
        root, last = step.tensor, self._last_read(step.tensor, step.rows, made)
        while root in self.shared:
            root = self.shared[root]
            last = np.maximum(last, self._last_read(root, step.rows, made))
        if root == self.output:
            self._writer = index
        elif root >= 0:
            # Rows leave a ring in order.
            gone = np.searchsorted(np.maximum.accumulate(last), made)
            kept = int((np.arange(len(made)) + 1 - gone).max())
            self.rings[root].rows = max(self.rings[root].rows, kept)


def whole_stage(
    where: ir.Location, graph: Graph, strips: int, *, streamed: bool = False, lean: bool = False
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
    stage = Stage(graph, last, [strips], lean)
    while stage.first > 0:
        if not stage.grow():
            name = graph.layers[stage.first - 1].name
            raise PassFailure(where, f"makes '{name}', but no later layer reads it")
    if streamed and (strips > 1 or not stage.stream()):
        raise PassFailure(where, "takes rows as they come: expects one strip and one input")
    return stage
