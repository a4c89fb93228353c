"""Pooling operators."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.frontends.canonical import pooling
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.convolution import Window
from tinymlir.frontends.canonical.float_average import SumOrder
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .movement import moved
from .operands import Operands
from .registry import operator
from .values import Deferred, Dequantized, Value
from .windows import expanded, flattened, image, window_of


def average(
    imp: Operands,
    node: Node,
    x: Dequantized,
    window: Window,
    *,
    fused: int | None,
    order: SumOrder | None,
) -> Deferred:
    """A mean under a window.

    Args:
        fused: where the reference quantises within the operator, it adds the zero
            point of its own type before it rounds: that less the int8 one.
        order: as in `pooling.average_pool2d`.
    """
    spatial = len(x.shape) - 2
    source = Dequantized(expanded(x.activation), x.quantization)
    _, channels, rows, columns = source.shape
    out = [window.output(0, rows), window.output(1, columns)]
    counted = _counted_padding(node, window, spatial)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        y = pooling.average_pool2d(
            imp.builder,
            node.name,
            source,
            target,
            clamp,
            window,
            counted_padding=counted,
            order=order,
            rounded_with=0 if fused is None else target.zero_point + fused,
        )
        return flattened(y, spatial)

    return Deferred(node, (1, channels, *out[2 - spatial :]), build)


def _counted_padding(
    node: Node, window: Window, spatial: int
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The padding that counts in a mean: what ceil_mode adds behind it does not."""
    if not node.attribute("count_include_pad", 0):
        return None
    if node.attribute("auto_pad", "NOTSET") != "NOTSET":
        return window.pad_low, window.pad_high
    rows, columns = (0, 0, *node.attribute("pads", ())[spatial:])[-2:]
    return window.pad_low, (rows, columns)


def whole_window(sizes: tuple[int, ...]) -> Window:
    """A window over everything."""
    rows, columns = (1, 1, *sizes)[-2:]
    return Window((rows, columns), (1, 1), (1, 1), (0, 0), (0, 0))


_WINDOW = "1-D and 2-D; strides, dilations, pads, auto_pad and ceil_mode"


#: The zero point of a uint8 tensor less that of the int8 one that carries it.
_UNSIGNED = 128


def _covers(window: Window, size: tuple[int, ...]) -> bool:
    """Whether there is one position, over everything."""
    return window.kernel == (1, *size)[-2:] and not any((*window.pad_low, *window.pad_high))


def _fused_type(imp: Operands, node: Node) -> int | None:
    """How ONNX Runtime fuses DequantizeLinear, AveragePool and QuantizeLinear.

    On x86-64 it first turns int8 between a QuantizeLinear and a DequantizeLinear
    into uint8, and fuses only where both sides of the pool have one type.

    Returns:
        What that type's zero point has over the int8 one; None if it does not fuse.
    """
    dequantize = imp.graph.producer(node.input(0))
    readers = list(imp.graph.consumers(node.outputs[0]))
    if dequantize is None or [reader.op for reader in readers] != ["QuantizeLinear"]:
        return None
    if imp.quantization(dequantize, 1, 2)[1]:
        return _UNSIGNED
    before = imp.graph.producer(dequantize.input(0))
    converted = (
        before is not None and before.op == "QuantizeLinear" and _one_reader(imp, before.outputs[0])
    )
    if converted != _one_reader(imp, readers[0].outputs[0]):
        return None
    return _UNSIGNED if converted else 0


def _one_reader(imp: Operands, name: str) -> bool:
    """Whether a quantised tensor has one DequantizeLinear, and that one reader."""
    readers = list(imp.graph.consumers(name))
    if [reader.op for reader in readers] != ["DequantizeLinear"] or name in imp.graph.outputs:
        return False
    real = readers[0].outputs[0]
    return len(list(imp.graph.consumers(real))) + (real in imp.graph.outputs) == 1


@operator("AveragePool", note=_WINDOW + "; count_include_pad")
def average_pool(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    size = image(imp, node, x.shape)
    window = window_of(imp, node, size)
    fused = _fused_type(imp, node)
    if fused is not None and _covers(window, size):
        return _global_average(imp, node, x)
    order: SumOrder = "rows" if fused is not None else _order(imp, node, x.shape, window)
    return average(imp, node, x, window, fused=fused, order=order)


def _order(imp: Operands, node: Node, shape: Sequence[int], window: Window) -> SumOrder:
    """How ONNX Runtime adds where it does not fuse an AveragePool.

    Established by experiment on x86-64 with AVX-512, where channels in blocks of 16 have a kernel
    of their own. Else columns come first, unless a window moves by more than two of them.
    """
    adds_columns = imp.graph.opset < 19 and len(shape) == 4 and window.strides[1] <= 2
    return "columns" if adds_columns and shape[1] % 16 else "rows"


@operator("QLinearAveragePool", "com.microsoft", note="as AveragePool")
def qlinear_average_pool(imp: Operands, node: Node) -> Value:
    x = _channels_first(imp, node)
    size = image(imp, node, x.shape)
    window = window_of(imp, node, size)
    fused = _UNSIGNED if imp.quantization(node, 3, 4)[1] else 0
    if _covers(window, size):
        y = _global_average(imp, node, x)
    else:
        y = average(imp, node, x, window, fused=fused, order="rows")
    return imp.quantize(node, _channels_restored(node, y), 3, 4)


def _global_average(imp: Operands, node: Node, x: Dequantized) -> Deferred:
    window = whole_window(image(imp, node, x.shape))
    return average(imp, node, x, window, fused=None, order=None)


@operator("GlobalAveragePool", note="1-D and 2-D")
def global_average_pool(imp: Operands, node: Node) -> Value:
    return _global_average(imp, node, imp.activation(node, imp.input(node, 0)))


@operator("QLinearGlobalAveragePool", "com.microsoft", note="1-D and 2-D")
def qlinear_global_average_pool(imp: Operands, node: Node) -> Value:
    y = _global_average(imp, node, _channels_first(imp, node))
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
    return maximum(imp, node, whole_window(image(imp, node, imp.shape(node))))
