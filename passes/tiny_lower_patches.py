"""``tiny-lower-patches``: fused stages become loops over rows in ring buffers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from tinymlir.arena import APART
from tinymlir.bindings import arith, bufferization, func, ir, memref
from tinymlir.fusion.costs import (
    COUNTERS,
    SCRATCH,
    STATE_BYTES,
    Cache,
    Name,
    aligned,
    whole_stage,
)
from tinymlir.fusion.network_graph import block_graph, layer_functions
from tinymlir.kernels.catalogue import choose
from tinymlir.kernels.columns import Span, widest
from tinymlir.kernels.emitter import ConstantPool, buffer_type
from tinymlir.kernels.row_functions import Part, RowFunction
from tinymlir.kernels.row_kernels import RowWork, fit
from tinymlir.kernels.row_sums import RowSums, row_sums
from tinymlir.kernels.stage_functions import StageFunctions, StepCall, Streaming
from tinymlir.linalg_info import yielded
from tinymlir.targets import Target, get_target

from ._pass import Pass, PassFailure, find_ops, register_pass
from ._tiles import TILE, Tile
from .tiny_plan_arena import mark_aliased
from .tiny_select_kernels import spare_flash


@register_pass
@dataclass(frozen=True)
class LowerPatches(Pass):
    """Replace each tiny.fused_stage by a function that runs its layers row by row

    Each layer of a stage becomes a function that computes one row of its result, or the
    columns of it that a strip needs, reading rows of its inputs where they lie: in whole
    tensors or in ring buffers. The stage's function calls them in an order that is found
    here and kept as a table: a row is made when another one needs it, and not before. Rings,
    work space and the counters of rows are buffers of the stage, so all are in the arena.
    A tile of a tensor from outside says that this arrives row by row: then there are three
    functions, which begin, take rows, and finish.

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
          %work = memref.alloc() : memref<8xi8>
          call @stage0(%0, %1, %work) : ... -> ()
          ...
        }
        func.func private @stage0(%x: memref<1x4x2x1xi8>, ... [@layer0_row, @layer1_row], ... {
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
        pool, spare = ConstantPool(op), spare_flash(op)
        for number, stage in enumerate(find_ops(op, "tiny.fused_stage")):
            core = get_target(self.target)
            spare = _Lowering(op, stage, f"stage{number}", pool, core, spare).run()


class _Lowering:
    """One stage on its way to a function."""

    def __init__(
        self,
        module: ir.Operation,
        op: ir.Operation,
        symbol: str,
        pool: ConstantPool,
        core: Target,
        spare: int,
    ) -> None:
        self.module, self.op, self.symbol = module, op, symbol
        #: bytes of flash that kernels may take besides
        self.pool, self.core, self.spare = pool, core, spare
        self.block = op.regions[0].blocks[0]
        self.functions = layer_functions(module)
        self.strips = op.attributes["strips"].value
        self.graph, self.numbers = block_graph(self.block, self.functions, core)
        self.calls = [o.operation for o in self.block.operations if o.operation.name == "func.call"]
        self.layers = [self.functions[c.attributes["callee"].value] for c in self.calls]
        for number, layer in enumerate(self.layers):
            name = layer.name.value
            if layer in self.layers[:number] or f"{name}_row" in self.functions:
                where = self.calls[number].location
                raise PassFailure(where, f"runs '{name}' in stages a second time: give it a copy")
        tiles = [o.operation for o in self.block.operations if o.operation.name == TILE]
        #: what the stage keeps of tensors
        self.tiles = {self.numbers[tile.operands[0]]: Tile.of(tile) for tile in tiles}
        #: whether the stage's input arrives row by row
        self.streamed = any(tensor in self.graph.inputs for tensor in self.tiles)
        made = {self.numbers[call.results[0]]: p for p, call in enumerate(self.calls)}
        self.stage = whole_stage(
            op.location,
            self.graph,
            self.strips,
            streamed=self.streamed,
            lean="tiny.lean" in op.attributes,
            cached=[made[t] for t, tile in self.tiles.items() if tile.cached and t in made],
        )
        for tile in tiles:
            self._check(tile)
        for call in self.calls:
            if self.numbers[call.results[0]] not in (*self.tiles, self.stage.output):
                raise PassFailure(call.location, "expects a 'tiny.patch_tile' on its result")
        self.symbols: list[str] = []

    def run(self) -> int:
        """Lower the stage; what of the spare flash is left."""
        self._choose_kernels()
        given = [value for value, tensor in self.numbers.items() if tensor in self.graph.inputs]
        inputs = {self.numbers[value]: buffer_type(value.type) for value in given}
        output = buffer_type(self.op.results[0].type)
        self.places = self._places()
        work = ir.MemRefType.get([self.ends[-1]], ir.IntegerType.get_signless(8))
        self.types: dict[Name, ir.Type] = {}
        for tensor, kind in {**inputs, self.stage.output: output}.items():
            self.types[tensor] = ir.MemRefType.get([prod(kind.shape)], kind.element_type)
        self.types.update((name, kind) for name, (kind, _) in self.places.items())
        steps = self._rows()
        with ir.InsertionPoint(steps[0].function.operation), self.op.location:
            functions = StageFunctions(
                self.stage,
                steps,
                inputs,
                output,
                self.places,
                work,
                {tensor: (self._part(tensor), part) for tensor, part in self._caches().items()},
                self.pool,
                self.core,
            )
            if self.streamed:
                streaming = functions.emit_streaming(self.symbol)
            else:
                whole = functions.emit(self.symbol)
        with ir.InsertionPoint(self.op), self.op.location:
            sources = [
                bufferization.to_buffer(inputs[self.numbers[value]], value, read_only=True)
                for value in given
            ]
            buffers = [memref.alloc(kind, [], []) for kind in (output, work)]
            if self.streamed:
                self._stream(streaming, sources[0], *buffers)
            else:
                self._describe(whole)
                func.call([], self.symbol, [*sources, *buffers])
            kind = self.op.results[0].type
            result = bufferization.to_tensor(kind, buffers[0], restrict=True)
            self.op.results[0].replace_all_uses_with(result)
        self.op.erase()
        called = {c.attributes["callee"].value for c in find_ops(self.module, "func.call")}
        for layer in self.layers:
            if layer.name.value not in called:
                layer.operation.erase()
        return self.spare

    def _choose_kernels(self) -> None:
        """Take the usual kernels as far as the work space of the stage allows, or better ones."""
        self.room = next(b.size for b in self.stage.buffers() if b.name == SCRATCH)
        work: dict[int, RowWork] = {}
        for position, (layer, node) in enumerate(zip(self.layers, self.graph.layers, strict=True)):
            usual = choose(layer, yielded(layer.body.blocks[0]), self.core, by_rows=True)
            if usual is not None and not node.accumulates:
                rows = self.stage.timeline.rows_made(node.output)
                work[position] = RowWork(usual, self._spans(node.output), rows)
        found, self.spare = fit(work, self.room, self.spare)
        self.kernels = [found.get(position) for position in range(len(self.layers))]

    def _stream(
        self, functions: Streaming, source: ir.Value, output: ir.Value, work: ir.Value
    ) -> None:
        """Call what takes the input row by row with all of it."""
        parts = {"begin": functions.begin, "push": functions.push, "finish": functions.finish}
        for name, function in parts.items():
            attributes = function.operation.attributes
            attributes["tiny.streaming"] = ir.StringAttr.get(name)
            symbols = self.symbols if name == "finish" else []
            attributes["tiny.stage"] = _symbols(symbols)
        i32 = ir.IntegerType.get_signless(32)
        rows = arith.constant(i32, source.type.shape[1])
        func.call([], functions.begin.name.value, [work])
        func.call([i32], functions.push.name.value, [source, rows, output, work])
        func.call([i32], functions.finish.name.value, [output, work])

    def _places(self) -> dict[Name, tuple[ir.Type, int]]:
        """The type of each buffer of the stage, and where it begins among them; from the first."""
        i8, counter = (ir.IntegerType.get_signless(width) for width in (8, 8 * STATE_BYTES))
        kinds: dict[Name, tuple[int, ir.Type]] = {
            COUNTERS: (len(self.stage.timeline.steps), counter),
            SCRATCH: (self.room, i8),
        }
        for tensor, tile in self.tiles.items():
            kind = self._type(tensor)
            kinds[tensor] = tile.rows * tile.columns * kind.shape[3], kind.element_type
        for tensor, part in self._caches().items():
            rows = self.stage.timeline.rows_made(tensor)
            kinds[Cache(tensor)] = rows * part.columns * part.channels, i8
        for position, layer in enumerate(self.graph.layers):
            if layer.accumulates:
                kind = self._sums(position).result.type
                kinds[-1 - position] = kind.shape[3], kind.element_type
        places, self.ends = {}, [0]
        for buffer in self.stage.buffers():
            count, element = kinds[buffer.name]
            if count:
                places[buffer.name] = ir.MemRefType.get([count], element), self.ends[-1]
            # Sums of bytes take words as well: maxima are few.
            width = 4 if isinstance(buffer.name, int) and buffer.name < 0 else element.width // 8
            self.ends.append(self.ends[-1] + aligned(count * width))
        return places

    def _check(self, op: ir.Operation) -> None:
        """Whether a tile is big enough for the schedule of the stage."""
        tensor = self.numbers[op.operands[0]]
        tile = self.tiles[tensor]
        if tile.in_place != (tensor in self.stage.timeline.shared):
            able = "not be" if tile.in_place else "be"
            raise PassFailure(op.location, f"must {able} in place")
        needs = [("cached columns", tile.cached, int(self.stage.caches.get(tensor, [0])[0]))]
        if not tile.in_place:
            rows, columns = self.stage.ring(tensor)
            needs += [("rows", tile.rows, rows), ("columns", tile.columns, columns)]
        for what, got, least in needs:
            if got < least:
                raise PassFailure(op.location, f"keeps {got} {what}, but its readers need {least}")

    def _type(self, tensor: int) -> ir.RankedTensorType:
        """The type of a tensor. The plan counts bytes for channels: four of a float32."""
        return next(value.type for value, number in self.numbers.items() if number == tensor)

    def _part(self, tensor: int) -> Part:
        """How rows of a tensor lie: all of them, or in a ring."""
        place = self.stage.timeline.place(tensor)
        _, rows, columns, channels = self._type(tensor).shape
        if place not in self.tiles:
            return Part(columns, channels)
        tile = self.tiles[place]
        slots = tile.rows if tile.rows < rows else None
        strip = self.strips > 1 and tile.columns < columns
        return Part(tile.columns, channels, slots, strip)

    def _rows(self) -> list[StepCall]:
        """Emit the functions of all layers."""
        steps: list[StepCall] = []
        for position, node in enumerate(self.graph.layers):
            layer, kernel = self.layers[position], self.kernels[position]
            tensors = [*(read.tensor for read in node.reads), node.output]
            parts = tuple(self._part(tensor) for tensor in tensors)
            spans = self._spans(node.output)
            rows = RowFunction(layer, parts, spans)
            symbol = f"{layer.name.value}_row"
            buffers: list[Name] = [self.stage.timeline.place(t) for t in tensors]
            self.pool.begin_layer()
            if node.accumulates:
                first, then = [buffers[0], -1 - position], [-1 - position, buffers[1]]
                how = self._sums(position)
                adder = rows.emit_sums(f"{symbol}_sums", self._types(first), how, self.pool)
                function = rows.emit_result(symbol, self._types(then), how, self.pool)
                steps += [StepCall(adder, first), StepCall(function, then)]
            else:
                scratch = kernel is not None and kernel.row_scratch_bytes(widest(spans)) > 0
                kinds, work = self._types(buffers), self.types[SCRATCH] if scratch else None
                function = rows.emit(symbol, kinds, work, kernel, self.pool, self.core)
                if len(set(buffers)) < len(buffers):
                    mark_aliased(function)
                columns = [tensors[-1]] if self.strips > 1 else []
                firsts = [t for t, part in zip(tensors, parts, strict=True) if part.strip]
                given = [*buffers, SCRATCH] if scratch else buffers
                steps.append(StepCall(function, given, columns, firsts))
            self._describe_layer(position, function)
            self.symbols.append(function.name.value)
        return steps

    def _sums(self, position: int) -> RowSums:
        """How a layer adds up rows."""
        found = row_sums(self.layers[position], self.core)
        assert found is not None
        return found

    def _spans(self, tensor: int) -> tuple[Span, ...]:
        """The columns of a tensor that each strip makes."""
        low, high = self.stage.columns_made(tensor)
        return tuple(zip(low.tolist(), high.tolist(), strict=True))

    def _caches(self) -> dict[int, Part]:
        """How the rows of tensors with a column cache lie there."""
        return {
            tensor: Part(self.tiles[tensor].cached, self._type(tensor).shape[3])
            for tensor in self.stage.caches
        }

    def _types(self, names: list[Name]) -> list[ir.Type]:
        return [self.types[name] for name in names]

    def _describe(self, function: func.FuncOp) -> None:
        """What tiny-plan-arena must know of a stage."""
        given, ends = self.graph.inputs, self.ends[1:]
        alone = self.strips == 1
        over_output = [self.stage.overlap(t) if alone else APART for t in given]
        over_work = [self.stage.work_overlap(t, ends) if alone else APART for t in given]
        attributes = function.operation.attributes
        attributes["tiny.inputs"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), len(given))
        attributes["tiny.overlap"] = ir.DenseI64ArrayAttr.get(over_output)
        attributes["tiny.work_overlap"] = ir.DenseI64ArrayAttr.get(over_work)
        attributes["tiny.stage"] = _symbols(self.symbols)

    def _describe_layer(self, position: int, function: func.FuncOp) -> None:
        """What tiny-lower-layers says of a layer, of a layer that runs row by row."""
        i64 = ir.IntegerType.get_signless(64)
        given = self.layers[position].operation.attributes
        attributes, kernel = function.operation.attributes, self.kernels[position]
        output = self.graph.layers[position].output
        for name in ("tiny.layer", "tiny.op", "tiny.macs"):
            attributes[name] = given[name]
        spans = self._spans(output)
        rows, tensor = range(self.stage.timeline.rows_made(output)), self.graph.tensors[output]
        pixels = len(rows) * sum(last - first for first, last in spans)
        made = attributes["tiny.macs"].value // (tensor.rows * tensor.columns) * pixels
        attributes["tiny.made_macs"] = ir.IntegerAttr.get(i64, made)
        executed, label = 0, None
        if kernel is not None:
            label = kernel.label
            executed = sum(kernel.executed_macs(rows, range(*span)) for span in spans)
        elif self.graph.layers[position].accumulates:
            label, executed = self._sums(position).label, pixels * self._sums(position).macs
        if label is not None:
            attributes["tiny.kernel"] = ir.StringAttr.get(label)
        attributes["tiny.executed_macs"] = ir.IntegerAttr.get(i64, executed)
        attributes["tiny.constant_bytes"] = ir.IntegerAttr.get(i64, self.pool.layer_bytes)


def _symbols(names: list[str]) -> ir.ArrayAttr:
    return ir.ArrayAttr.get([ir.FlatSymbolRefAttr.get(name) for name in names])
