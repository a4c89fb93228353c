"""ConvTranspose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymlir.frontends.canonical.convolution import Linear
from tinymlir.frontends.canonical.tensors import Activation, is_absurd
from tinymlir.frontends.canonical.transposed import conv_transpose2d

from .graph import Node
from .linear import constant_weights, fitting_int8, layer, weighted
from .operands import EXPORT_AGAIN, Operands
from .registry import operator
from .values import Array, Dequantized, Value
from .windows import expanded, flattened, image, integers_of, pair


@operator("ConvTranspose", note="1-D and 2-D; groups, strides, dilations, pads, output_padding")
def conv_transpose(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    size = image(imp, node, x.shape)
    spatial, groups = len(size), node.attribute("group", 1)
    weights, scales = constant_weights(imp, node, imp.input(node, 1), 1)
    if weights.ndim != spatial + 2 or groups < 1 or weights.shape[0] != x.shape[1]:
        imp.fail(node, f"weights {list(weights.shape)} for {list(x.shape)}", EXPORT_AGAIN)
    if weights.shape[0] % groups:
        imp.fail(node, f"{weights.shape[0]} channels in {groups} groups", EXPORT_AGAIN)
    strides = integers_of(imp, node, "strides", spatial, 1, 1)
    kernel = _dilated(weights, integers_of(imp, node, "dilations", spatial, 1, 1))
    crop, result = _extent(imp, node, size, kernel.shape[2:], strides)
    inner, outputs = weights.shape[1], weights.shape[1] * groups
    # Output channels first, group by group.
    kernel = kernel.reshape(groups, -1, inner, *kernel.shape[2:]).swapaxes(1, 2)
    kernel = kernel.reshape(outputs, -1, *pair(kernel.shape[3:], 1))
    x, kernel = fitting_int8(imp, node, x, kernel, 1, groups)
    unit = x.quantization.scale * np.tile(scales, groups)
    source = Dequantized(expanded(x.activation), x.quantization)

    def emit(linear: Linear) -> Activation:
        y = conv_transpose2d(
            imp.builder,
            node.name,
            source,
            linear,
            pair(strides, 1),
            pair(crop, 0),
            pair(result, 1),
            groups,
        )
        return flattened(y, spatial)

    constants = weighted(imp, node, kernel, unit, imp.input(node, 2))
    return layer(node, (1, outputs, *result), spatial, constants, emit)


def _dilated(weights: Array, dilations: Sequence[int]) -> Array:
    """The kernel with zeros between its taps."""
    for axis, d in enumerate(dilations, 2):
        count = weights.shape[axis]
        whole = np.zeros((d * (count - 1) + 1, *np.delete(weights.shape, axis)), weights.dtype)
        whole[::d] = np.moveaxis(weights, axis, 0)
        weights = np.moveaxis(whole, 0, axis)
    return weights


def _extent(
    imp: Operands, node: Node, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is cropped at the start of each dimension, and the sizes of the result."""
    rank = len(size)
    extra = integers_of(imp, node, "output_padding", rank, 0, 0)
    auto, wanted = node.attribute("auto_pad", "NOTSET"), node.attribute("output_shape", None)
    whole = [s * (n - 1) + k + e for n, k, s, e in zip(size, kernel, strides, extra, strict=True)]
    if wanted is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
        if wanted is None:
            wanted = [n * s for n, s in zip(size, strides, strict=True)]
        result = list(wanted)[-rank:]
        totals = [max(w - n, 0) for w, n in zip(whole, result, strict=True)]
        # What is odd is cropped at the end, but for SAME_LOWER and plain shapes.
        crop = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in totals]
    elif auto in ("NOTSET", "VALID"):
        pads = integers_of(imp, node, "pads", 2 * rank, 0, 0) if auto == "NOTSET" else [0] * 4
        crop = pads[:rank]
        result = [w - a - b for w, a, b in zip(whole, crop, pads[rank:], strict=False)]
    else:
        imp.fail(node, f"auto_pad '{auto}' is unknown", EXPORT_AGAIN)
    if len(result) != rank or min(result) < 1 or is_absurd(result):
        imp.fail(node, f"the result has the size {result}", "check kernel, padding and sizes")
    return crop, result
