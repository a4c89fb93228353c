"""Pooling operators."""

from __future__ import annotations

from tinymlir.frontends.canonical import pooling
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.convolution import Window
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .importer import Importer, operator
from .linear import expanded, flattened
from .values import Deferred, Dequantized, Value
from .windows import window_of


def average(
    imp: Importer, node: Node, x: Dequantized, window: Window, *, float_sum: bool = False
) -> Deferred:
    """A mean under a window; ``float_sum`` as in `pooling.average_pool2d`."""
    spatial = len(x.shape) - 2
    source = expanded(x.activation)
    _, channels, rows, columns = source.layout.shape
    out = [window.output(0, rows), window.output(1, columns)]
    counted = None
    if node.attribute("count_include_pad", 0):
        counted = (window.pad_low, window.pad_high)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        y = pooling.average_pool2d(
            imp.builder,
            node.name,
            source,
            x.quantization,
            target,
            clamp,
            window,
            counted_padding=counted,
            float_sum=float_sum,
        )
        return flattened(y, spatial)

    return Deferred(node, (1, channels, *out[2 - spatial :]), build)


@operator("AveragePool")
def average_pool(imp: Importer, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    return average(imp, node, x, window_of(imp, node, x.shape[2:]), float_sum=True)


def global_average(imp: Importer, node: Node, x: Dequantized) -> Deferred:
    _, _, rows, columns = expanded(x.activation).layout.shape
    window = Window((rows, columns), (1, 1), (1, 1), (0, 0), (0, 0))
    return average(imp, node, x, window)


@operator("GlobalAveragePool")
def global_average_pool(imp: Importer, node: Node) -> Value:
    return global_average(imp, node, imp.activation(node, imp.input(node, 0)))
