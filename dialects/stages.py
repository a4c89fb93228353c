"""Ops of ``tiny`` for layers that run depth-first: stages, tiles of their tensors, ring buffers."""

# No `from __future__ import annotations` here: the bindings read the annotations as types.
from typing import Any

from tinymlir.bindings import ext, ir

from .tiny import Tiny

INDEX = ir.IndexType


class FusedStageOp(Tiny.Operation, name="fused_stage"):
    """Layers that run depth-first: a row of the result at a time, with what it needs.

    The value is that of the layers run one after another. Tensors from outside are used as
    they are (IRDL has no operands of several types). The result is made in ``strips``
    of columns, from left to right; what a strip needs beyond its own columns (its halo) is
    computed again, or kept by the strip before where a tile says so. Inner tensors are never
    whole in memory: a `PatchTileOp` on each says how much of it is.

    Example (valid MLIR)::

        %y = "tiny.fused_stage"() ({
          %b = func.call @layer0(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
          %t = "tiny.patch_tile"(%b) {rows = 3 : i64, columns = 5 : i64}
              : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
          %c = func.call @layer1(%t) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
          "tiny.patch_yield"(%c) : (tensor<1x8x8x4xi8>) -> ()
        }) {strips = 2 : i64} : () -> tensor<1x8x8x4xi8>
    """

    result: ext.Result[Any]
    strips: ir.IntegerAttr
    body: ext.Region

    @staticmethod
    def verify_region_invariants(op: ir.OpView) -> bool:
        """One block, which yields the result."""
        return _report(op, _stage_fault(op.operation))


class PatchTileOp(Tiny.Operation, name="patch_tile", traits=[ext.Pure]):
    """The part of a stage's inner tensor that is in memory: ``rows`` × ``columns`` pixels.

    The value is ``tensor`` itself. The rows lie in a ring buffer: row r in slot r mod
    ``rows``. With the attribute ``tiny.in_place`` they have no buffer of their own: the one
    layer that reads them writes its rows over them. With ``tiny.cached_columns`` a strip keeps
    so many columns of all rows for the next one, which does not compute them again.
    """

    tensor: ext.Operand[Any]
    rows: ir.IntegerAttr
    columns: ir.IntegerAttr
    res: ext.Result[Any]

    @staticmethod
    def verify_invariants(op: ir.OpView) -> bool:
        """A tile lies within its tensor."""
        return _report(op, _tile_fault(op.operation))


class PatchYieldOp(Tiny.Operation, name="patch_yield", traits=[ir.IsTerminatorTrait]):
    """Ends a `FusedStageOp`: the tensor that the stage makes."""

    tensor: ext.Operand[Any]


class RingSlotOp(Tiny.Operation, name="ring_slot", traits=[ext.Pure]):
    """The slot of a ring buffer that holds a row: ``row`` mod ``slots``, of a row ≥ 0.

    Rows before the first (padding above an image) have no slot: what they give is unspecified.

    Example (valid MLIR)::

        %slot = "tiny.ring_slot"(%row) {slots = 3 : i64} : (index) -> index
    """

    row: ext.Operand[INDEX]
    slots: ir.IntegerAttr
    res: ext.Result[INDEX]

    @staticmethod
    def verify_invariants(op: ir.OpView) -> bool:
        """A ring has slots."""
        return _report(op, _least_one(op.operation, "slots"))


def _report(op: ir.OpView, fault: str | None) -> bool:
    if fault:
        op.location.emit_error(f"'{op.operation.name}' op {fault}")
    return fault is None


def _least_one(op: ir.Operation, *names: str) -> str | None:
    for name in names:
        if name in op.attributes:
            attribute = op.attributes[name]
            if not isinstance(attribute, ir.IntegerAttr) or attribute.value < 1:
                return f"{name} must be a positive integer, not {attribute}"
    return None


def _stage_fault(op: ir.Operation) -> str | None:
    fault = _least_one(op, "strips")
    if fault or len(op.results) != 1:
        return fault
    if len(op.regions) != 1 or len(op.regions[0].blocks) != 1:
        return "expects one block"
    block = op.regions[0].blocks[0]
    if len(block.arguments):
        return "expects a block without arguments"
    terminator = list(block.operations)[-1].operation if len(block.operations) else None
    if terminator is None or terminator.name != "tiny.patch_yield":
        return "expects its block to end in 'tiny.patch_yield'"
    if [v.type for v in terminator.operands] != [op.results[0].type]:
        return f"gives {op.results[0].type}, but yields {terminator.operands[0].type}"
    caching = any("tiny.cached_columns" in child.operation.attributes for child in block.operations)
    if caching and op.attributes["strips"].value == 1:
        return "caches columns for a next strip, but has one"
    return None


def _tile_fault(op: ir.Operation) -> str | None:
    fault = _least_one(op, "rows", "columns")
    if fault or len(op.operands) != 1 or len(op.results) != 1:
        return fault
    kind = op.operands[0].type
    if not isinstance(kind, ir.RankedTensorType) or kind.rank != 4 or not kind.has_static_shape:
        return f"expects a tensor of rows, columns and channels in a batch, not {kind}"
    if op.results[0].type != kind:
        return f"gives {op.results[0].type}, but its tensor is {kind}"
    for name, size in (("rows", kind.shape[1]), ("columns", kind.shape[2])):
        if name in op.attributes and op.attributes[name].value > size:
            return f"has {op.attributes[name].value} {name}, more than {kind} has"
    cached = "tiny.cached_columns"
    fault = _least_one(op, cached)
    if not fault and cached in op.attributes and "columns" in op.attributes:
        kept, columns = (op.attributes[name].value for name in (cached, "columns"))
        if kept >= columns:
            return f"caches {kept} of {columns} columns: a strip makes at least one"
    return fault
