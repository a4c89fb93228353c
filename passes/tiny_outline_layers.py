"""``tiny-outline-layers``: give each layer of the network a function of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import func, ir
from tinymlir.linalg_info import VIEW_OPS, behind_views, macs_of

from ._pass import Pass, PassFailure, register_pass

#: Producers of i8 tensors that always belong to the layer that reads them.
_FEEDER_OPS = ("tensor.pad", "tensor.empty", "linalg.fill", "linalg.broadcast", "arith.constant")
#: Kinds of layers by the linalg op that they are built around.
_KINDS = {
    "batch_matmul": "batch_matmul",
    "conv_1d": "conv2d",
    "conv_2d": "conv2d",
    "depthwise_conv_2d": "depthwise_conv2d",
    "matmul": "fully_connected",
    "pooling_nhwc_max": "max_pool2d",
    "pooling_nhwc_sum": "average_pool2d",
}


@register_pass
@dataclass(frozen=True)
class OutlineLayers(Pass):
    """Move each layer of @main into a private function

    A layer is the op that yields an i8 tensor together with everything it needs
    that is not an i8 layer itself: padding, bias, accumulator, requantization,
    constants. ``@main`` keeps only calls and views; layers that are functions already stay.

    With ``inline-tables`` the requantization of a convolution or dense layer and the lookup that
    alone reads it are one layer, which takes scalar code fewer loads and stores.

    Before::

        func.func @main(%x: tensor<1x4xi8>) -> tensor<1x4xi8> {
          %e = tensor.empty() : tensor<1x4xi8>
          %y = linalg.max ins(%x, %x : tensor<1x4xi8>, tensor<1x4xi8>)
                          outs(%e : tensor<1x4xi8>) -> tensor<1x4xi8>
          return %y : tensor<1x4xi8>
        }

    After::

        func.func @main(%x: tensor<1x4xi8>) -> tensor<1x4xi8> {
          %y = call @layer0(%x) : (tensor<1x4xi8>) -> tensor<1x4xi8>
          return %y : tensor<1x4xi8>
        }
        func.func private @layer0(%x: tensor<1x4xi8>) -> tensor<1x4xi8>
            attributes {tiny.layer = "layer0", tiny.macs = 0 : i64, tiny.op = "max"} { ... }
    """

    name: ClassVar[str] = "tiny-outline-layers"
    #: whether a lookup is part of the layer that makes its operand
    inline_tables: bool = False

    def run(self, op: ir.Operation) -> None:
        main = find_main(op)
        for i, value in enumerate(main.body.blocks[0].operations[-1].operands):
            _require_layer_result(main, i, value)
        last = main.operation
        roots = [o.operation for o in main.body.blocks[0].operations if _is_layer_root(o.operation)]
        if self.inline_tables:
            roots = [root for root in roots if not _feeds_table(root)]
        for root, symbol in zip(roots, _free_symbols(op), strict=False):
            layer = _outline(op, root, symbol)
            # The network reads from top to bottom: @main first, then its layers.
            layer.move_after(last)
            last = layer
        erase_dead(main)


def find_main(module: ir.Operation) -> func.FuncOp:
    """The network function.

    Raises:
        PassFailure: where the module has no ``@main`` with one block.
    """
    for child in module.regions[0].blocks[0].operations:
        if isinstance(child, func.FuncOp) and child.name.value == "main":
            if len(child.body.blocks) != 1:
                raise PassFailure(child.location, "expects @main to have one block")
            return child
    raise PassFailure(module.location, "expects a function named @main")


def _is_i8_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.RankedTensorType) and str(value.type.element_type) == "i8"


def _is_layer_root(op: ir.Operation) -> bool:
    if len(op.results) != 1:
        return False
    if "tiny.layer" in op.attributes:
        return True
    if not _is_i8_tensor(op.results[0]):
        return False
    if op.name in (*VIEW_OPS, "func.call"):
        return False
    if op.name in _FEEDER_OPS:
        # A padded tensor that somebody else than a layer wants must exist by itself.
        return op.name == "tensor.pad" and _is_returned(op.results[0])
    return True


def _feeds_table(root: ir.Operation) -> bool:
    """Whether ``root`` only scales accumulators for a lookup, its only reader."""
    accumulators = root.operands[0] if root.name == "linalg.generic" else None
    if accumulators is None or str(accumulators.type.element_type) != "i32":
        return False
    readers = [use.owner.operation for use in root.results[0].uses]
    return len(readers) == 1 and _is_lookup(readers[0])


def _is_lookup(op: ir.Operation) -> bool:
    return "tiny.op" in op.attributes and op.attributes["tiny.op"].value == "lookup"


def _is_returned(value: ir.Value) -> bool:
    """Whether @main gives ``value``, as it is or reshaped."""
    users = [use.owner.operation for use in value.uses]
    return any(
        user.name == "func.return" or (user.name in VIEW_OPS and _is_returned(user.results[0]))
        for user in users
    )


def _require_layer_result(main: func.FuncOp, index: int, value: ir.Value) -> None:
    """Outputs must be computed: a constant or the input itself has no buffer to live in."""
    value = behind_views(value)
    if isinstance(value, ir.BlockArgument) or not (
        value.owner.name == "func.call" or _is_layer_root(value.owner)
    ):
        raise PassFailure(
            main.location, f"output {index} of @main is not the result of an i8 layer"
        )


def _free_symbols(module: ir.Operation) -> Iterator[str]:
    """Names for layers that nothing in the module has yet."""
    children = [child.operation.attributes for child in module.regions[0].blocks[0].operations]
    taken = {c["sym_name"].value for c in children if "sym_name" in c}
    names = (f"layer{i}" for i in itertools.count())
    return (name for name in names if name not in taken)


def _is_boundary(value: ir.Value) -> bool:
    """Whether ``value`` enters a layer from outside; the layers above are calls already."""
    if isinstance(value, ir.BlockArgument) or value.owner.name == "func.call":
        return True
    op = value.owner.operation
    return op.name in VIEW_OPS and _is_i8_tensor(value) and _is_boundary(op.operands[0])


def _closure(root: ir.Operation) -> tuple[list[ir.Operation], list[ir.Value]]:
    """Ops of the layer of ``root`` in program order, and the values it takes from outside."""
    members: list[ir.Operation] = []
    inputs: list[ir.Value] = []

    def visit(op: ir.Operation) -> None:
        if op in members:
            return
        for value in _uses_inside(op):
            if not _is_boundary(value) or _makes_groups(value, op):
                visit(value.owner.operation)
            elif value not in inputs:
                inputs.append(value)
        members.append(op)

    visit(root)
    return members, inputs


def _makes_groups(value: ir.Value, op: ir.Operation) -> bool:
    """Whether ``value`` is a tensor with its channels in groups for ``op``: a part of its layer."""
    grouped = op.name == "linalg.conv_2d_nhwgc_gfhwc" and value == op.operands[0]
    return grouped and not isinstance(value, ir.BlockArgument) and value.owner.name in VIEW_OPS


def _uses_inside(op: ir.Operation) -> list[ir.Value]:
    """Operands of ``op`` and the values that its regions capture."""
    values = list(op.operands)

    def walk(nested: ir.Operation) -> ir.WalkResult:
        for value in nested.operands:
            owner = value.owner
            block = owner if isinstance(value, ir.BlockArgument) else owner.operation.block
            if not _encloses(op, block):
                values.append(value)
        return ir.WalkResult.ADVANCE

    for region in op.regions:
        for block in region.blocks:
            for nested in block.operations:
                nested.operation.walk(walk)
    return values


def _encloses(op: ir.Operation, block: ir.Block) -> bool:
    owner = block.owner.operation
    while owner is not None:
        if owner == op:
            return True
        owner = owner.parent
    return False


def _outline(module: ir.Operation, root: ir.Operation, symbol: str) -> ir.Operation:
    """Clone the layer of ``root`` into ``@symbol`` and call that in its place."""
    members, inputs = _closure(root)
    with ir.InsertionPoint(module.regions[0].blocks[0]), root.location:
        function = func.FuncOp(
            symbol, ([v.type for v in inputs], [root.results[0].type]), visibility="private"
        )
        entry = function.add_entry_block()
    attributes = function.operation.attributes
    defaults = {"tiny.layer": symbol, "tiny.op": _kind(root, members)}
    # A lookup in the layer of a product leaves the name to that.
    named = next((m for m in members if m != root and _feeds_table(m)), root)
    for key, default in defaults.items():
        given = key in named.attributes
        attributes[key] = named.attributes[key] if given else ir.StringAttr.get(default)
    for key, op in (("tiny.tensor", root), ("tiny.kernel", named)):
        if key in op.attributes:
            attributes[key] = op.attributes[key]
    i64 = ir.IntegerType.get_signless(64)
    attributes["tiny.macs"] = ir.IntegerAttr.get(i64, sum(macs_of(m) for m in members))

    mapping = dict(zip(inputs, entry.arguments, strict=True))
    with ir.InsertionPoint(entry), root.location:
        for member in members:
            clone = member.clone()
            for old, new in mapping.items():
                _replace_uses_within(clone.operation, old, new)
            for old, new in zip(member.results, clone.operation.results, strict=True):
                mapping[old] = new
        func.ReturnOp([mapping[root.results[0]]])
    with ir.InsertionPoint(root), root.location:
        call = func.CallOp(function, inputs)
    root.results[0].replace_all_uses_with(call.results[0])
    return function.operation


def _kind(root: ir.Operation, members: list[ir.Operation]) -> str:
    """What a layer is called where nothing says: after its product or window, or its last op."""
    for member in members:
        if "tiny.op" in member.attributes:
            return str(member.attributes["tiny.op"].value)
        for part, kind in _KINDS.items():
            if member.name.startswith(f"linalg.{part}"):
                return kind
    return root.name.split(".", 1)[1]


def _replace_uses_within(op: ir.Operation, old: ir.Value, new: ir.Value) -> None:
    def walk(nested: ir.Operation) -> ir.WalkResult:
        nested.replace_uses_of_with(old, new)
        return ir.WalkResult.ADVANCE

    op.walk(walk)


def erase_dead(main: func.FuncOp) -> None:
    """Erase what nobody reads, calls aside."""
    for child in reversed(list(main.body.blocks[0].operations)):
        op = child.operation
        if op.name not in ("func.return", "func.call") and not any(
            True for r in op.results for _ in r.uses
        ):
            op.erase()
