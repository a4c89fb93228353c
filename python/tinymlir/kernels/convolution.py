"""The convolution at the heart of a layer.

Convolutions, grouped and depthwise ones, and dense layers are all one `Convolution`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tinymlir.bindings import arith, func, ir, linalg, tensor
from tinymlir.linalg_info import (
    VIEW_OPS,
    behind_views,
    constant_array,
    constant_scalar,
    dense_ints,
    indexing_maps,
    is_linalg,
    pad_value,
    yielded,
)


@dataclass(frozen=True)
class Convolution:
    """A 2-D convolution, NHWC with batch 1, as the kernels want it.

    ``weights`` is ``(groups, out per group, KH, KW, in per group)`` i8 and ``bias``
    ``(groups · out per group)`` i32. ``pad`` is (top, left); ``pad_value`` the i8
    value there. ``result`` is the i32 tensor, ``source`` the i8 tensor before padding,
    ``root`` the layer's result, which scales ``result``.
    """

    root: ir.Value
    result: ir.Value
    source: ir.Value
    weights: np.ndarray
    bias: np.ndarray
    in_hw: tuple[int, int]
    out_hw: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    pad_value: int
    #: output columns of the layer result, where several rows of it are one row here
    result_columns: int | None = None
    #: what steps over late sums, where a kernel does that itself (`late_steps`)
    stepped: ir.Value | None = None
    #: which of how many groups this is, where it is one by itself (`group`)
    part: tuple[int, int] = (0, 1)

    def group(self, number: int) -> Convolution:
        """One of the groups: a dense convolution over a part of the channels."""
        own = slice(number * self.out_per_group, (number + 1) * self.out_per_group)
        weights, bias = self.weights[number : number + 1], self.bias[own]
        return replace(self, weights=weights, bias=bias, part=(number, self.groups))

    @property
    def is_part(self) -> bool:
        """Whether there are other channels than those of ``weights``."""
        return self.part[1] > 1

    @property
    def first_input(self) -> int:
        """The first input channel."""
        return self.part[0] * self.in_per_group

    @property
    def first_channel(self) -> int:
        """The first output channel."""
        return self.part[0] * self.out_per_group

    @property
    def suffix(self) -> str:
        """What tells symbols of this group from those of others."""
        return f"_group{self.part[0]}" if self.is_part else ""

    @property
    def sums(self) -> ir.Value:
        """What a kernel hands over: ``result``, or that past late sums."""
        return self.result if self.stepped is None else self.stepped

    def folded(self) -> Convolution:
        """All pixels as one row, where windows are single pixels and none is left out, or one
        column is all that there is: a convolution over time."""
        if self.in_hw[1] == self.out_hw[1] == self.kernel[1] == 1 and not self.pad[1]:
            return self._turned()
        plain = self.kernel == self.stride == (1, 1) and self.in_hw == self.out_hw
        if not plain or self.out_hw[0] == 1:
            return self
        row = (1, self.out_hw[0] * self.out_hw[1])
        return replace(self, in_hw=row, out_hw=row, result_columns=self.out_hw[1])

    @property
    def is_dense(self) -> bool:
        """Whether all channels of the one pixel are of all of the input, each pixel once."""
        window = self.kernel == self.in_hw and self.out_hw == (1, 1) and self.groups == 1
        return window and all(len(self.interior(axis)) == 1 for axis in (0, 1))

    def flattened(self) -> Convolution:
        """The input as one pixel, where that makes no difference: the same bytes."""
        if not self.is_dense:
            return self
        weights, one = self.weights.reshape(1, self.out_per_group, 1, 1, -1), (1, 1)
        return replace(self, weights=weights, in_hw=one, stride=one, dilation=one)

    def _turned(self) -> Convolution:
        """One column as one row: the same bytes."""
        return replace(
            self,
            weights=self.weights.swapaxes(2, 3),
            in_hw=self.in_hw[::-1],
            out_hw=self.out_hw[::-1],
            stride=(1, self.stride[0]),
            dilation=(1, self.dilation[0]),
            pad=(0, self.pad[0]),
            result_columns=1,
        )

    @property
    def has_biases(self) -> bool:
        """Whether sums begin with anything: requantisation may have it all (tiny-fold-biases)."""
        return bool(self.bias.any())

    @property
    def bias_bytes(self) -> int:
        """Bytes of flash of all biases."""
        return self.bias.nbytes if self.has_biases else 0

    @property
    def groups(self) -> int:
        return self.weights.shape[0]

    @property
    def out_per_group(self) -> int:
        return self.weights.shape[1]

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weights.shape[2], self.weights.shape[3]

    @property
    def in_per_group(self) -> int:
        return self.weights.shape[4]

    def result_shapes(self) -> list[list[int]]:
        """The shapes of a layer result that name pixels and channels as a kernel does."""
        height, width = self.out_hw
        channels = self.groups * self.out_per_group
        row = [[width, channels], [1, width, channels]] if height == 1 else []
        return [[1, height, width, channels], *row]

    def taps(self, axis: int, position: int) -> range:
        """Kernel taps along ``axis`` that fall on the input at an output position."""
        start, step = position * self.stride[axis] - self.pad[axis], self.dilation[axis]
        first = max(0, -(start // step))
        end = min(self.kernel[axis], (self.in_hw[axis] - 1 - start) // step + 1)
        return range(first, end) if first < end else range(0)

    def interior(self, axis: int) -> range:
        """Output positions along ``axis`` where every tap falls on the input."""
        stride, pad = self.stride[axis], self.pad[axis]
        reach = (self.kernel[axis] - 1) * self.dilation[axis]
        first = max(0, -(-pad // stride))
        end = min(self.out_hw[axis], (self.in_hw[axis] - 1 - reach + pad) // stride + 1)
        return range(first, end) if first < end else range(0)

    def executed_macs(self, rows: range, columns: range) -> int:
        """MACs of these output rows and columns over the taps that exist."""
        down = sum(len(self.taps(0, p)) for p in rows)
        across = sum(len(self.taps(1, p)) for p in columns)
        return down * across * self.groups * self.out_per_group * self.in_per_group

    def window_macs(self, rows: range | None, columns: range | None) -> int:
        """MACs of these output rows and columns, of all where None, padding included."""
        pixels = len(rows or range(self.out_hw[0])) * len(columns or range(self.out_hw[1]))
        return pixels * int(self.weights.size)


def find_convolution(root: ir.Value, *, by_rows: bool = False) -> Convolution | None:
    """The one convolution or matmul that the elementwise layer result ``root`` scales.

    Returns None where the layer has another shape; it then runs element by element.
    ``by_rows`` keeps the rows of the result apart even where one run over all would do.
    """
    candidates = _accumulators(root)
    if candidates is None or len(candidates) != 1 or not _is_read_once(candidates[0]):
        return None
    value = candidates[0]
    if not _multiplies_bytes(value.owner.operation):
        return None
    convolution = _READERS[value.owner.operation.name](value, root)
    if convolution is None or root.type.shape not in convolution.result_shapes():
        return None
    # The rows of an input that is read at once lie one after another.
    convolution = convolution.flattened()
    return convolution if by_rows else convolution.folded()


def layer_convolution(layer: func.FuncOp) -> Convolution | None:
    """`find_convolution` of what a layer function gives."""
    if len(layer.body.blocks) != 1:
        return None
    root = yielded(layer.body.blocks[0])
    return None if isinstance(root, ir.BlockArgument) else find_convolution(root)


def _accumulators(root: ir.Value) -> list[ir.Value] | None:
    """Convolutions that the elementwise result ``root`` reads at its own place.

    Directly, or through other elementwise results; None where one is read elsewhere.
    """
    op = root.owner.operation
    if not is_linalg(op):
        return []
    found: list[ir.Value] = []
    maps = indexing_maps(op)
    for operand, affine_map in zip(list(op.operands)[:-1], maps[:-1], strict=True):
        value = behind_views(operand)
        if isinstance(value, ir.BlockArgument):
            continue
        inner = [value] if value.owner.operation.name in _READERS else _accumulators(value)
        # The kernel hands over accumulators in the order of the layer's elements.
        moved = affine_map != maps[-1] or operand.type.shape != root.type.shape
        if inner is None or (inner and moved):
            return None
        found += [accumulator for accumulator in inner if accumulator not in found]
    return found


def _is_read_once(value: ir.Value) -> bool:
    """Whether one op only reads ``value``, directly or through reshapes."""
    users = [use.owner.operation for use in value.uses]
    if len(users) != 1:
        return False
    return users[0].name not in VIEW_OPS or _is_read_once(users[0].results[0])


def _multiplies_bytes(op: ir.Operation) -> bool:
    """Whether ``op`` accumulates products of signed i8 values in i32."""
    elements = [str(v.type.element_type) for v in op.operands]
    body = op.regions[0].blocks[0].operations
    return elements == ["i8", "i8", "i32"] and all(n.operation.name != "arith.extui" for n in body)


def _pair(op: ir.Operation, name: str) -> tuple[int, int]:
    if name not in op.attributes:
        return 1, 1
    first, second = dense_ints(op.attributes[name])
    return first, second


def _bias(value: ir.Value, channels: int) -> np.ndarray | None:
    """The per-channel start of the accumulators, from the ``outs`` of the convolution."""
    op = value.owner.operation
    if op.name == "linalg.broadcast":
        # Channels come last: in two dimensions where groups have one of their own.
        repeated = list(op.attributes["dimensions"])
        channels_last = repeated == list(range(len(repeated)))
        bias = constant_array(op.operands[0]) if channels_last else None
    elif op.name == "linalg.fill":
        scalar = constant_scalar(op.operands[0])
        bias = None if scalar is None else np.full(channels, scalar, np.int32)
    else:
        return None
    return bias.reshape(-1) if bias is not None and bias.size == channels else None


def _unpadded(value: ir.Value) -> tuple[ir.Value, tuple[int, int], int] | None:
    """Source, (top, left) padding and padding value of a convolution's input."""
    if isinstance(value, ir.BlockArgument) or value.owner.operation.name != "tensor.pad":
        return (value, (0, 0), 0) if isinstance(value, ir.BlockArgument) else None
    op = value.owner.operation
    low, high = list(op.attributes["static_low"]), list(op.attributes["static_high"])
    scalar = constant_scalar(pad_value(op))
    source = op.operands[0]
    if scalar is None or low[0] or low[3] or high[0] or high[3]:
        return None
    if min(low) < 0 or min(high) < 0 or not isinstance(source, ir.BlockArgument):
        return None
    return source, (low[1], low[2]), scalar


def _read_conv(value: ir.Value, root: ir.Value) -> Convolution | None:
    op = value.owner.operation
    weights = constant_array(op.operands[1])
    if weights is None:
        return None
    if op.name == "linalg.conv_2d_nhwc_fhwc":
        weights = weights[None]
        data: ir.Value = op.operands[0]
    elif op.name == "linalg.conv_2d_nhwgc_gfhwc":
        expanded = op.operands[0]
        if isinstance(expanded, ir.BlockArgument) or expanded.owner.operation.name not in VIEW_OPS:
            return None
        data = expanded.owner.operation.operands[0]
    elif op.name == "linalg.depthwise_conv_2d_nhwc_hwc":
        weights = weights.transpose(2, 0, 1)[:, None, :, :, None]
        data = op.operands[0]
    else:  # linalg.depthwise_conv_2d_nhwc_hwcm
        weights = weights.transpose(2, 3, 0, 1)[:, :, :, :, None]
        data = op.operands[0]
    bias = _bias(op.operands[2], weights.shape[0] * weights.shape[1])
    unpadded = _unpadded(data)
    if bias is None or unpadded is None or value.type.shape[0] != 1:
        return None
    source, pad, filler = unpadded
    return Convolution(
        root=root,
        result=value,
        source=source,
        weights=weights,
        bias=bias,
        in_hw=tuple(source.type.shape[1:3]),
        out_hw=tuple(value.type.shape[1:3]),
        stride=_pair(op, "strides"),
        dilation=_pair(op, "dilations"),
        pad=pad,
        pad_value=filler,
    )


def replace_constants(conv: Convolution, weights: np.ndarray, bias: np.ndarray) -> None:
    """Put other weights and biases in the place of those of ``conv``, in the IR.

    Args:
        weights: of the shape of ``conv.weights``, i8.
        bias: (channels,), i32.
    """
    op = conv.result.owner.operation
    initial = op.operands[2].type
    shape = list(initial.shape)[-2:] if op.name in _CHANNELS_IN_TWO else [initial.shape[-1]]
    before = [op.operands[i].owner.operation for i in (1, 2)]
    with ir.InsertionPoint(op), op.location:
        # A folded convolution has the same bytes in another shape.
        layout = _WRITERS[op.name](weights).reshape(op.operands[1].type.shape)
        op.operands[1] = _constant(layout)
        empty = tensor.empty(initial.shape, initial.element_type)
        repeated = list(range(len(initial.shape) - len(shape)))
        filled = linalg.broadcast(_constant(bias.reshape(shape)), outs=[empty], dimensions=repeated)
        op.operands[2] = filled.operation.results[0]
    for old in before:
        _erase_unused(old)


def take_accumulators(layer: func.FuncOp) -> tuple[int, ...]:
    """Make the sums of a layer around a convolution an argument, its last, and keep what is behind.

    Returns:
        The numbers of the arguments that are read still; the others go.
    """
    conv = layer_convolution(layer)
    assert conv is not None
    block = layer.body.blocks[0]
    sums = block.add_argument(conv.result.type, conv.result.location)
    conv.result.replace_all_uses_with(sums)
    _erase_unused(conv.result.owner.operation)
    read = [number for number, value in enumerate(block.arguments) if any(True for _ in value.uses)]
    for number in reversed(range(len(block.arguments))):
        if number not in read:
            block.erase_argument(number)
    types = [argument.type for argument in block.arguments]
    kind = ir.FunctionType.get(types, layer.type.results)
    layer.operation.attributes["function_type"] = ir.TypeAttr.get(kind)
    return tuple(read[:-1])


def _erase_unused(op: ir.Operation) -> None:
    """Erase ``op`` where nobody reads it, and then what it alone has read."""
    if any(True for result in op.results for _ in result.uses):
        return
    sources = [v.owner.operation for v in op.operands if not isinstance(v, ir.BlockArgument)]
    op.erase()
    for source in sources:
        _erase_unused(source)


def _constant(array: np.ndarray) -> ir.Value:
    array = np.ascontiguousarray(array)
    kind = ir.RankedTensorType.get(array.shape, ir.IntegerType.get_signless(8 * array.itemsize))
    return arith.constant(kind, ir.DenseElementsAttr.get(array, type=kind))


#: Weights as `Convolution` has them, in the layout of the op.
_WRITERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linalg.conv_2d_nhwc_fhwc": lambda w: w[0],
    "linalg.conv_2d_nhwgc_gfhwc": lambda w: w,
    "linalg.depthwise_conv_2d_nhwc_hwc": lambda w: w[:, 0, :, :, 0].transpose(1, 2, 0),
    "linalg.depthwise_conv_2d_nhwc_hwcm": lambda w: w[..., 0].transpose(2, 3, 0, 1),
    "linalg.matmul": lambda w: w[0, :, 0, 0, :].T,
}
#: Ops whose results have channels in two dimensions: groups and those of a group.
_CHANNELS_IN_TWO = ("linalg.conv_2d_nhwgc_gfhwc", "linalg.depthwise_conv_2d_nhwc_hwcm")

_ROWS_BY_COLUMNS = [f"(d0, d1, d2) -> ({dims})" for dims in ("d0, d2", "d2, d1", "d0, d1")]


def _read_matmul(value: ir.Value, root: ir.Value) -> Convolution | None:
    """M×K by K×N as a 1×1 convolution over M columns."""
    op = value.owner.operation
    if [str(m) for m in indexing_maps(op)] != _ROWS_BY_COLUMNS:
        return None
    weights, source = constant_array(op.operands[1]), op.operands[0]
    bias = _bias(op.operands[2], value.type.shape[1])
    if weights is None or bias is None or not isinstance(source, ir.BlockArgument):
        return None
    rows = value.type.shape[0]
    return Convolution(
        root=root,
        result=value,
        source=source,
        weights=weights.T[None, :, None, None, :],
        bias=bias,
        in_hw=(1, rows),
        out_hw=(1, rows),
        stride=(1, 1),
        dilation=(1, 1),
        pad=(0, 0),
        pad_value=0,
    )


_READERS: dict[str, Callable[[ir.Value, ir.Value], Convolution | None]] = {
    "linalg.conv_2d_nhwc_fhwc": _read_conv,
    "linalg.conv_2d_nhwgc_gfhwc": _read_conv,
    "linalg.depthwise_conv_2d_nhwc_hwc": _read_conv,
    "linalg.depthwise_conv_2d_nhwc_hwcm": _read_conv,
    "linalg.matmul": _read_matmul,
}
