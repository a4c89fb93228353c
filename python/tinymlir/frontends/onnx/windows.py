"""Kernel shapes, strides and padding of ONNX convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.frontends.canonical.convolution import Window
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation

from .graph import Node
from .operands import EXPORT_AGAIN, Operands

#: More padding than this is no network's.
MAX_PAD = 2**15


def image(imp: Operands, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial sizes of a tensor 1×C×L or 1×C×H×W."""
    if len(shape) not in (3, 4):
        imp.fail(node, f"an input of {len(shape)} dimensions", "use 1-D or 2-D layers")
    if shape[0] != 1:
        imp.fail(node, f"batch size {shape[0]}", "export the network for one sample (batch 1)")
    return shape[2:]


def expanded(x: Activation) -> Activation:
    """1×C×L as 1×C×1×L."""
    if x.layout.rank != 3:
        return x
    dims = x.layout.dims
    return Activation(x.value, Layout((*dims[:2], (), dims[2]), x.layout.order))


def flattened(x: Activation, spatial: int) -> Activation:
    """The way back from `expanded`."""
    if spatial != 1:
        return x
    dims = x.layout.dims
    return Activation(x.value, Layout((*dims[:2], dims[3]), x.layout.order))


def integers_of(
    imp: Operands, node: Node, name: str, count: int, least: int, default: int
) -> list[int]:
    """An attribute of ``count`` integers."""
    value = node.attribute(name, [default] * count)
    if len(value) != count or min(value) < least:
        imp.fail(
            node,
            f"{name} is {list(value)}; {count} integers of at least {least} are expected",
            EXPORT_AGAIN,
        )
    return list(value)


def window_of(
    imp: Operands, node: Node, size: Sequence[int], kernel: Sequence[int] | None = None
) -> Window:
    """The window that a node's attributes describe, over one or two spatial dimensions.

    Args:
        size: of the input, rows and columns or columns alone.
        kernel: where the weights tell it; otherwise the attribute does.
    """
    rank = len(size)
    if kernel is None:
        if "kernel_shape" not in node.attributes:
            imp.fail(node, "kernel_shape is missing", EXPORT_AGAIN)
        kernel = integers_of(imp, node, "kernel_shape", rank, 1, 1)
    strides = integers_of(imp, node, "strides", rank, 1, 1)
    dilations = integers_of(imp, node, "dilations", rank, 1, 1)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-n // s) - 1) * s + r - n, 0)
            for n, s, r in zip(size, strides, reach, strict=True)
        ]
        lesser = [total // 2 for total in totals]
        greater = [total - half for total, half in zip(totals, lesser, strict=True)]
        low, high = (lesser, greater) if auto == "SAME_UPPER" else (greater, lesser)
    elif auto == "VALID":
        low = high = [0] * rank
    elif auto == "NOTSET":
        pads = integers_of(imp, node, "pads", 2 * rank, 0, 0)
        low, high = pads[:rank], pads[rank:]
        if node.attribute("ceil_mode", 0):
            high = [
                _ceiled(n + a, b, r, s)
                for n, a, b, r, s in zip(size, low, high, reach, strides, strict=True)
            ]
    else:
        imp.fail(node, f"auto_pad '{auto}' is unknown", EXPORT_AGAIN)
    window = Window(
        pair(kernel, 1), pair(strides, 1), pair(dilations, 1), pair(low, 0), pair(high, 0)
    )
    if max(*window.pad_low, *window.pad_high) > MAX_PAD:
        imp.fail(node, f"pads are {[*low, *high]}", EXPORT_AGAIN)
    for axis, n in enumerate([1] * (2 - rank) + list(size)):
        if window.output(axis, n) < 1:
            imp.fail(
                node,
                f"the kernel {list(kernel)} does not fit the input {list(size)}",
                "check kernel, padding and input size",
            )
    return window


def _ceiled(start: int, high: int, reach: int, stride: int) -> int:
    """Padding after the end such that the last, partial window counts.

    A window that would start in the padding after the input does not.
    """
    positions = -(-(start + high - reach) // stride) + 1
    if (positions - 1) * stride >= start and positions > 1:
        positions -= 1
    return max((positions - 1) * stride + reach - start, high)


def pair(values: Sequence[int], default: int) -> tuple[int, int]:
    """Rows and columns; one dimension becomes the columns."""
    rows, columns = (default, *values)[-2:]
    return rows, columns
