"""Where kernels compute: output pixels, the input under them, and what becomes of a sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, func, ir
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.evaluator import VIEW_OPS, Evaluator


@dataclass(frozen=True)
class Site:
    """Where a kernel computes: the taps to visit, and the way to the operands."""

    #: buffers of the layer's tensors, flattened input and output
    evaluator: Evaluator
    source: ir.Value
    out: ir.Value
    #: output row, and first of the output columns computed together
    row: Index
    column: Index
    #: first and past-the-last kernel tap per axis
    row_taps: tuple[Index, Index]
    column_taps: tuple[Index, Index]
    #: whether padding may lie under the window: subtract its value, use the full bias
    border: bool


#: Emits one pixel, or ``pixels`` neighbours of a row.
PixelKernel = Callable[[Site, int], None]


def emit_pixels(
    conv: Convolution,
    function: func.FuncOp,
    make_evaluator: Callable[[func.FuncOp], tuple[Evaluator, ir.Value, ir.Value]],
    emitter: Emitter,
    kernel: PixelKernel,
    pixels: int,
) -> None:
    """Visit every output pixel: interior in blocks of ``pixels``, the border one by one.

    ``make_evaluator(function)`` binds the layer's buffers inside a function and
    returns the evaluator, the flat input and the flat output.
    """
    rows, columns = conv.interior(0), conv.interior(1)
    if not rows or not columns:
        rows = columns = range(0)
    evaluator, source, out = make_evaluator(function)
    if len(rows) * len(columns) < conv.out_hw[0] * conv.out_hw[1]:
        _emit_border_function(conv, function, make_evaluator, emitter, kernel)

    def border(row: Index, first: int, last: int) -> None:
        def one(column: Index) -> None:
            operands = [*function.arguments, emitter.index(row), emitter.index(column)]
            func.call([], _border_symbol(function), operands)

        emitter.loop(first, last, 1, one)

    def interior(row: Index, first: int, last: int, count: int) -> None:
        def block(column: Index) -> None:
            kernel(
                Site(
                    evaluator,
                    source,
                    out,
                    row,
                    column,
                    (0, conv.kernel[0]),
                    (0, conv.kernel[1]),
                    border=False,
                ),
                count,
            )

        emitter.loop(first, last, count, block)

    def row_of_pixels(row: Index) -> None:
        border(row, 0, columns.start)
        blocked = columns.start + len(columns) // pixels * pixels
        interior(row, columns.start, blocked, pixels)
        interior(row, blocked, columns.stop, 1)
        border(row, columns.stop, conv.out_hw[1])

    emitter.loop(0, rows.start, 1, lambda row: border(row, 0, conv.out_hw[1]))
    emitter.loop(rows.start, rows.stop, 1, row_of_pixels)
    emitter.loop(rows.stop, conv.out_hw[0], 1, lambda row: border(row, 0, conv.out_hw[1]))


def _border_symbol(function: func.FuncOp) -> str:
    return f"{function.name.value}_border"


def _emit_border_function(
    conv: Convolution,
    function: func.FuncOp,
    make_evaluator: Callable[[func.FuncOp], tuple[Evaluator, ir.Value, ir.Value]],
    emitter: Emitter,
    kernel: PixelKernel,
) -> None:
    """``@layer<i>_border(buffers…, row, column)``: one pixel over the taps that exist."""
    index = ir.IndexType.get()
    with ir.InsertionPoint.after(function.operation):
        helper = func.FuncOp(
            _border_symbol(function),
            ([*function.type.inputs, index, index], []),
            visibility="private",
        )
    with ir.InsertionPoint(helper.add_entry_block()):
        evaluator, source, out = make_evaluator(helper)
        row, column = list(helper.arguments)[-2:]

        def taps(axis: int, position: ir.Value) -> tuple[Index, Index]:
            start = emitter.mul(position, conv.stride[axis])
            dilation = conv.dilation[axis]
            before = emitter.maximum(emitter.sub(conv.pad[axis], start), 0)
            room = emitter.sub(conv.in_hw[axis] + conv.pad[axis], start)
            first = emitter.ceildiv(before, dilation)
            last = emitter.minimum(
                emitter.ceildiv(emitter.maximum(room, 0), dilation), conv.kernel[axis]
            )
            return first, last

        site = Site(evaluator, source, out, row, column, taps(0, row), taps(1, column), border=True)
        kernel(site, 1)
        func.ReturnOp([])


def input_row(emitter: Emitter, conv: Convolution, row: Index, kh: Index) -> Index:
    """The input row under kernel row ``kh`` of an output row; may lie in the padding."""
    start = emitter.mul(row, conv.stride[0])
    return emitter.sub(emitter.add(start, emitter.mul(kh, conv.dilation[0])), conv.pad[0])


def input_column(emitter: Emitter, conv: Convolution, column: Index) -> Index:
    """The input column under the first kernel column; may lie in the padding."""
    return emitter.sub(emitter.mul(column, conv.stride[1]), conv.pad[1])


def input_pixel(emitter: Emitter, conv: Convolution, site: Site, kh: Index) -> Index:
    """Number of the input pixel under the first tap of kernel row ``kh``."""
    start = emitter.mul(input_row(emitter, conv, site.row, kh), conv.in_hw[1])
    return emitter.add(start, input_column(emitter, conv, site.column))


def multiply_accumulate(
    emitter: Emitter, sums: list[ir.Value], lhs: list[ir.Value], rhs: list[ir.Value]
) -> list[ir.Value]:
    """``sums[p·len(rhs) + b] + lhs[p]·rhs[b]`` for every p and b."""
    products = [arith.muli(x, w) for x in lhs for w in rhs]
    return [arith.addi(s, p) for s, p in zip(sums, products, strict=True)]


def full_bias(conv: Convolution) -> np.ndarray:
    """Bias of a kernel that subtracts the padding value from every activation."""
    sums = conv.weights.astype(np.int64).sum(axis=(2, 3, 4)).reshape(-1)
    return (conv.bias + conv.pad_value * sums).astype(np.int32)


def load_activation(emitter: Emitter, conv: Convolution, site: Site, where: Index) -> ir.Value:
    """The i32 activation at a flat position, less the padding value at a border."""
    value = emitter.widen(emitter.load(site.source, [where]))
    if site.border and conv.pad_value:
        value = arith.subi(value, emitter.integer(conv.pad_value))
    return value


def finish(
    conv: Convolution,
    site: Site,
    root: ir.Value,
    pixel: int,
    channel: Index,
    accumulator: ir.Value,
    tables: dict[ir.Value, ir.Value] | None = None,
) -> None:
    """Run the rest of the layer on one accumulator and store its element.

    ``tables`` holds the channel's elements of constants that the kernel has loaded.
    """
    evaluator, emitter = site.evaluator, site.evaluator.emitter
    channels = conv.groups * conv.out_per_group
    column = emitter.add(site.column, pixel)
    accumulators = {value: accumulator for value in _views_of(conv.result)}
    evaluator.registers = {**accumulators, **(tables or {})}
    indices = _root_indices(emitter, root.type.shape, conv, site.row, column, channel)
    result = evaluator.at(root, indices)
    evaluator.registers = {}
    where = emitter.linear([site.row, column, channel], [*conv.out_hw, channels])
    emitter.store(result, site.out, [where])


def _views_of(value: ir.Value) -> list[ir.Value]:
    """``value`` and every reshape of it: all name the same element in the same place."""
    views = [value]
    for use in value.uses:
        user = use.owner.operation
        if user.name in VIEW_OPS:
            views += _views_of(user.results[0])
    return views


def _root_indices(
    emitter: Emitter,
    shape: list[int],
    conv: Convolution,
    row: Index,
    column: Index,
    channel: Index,
) -> list[Index]:
    """The layer result's indices of an output pixel and channel: rank 4, or 2 or 3 (dense)."""
    if len(shape) == 4 and conv.result_columns is not None:
        columns = emitter.index(conv.result_columns)
        pixel = emitter.index(column)
        return [0, arith.divui(pixel, columns), arith.remui(pixel, columns), channel]
    if len(shape) == 4:
        return [0, row, column, channel]
    return [*[0] * (len(shape) - 2), column, channel]
