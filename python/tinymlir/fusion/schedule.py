"""The order in which a stage computes its rows, and how long each row is kept.

The last layer of a stage is wanted until it has made all its rows. Where the next row of a wanted
layer needs rows that are not made yet, the layers that make those are wanted as well. Of the wanted
layers whose next row lacks nothing, the last in program order makes that row; then again. So a row
is consumed as soon as it can be, and none is made before it is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinymlir.fusion.graph import ELEMENT, Graph, Ints, Window


@dataclass(frozen=True)
class Step:
    """What makes one row at a time: a layer, half a reduction, or the arrival of an input row.

    Attributes:
        layer: the layer; None where rows arrive from outside.
        tensor: what the rows belong to; negative where they are only added up.
        rows: how many there are.
        reads: tensors with the window of rows that one row needs.
    """

    layer: int | None
    tensor: int
    rows: int
    reads: tuple[tuple[int, Window], ...]


def steps_of(graph: Graph, position: int) -> tuple[Step, ...]:
    """The steps of a layer: a reduction of all rows adds them up as they come, then gives one."""
    layer = graph.layers[position]
    rows = graph.tensors[layer.output].rows
    if not layer.accumulates:
        reads = tuple((read.tensor, read.rows) for read in layer.reads)
        return (Step(position, layer.output, rows, reads),)
    source, sums = layer.reads[0].tensor, -1 - position
    height = graph.tensors[source].rows
    return (
        Step(position, sums, height, ((source, ELEMENT),)),
        Step(position, layer.output, rows, ((sums, Window(0, 0, height)),)),
    )


def row_range(window: Window, rows: int, height: int) -> tuple[Ints, Ints]:
    """First, and past the last, row of a tensor with ``height`` that each of ``rows`` reads."""
    each = np.arange(rows)
    return window.begin(each, height), window.end(each + 1, height)


def simulate(steps: Sequence[Step]) -> list[Ints]:
    """When each step makes each of its rows: places in one sequence. Unneeded rows are left out.

    Rows of tensors that no step makes are there from the start.
    """
    maker = {step.tensor: index for index, step in enumerate(steps)}
    needs = [
        [
            (maker[tensor], row_range(window, step.rows, steps[maker[tensor]].rows)[1].tolist())
            for tensor, window in step.reads
            if tensor in maker
        ]
        for step in steps
    ]
    last = len(steps) - 1
    times: list[list[int]] = [[] for _ in steps]
    for clock in itertools.count():
        if len(times[last]) == steps[last].rows:
            return [np.array(each, np.int64) for each in times]
        wanted, index = {last}, last
        while True:
            if index in wanted:
                row = len(times[index])
                missing = [
                    source for source, ends in needs[index] if ends[row] > len(times[source])
                ]
                if not missing:
                    break
                wanted.update(missing)
            index -= 1
        times[index].append(clock)
    raise AssertionError("counting never ends")
