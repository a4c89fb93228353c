"""What passes that move transposes ask of linalg ops."""

from __future__ import annotations

from tinymlir.bindings import ir
from tinymlir.linalg_info import indexing_maps, is_linalg


def is_i8(value: ir.Value) -> bool:
    return str(value.type.element_type) == "i8"


def transpose_of(value: ir.Value) -> tuple[ir.Value, list[int]] | None:
    """Source and permutation, if ``value`` is a transposed tensor."""
    if isinstance(value, ir.BlockArgument) or value.owner.operation.name != "linalg.transpose":
        return None
    op = value.owner.operation
    return op.operands[0], [int(d) for d in op.attributes["permutation"]]


def groups_of(op: ir.Operation) -> list[list[int]]:
    """The dimensions that an expand_shape or collapse_shape splits or merges."""
    return [[i.value for i in group] for group in op.attributes["reassociation"]]


def is_scalar_code(op: ir.Operation) -> bool:
    """Whether ``op`` is linalg whose body may be run over operands that lie otherwise."""
    if not is_linalg(op) or len(op.results) != 1 or op.name in ("linalg.fill", "linalg.broadcast"):
        return False
    if op.name not in ("linalg.generic", "linalg.reduce") and not is_elementwise(op):
        return False
    return not any(o.operation.name == "linalg.index" for o in op.regions[0].blocks[0].operations)


def is_elementwise(op: ir.Operation) -> bool:
    """Whether each element of the result is computed once, from operands alone."""
    block = op.regions[0].blocks[0]
    reads_outs = any(True for _ in block.arguments[len(block.arguments) - 1].uses)
    return indexing_maps(op)[-1].is_permutation and not reads_outs


def is_parallel(op: ir.Operation, dimension: int) -> bool:
    results = indexing_maps(op)[-1].results
    return any(isinstance(e, ir.AffineDimExpr) and e.position == dimension for e in results)


def is_plain(exprs: list[ir.AffineExpr]) -> bool:
    """Whether an operand is indexed by loops and numbers alone."""
    return all(isinstance(e, ir.AffineDimExpr | ir.AffineConstantExpr) for e in exprs)


def renamed(exprs: list[ir.AffineExpr], order: list[int]) -> list[ir.AffineExpr]:
    """Index expressions over the loops in another order."""
    if order == sorted(order):
        return exprs
    return [
        ir.AffineExpr.get_dim(order.index(e.position)) if isinstance(e, ir.AffineDimExpr) else e
        for e in exprs
    ]


def first_transpose(value: ir.Value) -> list[int] | None:
    """How the first transpose that ``value`` reaches permutes it.

    Looked for behind padding, splitting of dimensions and elementwise ops.
    """
    # With each value, the groups of dimensions that were split on the way to it.
    queue: list[tuple[ir.Value, list[list[list[int]]]]] = [(value, [])]
    seen = {value}
    while queue:
        reached, splits = queue.pop(0)
        for use in reached.uses:
            user = use.owner.operation
            if not user.results or user.results[0] in seen:
                continue
            seen.add(user.results[0])
            found = transpose_of(user.results[0])
            if found is not None:
                permutation: list[int] | None = found[1]
                for groups in reversed(splits):
                    permutation = _of_groups(permutation, groups)
                if permutation is not None:
                    return permutation
            elif user.name == "tensor.expand_shape":
                queue.append((user.results[0], [*splits, groups_of(user)]))
            elif user.name == "tensor.pad" or reads_at_own_place(user, use.operand_number):
                queue.append((user.results[0], splits))
    return None


def reads_at_own_place(op: ir.Operation, operand: int) -> bool:
    """Whether an elementwise op reads an operand where it writes its result."""
    if not is_scalar_code(op) or not is_elementwise(op):
        return False
    maps = indexing_maps(op)
    return maps[operand] == maps[-1]


def _of_groups(permutation: list[int] | None, groups: list[list[int]]) -> list[int] | None:
    """What a permutation of dimensions is to the groups of them; None if it tears one apart."""
    if permutation is None:
        return None
    order = [next(i for i, group in enumerate(groups) if d in group) for d in permutation]
    merged = list(dict.fromkeys(order))
    kept = [d for i in merged for d in groups[i]]
    return merged if kept == permutation else None
