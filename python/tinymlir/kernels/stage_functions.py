"""Functions that run the layers of a stage row by row, in the order of its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tinymlir.bindings import arith, func, ir, memref, scf
from tinymlir.fusion.costs import COUNTERS, Cache, Name, Stage
from tinymlir.fusion.graph import Ints
from tinymlir.kernels.copying import copy_run
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.row_functions import Part
from tinymlir.kernels.rows import Rows
from tinymlir.targets import Target

Buffers = dict[Name, ir.Value]
#: Bytes copied between two branches.
_UNROLL = 4


@dataclass(frozen=True)
class StepCall:
    """What a step calls: the function with its buffers and the row, and in strips columns of
    these tensors, and first columns of those.
    """

    function: func.FuncOp
    buffers: Sequence[Name]
    columns: Sequence[int] = ()
    firsts: Sequence[int] = ()


@dataclass(frozen=True)
class Streaming:
    """The functions of a stage whose input arrives row by row.

    Attributes:
        begin: ``(work)``: no row has arrived yet.
        push: ``(rows, count, output, work) -> missing``: takes ``count`` rows, computes what they
            allow, and gives how many are still missing. Rows beyond the last one are ignored.
        finish: ``(output, work) -> missing``: computes the rest, unless rows are missing.
    """

    begin: func.FuncOp
    push: func.FuncOp
    finish: func.FuncOp


@dataclass(frozen=True)
class StageFunctions:
    """Emits functions at the current insertion point.

    Attributes:
        steps: what each step of the stage calls, the arrival of rows left out.
        inputs: memref types of the tensors that the stage reads, by tensor.
        output: that of its result.
        places: type of each of the stage's buffers, and where it begins in the work space.
        work: type of the work space.
        cached: of tensors with a column cache, how rows lie in the ring and in the cache.
    """

    stage: Stage
    steps: Sequence[StepCall]
    inputs: dict[int, ir.Type]
    output: ir.Type
    places: dict[Name, tuple[ir.Type, int]]
    work: ir.Type
    cached: dict[int, tuple[Part, Part]]
    pool: ConstantPool
    core: Target
    emitter: Emitter = field(default_factory=Emitter)

    def emit(self, symbol: str) -> func.FuncOp:
        """``symbol(inputs…, output, work)``: all rows, strip after strip."""
        function = self._new(symbol, [*self.inputs.values(), self.output, self.work])
        strips = int(self.stage.strips[0])
        with ir.InsertionPoint(function.body.blocks[0]):
            buffers = self._bind(list(function.arguments))
            rows = len(self._sequence())

            def strip(number: Index) -> None:
                self._reset(buffers)
                self._run(buffers, 0, rows, number)

            self.emitter.loop(0, strips, 1, strip)
            func.ReturnOp([])
        return function

    def emit_streaming(self, symbol: str) -> Streaming:
        """The functions of a stage with one strip, whose one input arrives row by row."""
        begin = self._new(f"{symbol}_begin", [self.work])
        with ir.InsertionPoint(begin.body.blocks[0]):
            self._reset(self._bind([begin.arguments[0]]))
            func.ReturnOp([])
        return Streaming(begin, self._push(f"{symbol}_push"), self._finish(f"{symbol}_finish"))

    def _push(self, symbol: str) -> func.FuncOp:
        ((source, kind),) = self.inputs.items()
        i32, index, emitter = ir.IntegerType.get_signless(32), ir.IndexType.get(), self.emitter
        function = self._new(symbol, [kind, i32, self.output, self.work], [i32])
        rows, count, *others = function.arguments
        with ir.InsertionPoint(function.body.blocks[0]):
            buffers, given = self._bind(others), emitter.flat(rows)
            height, needed = kind.shape[1], self.stage.timeline.rows_made(source)

            def arrive(place: Index) -> None:
                row = self._count(buffers, 0)
                wanted = arith.cmpi(arith.CmpIPredicate.slt, row, emitter.index(needed))
                with ir.InsertionPoint(scf.IfOp(wanted).then_block):
                    self._copy(given, place, buffers[source], row)
                    low, following = (
                        emitter.load(self._arrivals(), [emitter.add(row, i)]) for i in (0, 1)
                    )
                    ends = [arith.index_castui(index, end) for end in (low, following)]
                    self._run(buffers, ends[0], emitter.sub(ends[1], 1), 0)
                    scf.yield_([])
                self._set_count(buffers, 0, emitter.minimum(emitter.add(row, 1), height))

            emitter.loop(0, arith.index_cast(index, count), 1, arrive)
            func.ReturnOp([self._missing(buffers)])
        return function

    def _finish(self, symbol: str) -> func.FuncOp:
        i32 = ir.IntegerType.get_signless(32)
        function = self._new(symbol, [self.output, self.work], [i32])
        with ir.InsertionPoint(function.body.blocks[0]):
            buffers = self._bind(list(function.arguments))
            missing = self._missing(buffers)
            none = arith.cmpi(arith.CmpIPredicate.eq, missing, self.emitter.integer(0))
            with ir.InsertionPoint(scf.IfOp(none).then_block):
                sequence = self._sequence()
                last = len(sequence) - 1 - sequence[::-1].index(0)
                self._run(buffers, last + 1, len(sequence), 0)
                scf.yield_([])
            func.ReturnOp([missing])
        return function

    def _sequence(self) -> list[int]:
        return [int(step) for step in self.stage.timeline.sequence()]

    def _arrivals(self) -> ir.Value:
        """Where in the sequence the rows that a row of the input allows begin.

        Those of the last one are computed by ``finish``: the last entry leaves none to it.
        """
        begins = [place + 1 for place, step in enumerate(self._sequence()) if step == 0]
        width = np.int16 if begins[-1] < np.iinfo(np.int16).max else np.int32
        return self.pool.get(np.array([*begins, begins[-1] + 1], width), "arrivals")

    def _missing(self, buffers: Buffers) -> ir.Value:
        (kind,) = self.inputs.values()
        missing = self.emitter.sub(kind.shape[1], self._count(buffers, 0))
        return arith.index_cast(ir.IntegerType.get_signless(32), missing)

    def _copy(self, rows: ir.Value, place: Index, ring: ir.Value, row: Index) -> None:
        """Copy what is needed of row ``place`` of ``rows`` into the ring, where it is ``row``."""
        emitter = self.emitter
        ((tensor, kind),) = self.inputs.items()
        slots, columns = self.stage.ring(tensor)
        target = Rows(ring, columns, kind.shape[3], slots)
        begin = emitter.mul(place, kind.shape[2] * kind.shape[3])
        at = target.origin(emitter, row)

        def copy(byte: Index) -> None:
            value = emitter.load(rows, [emitter.add(begin, byte)])
            emitter.store(value, ring, [emitter.add(at, byte)])

        emitter.loop(0, columns * kind.shape[3], 1, copy, unroll=_UNROLL)

    def _new(
        self, symbol: str, types: Sequence[ir.Type], results: Sequence[ir.Type] = ()
    ) -> func.FuncOp:
        function = func.FuncOp(symbol, (list(types), list(results)), visibility="private")
        function.add_entry_block()
        return function

    def _bind(self, arguments: list[ir.Value]) -> Buffers:
        """The buffers in a function whose last arguments are inputs, output and work space.

        The first of these need not be there.
        """
        buffers: Buffers = {}
        tensors = [*self.inputs, self.stage.output]
        *whole, work = arguments
        for tensor, value in zip(reversed(tensors), reversed(whole), strict=False):
            buffers[tensor] = self.emitter.flat(value)
        for name, (kind, offset) in self.places.items():
            shift = arith.constant(ir.IndexType.get(), offset)
            buffers[name] = memref.view(kind, work, shift, [])
        return buffers

    def _reset(self, buffers: Buffers) -> None:
        """No row of any step is made."""
        for step in range(len(self.stage.timeline.steps)):
            self._set_count(buffers, step, 0)

    def _count(self, buffers: Buffers, step: int) -> ir.Value:
        """How many rows of a step are made."""
        count = self.emitter.load(buffers[COUNTERS], [step])
        return arith.index_castui(ir.IndexType.get(), count)

    def _set_count(self, buffers: Buffers, step: int, count: Index) -> None:
        counters = buffers[COUNTERS]
        value = arith.index_castui(counters.type.element_type, self.emitter.index(count))
        self.emitter.store(value, counters, [step])

    def _run(self, buffers: Buffers, low: Index, high: Index, strip: Index) -> None:
        """Make the rows that the sequence has from ``low`` to ``high``, that one excluded."""
        emitter, sequence = self.emitter, self._sequence()
        width = np.int8 if len(self.stage.timeline.steps) < 128 else np.int16
        order = self.pool.get(np.array(sequence, width), "order")
        arrivals = len(self.stage.timeline.steps) - len(self.steps)

        def turn(place: Index) -> None:
            number = arith.index_castui(ir.IndexType.get(), emitter.load(order, [place]))
            cases = range(arrivals, len(self.stage.timeline.steps))
            switch = scf.IndexSwitchOp([], number, list(cases))
            default, *regions = switch.operation.regions
            for step, region in zip(cases, regions, strict=True):
                with ir.InsertionPoint(region.blocks[0]):
                    self._call(buffers, step, self.steps[step - arrivals], strip)
                    scf.yield_([])
            with ir.InsertionPoint(default.blocks[0]):
                scf.yield_([])

        emitter.loop(low, high, 1, turn)

    def _call(self, buffers: Buffers, number: int, step: StepCall, strip: Index) -> None:
        """Make one row of a layer."""
        row = self._count(buffers, number)
        operands = [*(buffers[name] for name in step.buffers), row]
        for tensor in step.columns:
            operands += self._look_up(strip, np.stack(self.stage.columns_made(tensor), axis=1))
        for tensor in step.firsts:
            operands += self._first_column(strip, tensor)
        made = self.stage.timeline.steps[-1 - number].tensor
        if made in self.cached:
            self._exchange(buffers, made, row, strip, into_cache=False)
        func.call([], step.function.name.value, operands)
        if made in self.cached:
            self._exchange(buffers, made, row, strip, into_cache=True)
        self._set_count(buffers, number, self.emitter.add(row, 1))

    def _exchange(
        self, buffers: Buffers, tensor: int, row: ir.Value, strip: Index, *, into_cache: bool
    ) -> None:
        """Get the columns of a row that the strip before has made too, or keep those that the next
        one needs, in the place of those.
        """
        emitter, (ring, cache) = self.emitter, self.cached[tensor]
        place = self.stage.timeline.place(tensor)
        (first,) = self._first_column(strip, tensor) if ring.strip else (0,)
        rows, kept = ring.rows(buffers[place], first), cache.rows(buffers[Cache(tensor)])
        # After the last strip there is none that needs any.
        needed, made = self.stage.columns(tensor)[0], self.stage.columns_made(tensor)[0]
        ends = np.append(np.stack([needed, made], axis=1), [[0, 0]], axis=0)
        low, high = self._look_up(emitter.add(strip, int(into_cache)), ends)
        in_ring = emitter.add(rows.origin(emitter, row), emitter.mul(low, ring.channels))
        sides = (rows.buffer, in_ring), (kept.buffer, kept.origin(emitter, row))
        (source, begin), (target, to) = sides if into_cache else sides[::-1]

        def column(number: Index) -> None:
            by = emitter.mul(number, ring.channels)
            ends = emitter.add(begin, by), emitter.add(to, by)
            copy_run(emitter, source, ends[0], target, ends[1], ring.channels, self.core)

        emitter.loop(0, emitter.sub(high, low), 1, column)

    def _first_column(self, strip: Index, tensor: int) -> list[ir.Value]:
        """The first column in memory of a tensor in a ring."""
        needed = self.stage.columns(self.stage.timeline.place(tensor))
        return self._look_up(strip, np.stack(needed, axis=1))[:1]

    def _look_up(self, strip: Index, columns: Ints) -> list[ir.Value]:
        """First and past-the-last column of a strip, in a table of both for each strip."""
        table = self.pool.get(columns.astype(np.int32).reshape(-1), "columns")
        at = self.emitter.mul(strip, 2)
        ends = [self.emitter.load(table, [self.emitter.add(at, end)]) for end in (0, 1)]
        return [arith.index_cast(ir.IndexType.get(), end) for end in ends]
