"""Kernel shapes, strides and padding of ONNX convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.frontends.canonical.convolution import Window

from .graph import Node
from .importer import Importer


def _integers(
    imp: Importer, node: Node, name: str, count: int, least: int, default: int
) -> list[int]:
    value = node.attribute(name, [default] * count)
    if len(value) != count or min(value) < least:
        raise imp.graph.error(
            f"{node.op}: {name} is {list(value)}; {count} integers of at least {least} are expected",
            node=node,
            hint="export the model again",
        )
    return list(value)


def window_of(
    imp: Importer, node: Node, size: Sequence[int], kernel: Sequence[int] | None = None
) -> Window:
    """The window that a node's attributes describe, over one or two spatial dimensions.

    Args:
        size: of the input, rows and columns or columns alone.
        kernel: where the weights tell it; otherwise the attribute does.
    """
    rank = len(size)
    if kernel is None:
        if "kernel_shape" not in node.attributes:
            raise imp.graph.error(
                f"{node.op}: kernel_shape is missing", node=node, hint="export the model again"
            )
        kernel = _integers(imp, node, "kernel_shape", rank, 1, 1)
    strides = _integers(imp, node, "strides", rank, 1, 1)
    dilations = _integers(imp, node, "dilations", rank, 1, 1)
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
        pads = _integers(imp, node, "pads", 2 * rank, 0, 0)
        low, high = pads[:rank], pads[rank:]
        if node.attribute("ceil_mode", 0):
            high = [
                _ceiled(n + a, b, r, s)
                for n, a, b, r, s in zip(size, low, high, reach, strides, strict=True)
            ]
    else:
        raise imp.graph.error(
            f"{node.op}: auto_pad '{auto}' is unknown", node=node, hint="export the model again"
        )
    pairs = [
        tuple([default] * (2 - rank) + list(values))
        for default, values in ((1, kernel), (1, strides), (1, dilations), (0, low), (0, high))
    ]
    window = Window(*pairs)
    for axis, n in enumerate([1] * (2 - rank) + list(size)):
        if window.output(axis, n) < 1:
            raise imp.graph.error(
                f"{node.op}: the kernel {list(kernel)} does not fit the input {list(size)}",
                node=node,
                hint="check kernel, padding and input size",
            )
    return window


def _ceiled(start: int, high: int, reach: int, stride: int) -> int:
    """Padding after the end such that the last, partial window counts.

    A window that would start beyond the input and its padding does not.
    """
    positions = -(-(start + high - reach) // stride) + 1
    if (positions - 1) * stride >= start + high - 0 and positions > 1:
        positions -= 1
    return max((positions - 1) * stride + reach - start, high)
