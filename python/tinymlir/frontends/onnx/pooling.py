"""Pooling operators and means."""

from __future__ import annotations

from tinymlir.frontends.canonical import pooling
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.convolution import Window
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .movement import moved
from .operands import Operands
from .registry import operator
from .values import Deferred, Dequantized, Value
from .windows import expanded, flattened, image, window_of


def average(
    imp: Operands, node: Node, x: Dequantized, window: Window, *, float_sum: bool = False
) -> Deferred:
    """A mean under a window; ``float_sum`` as in `pooling.average_pool2d`."""
    spatial = len(x.shape) - 2
    source = Dequantized(expanded(x.activation), x.quantization)
    _, channels, rows, columns = source.shape
    out = [window.output(0, rows), window.output(1, columns)]
    counted = None
    if node.attribute("count_include_pad", 0):
        # What ceil_mode adds after the padding does not count.
        pads = node.attribute("pads", None)
        explicit = (0, *pads)[-spatial:] if pads and spatial == 2 else (0, *(pads or []))[-2:]
        counted = (window.pad_low, tuple(explicit) if pads else window.pad_high)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        y = pooling.average_pool2d(
            imp.builder,
            node.name,
            source,
            target,
            clamp,
            window,
            counted_padding=counted,
            float_sum=float_sum,
        )
        return flattened(y, spatial)

    return Deferred(node, (1, channels, *out[2 - spatial :]), build)


def _whole(sizes: tuple[int, ...]) -> Window:
    """A window over everything."""
    rows, columns = (1, 1, *sizes)[-2:]
    return Window((rows, columns), (1, 1), (1, 1), (0, 0), (0, 0))


_WINDOW = "1-D and 2-D; strides, dilations, pads, auto_pad and ceil_mode"


@operator("AveragePool", note=_WINDOW + "; count_include_pad")
def average_pool(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    window = window_of(imp, node, image(imp, node, x.shape))
    return average(imp, node, x, window, float_sum=True)


@operator("QLinearAveragePool", "com.microsoft", note="as AveragePool")
def qlinear_average_pool(imp: Operands, node: Node) -> Value:
    x = _channels_first(imp, node)
    window = window_of(imp, node, image(imp, node, x.shape))
    y = average(imp, node, x, window, float_sum=True)
    return imp.quantize(node, _channels_restored(node, y), 3, 4)


@operator("GlobalAveragePool", note="1-D and 2-D")
def global_average_pool(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    return average(imp, node, x, _whole(image(imp, node, x.shape)))


@operator("QLinearGlobalAveragePool", "com.microsoft", note="1-D and 2-D")
def qlinear_global_average_pool(imp: Operands, node: Node) -> Value:
    x = _channels_first(imp, node)
    y = average(imp, node, x, _whole(image(imp, node, x.shape)))
    return imp.quantize(node, _channels_restored(node, y), 3, 4)


def _channels_first(imp: Operands, node: Node) -> Dequantized:
    """The input of a QLinear pool as N×C×..., whatever its ``channels_last`` says."""
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2))
    if not node.attribute("channels_last", 0):
        return x
    rank = len(x.shape)
    layout = x.activation.layout.transposed([0, rank - 1, *range(1, rank - 1)])
    return Dequantized(Activation(x.activation.value, layout), x.quantization)


def _channels_restored(node: Node, y: Deferred) -> Deferred:
    if not node.attribute("channels_last", 0):
        return y
    order = [0, *range(2, len(y.shape)), 1]

    def build(target: Quantization, clamp: Clamp) -> Activation:
        inner = y.build(target, clamp)
        return Activation(inner.value, inner.layout.transposed(order))

    return Deferred(node, tuple(y.shape[d] for d in order), build)


def maximum(imp: Operands, node: Node, window: Window) -> Value:
    """Maxima under a window; they commute with quantisation."""
    shape = imp.shape(node)
    spatial = len(shape) - 2
    rows, columns = (1, *shape[2:])[-2:]
    out = (window.output(0, rows), window.output(1, columns))

    def move(x: Activation) -> Activation:
        y = pooling.max_pool2d(imp.builder, node.name, expanded(x), window)
        return flattened(y, spatial)

    return moved(imp, node, (*shape[:2], *out[2 - spatial :]), move)


@operator("MaxPool", note=_WINDOW)
def max_pool(imp: Operands, node: Node) -> Value:
    size = image(imp, node, imp.shape(node))
    return maximum(imp, node, window_of(imp, node, size))


@operator("GlobalMaxPool", note="1-D and 2-D")
def global_max_pool(imp: Operands, node: Node) -> Value:
    return maximum(imp, node, _whole(image(imp, node, imp.shape(node))))


def mean(imp: Operands, node: Node, x: Dequantized) -> Deferred:
    """A mean over any dimensions: they become the rows of an image of the others."""
    rank = len(x.shape)
    axes = (
        imp.integers(node, 1, "axes") if node.op == "ReduceMean" else node.attribute("axes", None)
    )
    if not axes and node.attribute("noop_with_empty_axes", 0):
        imp.fail(node, "a mean over no axes", "remove the operator")
    reduced = sorted({imp.axis(node, a, rank) for a in axes or range(rank)})
    keep = node.attribute("keepdims", 1)
    kept = [d for d in range(rank) if d not in reduced]
    shape = tuple(1 if d in reduced else n for d, n in enumerate(x.shape) if keep or d in kept)
    dims, order = x.activation.layout.dims, x.activation.layout.order
    rows = tuple(a for d in reduced for a in dims[d])
    # The mean does not depend on the order, so rows are taken as they lie.
    rows = tuple(a for a in order if a in rows)
    channels = tuple(a for d in kept for a in dims[d])
    image = Activation(x.activation.value, Layout(((), channels, rows, ()), order))
    view = Dequantized(image, x.quantization)
    count = view.shape[2]

    def build(target: Quantization, clamp: Clamp) -> Activation:
        y = pooling.average_pool2d(imp.builder, node.name, view, target, clamp, _whole((count, 1)))
        restored = [() if d in reduced else dims[d] for d in range(rank) if keep or d in kept]
        return Activation(y.value, Layout(tuple(restored), y.layout.order))

    return Deferred(node, shape, build)


@operator("ReduceMean", note="any axes; copies unless the kept dimensions lie innermost")
def reduce_mean(imp: Operands, node: Node) -> Value:
    return mean(imp, node, imp.activation(node, imp.input(node, 0)))


@operator("QLinearReduceMean", "com.microsoft", note="as ReduceMean")
def qlinear_reduce_mean(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2))
    return imp.quantize(node, mean(imp, node, x), 3, 4)
