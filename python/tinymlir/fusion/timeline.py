"""When the layers of a block make their rows, and how many rows of each tensor are kept."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tinymlir.fusion.graph import Graph, Ints, Window
from tinymlir.fusion.schedule import Step, row_range, simulate, steps_of


class Timeline:
    """The schedule of the layers from ``first`` to ``last``, whatever columns they make.

    Attributes:
        output: the tensor that the last layer makes.
        steps: from the last to the first, so that places do not change when layers join.
        readers: windows on each tensor, with the step that has it.
        rows: how many rows of a ring are kept, by the ring's tensor.
        shared: tensors whose rows lie in the ring, or in the whole output, of another since an
            elementwise layer works in place.
    """

    def __init__(self, graph: Graph, last: int) -> None:
        """Of one layer, which must be fusable."""
        self.graph, self.first, self.last = graph, last, last
        self.output = graph.layers[last].output
        self.steps: list[Step] = []
        self._slices: list[slice] = []
        #: when the rows of all steps are made; ``_slices`` says which are whose
        self._clock = np.empty(0, np.int64)
        self.readers: dict[int, list[tuple[Window, int]]] = {}
        #: the step that first writes rows of the output
        self._writer = 0
        self.rows: dict[int, int] = {}
        self.shared: dict[int, int] = {}
        self._join(last)

    @cached_property
    def grown(self) -> Timeline | None:
        """With the layer before the first; None where that cannot join."""
        graph, position = self.graph, self.first - 1
        if position < 0 or not graph.layers[position].fusable:
            return None
        tensor = graph.layers[position].output
        if tensor not in self.readers or graph.last_use[tensor] > self.last:
            return None
        timeline = self._copy()
        timeline._join(position)
        return timeline

    @cached_property
    def streamed(self) -> Timeline | None:
        """With a step for the arrival of the rows of the network's input.

        None where others read it too, or where it gives one of several outputs of the network.
        """
        graph, source = self.graph, self.graph.inputs[0]
        if self.inputs != [source] or graph.last_use[source] > self.last:
            return None
        if self.output in graph.outputs and self.last + 1 < len(graph.layers):
            return None
        timeline = self._copy()
        timeline._prepend(Step(None, source, graph.tensors[source].rows, ()))
        return timeline

    @property
    def inputs(self) -> list[int]:
        """Tensors that are read and not made."""
        made = {step.tensor for step in self.steps}
        return sorted(tensor for tensor in self.readers if tensor not in made)

    def times(self, step: int) -> Ints:
        """When a step makes each of its rows."""
        return self._clock[self._slices[step]]

    def sequence(self) -> list[int]:
        """The order in which steps make their rows: the number of a step, counted from the first
        layer's, for each row.
        """
        times = [self.times(step) for step in reversed(range(len(self.steps)))]
        number = np.repeat(np.arange(len(times)), [len(each) for each in times])
        return list(number[np.argsort(np.concatenate(times))])

    def rows_made(self, tensor: int) -> int:
        """Rows of ``tensor`` that are made: as many as are needed."""
        number = next(i for i, step in enumerate(self.steps) if step.tensor == tensor)
        return len(self.times(number))

    def place(self, tensor: int) -> int:
        """The tensor in whose ring, or output, the rows of ``tensor`` lie."""
        while tensor in self.shared:
            tensor = self.shared[tensor]
        return tensor

    def begins(self) -> dict[int, int]:
        """When each ring, and each sum of a reduction, is first written."""
        begins: dict[int, int] = {}
        for index, step in enumerate(self.steps):
            place, begin = self.place(step.tensor), int(self.times(index)[0])
            begins[place] = min(begin, begins.get(place, begin))
        del begins[self.output]
        return begins

    def output_times(self) -> Ints:
        """When the rows of the output are first written, also by what it is made of in place."""
        return self.times(self._writer)

    def freed(self, tensor: int, times: Ints) -> Ints:
        """Bytes at the start of input ``tensor`` that nothing reads at those times or later."""
        source = self.graph.tensors[tensor]
        still_read = np.full(len(times), source.rows)
        for window, step in self.readers[tensor]:
            read = self.times(step)
            begins = np.append(row_range(window, len(read), source.rows)[0], source.rows)
            still_read = np.minimum(still_read, begins[np.searchsorted(read, times)])
        return still_read * source.columns * source.channels

    def _copy(self) -> Timeline:
        timeline = Timeline.__new__(Timeline)
        timeline.graph, timeline.first, timeline.last = self.graph, self.first, self.last
        timeline.output, timeline._writer = self.output, self._writer
        timeline.steps, timeline._slices = list(self.steps), list(self._slices)
        timeline._clock = self._clock
        timeline.readers = {tensor: list(readers) for tensor, readers in self.readers.items()}
        timeline.rows, timeline.shared = dict(self.rows), dict(self.shared)
        return timeline

    def _join(self, position: int) -> None:
        self.first = position
        self._share(position)
        for step in reversed(steps_of(self.graph, position)):
            self._prepend(step)

    def _share(self, position: int) -> None:
        """Let a layer write its rows over those of an operand that ends here, pixel by pixel."""
        graph, layer = self.graph, self.graph.layers[position]
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

    def _prepend(self, step: Step) -> None:
        """Put a step before the first one, and keep its rows as long as they are read."""
        self.steps.append(step)
        last = len(self.steps) - 1
        if step.tensor == self.output:
            self._append(np.arange(step.rows))
        elif not self._insert(step):
            self._simulate()
            self.rows = dict.fromkeys(self.rows, 0)
            for index in range(last):
                self._keep(index)
        for tensor, window in step.reads:
            self.readers.setdefault(tensor, []).append((window, last))
        if step.tensor >= 0 and step.tensor not in (self.output, *self.shared):
            self.rows[step.tensor] = 0
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
            index: np.zeros(len(self.times(index)), np.int64)
            for _, index in self.readers[step.tensor]
        }
        for window, index in self.readers[step.tensor]:
            ends = row_range(window, len(rows[index]), step.rows)[1]
            rows[index] = np.maximum(rows[index], ends)
        if following not in rows:
            return False
        clock, demand = self.times(following), rows.pop(following)
        for index, ends in rows.items():
            before = np.searchsorted(clock, self.times(index))
            if (np.append(0, demand)[before] < ends).any():
                return False
        new = clock[np.searchsorted(demand, np.arange(demand[-1]), "right")]
        moved = np.append(0, demand)[np.searchsorted(clock, self._clock, "right")]
        self._clock = self._clock + moved
        self._append(new + np.arange(len(new)))
        return True

    def _simulate(self) -> None:
        """Find the schedule from the beginning."""
        times = simulate(self.steps[::-1])[::-1]
        self._clock, self._slices = np.empty(0, np.int64), []
        for each in times:
            self._append(each)

    def _last_read(self, tensor: int, height: int, made: Ints) -> Ints:
        """When the rows of a tensor with ``height``, made then, are read for the last time."""
        last, rows = made, np.arange(len(made))
        for window, step in self.readers.get(tensor, []):
            times = self.times(step)
            begins, ends = row_range(window, len(times), height)
            reader = np.searchsorted(begins, rows, "right") - 1
            read = (reader >= 0) & (ends[reader] > rows)
            last = np.maximum(last, np.where(read, times[reader], 0))
        return last

    def _keep(self, index: int) -> None:
        """Find how many rows of the step's tensor must be kept."""
        step, made = self.steps[index], self.times(index)
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
            self.rows[root] = max(self.rows[root], kept)
