"""What passes and kernels ask of linalg ops, tensor constants and views of tensors."""

from __future__ import annotations

from math import prod

import numpy as np

from tinymlir.bindings import ir, linalg

#: Reinterpretations of a tensor, which cost nothing at run time.
VIEW_OPS = ("tensor.expand_shape", "tensor.collapse_shape")


def behind_views(value: ir.Value) -> ir.Value:
    """What ``value`` is a view of, through any number of them; itself where it is none."""
    while not isinstance(value, ir.BlockArgument) and value.owner.operation.name in VIEW_OPS:
        value = value.owner.operation.operands[0]
    return value


def is_linalg(op: ir.Operation) -> bool:
    return op.name.startswith("linalg.") and linalg.get_indexing_maps(op) is not None


def indexing_maps(op: ir.Operation) -> list[ir.AffineMap]:
    """Indexing maps of a linalg op, named or generic, one per operand."""
    return [attribute.value for attribute in linalg.get_indexing_maps(op)]


def iteration_space(op: ir.Operation) -> list[int]:
    """Extents of the loops of a statically shaped linalg op."""
    extents: dict[int, int] = {}
    maps = indexing_maps(op)
    for operand, affine_map in zip(op.operands, maps, strict=True):
        if not isinstance(operand.type, ir.RankedTensorType):
            continue
        for size, expr in zip(operand.type.shape, affine_map.results, strict=True):
            if isinstance(expr, ir.AffineDimExpr):
                extents[expr.position] = size
    return [extents[d] for d in range(maps[0].n_dims)]


def yielded(block: ir.Block) -> ir.Value:
    """What a block ends by giving: an element of a body, the result of a layer."""
    return block.operations[len(block.operations) - 1].operation.operands[0]


def pad_value(op: ir.Operation) -> ir.Value:
    """What a tensor.pad yields."""
    return yielded(op.regions[0].blocks[0])


def macs_of(op: ir.Operation) -> int:
    """Multiply-accumulates of a contraction or convolution, padding included; else 0."""
    if not is_linalg(op) or not any(
        o.operation.name == "arith.muli" for o in op.regions[0].blocks[0]
    ):
        return 0
    if linalg.isa_contraction_op(op) or linalg.isa_convolution_op(op):
        return prod(iteration_space(op))
    return 0


def constant_array(value: ir.Value) -> np.ndarray | None:
    """The elements of a tensor constant, or None where ``value`` is not one.

    A ``linalg.broadcast`` or ``linalg.fill`` is not looked through.
    """
    if isinstance(value, ir.BlockArgument) or value.owner.operation.name != "arith.constant":
        return None
    if not isinstance(value.type, ir.RankedTensorType):
        return None
    attribute = value.owner.operation.attributes["value"]
    if attribute.is_splat:
        element = attribute.get_splat_value().value
        width = ir.IntegerType(value.type.element_type).width
        return np.full(value.type.shape, element, dtype=f"int{width}")
    return np.array(attribute)


def broadcast_array(value: ir.Value) -> np.ndarray | None:
    """The elements of a tensor that is constant, filled or broadcast from a constant.

    What is repeated takes no memory: the array has strides of zero there. None where
    ``value`` is no such tensor.
    """
    if isinstance(value, ir.BlockArgument):
        return None
    op = value.owner.operation
    shape = tuple(value.type.shape)
    if op.name == "linalg.fill":
        scalar = constant_scalar(op.operands[0])
        return None if scalar is None else np.broadcast_to(np.int64(scalar), shape)
    if not is_linalg(op) or len(op.operands) != 2 or not _yields_first(op):
        return constant_array(value)
    source, result = indexing_maps(op)
    array = constant_array(op.operands[0])
    loops = [e.position if isinstance(e, ir.AffineDimExpr) else -1 for e in source.results]
    plain = result.is_permutation and str(result) == str(ir.AffineMap.get_identity(result.n_dims))
    if array is None or not plain or -1 in loops or loops != sorted(set(loops)):
        return None
    sizes = dict(zip(loops, array.shape, strict=True))
    return np.broadcast_to(array.reshape([sizes.get(d, 1) for d in range(len(shape))]), shape)


def _yields_first(op: ir.Operation) -> bool:
    """Whether the body of a linalg op only passes its first operand on."""
    block = op.regions[0].blocks[0]
    return bool(yielded(block) == block.arguments[0])


def constant_scalar(value: ir.Value) -> int | None:
    """The value of a scalar integer or index constant, or None."""
    if isinstance(value, ir.BlockArgument) or value.owner.operation.name != "arith.constant":
        return None
    attribute = value.owner.operation.attributes["value"]
    return attribute.value if isinstance(attribute, ir.IntegerAttr) else None


def dense_ints(attribute: ir.Attribute) -> list[int]:
    """The elements of a one-dimensional integer elements attribute (strides, dilations)."""
    if attribute.is_splat:
        return [attribute.get_splat_value().value] * attribute.type.shape[0]
    return [int(v) for v in np.array(attribute)]
