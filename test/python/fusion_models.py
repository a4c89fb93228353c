"""Small random networks for the planner, and a machine that runs fusion settings in an arena.

The machine knows nothing of costs: it has the bytes of the arena, places buffers where the plan
says, and computes row by row. What is overwritten too early comes out wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tinymlir.fusion.costs import Cache, Stage
from tinymlir.fusion.graph import ELEMENT, Graph, Layer, Read, Tensor, Window
from tinymlir.fusion.placement import place
from tinymlir.fusion.schedule import Step, simulate, steps_of
from tinymlir.fusion.setting import Block, InputMode
from tinymlir.fusion.stages import make_stage

Bytes = npt.NDArray[np.uint8]


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> Graph:
    """Convolutions, sums with earlier tensors, branches, reductions, layers that cannot fuse."""
    size = st.integers(1, 9)
    tensors = [Tensor(draw(size), draw(size), draw(st.integers(1, 3)))]
    layers: list[Layer] = []
    for position in range(draw(st.integers(1, most))):
        source = draw(st.sampled_from([len(tensors) - 1] * 3 + list(range(len(tensors)))))
        shape = tensors[source]
        same = [t for t, other in enumerate(tensors) if other == shape and t != source]
        kind = draw(st.sampled_from(["conv", "conv", "conv", "add", "reduce"]))
        accumulates = False
        if kind == "add" and same:
            both = (source, draw(st.sampled_from(same)))
            reads = [Read(t, overlap=0, in_place=draw(st.booleans())) for t in both]
            output = shape
        elif kind == "reduce" and shape.rows > 1:
            reads = [Read(source, Window(0, 0, shape.rows), Window(0, 0, shape.columns))]
            output, accumulates = Tensor(1, 1, shape.channels), draw(st.booleans())
        else:
            rows, columns = (draw(windows(extent)) for extent in (shape.rows, shape.columns))
            reads = [Read(source, rows[0], columns[0])]
            output = Tensor(rows[1], columns[1], draw(st.integers(1, 4)))
        layers.append(
            Layer(
                name=f"layer{position}",
                op=kind,
                reads=tuple(reads),
                output=len(tensors),
                macs=output.rows * output.columns * draw(st.integers(0, 5)),
                scratch_bytes=draw(st.integers(0, 5)),
                row_scratch_bytes=tuple(sorted(draw(st.lists(st.integers(3, 9), min_size=1)))),
                lean_scratch_bytes=(draw(st.integers(0, 3)),),
                fusable=draw(st.integers(0, 9)) > 0,
                accumulates=accumulates,
            )
        )
        tensors.append(output)
    read = {r.tensor for layer in layers for r in layer.reads}
    outputs = tuple(t for t in range(1, len(tensors)) if t not in read)
    return Graph(tuple(tensors), tuple(layers), (0,), outputs)


@st.composite
def wide_graphs(draw: st.DrawFn, most: int = 5) -> Graph:
    """Windows one after another over wide tensors: what strips need twice adds up."""
    tensors = [Tensor(draw(st.integers(2, 6)), draw(st.integers(8, 16)), draw(st.integers(1, 3)))]
    layers: list[Layer] = []
    three, others = Window(1, 1, 3), [Window(2, 1, 3), ELEMENT, Window(1, 2, 5)]
    for position in range(draw(st.integers(3, most))):
        shape, same = tensors[-1], [t for t in range(position) if tensors[t] == tensors[-1]]
        if draw(st.booleans()) and same:
            both = (position, draw(st.sampled_from(same)))
            reads = [Read(t, overlap=0, in_place=draw(st.booleans())) for t in both]
            output = shape
        else:
            rows = draw(st.sampled_from([three, ELEMENT]))
            columns = draw(st.sampled_from([three, three, *others]))
            reads, channels = [Read(position, rows, columns)], draw(st.integers(1, 4))
            output = Tensor(shape.rows, (shape.columns - 1) // columns.stride + 1, channels)
        layers.append(
            Layer(
                name=f"layer{position}",
                op="conv",
                reads=tuple(reads),
                output=len(tensors),
                macs=output.rows * output.columns * draw(st.integers(1, 5)),
                row_scratch_bytes=(draw(st.integers(0, 4)), draw(st.integers(4, 9))),
            )
        )
        tensors.append(output)
    read = {r.tensor for layer in layers for r in layer.reads}
    outputs = tuple(t for t in range(1, len(tensors)) if t not in read)
    return Graph(tuple(tensors), tuple(layers), (0,), outputs)


@st.composite
def windows(draw: st.DrawFn, size: int) -> tuple[Window, int]:
    """A window over ``size`` positions, and how many there are."""
    extent = draw(st.integers(1, min(4, size)))
    pad, stride = draw(st.integers(0, extent - 1)), draw(st.integers(1, 3))
    after, repeat = draw(st.integers(0, extent - 1)), draw(st.sampled_from([1, 1, 1, 2, 3]))
    count = (size + pad + after - extent) * repeat // stride + 1
    return Window(stride, pad, extent, repeat), count


def compute(graph: Graph, layer: Layer, values: dict[int, Bytes]) -> Bytes:
    """The whole output of a layer."""
    output = graph.tensors[layer.output]
    result = np.zeros((output.rows, output.columns, output.channels), np.uint8)
    for row in range(output.rows):
        for column in range(output.columns):
            sums = 0
            for read in layer.reads:
                tensor = graph.tensors[read.tensor]
                for r in _inside(read.rows, row, tensor.rows):
                    for c in _inside(read.columns, column, tensor.columns):
                        sums += _term(read, r, c, values[read.tensor][r, c])
            result[row, column] = _pixel(sums, output.channels)
    return result


def _inside(window: Window, position: int, size: int) -> range:
    start = position * window.stride // window.repeat - window.pad
    return range(max(0, start), min(size, start + window.extent))


def _term(read: Read, row: int, column: int, pixel: Bytes) -> int:
    """Of one pixel under a window: different for every place and channel."""
    weights = np.arange(1, len(pixel) + 1)
    return int((pixel * weights).sum()) * (3 * row + 7 * column + read.tensor + 1)


def _pixel(sums: int, channels: int) -> Bytes:
    return ((sums + np.arange(channels) * 31) % 251).astype(np.uint8)


@dataclass
class _Rows:
    """Rows in memory: row r in slot r mod ``slots``, its columns from ``first`` on."""

    memory: Bytes
    slots: int
    columns: int
    channels: int
    first: int = 0

    def pixel(self, row: int, column: int) -> Bytes:
        at = ((row % self.slots) * self.columns + column - self.first) * self.channels
        assert 0 <= column - self.first < self.columns
        return self.memory[at : at + self.channels]


class Machine:
    """Runs a network in blocks, in one arena.

    ``macs`` counts what it has executed.
    """

    def __init__(self, graph: Graph, mode: InputMode, blocks: Sequence[Block]) -> None:
        self.graph, self.mode, self.blocks = graph, mode, blocks
        self.placement = place(graph, mode, blocks)
        self.arena = np.full(self.placement.plan.size, 0xEE, np.uint8)
        self.macs = 0

    def run(self, image: Bytes) -> dict[int, Bytes]:
        """The outputs of the network."""
        graph = self.graph
        whole = {t: self._whole(t) for t in range(len(graph.tensors))}
        if self.mode != "streamed":
            whole[0].memory[:] = image.ravel()
        self._arriving = image
        for block in self.blocks:
            if block.strips:
                self._stage(make_stage(graph, self.mode, block, ""), whole)
            else:
                self._alone(graph.layers[block.first], whole)
        return {
            t: whole[t]
            .memory.reshape(
                graph.tensors[t].rows, graph.tensors[t].columns, graph.tensors[t].channels
            )
            .copy()
            for t in graph.outputs
        }

    def _buffer(self, name: str, size: int) -> Bytes:
        index = self.placement.names.index(name)
        at = self.placement.plan.offsets[index]
        assert size <= self.placement.buffers[index].size
        return self.arena[at : at + size]

    def _whole(self, tensor: int) -> _Rows:
        """A whole tensor: in the arena, with the caller, or nowhere."""
        shape, born = self.graph.tensors[tensor], self.graph.birth[tensor]
        name = "input" if born < 0 else self.graph.layers[born].name
        memory = np.full(shape.bytes, 0xEE, np.uint8)
        if name in self.placement.names:
            memory = self._buffer(name, shape.bytes)
        return _Rows(memory, shape.rows, shape.columns, shape.channels)

    def _alone(self, layer: Layer, whole: dict[int, _Rows]) -> None:
        shapes = {r.tensor: self.graph.tensors[r.tensor] for r in layer.reads}
        values = {
            t: whole[t].memory.reshape(s.rows, s.columns, s.channels).copy()
            for t, s in shapes.items()
        }
        if layer.scratch_bytes:
            self._buffer(f"{layer.name} (work)", layer.scratch_bytes)[:] = 0xEE
        whole[layer.output].memory[:] = compute(self.graph, layer, values).ravel()
        self.macs += layer.macs

    def _stage(self, stage: Stage, whole: dict[int, _Rows]) -> None:
        graph, output = self.graph, self.graph.tensors[stage.output]
        work = self._buffer(f"{graph.layers[stage.last].name} (work)", int(stage.bytes[0]))
        rings, caches, begin = {}, {}, 0
        for buffer in stage.buffers():
            memory = work[begin : begin + buffer.size]
            if isinstance(buffer.name, Cache):
                caches[buffer.name.tensor] = memory
            elif isinstance(buffer.name, str):
                memory[:] = 0xEE
            elif buffer.name >= 0:
                rows, columns = stage.ring(buffer.name)
                channels = graph.tensors[buffer.name].channels
                rings[buffer.name] = _Rows(memory, rows, columns, channels)
            begin += buffer.size
        width = -(-output.columns // int(stage.strips[0]))
        strips: list[_Strip] = []
        for low in range(0, output.columns, width):
            high = min(low + width, output.columns)
            strips.append(_needed(graph, stage, low, high, strips[-1] if strips else None))
        for number, strip in enumerate(strips):
            for tensor, span in strip.needed.items():
                assert tuple(int(end[number]) for end in stage.columns(tensor)) == span
            for tensor, kept in rings.items():
                kept.first = strip.needed[tensor][0]
            following = strips[number + 1] if number + 1 < len(strips) else None
            self._strip(stage, {**whole, **rings}, caches, strip, following)

    def _strip(
        self,
        stage: Stage,
        rows: dict[int, _Rows],
        caches: dict[int, Bytes],
        strip: _Strip,
        following: _Strip | None,
    ) -> None:
        graph, shared = self.graph, stage.timeline.shared
        for inner in shared:
            root = inner
            while root in shared:
                root = shared[root]
            if root in rows:
                rows[inner] = rows[root]
        steps = [s for p in range(stage.first, stage.last + 1) for s in steps_of(graph, p)]
        if 0 in stage.timeline.rows:
            steps.insert(0, steps_arrival(graph))
        sums = {p: 0 for p in range(stage.first, stage.last + 1)}
        times = simulate(steps)
        events = sorted((t, i, r) for i, each in enumerate(times) for r, t in enumerate(each))
        for _, index, row in events:
            step = steps[index]
            if step.layer is None:
                for column in range(*strip.needed[0]):
                    rows[0].pixel(row, column)[:] = self._arriving[row, column]
                continue
            layer = graph.layers[step.layer]
            if step.tensor < 0:
                sums[step.layer] += _sum_of_row(graph, layer, row, rows)
                continue
            low, high = strip.made[layer.output]
            shape, cached = graph.tensors[layer.output], layer.output in caches
            if cached:
                size = int(stage.caches[layer.output][0]) * shape.channels
                line = caches[layer.output][row * size : (row + 1) * size]
                for place, column in enumerate(strip.kept(layer.output)):
                    kept = line[place * shape.channels :][: shape.channels]
                    rows[layer.output].pixel(row, column)[:] = kept
            pixels = []
            for column in range(low, high):
                total = sums[step.layer] if layer.accumulates else 0
                for read in () if layer.accumulates else layer.reads:
                    tensor = graph.tensors[read.tensor]
                    for r in _inside(read.rows, row, tensor.rows):
                        for c in _inside(read.columns, column, tensor.columns):
                            total += _term(read, r, c, rows[read.tensor].pixel(r, c))
                pixels.append(_pixel(total, graph.tensors[layer.output].channels))
            for column, pixel in zip(range(low, high), pixels, strict=True):
                rows[layer.output].pixel(row, column)[:] = pixel
            if cached and following:
                for place, column in enumerate(following.kept(layer.output)):
                    kept = line[place * shape.channels :][: shape.channels]
                    kept[:] = rows[layer.output].pixel(row, column)
            self.macs += layer.macs // (shape.rows * shape.columns) * (high - low)


def _sum_of_row(graph: Graph, layer: Layer, row: int, rows: dict[int, _Rows]) -> int:
    read = layer.reads[0]
    columns = range(graph.tensors[read.tensor].columns)
    return sum(_term(read, row, c, rows[read.tensor].pixel(row, c)) for c in columns)


def steps_arrival(graph: Graph) -> Step:
    return Step(None, 0, graph.tensors[0].rows, ())


@dataclass
class _Strip:
    """The columns of each tensor that a strip needs, and those of them that it makes."""

    needed: dict[int, tuple[int, int]]
    made: dict[int, tuple[int, int]]

    def kept(self, tensor: int) -> range:
        """The columns that it has from the strip before."""
        return range(self.needed[tensor][0], self.made[tensor][0])


def _needed(graph: Graph, stage: Stage, low: int, high: int, before: _Strip | None) -> _Strip:
    """What the columns of an output need, one position at a time."""
    needed: dict[int, set[int]] = {stage.output: set(range(low, high))}
    made: dict[int, tuple[int, int]] = {}
    for position in range(stage.last, stage.first - 1, -1):
        layer = graph.layers[position]
        begin, end = min(needed[layer.output]), max(needed[layer.output]) + 1
        if position in stage.chosen[0] and before is not None:
            begin = min(max(begin, before.needed[layer.output][1]), end - 1)
        made[layer.output] = begin, end
        for read in layer.reads:
            size = graph.tensors[read.tensor].columns
            for column in range(begin, end):
                inside = _inside(read.columns, column, size)
                start = column * read.columns.stride // read.columns.repeat - read.columns.pad
                # A window beside the tensor still has a place.
                spot = range(max(0, min(start, size - 1)), max(1, min(start + 1, size)))
                needed.setdefault(read.tensor, set()).update(inside or spot)
            if stage.strips[0] == 1:
                needed[read.tensor].add(0)
    return _Strip({tensor: (min(each), max(each) + 1) for tensor, each in needed.items()}, made)
