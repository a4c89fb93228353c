"""Which rows and columns of an input a layer needs for those of its result."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tinymlir.bindings import ir
from tinymlir.fusion.graph import ELEMENT, Window
from tinymlir.linalg_info import constant_array, indexing_maps, is_linalg, iteration_space

#: Rows and columns of a tensor in NHWC.
AXES = (1, 2)
Windows = tuple[Window, Window]


def windows(argument: ir.Value, root: ir.Value) -> Windows | None:
    """The windows of rows and columns that result ``root`` reads of ``argument``.

    Every way from the one to the other leads through linalg ops, padding, crops and joined
    channels; else, or where rows and columns are not kept apart, None.
    """
    if argument == root:
        return ELEMENT, ELEMENT
    found: Windows | None = None
    for use in argument.uses:
        op = use.owner.operation
        if op.name == "func.return":
            continue
        if op.name == "tensor.extract" and use.operand_number == 0:
            op, step = _extracts(op)
        else:
            step = _through(op, use.operand_number)
        rest = windows(op.results[0], root) if step and op.results else None
        if step is None or rest is None:
            return None
        rows, columns = (r.after(s) for r, s in zip(rest, step, strict=True))
        if found is not None and rows and columns:
            rows, columns = found[0].hull(rows), found[1].hull(columns)
        if rows is None or columns is None:
            return None
        found = rows, columns
    return found


def _through(op: ir.Operation, operand: int) -> Windows | None:
    """The windows that the result of ``op`` reads of one operand."""
    if len(op.results) != 1 or not isinstance(op.results[0].type, ir.RankedTensorType):
        return None
    if is_linalg(op):
        rows, columns = (_linalg_window(op, operand, axis) for axis in AXES)
        return None if rows is None or columns is None else (rows, columns)
    if op.name == "tensor.pad" and operand == 0:
        low = list(op.attributes["static_low"])
        return (Window(1, low[1], 1), Window(1, low[2], 1)) if _is_image(op.results[0]) else None
    if op.name == "tensor.extract_slice" and operand == 0:
        return _slice_windows(op)
    if op.name == "tensor.concat":
        joined = op.attributes["dim"].value == len(op.results[0].type.shape) - 1
        return (ELEMENT, ELEMENT) if joined and _is_image(op.results[0]) else None
    if op.name in ("tensor.expand_shape", "tensor.collapse_shape"):
        shapes = [list(v.type.shape) for v in (op.operands[0], op.results[0])]
        same = all(len(s) >= 4 and s[:3] == shapes[0][:3] for s in shapes)
        return (ELEMENT, ELEMENT) if same else None
    return None


def _extracts(op: ir.Operation) -> tuple[ir.Operation, Windows | None]:
    """The linalg op around, and what it takes of the image that ``op`` extracts an element of.

    That is the element at the place of its result, or in a row and a column that tables say.
    """
    around = op.parent
    while around is not None and not is_linalg(around):
        around = around.parent
    if around is None or not _is_image(around.results[0]):
        return op, None
    if indexing_maps(around)[-1] != ir.AffineMap.get_identity(4):
        return op, None
    shape, indices = op.operands[0].type.shape, list(op.operands)[1:]
    found = [_place(index, axis, shape[axis]) for axis, index in enumerate(indices)]
    if len(found) != 4 or found[0] != ELEMENT or found[3] != ELEMENT:
        return op, None
    rows, columns = found[1:3]
    return around, None if rows is None or columns is None else (rows, columns)


def _place(index: ir.Value, axis: int, size: int) -> Window | None:
    """Which positions an index along ``axis`` is of, where it follows from that of the result."""
    if isinstance(index, ir.BlockArgument):
        return None
    op = index.owner.operation
    if op.name == "linalg.index":
        return ELEMENT if op.attributes["dim"].value == axis else None
    if op.name == "arith.index_cast":
        return _place(op.operands[0], axis, size)
    if op.name != "tensor.extract" or len(op.operands) != 2:
        return None
    table = constant_array(op.operands[0])
    if table is None or _place(op.operands[1], axis, size) != ELEMENT:
        return None
    step = Fraction(size, len(table))
    stride, repeat = step.numerator, step.denominator
    ahead = table.astype(np.int64) - np.arange(len(table)) * stride // repeat
    pad = -int(ahead.min())
    return Window(stride, pad, int(ahead.max()) + pad + 1, repeat)


def _is_image(value: ir.Value) -> bool:
    shape = value.type.shape
    return len(shape) == 4 and shape[0] == 1


def _slice_windows(op: ir.Operation) -> Windows | None:
    offsets, strides = (list(op.attributes[f"static_{k}"]) for k in ("offsets", "strides"))
    if not _is_image(op.results[0]) or len(offsets) != 4 or min(offsets) < 0 or min(strides) < 1:
        return None
    rows, columns = (Window(strides[axis], -offsets[axis], 1) for axis in AXES)
    return rows, columns


def _linalg_window(op: ir.Operation, operand: int, axis: int) -> Window | None:
    """How the positions of an operand along ``axis`` follow from those of the result."""
    maps = indexing_maps(op)
    if min(len(maps[operand].results), len(maps[-1].results)) < 4:
        return None
    result = maps[-1].results[axis]
    if not isinstance(result, ir.AffineDimExpr):
        return None
    factors = _factors(maps[operand].results[axis])
    if factors is None:
        return None
    extents = iteration_space(op)
    parallel = {e.position for e in maps[-1].results if isinstance(e, ir.AffineDimExpr)}
    stride = factors.pop(result.position, 0)
    if parallel & factors.keys() or stride < 0 or min(factors.values(), default=0) < 0:
        return None
    extent = 1 + sum(factor * (extents[dim] - 1) for dim, factor in factors.items())
    return Window(stride, 0, extent)


def _factors(expr: ir.AffineExpr) -> dict[int, int] | None:
    """The factor of each loop in a sum of loops without a constant; None for anything else."""
    if isinstance(expr, ir.AffineDimExpr):
        return {expr.position: 1}
    if isinstance(expr, ir.AffineConstantExpr):
        return {} if expr.value == 0 else None
    if isinstance(expr, ir.AffineMulExpr) and isinstance(expr.rhs, ir.AffineConstantExpr):
        inner = _factors(expr.lhs)
        return inner and {dim: factor * expr.rhs.value for dim, factor in inner.items()}
    if isinstance(expr, ir.AffineAddExpr):
        left, right = _factors(expr.lhs), _factors(expr.rhs)
        if left is None or right is None or left.keys() & right.keys():
            return None
        return left | right
    return None
