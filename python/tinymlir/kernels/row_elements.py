"""Rows of layers without a kernel: as many elements together as the core can."""

from __future__ import annotations

from collections.abc import Callable

from tinymlir.bindings import ir
from tinymlir.kernels import copying, elementwise, helium_lanes, pooling
from tinymlir.kernels.by_element import emit_row_by_element
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.lanes import (
    LEAST_LANES,
    Lanes,
    LanesEvaluator,
    has_lanes,
    is_one_run,
    most_lanes,
    store_lanes,
)
from tinymlir.kernels.rows import Rows
from tinymlir.targets import Target

#: Emits so many neighbours from a row and column on.
_Run = Callable[[tuple[Index, Index], int], None]


def emit_row(
    evaluator: Evaluator,
    root: ir.Value,
    out: Rows,
    row: Index,
    columns: tuple[Index, Index],
    core: Target,
) -> None:
    """Fill these columns, the last one excluded, of a row of ``out`` with ``root``."""
    if copying.emit_row(evaluator, root, out, row, columns, core):
        return
    run = _runs(evaluator, root, out, core)
    if run is None:
        if not pooling.emit_row(evaluator, root, out, row, columns, core):
            emit_row_by_element(evaluator, root, out, row, columns)
        return
    first, last = columns
    if is_one_run(root) and isinstance(first, int) and isinstance(last, int):
        run((row, first), (last - first) * out.channels)
        return
    evaluator.emitter.loop(first, last, 1, lambda column: run((row, column), out.channels))


def _runs(evaluator: Evaluator, root: ir.Value, out: Rows, core: Target) -> _Run | None:
    """What computes neighbours together, if anything does."""
    if helium_lanes.takes(root, core):
        sizes = (*helium_lanes.sizes(root), 1)
        with_float = core.has("mve-float")
        return _by_lanes(
            evaluator,
            root,
            out,
            sizes,
            lambda count: helium_lanes.HeliumLanes(evaluator, count, with_float),
        )
    most = most_lanes(core.vector_bits)
    if most and has_lanes(root) and out.channels >= LEAST_LANES:
        emitter, pool, buffers = evaluator.emitter, evaluator.pool, evaluator.buffers
        return _by_lanes(
            evaluator,
            root,
            out,
            (most,),
            lambda count: LanesEvaluator(emitter, pool, buffers, count),
        )
    if elementwise.takes(root):
        return lambda start, count: elementwise.emit_run(evaluator, root, out, start, count)
    return None


def _by_lanes(
    scalars: Evaluator,
    root: ir.Value,
    out: Rows,
    sizes: tuple[int, ...],
    make: Callable[[int], LanesEvaluator],
) -> _Run:
    """Neighbours in vectors of the ``sizes``, the greatest first; what is left over in another."""
    emitter = scalars.emitter

    def run(start: tuple[Index, Index], count: int) -> None:
        def some(at: Index, lanes: int) -> None:
            where = out.position(emitter, [0, *start, at])
            if lanes == 1:
                emitter.store(scalars.at(root, [0, *start, at]), out.buffer, [where])
            else:
                values = make(lanes).at(root, [0, *start, Lanes(at)])
                store_lanes(emitter, values, out.buffer, where)

        done = 0
        for lanes in (*sizes, max(count % sizes[-1], 1)):
            end = done + (count - done) // lanes * lanes
            emitter.loop(done, end, lanes, lambda at, n=lanes: some(at, n))
            done = end

    return run
