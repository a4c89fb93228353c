"""``tiny-fuse-stages``: layers that a plan puts into one stage become a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import func, ir
from tinymlir.dialects import stages
from tinymlir.fusion.costs import Stage, whole_stage
from tinymlir.fusion.network_graph import block_graph, layer_functions
from tinymlir.targets import Target, get_target

from ._pass import Pass, PassFailure, register_pass
from .tiny_outline_layers import find_main


@register_pass
@dataclass(frozen=True)
class FuseStages(Pass):
    """Put the calls in @main that share a tiny.stage into a tiny.fused_stage

    Calls of a stage follow one another; ``tiny.strips`` on them says in how many strips of
    columns the stage makes its result (one where it is not given), ``tiny.cached`` that a strip
    keeps the columns of the call's result that the next one needs too, ``tiny.lean`` on the last
    that kernels shall take little work space. The tiles of inner tensors are the smallest with
    which the stage can run. An input that is ``streamed`` (``tiny.input`` on ``@main``) has a tile
    too.

    Before::

        func.func @main(%x: tensor<1x4x2x1xi8>) -> tensor<1x2x1x1xi8> {
          %a = call @layer0(%x) {tiny.stage = 0 : i64}
              : (tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
          %b = call @layer1(%a) {tiny.stage = 0 : i64}
              : (tensor<1x4x2x1xi8>) -> tensor<1x2x1x1xi8>
          return %b : tensor<1x2x1x1xi8>
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
          %y = "tiny.fused_stage"() ({
            %a = func.call @layer0(%x) : (tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
            %t = "tiny.patch_tile"(%a) {columns = 2 : i64, rows = 2 : i64}
                : (tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
            %b = func.call @layer1(%t) : (tensor<1x4x2x1xi8>) -> tensor<1x2x1x1xi8>
            "tiny.patch_yield"(%b) : (tensor<1x2x1x1xi8>) -> ()
          }) {strips = 1 : i64} : () -> tensor<1x2x1x1xi8>
          return %y : tensor<1x2x1x1xi8>
        }
        ...
    """

    name: ClassVar[str] = "tiny-fuse-stages"
    #: the core to generate code for
    target: str = "cortex-m4"

    def run(self, op: ir.Operation) -> None:
        functions, main = layer_functions(op), find_main(op)
        given = main.operation.attributes
        place = given["tiny.input"].value if "tiny.input" in given else "external"
        arriving = list(main.arguments) if place == "streamed" else []
        for calls in _groups(main):
            _fuse(calls, functions, get_target(self.target), arriving)
        for use in (use for value in arriving for use in value.uses):
            if use.owner.operation.name != "tiny.patch_tile":
                raise PassFailure(
                    use.owner.location, "reads a streamed input, and is in no stage with others"
                )


def _groups(main: func.FuncOp) -> list[list[ir.Operation]]:
    """The calls of each stage, in order."""
    groups: list[list[ir.Operation]] = []
    seen: list[int] = []
    open_stage: int | None = None
    for child in main.body.blocks[0].operations:
        op = child.operation
        if op.name != "func.call":
            continue
        number = op.attributes["tiny.stage"].value if "tiny.stage" in op.attributes else None
        if number is not None and number != open_stage:
            if number in seen:
                raise PassFailure(op.location, f"belongs to stage {number}, which ended above")
            seen.append(number)
            groups.append([])
        if number is not None:
            groups[-1].append(op)
        open_stage = number
    return groups


def _fuse(
    calls: list[ir.Operation],
    functions: dict[str, func.FuncOp],
    core: Target,
    arriving: list[ir.Value],
) -> None:
    """Put calls into a region; rows of the values ``arriving`` come one by one."""
    last = calls[-1]
    strips = [c.attributes["tiny.strips"].value for c in calls if "tiny.strips" in c.attributes]
    if len(set(strips)) > 1:
        raise PassFailure(last.location, "belongs to a stage of which others ask for other strips")
    for call in calls[:-1]:
        if any(use.owner.operation not in calls for use in call.results[0].uses):
            raise PassFailure(call.location, "gives a tensor that is read beyond its stage")
    i64, lean = ir.IntegerType.get_signless(64), "tiny.lean" in last.attributes
    with ir.InsertionPoint(last), last.location:
        count = ir.IntegerAttr.get(i64, strips[0] if strips else 1)
        fused = stages.FusedStageOp(last.results[0].type, strips=count)
        block = fused.operation.regions[0].blocks.append()
        if lean:
            fused.operation.attributes["tiny.lean"] = ir.UnitAttr.get()
    mapping: dict[ir.Value, ir.Value] = {}
    with ir.InsertionPoint(block):
        for call in calls:
            clone = call.clone()
            for number, operand in enumerate(call.operands):
                clone.operands[number] = mapping.get(operand, operand)
            for name in ("tiny.stage", "tiny.strips", "tiny.lean", "tiny.cached"):
                if name in clone.attributes:
                    del clone.attributes[name]
            mapping[call.results[0]] = clone.results[0]
        stages.PatchYieldOp(mapping[last.results[0]])
    graph, numbers = block_graph(block, functions, core)
    streamed = [value for value in arriving if value in numbers]
    stage = whole_stage(
        fused.operation.location,
        graph,
        count.value,
        streamed=bool(streamed),
        lean=lean,
        cached=[place for place, call in enumerate(calls) if "tiny.cached" in call.attributes],
    )
    inner = [child.operation.results[0] for child in list(block.operations)[:-2]]
    for value in [*streamed, *inner]:
        _place_tile(stage, block, value, numbers[value])
    last.results[0].replace_all_uses_with(fused.operation.results[0])
    for call in reversed(calls):
        call.erase()


def _place_tile(stage: Stage, block: ir.Block, value: ir.Value, tensor: int) -> None:
    """Say of an inner tensor, or of one that arrives, how much of it is in memory."""
    i64 = ir.IntegerType.get_signless(64)
    place = stage.timeline.place(tensor)
    rows, columns = value.type.shape[1:3]
    if place in stage.timeline.rows:
        rows, columns = stage.ring(place)
    inside = not isinstance(value, ir.BlockArgument)
    where = ir.InsertionPoint.after(value.owner) if inside else None
    with where or ir.InsertionPoint.at_block_begin(block), value.location:
        tile = stages.PatchTileOp(
            value,
            res=value.type,
            rows=ir.IntegerAttr.get(i64, rows),
            columns=ir.IntegerAttr.get(i64, columns),
        )
    if tensor in stage.timeline.shared:
        tile.operation.attributes["tiny.in_place"] = ir.UnitAttr.get()
    if tensor in stage.caches:
        cached = ir.IntegerAttr.get(i64, int(stage.caches[tensor][0]))
        tile.operation.attributes["tiny.cached_columns"] = cached
    for use in list(value.uses):
        user = use.owner.operation
        if user != tile.operation and user.block == block:
            user.operands[use.operand_number] = tile.operation.results[0]
