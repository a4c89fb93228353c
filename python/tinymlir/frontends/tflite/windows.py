"""Kernel positions of TFLite convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.frontends.canonical.convolution import Window

from .operands import CONVERT_AGAIN, Operands
from .schema import Node

SAME, _VALID = 0, 1


def window_of(
    imp: Operands,
    node: Node,
    size: Sequence[int],
    kernel: Sequence[int],
    border: tuple[Sequence[int], Sequence[int]] = ((0, 0), (0, 0)),
    steps: Sequence[int] = (1, 1),
) -> Window:
    """The window that a node's options describe.

    Args:
        size: rows and columns of the input, without ``border``.
        kernel: rows and columns.
        border: padding before and after that a PAD in front adds.
        steps: further dilation of rows and columns.
    """
    options = node.options
    strides = (options["StrideH"], options["StrideW"])
    dilations = (
        options.get("DilationHFactor", 1) * steps[0],
        options.get("DilationWFactor", 1) * steps[1],
    )
    if min(*strides, *dilations, *kernel) < 1:
        imp.fail(
            node,
            f"kernel {list(kernel)}, strides {list(strides)} and dilations {list(dilations)} must"
            " be positive",
            CONVERT_AGAIN,
        )
    if options["Padding"] not in (SAME, _VALID):
        imp.fail(node, f"the padding scheme {options['Padding']} is unknown", CONVERT_AGAIN)
    low, high = list(border[0]), list(border[1])
    for axis in (0, 1):
        if options["Padding"] == SAME:
            total = low[axis] + size[axis] + high[axis]
            before, after = same_padding(total, kernel[axis], strides[axis], dilations[axis])
            low[axis] += before
            high[axis] += after
    window = Window(
        (kernel[0], kernel[1]), strides, dilations, (low[0], low[1]), (high[0], high[1])
    )
    if min(window.output(axis, size[axis]) for axis in (0, 1)) < 1:
        imp.fail(
            node,
            f"the kernel {list(kernel)} does not fit the input {list(size)}",
            "check kernel, padding and input size",
        )
    return window


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Padding before and after under which a stride of s leaves one result for s inputs."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2
