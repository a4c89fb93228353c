"""``tiny-plan-fusion``: which layers run together, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import func, ir
from tinymlir.errors import TinymlirError
from tinymlir.fusion.graph import Graph
from tinymlir.fusion.network_graph import layer_functions, network_graph
from tinymlir.fusion.planner import Planner
from tinymlir.fusion.setting import (
    DEFAULT_SCHEMES,
    InputMode,
    Scheme,
    Setting,
    from_json,
    read_plan,
)
from tinymlir.kernels.catalogue import leanest
from tinymlir.linalg_info import yielded
from tinymlir.targets import Target, get_target

from ._pass import Pass, PassFailure, find_ops, register_pass
from .tiny_outline_layers import find_main


@register_pass
@dataclass(frozen=True)
class PlanFusion(Pass):
    """Mark the layers of @main that run together as a stage, row by row

    Of all fusion settings that no other beats in both RAM and multiply-accumulates, takes the
    one with the least computation within ``max-ram``; or with the least RAM within
    ``max-overhead``, which is none without either. Where the network fits ``max-ram`` layer by
    layer, it stays so. Calls of a stage's layers get its number as
    ``tiny.stage`` and its number of strips as ``tiny.strips``, ``tiny.cached`` where strips keep
    columns of the result, and ``tiny.lean`` where kernels shall take little work space. Where a
    layer by itself shall, it gets another ``tiny.kernel``. ``@main`` gets ``tiny.input``, and names
    of the layers that can be in no stage as ``tiny.cuts``.

    Before::

        func.func @main(%x: tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8> {
          %a = call @layer0(%x) : (tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8>
          %y = call @layer0(%a) : (tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8>
          return %y : tensor<1x8x1x4xi8>
        }
        func.func private @layer0(%x: tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8>
            attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
          %e = tensor.empty() : tensor<1x8x1x4xi8>
          %y = linalg.max ins(%x, %x : tensor<1x8x1x4xi8>, tensor<1x8x1x4xi8>)
                          outs(%e : tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8>
          return %y : tensor<1x8x1x4xi8>
        }

    After::

        func.func @main(%x: tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8>
            attributes {tiny.cuts = [], tiny.input = "external"} {
          %a = call @layer0(%x) {tiny.stage = 0 : i64, tiny.strips = 1 : i64}
               : (tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8>
          %y = call @layer0(%a) {tiny.stage = 0 : i64, tiny.strips = 1 : i64}
               : (tensor<1x8x1x4xi8>) -> tensor<1x8x1x4xi8>
          return %y : tensor<1x8x1x4xi8>
        }
        ...
    """

    name: ClassVar[str] = "tiny-plan-fusion"
    #: the core whose kernels are planned for
    target: str = "cortex-m4"
    #: where the network's input is
    input: InputMode = "external"
    #: bytes that arena, inputs and outputs may take
    max_ram: int | None = None
    #: how many times the multiply-accumulates of the unfused network
    max_overhead: float | None = None
    #: what stages may be; lean ones are taken as well where nothing else fits
    schemes: tuple[Scheme, ...] = DEFAULT_SCHEMES
    #: a plan file that says all of that
    plan: str | None = None

    def run(self, op: ir.Operation) -> None:
        core, main = get_target(self.target), find_main(op)
        graph = network_graph(main, core)
        try:
            mode, setting = self._choose(graph)
        except TinymlirError as error:
            raise PassFailure(main.location, str(error)) from error
        calls, functions = find_ops(main.operation, "func.call"), layer_functions(op)
        i64 = ir.IntegerType.get_signless(64)
        stages = [block for block in setting.blocks if block.strips]
        for number, block in enumerate(stages):
            for position, call in enumerate(calls[block.first : block.last + 1], block.first):
                call.attributes["tiny.stage"] = ir.IntegerAttr.get(i64, number)
                call.attributes["tiny.strips"] = ir.IntegerAttr.get(i64, block.strips)
                if position in block.cached:
                    call.attributes["tiny.cached"] = ir.UnitAttr.get()
                if block.lean:
                    call.attributes["tiny.lean"] = ir.UnitAttr.get()
        for block in setting.blocks:
            if block.lean and not block.strips:
                _take_leanest(functions[calls[block.first].attributes["callee"].value], core)
        attributes = main.operation.attributes
        attributes["tiny.input"] = ir.StringAttr.get(mode)
        cuts = [ir.StringAttr.get(layer.name) for layer in graph.layers if not layer.fusable]
        attributes["tiny.cuts"] = ir.ArrayAttr.get(cuts)

    def _choose(self, graph: Graph) -> tuple[InputMode, Setting]:
        if self.plan is not None:
            mode, blocks = from_json(graph, read_plan(self.plan), self.plan)
            return mode, Planner(graph, mode).price(blocks, self.plan)
        planner = Planner(graph, self.input, self.schemes)
        vanilla = planner.vanilla()
        enough = self.max_ram is not None and planner.ram_bytes(vanilla) <= self.max_ram
        if enough and self.input != "streamed":
            return self.input, vanilla
        return self.input, planner.best(self.max_ram, self.max_overhead)[1]


def _take_leanest(layer: func.FuncOp, core: Target) -> None:
    """Have a layer computed by the kernel that wants the least work space."""
    kernel = leanest(yielded(layer.body.blocks[0]), core)
    assert kernel is not None
    attributes = layer.operation.attributes
    attributes["tiny.kernel"] = ir.StringAttr.get(kernel.label)
    if "tiny.price" in attributes:
        # That of another kernel.
        del attributes["tiny.price"]
