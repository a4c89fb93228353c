"""Where kernels compute: output pixels, the input under them, and what becomes of a sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, ir, llvm
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.kernel import Layer
from tinymlir.kernels.price import Mix, line
from tinymlir.kernels.words import advance_bytes
from tinymlir.linalg_info import VIEW_OPS, is_linalg


@dataclass(frozen=True)
class Site:
    """Where a kernel computes: the taps to visit, and the way to the operands."""

    layer: Layer
    #: output row, and first of the output columns computed together
    row: Index
    column: Index
    #: first and past-the-last kernel tap per axis
    row_taps: tuple[Index, Index]
    column_taps: tuple[Index, Index]
    #: whether padding may lie under the window: subtract its value, use the full bias
    border: bool
    #: a pointer to where the first channel computed goes, of the first column, if it is known
    place: ir.Value | None = None


def input_row(emitter: Emitter, conv: Convolution, row: Index, kh: Index) -> Index:
    """The input row under kernel row ``kh`` of an output row; may lie in the padding."""
    start = emitter.mul(row, conv.stride[0])
    return emitter.sub(emitter.add(start, emitter.mul(kh, conv.dilation[0])), conv.pad[0])


def input_column(emitter: Emitter, conv: Convolution, column: Index) -> Index:
    """The input column under the first kernel column; may lie in the padding."""
    return emitter.sub(emitter.mul(column, conv.stride[1]), conv.pad[1])


def input_pixel(conv: Convolution, site: Site, kh: Index) -> Index:
    """Where the input pixel under the first tap of kernel row ``kh`` begins."""
    emitter, source = site.layer.emitter, site.layer.source
    origin = source.origin(emitter, input_row(emitter, conv, site.row, kh))
    column = input_column(emitter, conv, site.column)
    return emitter.add(origin, emitter.mul(column, source.channels))


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


def load_biases(layer: Layer, biases: np.ndarray, first: Index, count: int) -> list[ir.Value]:
    """What the sums of ``count`` channels from ``first`` on begin with."""
    emitter = layer.emitter
    if not biases.any():
        return [emitter.integer(0)] * count
    table = layer.pool.get(biases, "bias")
    return [emitter.load(table, [emitter.add(first, c)]) for c in range(count)]


def load_activation(conv: Convolution, site: Site, where: Index) -> ir.Value:
    """The i32 activation at a flat position, less the padding value at a border."""
    emitter = site.layer.emitter
    value = emitter.widen(emitter.load(site.layer.source.buffer, [where]))
    if site.border and conv.pad_value:
        value = arith.subi(value, emitter.integer(conv.pad_value))
    return value


def finish(
    conv: Convolution,
    site: Site,
    pixel: int,
    channel: Index,
    accumulator: ir.Value,
    tables: dict[ir.Value, ir.Value] | None = None,
    lane: int = 0,
) -> None:
    """Run the rest of the layer on one accumulator and store its element.

    It is that of the channel ``lane`` after ``channel``. ``tables`` holds that channel's elements
    of constants that the kernel has loaded.
    """
    layer = site.layer
    evaluator, emitter, root = layer.evaluator, layer.emitter, layer.root
    column = emitter.add(site.column, pixel)
    accumulators = {value: accumulator for value in views_of(conv.sums)}
    evaluator.registers = {**accumulators, **(tables or {})}
    number = emitter.add(channel, lane)
    indices = root_indices(emitter, root.type.shape, conv, site.row, column, number)
    result = evaluator.at(root, indices)
    evaluator.registers = {}
    # One address for all that is computed together, and constant distances from it.
    distance = pixel * layer.target.channels + lane
    if site.place is not None:
        llvm.store(result, advance_bytes(site.place, distance), alignment=1)
        return
    start = layer.target.position(emitter, [0, site.row, site.column, channel])
    emitter.store(result, layer.target.buffer, [emitter.add(start, distance)])


#: What becomes of a scalar op of a layer's body; others are one instruction each.
_SCALARS = {
    # A function looks closer near ties, which are few.
    "tiny.requantize": line(mul_long=1, saturate=1, alu=4, skip=1)
    + line(alu=5, call=1, jump=1).times(0),
    "tensor.extract": line(alu=1, load=1),
    "arith.constant": Mix(),
    "arith.extsi": Mix(),
    "arith.trunci": Mix(),
    "linalg.yield": Mix(),
}


def finish_mix(conv: Convolution, pixels: int = 1) -> Mix:
    """What `finish` emits for a channel of some pixels; tables apart, which kernels load."""
    mix, pending, seen = line(store=pixels), [conv.sums], [conv.sums]
    while pending:
        for use in pending.pop().uses:
            user = use.owner.operation
            fresh = [result for result in user.results if result not in seen]
            pending, seen = pending + fresh, seen + fresh
            if fresh and is_linalg(user):
                body = [op.operation for op in user.regions[0].blocks[0].operations]
                mix = sum((_scalar_mix(op, pixels) for op in body), mix)
    return mix


def _scalar_mix(op: ir.Operation, pixels: int) -> Mix:
    """A scalar op for each of some pixels."""
    if op.name != "tiny.rescale":
        return _SCALARS.get(op.name, line(alu=1)) * pixels
    if op.operands[2].type.width == 32:
        product = line(mac_high=1) * pixels
    else:
        # The last one may overwrite the offset.
        product = line(mac_long=pixels, copy_long=pixels - 1)
    if (op.attributes["min"].value, op.attributes["max"].value) == (-128, 127):
        return product + line(saturate=1) * pixels
    return product + line(alu=1, limit=2) * pixels


def views_of(value: ir.Value) -> list[ir.Value]:
    """``value`` and every reshape of it: all name the same element in the same place."""
    views = [value]
    for use in value.uses:
        user = use.owner.operation
        if user.name in VIEW_OPS:
            views += views_of(user.results[0])
    return views


def root_indices(
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
