"""``tiny-lower-layers``: layer functions become loops on memrefs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import bufferization, func, ir, memref
from tinymlir.kernels import copying, elementwise, helium_lanes, overlap, pooling
from tinymlir.kernels.by_element import emit_by_element
from tinymlir.kernels.catalogue import choose
from tinymlir.kernels.emitter import ConstantPool, Emitter, buffer_type
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.lanes import emit_by_lanes, most_lanes
from tinymlir.kernels.reuse import materialize_reused
from tinymlir.kernels.rows import Rows
from tinymlir.linalg_info import yielded
from tinymlir.targets import Target, get_target

from ._pass import Pass, PassFailure, find_ops, register_pass


@register_pass
@dataclass(frozen=True)
class LowerLayers(Pass):
    """Replace the body of each layer function by loops on memrefs

    A layer takes its inputs, its output and its scratch buffers as memrefs.
    Accumulators stay in registers; weights are packed into the order in which the
    kernel reads them. ``tiny.overlap`` says for each input how many bytes above the
    output it must start for both to share memory (-1: they must not), and
    ``tiny.executed_macs`` the MACs that the loops execute.

    Before::

        func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
          %y = call @layer0(%x) : (tensor<4xi8>) -> tensor<4xi8>
          return %y : tensor<4xi8>
        }
        func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8>
            attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
          %e = tensor.empty() : tensor<4xi8>
          %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>)
                          outs(%e : tensor<4xi8>) -> tensor<4xi8>
          return %y : tensor<4xi8>
        }

    After::

        func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
          %0 = bufferization.to_buffer %x read_only : tensor<4xi8> to memref<4xi8>
          %1 = memref.alloc() : memref<4xi8>
          call @layer0(%0, %1) : (memref<4xi8>, memref<4xi8>) -> ()
          %y = bufferization.to_tensor %1 restrict : memref<4xi8> to tensor<4xi8>
          return %y : tensor<4xi8>
        }
        func.func private @layer0(%x: memref<4xi8>, %y: memref<4xi8>)
            attributes {tiny.constant_bytes = 0 : i64, tiny.executed_macs = 0 : i64,
                        tiny.inputs = 1 : i64,
                        tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max",
                        tiny.overlap = array<i64: 0>} {
          ...
          scf.for %i = %c0 to %c4 step %c1 {
            %a = memref.load %x[%i] : memref<4xi8>
            %b = memref.load %x[%i] : memref<4xi8>
            %m = arith.maxsi %a, %b : i8
            memref.store %m, %y[%i] : memref<4xi8>
          }
          return
        }
    """

    name: ClassVar[str] = "tiny-lower-layers"
    #: the core that kernels are made for
    target: str = "cortex-m4"

    def run(self, op: ir.Operation) -> None:
        core = get_target(self.target)
        if core.has_vectors:
            # Where the conversion of vectors looks up how wide an index is.
            op.attributes["dlti.dl_spec"] = ir.Attribute.parse("#dlti.dl_spec<index = 32>")
        pool = ConstantPool(op)
        calls: dict[str, list[ir.Operation]] = defaultdict(list)
        for call in find_ops(op, "func.call"):
            calls[call.attributes["callee"].value].append(call)
        for child in list(op.regions[0].blocks[0].operations):
            if isinstance(child, func.FuncOp) and _is_layer(child):
                _lower_layer(child, calls[child.name.value], pool, core)


def _is_layer(function: func.FuncOp) -> bool:
    """Whether ``function`` is a layer that is not lowered yet, as those of stages are."""
    attributes = function.operation.attributes
    return "tiny.layer" in attributes and "tiny.executed_macs" not in attributes


#: What tiny-outline-layers says of a layer.
_FACTS = ("tiny.layer", "tiny.op", "tiny.macs")


def _require_layer(layer: func.FuncOp) -> None:
    if len(layer.body.blocks) != 1:
        raise PassFailure(layer.location, "expects a layer to have one block")
    for name in _FACTS:
        if name not in layer.operation.attributes:
            raise PassFailure(layer.location, f"expects a layer to have the attribute '{name}'")
    types = [*layer.type.inputs, *layer.type.results]
    if len(layer.type.results) != 1 or not all(
        isinstance(t, ir.RankedTensorType) and t.has_static_shape for t in types
    ):
        raise PassFailure(
            layer.location, "expects a layer to make one tensor of tensors, of static shape all"
        )


def _lower_layer(
    layer: func.FuncOp, calls: list[ir.Operation], pool: ConstantPool, core: Target
) -> None:
    _require_layer(layer)
    arguments = list(layer.arguments)
    body = layer.body.blocks[0]
    root = yielded(body)
    if isinstance(root, ir.BlockArgument):
        raise PassFailure(layer.location, "expects a layer to compute its result")

    emitter = Emitter()
    pool.begin_layer()
    inputs = [buffer_type(a.type) for a in arguments]
    output = buffer_type(root.type)
    scratch: list[ir.Type] = []
    symbol = layer.name.value
    lowered = _new_function(layer, symbol, [*inputs, output])
    attributes = lowered.operation.attributes
    kernel = choose(layer, root, core)

    def allocate(buffer_type: ir.Type) -> ir.Value:
        scratch.append(buffer_type)
        return lowered.body.blocks[0].add_argument(buffer_type, layer.location)

    with layer.location:
        if kernel is not None:
            _emit_kernel(kernel, lowered, root, arguments, emitter, pool, allocate)
            executed = kernel.executed_macs()
        else:
            with ir.InsertionPoint(lowered.body.blocks[0]):
                buffers = dict(zip(arguments, lowered.arguments, strict=False))
                evaluator = Evaluator(emitter, pool, buffers)
                _emit_elements(evaluator, root, lowered.arguments[len(inputs)], core, allocate)
            executed = attributes["tiny.macs"].value
        with ir.InsertionPoint(lowered.body.blocks[0]):
            func.ReturnOp([])
    signature = ir.FunctionType.get([*inputs, output, *scratch], [])
    attributes["function_type"] = ir.TypeAttr.get(signature)
    i64 = ir.IntegerType.get_signless(64)
    attributes["tiny.executed_macs"] = ir.IntegerAttr.get(i64, executed)
    attributes["tiny.constant_bytes"] = ir.IntegerAttr.get(i64, pool.layer_bytes)
    attributes["tiny.inputs"] = ir.IntegerAttr.get(i64, len(inputs))
    attributes["tiny.overlap"] = ir.DenseI64ArrayAttr.get(
        [overlap.distance(argument, root, kernel) for argument in arguments]
    )
    if kernel is not None:
        attributes["tiny.kernel"] = ir.StringAttr.get(kernel.label)
    _rewrite_calls(calls, symbol, scratch)
    layer.operation.erase()


def _new_function(layer: func.FuncOp, symbol: str, types: list[ir.Type]) -> func.FuncOp:
    """An empty function beside ``layer``, with its name and attributes."""
    with ir.InsertionPoint(layer.operation), layer.location:
        lowered = func.FuncOp(symbol, (types, []), visibility="private")
        lowered.add_entry_block()
    for name in (*_FACTS, "tiny.price"):
        if name in layer.operation.attributes:
            lowered.operation.attributes[name] = layer.operation.attributes[name]
    return lowered


def _emit_kernel(
    kernel: Kernel,
    lowered: func.FuncOp,
    root: ir.Value,
    arguments: list[ir.Value],
    emitter: Emitter,
    pool: ConstantPool,
    allocate: Callable[[ir.Type], ir.Value],
) -> None:
    """The whole layer, computed by ``kernel``."""
    conv = kernel.conv
    number = arguments.index(conv.source)

    def bind(function: func.FuncOp) -> Layer:
        buffers: dict[ir.Value, ir.Value | Rows] = dict(
            zip(arguments, function.arguments, strict=False)
        )
        source = emitter.flat(function.arguments[number])
        target = emitter.flat(function.arguments[len(arguments)])
        return Layer(
            function,
            root,
            Evaluator(emitter, pool, buffers),
            Rows(source, conv.in_hw[1], conv.groups * conv.in_per_group),
            Rows(target, conv.out_hw[1], conv.groups * conv.out_per_group),
            bind,
        )

    scratch, size = None, kernel.scratch_bytes()
    if size:
        scratch = allocate(ir.MemRefType.get([size], ir.IntegerType.get_signless(8)))
    with ir.InsertionPoint(lowered.body.blocks[0]):
        kernel.prepare(bind(lowered), scratch)
        kernel.whole()


def _emit_elements(
    evaluator: Evaluator,
    root: ir.Value,
    target: ir.Value,
    core: Target,
    allocate: Callable[[ir.Type], ir.Value],
) -> None:
    """A layer without a kernel of its own: as many elements together as the core can."""
    if copying.emit(evaluator, root, target, core):
        return
    if helium_lanes.takes(root, core):
        helium_lanes.emit(evaluator, root, target, core)
        return
    if emit_by_lanes(evaluator, root, target, most_lanes(core.vector_bits)):
        return
    if pooling.emit(evaluator, root, target, core, allocate):
        return
    if elementwise.takes(root):
        elementwise.emit(evaluator, root, target)
        return
    materialize_reused(evaluator, root, allocate)
    emit_by_element(evaluator, root, target)


def _rewrite_calls(calls: list[ir.Operation], symbol: str, scratch: list[ir.Type]) -> None:
    for call in calls:
        with ir.InsertionPoint(call), call.location:
            operands = [
                bufferization.to_buffer(buffer_type(v.type), v, read_only=True)
                for v in call.operands
            ]
            result = memref.alloc(buffer_type(call.results[0].type), [], [])
            work = [memref.alloc(t, [], []) for t in scratch]
            func.call([], symbol, [*operands, result, *work])
            value = bufferization.to_tensor(call.results[0].type, result, restrict=True)
        call.results[0].replace_all_uses_with(value)
        call.erase()
