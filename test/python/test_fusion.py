"""Fusion settings: costs that hold when run, and none better."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from fusion_models import Machine, compute, graphs, steps_arrival, wide_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymlir.fusion.costs import Stage, strip_counts
from tinymlir.fusion.edges import Memory, alone, edges, stage_edge
from tinymlir.fusion.graph import Graph
from tinymlir.fusion.planner import Planner
from tinymlir.fusion.schedule import simulate, steps_of
from tinymlir.fusion.search import cheapest, front
from tinymlir.fusion.setting import Block, InputMode

MODES: tuple[InputMode, ...] = ("external", "in-arena", "streamed")


def subsets(layers: range) -> list[tuple[int, ...]]:
    return [s for size in range(len(layers) + 1) for s in itertools.combinations(layers, size)]


def every_setting(graph: Graph, mode: InputMode) -> list[tuple[int, int]]:
    """Bytes alive and MACs of all settings, one after another."""
    memory, count = Memory(graph, mode), len(graph.layers)
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for first, last in itertools.combinations_with_replacement(range(count), 2):
        options = []
        arrives = mode == "streamed" and any(
            r.tensor == 0 for layer in graph.layers[first : last + 1] for r in layer.reads
        )
        if first == last and not arrives:
            edge = alone(graph, memory, first)
            options.append((int(edge.bytes[0]), int(edge.macs[0])))
        if (first < last or arrives) and graph.layers[last].fusable:
            columns = graph.tensors[graph.layers[last].output].columns
            counts = [1] if arrives else strip_counts(columns)
            for strips, cached in itertools.product(counts, subsets(range(first, last))):
                stage = Stage(graph, last, [strips], cached=cached)
                while stage.first > first and stage.grow():
                    pass
                if stage.first == first and (not arrives or (first == 0 and stage.stream())):
                    edge = stage_edge(memory, stage)
                    options += zip(edge.bytes.tolist(), edge.macs.tolist(), strict=True)
        options = list(dict.fromkeys(options))
        ways[first, last] = options
    found = []
    for cuts in itertools.product((False, True), repeat=count - 1):
        places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), count]
        parts = [ways[a, b - 1] for a, b in itertools.pairwise(places)]
        for picked in itertools.product(*parts):
            found.append((max(b for b, _ in picked), sum(m for _, m in picked)))
    return found


@given(st.one_of(graphs(most=5), wide_graphs()), st.sampled_from(MODES))
@settings(deadline=None, max_examples=80)
def test_the_front_is_that_of_all_settings(graph: Graph, mode: InputMode) -> None:
    costs = every_setting(graph, mode)
    best = {
        cost
        for cost in costs
        if not any(o != cost and o[0] <= cost[0] and o[1] <= cost[1] for o in costs)
    }
    ways = list(edges(graph, mode))
    found = front(ways)
    assert found == sorted(best)
    for size, macs in found:
        blocks = cheapest(ways, size, "stages")
        assert blocks is not None and Planner(graph, mode).price(blocks).macs == macs
        assert size == 0 or cheapest(ways, size - 1, "memory") != blocks


@given(st.one_of(graphs(), wide_graphs()), st.sampled_from(MODES), st.data())
@settings(deadline=None, max_examples=100)
def test_settings_run_in_their_arena(graph: Graph, mode: InputMode, data: st.DataObject) -> None:
    ways = list(edges(graph, mode))
    found = front(ways)
    if not found:
        return
    size, _ = data.draw(st.sampled_from(found))
    blocks = cheapest(ways, size, data.draw(st.sampled_from(["stages", "memory"])))
    assert blocks is not None
    check_in_arena(graph, mode, blocks)


def check_in_arena(graph: Graph, mode: InputMode, blocks: Sequence[Block]) -> None:
    """Outputs in as many bytes as planned, and MACs."""
    shape = graph.tensors[0]
    image = np.random.default_rng(0).integers(
        0, 251, (shape.rows, shape.columns, shape.channels), np.uint8
    )
    values = {0: image}
    for layer in graph.layers:
        values[layer.output] = compute(graph, layer, values)
    machine = Machine(graph, mode, blocks)
    outputs = machine.run(image)
    for tensor in graph.outputs:
        np.testing.assert_array_equal(outputs[tensor], values[tensor])
    setting = Planner(graph, mode).price(blocks)
    assert (setting.macs, setting.bytes) == (machine.macs, len(machine.arena))


@given(wide_graphs(), st.data())
@settings(deadline=None, max_examples=40)
def test_any_columns_can_be_kept(graph: Graph, data: st.DataObject) -> None:
    """Also where that is of no use to a front: a stage of what ends with the last layer."""
    last = len(graph.layers) - 1
    strips = data.draw(st.sampled_from(strip_counts(graph.tensors[-1].columns)))
    cached = [p for p in range(last) if data.draw(st.booleans())]
    stage = Stage(graph, last, [strips], cached=cached)
    while stage.grow():
        pass
    inside = set(cached) - set(stage.needless_caches())
    kept = tuple(p for p in sorted(inside) if p >= stage.first)
    alone = [Block(p, p, 0) for p in range(stage.first)]
    check_in_arena(graph, "external", (*alone, Block(stage.first, last, strips, cached=kept)))


@given(graphs(), st.booleans())
@settings(deadline=None, max_examples=80)
def test_rings_hold_what_is_alive_and_no_more(graph: Graph, streamed: bool) -> None:
    """Of every block, against rows counted one by one along the schedule."""
    for last in range(len(graph.layers)):
        if not graph.layers[last].fusable:
            continue
        stage, growing = Stage(graph, last), True
        while growing:
            arrives = streamed and stage.first == 0 and stage.stream()
            check_rings(graph, stage, arrives)
            growing = not arrives and stage.grow()


def check_rings(graph: Graph, stage: Stage, arrives: bool) -> None:
    steps = [s for p in range(stage.first, stage.last + 1) for s in steps_of(graph, p)]
    if arrives:
        steps.insert(0, steps_arrival(graph))
    times = simulate(steps)
    for index, step in enumerate(steps):
        roots, tensor = [step.tensor], step.tensor
        while tensor in stage.timeline.shared:
            tensor = stage.timeline.shared[tensor]
            roots.append(tensor)
        if tensor not in stage.timeline.rows:
            continue
        born = times[index]
        dies = list(born)
        for reader, its_times in zip(steps, times, strict=True):
            for source, window in reader.reads:
                for row, time in enumerate(its_times if source in roots else ()):
                    start = row * window.stride // window.repeat - window.pad
                    for r in range(max(0, start), min(len(born), start + window.extent)):
                        dies[r] = max(dies[r], time)
        # Rows leave in order: a later one keeps its slot until those before it are gone.
        dies = list(itertools.accumulate(dies, max))
        most = max(sum(1 for d in dies[: r + 1] if d >= born[r]) for r in range(len(born)))
        assert stage.timeline.rows[tensor] >= most
        if tensor == step.tensor and tensor not in stage.timeline.shared.values():
            assert stage.timeline.rows[tensor] == most
