"""Means, sums and maxima over whole dimensions: pools on another view of the tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymlir.frontends.canonical import pooling
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.layout import Atoms, Layout
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .movement import moved
from .operands import Operands
from .pooling import whole_window
from .registry import operator
from .values import Deferred, Dequantized, Value


@dataclass(frozen=True)
class _Reduction:
    """Which dimensions a node reduces, and whether they stay as ones."""

    reduced: tuple[int, ...]
    keep: bool
    source: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        sizes = [1 if d in self.reduced else n for d, n in enumerate(self.source)]
        return tuple(n for d, n in enumerate(sizes) if self.keep or d not in self.reduced)

    def image(self, x: Activation) -> Activation:
        """The reduced dimensions as the rows of an image, the others as its channels."""
        dims, order = x.layout.dims, x.layout.order
        # The result does not depend on the order, so rows are taken as they lie.
        rows = x.layout.within(self.reduced)
        channels = tuple(a for d, dim in enumerate(dims) if d not in self.reduced for a in dim)
        return Activation(x.value, Layout(((), channels, rows, ()), order))

    def restored(self, y: Activation, x: Activation) -> Activation:
        """The pooled image ``y`` of ``x`` under the shape of the result."""
        none: Atoms = ()
        dims = [none if d in self.reduced else dim for d, dim in enumerate(x.layout.dims)]
        kept = [dim for d, dim in enumerate(dims) if self.keep or d not in self.reduced]
        return Activation(y.value, Layout(tuple(kept), y.layout.order))


def _reduction(imp: Operands, node: Node) -> _Reduction:
    shape = imp.shape(node)
    contributed = node.domain != ""
    axes = node.attribute("axes", None) if contributed else imp.integers(node, 1, "axes")
    if not axes and node.attribute("noop_with_empty_axes", 0):
        imp.fail(node, "reduces no axes", "remove the operator")
    reduced = {imp.axis(node, a, len(shape)) for a in axes or range(len(shape))}
    return _Reduction(tuple(sorted(reduced)), bool(node.attribute("keepdims", 1)), shape)


def _mean(imp: Operands, node: Node, x: Dequantized, *, total: bool = False) -> Deferred:
    """The mean, or the sum, of ``x``."""
    reduction = _reduction(imp, node)
    view = Dequantized(reduction.image(x.activation), x.quantization)
    count = view.shape[2]
    if total:
        scale = np.float32(x.quantization.scale * np.float32(count))
        quantization = Quantization(scale, x.quantization.zero_point)
        view = Dequantized(view.activation, quantization)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        window = whole_window((count, 1))
        y = pooling.average_pool2d(imp.builder, node.name, view, target, clamp, window)
        return reduction.restored(y, x.activation)

    return Deferred(node, reduction.shape, build)


_COST = "any axes; copies unless the kept dimensions lie innermost"


@operator("ReduceMean", note=_COST)
def reduce_mean(imp: Operands, node: Node) -> Value:
    return _mean(imp, node, imp.activation(node, imp.input(node, 0)))


@operator("ReduceSum", note=_COST)
def reduce_sum(imp: Operands, node: Node) -> Value:
    return _mean(imp, node, imp.activation(node, imp.input(node, 0)), total=True)


@operator("ReduceMax", note=_COST)
def reduce_max(imp: Operands, node: Node) -> Value:
    reduction = _reduction(imp, node)

    def move(x: Activation) -> Activation:
        image = reduction.image(x)
        window = whole_window((image.layout.shape[2], 1))
        return reduction.restored(pooling.max_pool2d(imp.builder, node.name, image, window), x)

    return moved(imp, node, reduction.shape, move)


@operator("QLinearReduceMean", "com.microsoft", note="as ReduceMean")
def qlinear_reduce_mean(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2))
    return imp.quantize(node, _mean(imp, node, x), 3, 4)
