"""``tiny-lower-patches``: fused stages become loops over rows in ring buffers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from tinymlir.arena import APART
from tinymlir.bindings import arith, bufferization, func, ir, memref, scf
from tinymlir.fusion.costs import aligned, whole_stage
from tinymlir.fusion.network_graph import block_graph, layer_functions
from tinymlir.kernels.catalogue import choose
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.row_functions import Part, RowFunction, pooling_of
from tinymlir.targets import Target, get_target

from ._pass import Pass, PassFailure, find_ops, register_pass
from .tiny_plan_arena import mark_aliased

#: Buffers of a stage besides rings and sums.
_COUNTERS, _SCRATCH = "counters", "scratch"


@register_pass
@dataclass(frozen=True)
class LowerPatches(Pass):
    """Replace each tiny.fused_stage by a function that runs its layers row by row

    Each layer of a stage becomes a function that computes one row of its result, or the
    columns of it that a strip needs, reading rows of its inputs where they lie: in whole
    tensors or in ring buffers. The stage's function calls them in an order that is found
    here and kept as a table: a row is made when another one needs it, and not before. Rings,
    work space and the counters of rows are buffers of the stage, so all are in the arena.

    Before::

        func.func @main(%x: tensor<1x4x2x1xi8>) -> tensor<1x2x1x1xi8> {
          %y = "tiny.fused_stage"() ({
            %a = func.call @layer0(%x) : (tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
            %t = "tiny.patch_tile"(%a) {columns = 2 : i64, rows = 2 : i64}
                : (tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
            %b = func.call @layer1(%t) : (tensor<1x4x2x1xi8>) -> tensor<1x2x1x1xi8>
            "tiny.patch_yield"(%b) : (tensor<1x2x1x1xi8>) -> ()
          }) {strips = 1 : i64} : () -> tensor<1x2x1x1xi8>
          return %y : tensor<1x2x1x1xi8>
        }
        func.func private @layer0(%x: tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
            attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
          %e = tensor.empty() : tensor<1x4x2x1xi8>
          %y = linalg.max ins(%x, %x : tensor<1x4x2x1xi8>, tensor<1x4x2x1xi8>)
                          outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
          return %y : tensor<1x4x2x1xi8>
        }
        func.func private @layer1(%x: tensor<1x4x2x1xi8>) -> tensor<1x2x1x1xi8>
            attributes {tiny.layer = "pool", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
          %least = arith.constant -128 : i8
          %w = tensor.empty() : tensor<2x2xi8>
          %e = tensor.empty() : tensor<1x2x1x1xi8>
          %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x2x1x1xi8>) -> tensor<1x2x1x1xi8>
          %y = linalg.pooling_nhwc_max {strides = dense<2> : tensor<2xi64>}
               ins(%x, %w : tensor<1x4x2x1xi8>, tensor<2x2xi8>)
               outs(%i : tensor<1x2x1x1xi8>) -> tensor<1x2x1x1xi8>
          return %y : tensor<1x2x1x1xi8>
        }

    After::

        func.func @main(%x: tensor<1x4x2x1xi8>) -> tensor<1x2x1x1xi8> {
          %0 = bufferization.to_buffer %x read_only : tensor<1x4x2x1xi8> to memref<1x4x2x1xi8>
          %1 = memref.alloc() : memref<1x2x1x1xi8>
          %work = memref.alloc() : memref<12xi8>
          call @stage0(%0, %1, %work) : ... -> ()
          ...
        }
        func.func private @stage0(%x: memref<1x4x2x1xi8>, ... [@layer0_row, @layer1_row]} {
          ...
          scf.for ... {
            ...
            ...
            case 0 {
              ...
              func.call @layer0_row(%flat, ... : (memref<8xi8>, memref<4xi8>, index) -> ()
              ...
            }
            case 1 {
              ...
              func.call @layer1_row(%buffer, ... : (memref<4xi8>, memref<2xi8>, index) -> ()
              ...
            }
            ...
          }
          return
        }
        func.func private @layer0_row(%x: memref<8xi8>, %ring: memref<4xi8>, %row: index) ... {
          ...
        }
        func.func private @layer1_row(%ring: memref<4xi8>, %y: memref<2xi8>, %row: index) ... {
          ...
        }
    """

    name: ClassVar[str] = "tiny-lower-patches"
    #: the core to generate code for
    target: str = "cortex-m4"

    def run(self, op: ir.Operation) -> None:
        pool = ConstantPool(op)
        for number, stage in enumerate(find_ops(op, "tiny.fused_stage")):
            _Lowering(op, stage, f"stage{number}", pool, get_target(self.target)).run()


class _Lowering:
    """One stage on its way to a function."""

    def __init__(
        self, module: ir.Operation, op: ir.Operation, symbol: str, pool: ConstantPool, core: Target
    ) -> None:
        self.op, self.symbol, self.pool, self.core = op, symbol, pool, core
        self.block = op.regions[0].blocks[0]
        self.functions = layer_functions(module)
        self.strips = op.attributes["strips"].value
        self.graph, self.numbers = block_graph(self.block, self.functions, core)
        self.calls = [o.operation for o in self.block.operations if o.operation.name == "func.call"]
        self.layers = [self.functions[c.attributes["callee"].value] for c in self.calls]
        self.stage = whole_stage(op.location, self.graph, self.strips)
        self.tiles = self._tiles()
        self.emitter = Emitter()
        self.symbols: list[str] = []

    def run(self) -> None:
        self.kernels = [
            choose(layer, _root(layer), self.core, by_rows=True) for layer in self.layers
        ]
        given = [value for value, tensor in self.numbers.items() if tensor in self.graph.inputs]
        inputs = [_memref_of(value.type) for value in given]
        output = _memref_of(self.op.results[0].type)
        places, size = self._places()
        work = ir.MemRefType.get([size], ir.IntegerType.get_signless(8))
        with ir.InsertionPoint(self.op), self.op.location:
            self._replace(given, output, work)
        with ir.InsertionPoint(self.layers[0].operation), self.op.location:
            types = [*inputs, output, work]
            function = func.FuncOp(self.symbol, (types, []), visibility="private")
            entry = function.add_entry_block()
        with ir.InsertionPoint(entry), self.op.location:
            whole = [self.emitter.flat(argument) for argument in list(entry.arguments)[:-1]]
            tensors = [*self.graph.inputs, self.stage.output]
            self.buffers: dict[int | str, ir.Value] = dict(zip(tensors, whole, strict=True))
            for name, (kind, offset) in places.items():
                shift = arith.constant(ir.IndexType.get(), offset)
                self.buffers[name] = memref.view(kind, entry.arguments[len(types) - 1], shift, [])
            self._rows()
            self.emitter.loop(0, self.strips, 1, self._strip)
            func.ReturnOp([])
        self._describe(function, len(inputs))
        self.op.erase()
        for layer in self.layers:
            layer.operation.erase()

    def _places(self) -> tuple[dict[int | str, tuple[ir.Type, int]], int]:
        """The type of each buffer of the stage and where it lies among them, and their bytes.

        Rings are named by their tensors, the sums of a reduction by the tensor that its steps
        pass on (`steps_of`).
        """
        i8, i32 = (ir.IntegerType.get_signless(width) for width in (8, 32))
        wanted: dict[int | str, tuple[int, ir.Type]] = {
            tensor: (tile.rows * tile.columns * self._channels(tensor), i8)
            for tensor, tile in self.tiles.items()
            if not tile.in_place
        }
        wanted[_COUNTERS] = len(self.stage.steps), i32
        for position, layer in enumerate(self.graph.layers):
            if layer.accumulates:
                kind = pooling_of(self.layers[position]).results[0].type
                wanted[-1 - position] = self._channels(layer.output), kind.element_type
        size = max((k.scratch_bytes() for k in self.kernels if k is not None), default=0)
        if size:
            wanted[_SCRATCH] = size, i8
        places, end = {}, 0
        for name, (count, element) in wanted.items():
            places[name] = ir.MemRefType.get([count], element), end
            # Sums of bytes take words as well: maxima are few.
            width = 4 if isinstance(name, int) and name < 0 else element.width // 8
            end += aligned(count * width)
        return places, end

    def _tiles(self) -> dict[int, _Tile]:
        """What the stage keeps of its inner tensors, big enough for its schedule."""
        tiles: dict[int, _Tile] = {}
        for child in self.block.operations:
            op = child.operation
            if op.name != "tiny.patch_tile":
                continue
            tensor = self.numbers[op.operands[0]]
            tile = _Tile(
                op.attributes["rows"].value,
                op.attributes["columns"].value,
                "tiny.in_place" in op.attributes,
            )
            tiles[tensor] = tile
            if tile.in_place != (tensor in self.stage.shared):
                able = "not be" if tile.in_place else "be"
                raise PassFailure(op.location, f"must {able} in place")
            if tile.in_place:
                continue
            ring = self.stage.rings[tensor]
            for what, got, least in (
                ("rows", tile.rows, ring.rows),
                ("columns", tile.columns, int(ring.columns[0])),
            ):
                if got < least:
                    raise PassFailure(
                        op.location, f"keeps {got} {what}, but its readers need {least}"
                    )
        for call in self.calls:
            tensor = self.numbers[call.results[0]]
            if tensor not in tiles and tensor != self.stage.output:
                raise PassFailure(call.location, "expects a 'tiny.patch_tile' on its result")
        return tiles

    def _channels(self, tensor: int) -> int:
        return self.graph.tensors[tensor].channels

    def _place(self, tensor: int) -> int:
        """The tensor whose buffer holds the rows of ``tensor``."""
        while tensor in self.stage.shared:
            tensor = self.stage.shared[tensor]
        return tensor

    def _part(self, tensor: int) -> Part:
        """How rows of a tensor lie: all of them, or in a ring."""
        place, whole = self._place(tensor), self.graph.tensors[tensor]
        if place not in self.tiles:
            return Part(whole.columns, whole.channels)
        tile = self.tiles[place]
        slots = tile.rows if tile.rows < whole.rows else None
        strip = self.strips > 1 and tile.columns < whole.columns
        return Part(tile.columns, whole.channels, slots, strip)

    def _rows(self) -> None:
        """Emit the functions of all layers."""
        self.steps: list[_StepCall] = []
        for position, node in enumerate(self.graph.layers):
            layer, kernel = self.layers[position], self.kernels[position]
            tensors = [*(read.tensor for read in node.reads), node.output]
            parts = tuple(self._part(tensor) for tensor in tensors)
            rows = RowFunction(layer, parts, self.strips > 1)
            symbol = f"{layer.name.value}_row"
            self.pool.begin_layer()
            if node.accumulates:
                sums = -1 - position
                first = [self._buffer(tensors[0]), self.buffers[sums]]
                then = [self.buffers[sums], self._buffer(tensors[1])]
                adder = rows.emit_sums(f"{symbol}_sums", [b.type for b in first], self.pool)
                function = rows.emit_result(symbol, [b.type for b in then], self.pool)
                self.steps += [_StepCall(adder, first), _StepCall(function, then)]
            else:
                buffers = [self._buffer(tensor) for tensor in tensors]
                wants = kernel is not None and kernel.scratch_bytes() > 0
                scratch = [self.buffers[_SCRATCH]] if wants else []
                kinds = [buffer.type for buffer in buffers]
                function = rows.emit(
                    symbol, kinds, scratch[0].type if wants else None, kernel, self.pool
                )
                if len(set(buffers)) < len(buffers):
                    mark_aliased(function)
                strips = [tensors[-1]] if self.strips > 1 else []
                firsts = [t for t, part in zip(tensors, parts, strict=True) if part.strip]
                self.steps.append(_StepCall(function, [*buffers, *scratch], strips, firsts))
            self._describe_layer(layer, function, kernel, node.output)
            self.symbols.append(function.name.value)

    def _buffer(self, tensor: int) -> ir.Value:
        return self.buffers[self._place(tensor)]

    def _strip(self, strip: Index) -> None:
        """Emit a strip: all counters from the start, then row by row."""
        emitter, counters = self.emitter, self.buffers[_COUNTERS]
        zero = emitter.integer(0)
        for step in range(len(self.steps)):
            emitter.store(zero, counters, [step])
        width = np.int8 if len(self.steps) < 128 else np.int16
        sequence = np.array(self.stage.sequence(), width)
        order = self.pool.get(sequence, "order")

        def turn(place: Index) -> None:
            number = arith.index_castui(ir.IndexType.get(), emitter.load(order, [place]))
            switch = scf.IndexSwitchOp([], number, list(range(len(self.steps))))
            default, *regions = switch.operation.regions
            for step, region in enumerate(regions):
                with ir.InsertionPoint(region.blocks[0]):
                    self._step(step, strip)
                    scf.yield_([])
            with ir.InsertionPoint(default.blocks[0]):
                scf.yield_([])

        emitter.loop(0, len(sequence), 1, turn)

    def _step(self, number: int, strip: Index) -> None:
        """Emit one row of a layer."""
        emitter, counters, step = self.emitter, self.buffers[_COUNTERS], self.steps[number]
        count = emitter.load(counters, [number])
        operands = [*step.buffers, arith.index_cast(ir.IndexType.get(), count)]
        for tensor in step.columns:
            operands += self._columns(strip, tensor)
        for tensor in step.firsts:
            operands += self._columns(strip, self._place(tensor))[:1]
        func.call([], step.function.name.value, operands)
        emitter.store(arith.addi(count, emitter.integer(1)), counters, [number])

    def _columns(self, strip: Index, tensor: int) -> list[ir.Value]:
        """First and past-the-last column of a tensor that a strip needs."""
        table = np.stack(self.stage.columns(tensor), axis=1).astype(np.int32).reshape(-1)
        columns = self.pool.get(table, "columns")
        at = self.emitter.mul(strip, 2)
        ends = [self.emitter.load(columns, [self.emitter.add(at, end)]) for end in (0, 1)]
        return [arith.index_cast(ir.IndexType.get(), end) for end in ends]

    def _replace(self, given: list[ir.Value], output: ir.Type, work: ir.Type) -> None:
        """Call the stage's function in the place of the stage."""
        operands = [bufferization.to_buffer(_memref_of(v.type), v, read_only=True) for v in given]
        buffers = [memref.alloc(kind, [], []) for kind in (output, work)]
        func.call([], self.symbol, [*operands, *buffers])
        kind = self.op.results[0].type
        result = bufferization.to_tensor(kind, buffers[0], restrict=True)
        self.op.results[0].replace_all_uses_with(result)

    def _describe(self, function: func.FuncOp, inputs: int) -> None:
        i64 = ir.IntegerType.get_signless(64)
        attributes = function.operation.attributes
        alone = self.strips == 1
        overlap = [self.stage.overlap(t) if alone else APART for t in self.graph.inputs]
        attributes["tiny.inputs"] = ir.IntegerAttr.get(i64, inputs)
        attributes["tiny.overlap"] = ir.DenseI64ArrayAttr.get(overlap)
        attributes["tiny.stage"] = ir.ArrayAttr.get(
            [ir.FlatSymbolRefAttr.get(symbol) for symbol in self.symbols]
        )

    def _describe_layer(
        self, layer: func.FuncOp, function: func.FuncOp, kernel: Kernel | None, output: int
    ) -> None:
        """What tiny-lower-layers says of a layer, of a layer that runs row by row."""
        i64 = ir.IntegerType.get_signless(64)
        given, attributes = layer.operation.attributes, function.operation.attributes
        for name in ("tiny.layer", "tiny.op", "tiny.macs"):
            attributes[name] = given[name]
        low, high = self.stage.columns(output)
        rows, tensor = range(self.stage.rows_made(output)), self.graph.tensors[output]
        pixels = len(rows) * int((high - low).sum())
        made = attributes["tiny.macs"].value // (tensor.rows * tensor.columns) * pixels
        attributes["tiny.made_macs"] = ir.IntegerAttr.get(i64, made)
        executed = 0
        if kernel is not None:
            attributes["tiny.kernel"] = ir.StringAttr.get(kernel.label)
            executed = sum(
                kernel.executed_macs(rows, range(a, b)) for a, b in zip(low, high, strict=True)
            )
        attributes["tiny.executed_macs"] = ir.IntegerAttr.get(i64, executed)
        attributes["tiny.constant_bytes"] = ir.IntegerAttr.get(i64, self.pool.layer_bytes)


@dataclass(frozen=True)
class _StepCall:
    """What a step calls: the function with its buffers and the row, and in strips columns of
    these tensors, and first columns of those.
    """

    function: func.FuncOp
    buffers: list[ir.Value]
    columns: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Tile:
    rows: int
    columns: int
    in_place: bool


def _memref_of(tensor: ir.Type) -> ir.Type:
    return ir.MemRefType.get(tensor.shape, tensor.element_type)


def _root(layer: func.FuncOp) -> ir.Value:
    return list(layer.body.blocks[0].operations)[-1].operation.operands[0]
