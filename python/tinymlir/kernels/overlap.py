"""How far a layer's input must lie above its output so that both may share memory.

A layer that writes its output from the first byte on, and reads its input in step,
may overwrite what it will not read again (the diagonal memory optimisation). If the
input starts D bytes above the output, the write position never passes the read one.
"""

from __future__ import annotations

import numpy as np

from tinymlir.arena import APART, IN_PLACE
from tinymlir.bindings import ir
from tinymlir.fusion.access import windows
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.pooling_layers import find_pooling
from tinymlir.linalg_info import VIEW_OPS, indexing_maps, is_linalg


def distance(argument: ir.Value, root: ir.Value, kernel: Kernel | None) -> int:
    """Bytes from the start of the result to the start of ``argument``; `APART`; `IN_PLACE`.

    Args:
        argument: an input of the layer, ``root`` its result, both i8 tensors.
        kernel: what computes the convolution that the layer is built around, if it is.
    """
    if kernel is not None:
        convolution = kernel.conv
        if not _feeds_only(argument, convolution):
            return APART
        if kernel.works_in_place():
            return IN_PLACE
        if not (kernel.by_rows or kernel.in_order):
            return APART
        depth = convolution.groups * convolution.in_per_group
        return _window_distance(
            (*convolution.in_hw, depth),
            (*convolution.out_hw, convolution.groups * convolution.out_per_group),
            convolution.stride,
            convolution.pad,
            0 if kernel.gathers else kernel.pixels,
        )
    if _elementwise(argument, root):
        return 0
    pooling = find_pooling(root)
    pooled = windows(argument, root) if pooling and pooling.source == argument else None
    if pooled is None or any(window.repeat > 1 for window in pooled):
        return APART
    rows, columns = pooled
    shapes = [tuple(value.type.shape[1:]) for value in (argument, root)]
    pair = (rows.stride, columns.stride), (rows.pad, columns.pad)
    return _window_distance(shapes[0], shapes[1], *pair, 1)


def _feeds_only(value: ir.Value, convolution: Convolution) -> bool:
    """Whether nothing but the convolution reads ``value``, padded or reshaped."""
    users = [use.owner.operation for use in value.uses]
    return all(
        user == convolution.result.owner.operation
        or (user.name in ("tensor.pad", *VIEW_OPS) and _feeds_only(user.results[0], convolution))
        for user in users
    )


def _window_distance(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    stride: tuple[int, int],
    pad: tuple[int, int],
    pixels: int,
) -> int:
    """D for a layer that computes blocks of ``pixels`` neighbours, row by row.

    Shapes are rows, columns, channels; one byte an element. While it computes a
    block the layer may read anything from the block's window on, and afterwards
    anything from the windows of later blocks on; it has then written the output up
    to the block's end, or up to its start where it reads all before it writes
    (0 pixels). D is the greatest lead of the writes, wherever blocks begin.
    """
    (_, in_columns, in_channels), (out_rows, out_columns, out_channels) = in_shape, out_shape
    rows, columns = np.arange(out_rows), np.arange(out_columns)
    row_start = np.maximum(0, rows * stride[0] - pad[0]) * in_columns * in_channels
    column_start = np.maximum(0, columns * stride[1] - pad[1]) * in_channels
    window = row_start[:, None] + column_start[None, :]
    # The next row starts over at its first column.
    next_row = np.append(row_start[1:], np.iinfo(np.int64).max)
    still_read = np.minimum(window, next_row[:, None])
    block_end = np.minimum(columns + pixels, out_columns)
    written = (rows[:, None] * out_columns + block_end[None, :]) * out_channels
    return max(0, int((written - still_read).max()))


def _elementwise(argument: ir.Value, root: ir.Value) -> bool:
    """Whether every element of the result reads ``argument`` only at its own place."""
    op = root.owner.operation
    if not is_linalg(op) or argument.type != root.type:
        return False
    return all(use.owner.operation == op and _at_own_place(use) for use in argument.uses)


def _at_own_place(use: ir.OpOperand) -> bool:
    """Whether a linalg op reads this operand where it writes its result."""
    maps = indexing_maps(use.owner.operation)
    return maps[-1].is_permutation and maps[use.operand_number] == maps[-1]
