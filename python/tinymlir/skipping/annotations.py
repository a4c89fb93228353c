"""Statistics and significance as attributes of a layer function."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import func, ir
from tinymlir.kernels.convolution import Convolution, layer_convolution
from tinymlir.skipping.statistics import Statistics

STATISTICS = "tiny.statistics"
SIGNIFICANCE = "tiny.significance"
#: Of what `SIGNIFICANCE` is: units of products, or "channel".
GRANULARITY = "tiny.granularity"


def skippable(module: ir.Operation) -> Iterator[tuple[func.FuncOp, Convolution]]:
    """Layer functions that are built around one convolution or dense product."""
    for child in module.regions[0].blocks[0].operations:
        if not isinstance(child, func.FuncOp) or "tiny.layer" not in child.operation.attributes:
            continue
        convolution = layer_convolution(child)
        if convolution is not None:
            yield child, convolution


def dense(array: npt.NDArray[np.floating]) -> ir.Attribute:
    """Numbers as an attribute, in float32."""
    values = np.ascontiguousarray(array, np.float32)
    kind = ir.RankedTensorType.get(values.shape, ir.F32Type.get())
    return ir.DenseElementsAttr.get(values, type=kind)


def array(attribute: ir.Attribute) -> npt.NDArray[np.float64]:
    """The numbers of an attribute that `dense` made."""
    if attribute.is_splat:
        return np.full(attribute.type.shape, attribute.get_splat_value().value, np.float64)
    return np.array(attribute).astype(np.float64)


def write_statistics(layer: func.FuncOp, statistics: Statistics) -> None:
    i32 = ir.IntegerType.get_signless(32)
    layer.operation.attributes[STATISTICS] = ir.DictAttr.get(
        {
            "mean": dense(statistics.mean),
            "covariance": dense(statistics.covariance),
            "shares": dense(statistics.shares),
            "zero_point": ir.IntegerAttr.get(i32, statistics.zero_point),
        }
    )


def read_statistics(layer: func.FuncOp) -> Statistics | None:
    """What `write_statistics` left; None where there is nothing."""
    attributes = layer.operation.attributes
    if STATISTICS not in attributes:
        return None
    known = {named.name: named.attr for named in attributes[STATISTICS]}
    mean, covariance, shares = (array(known[key]) for key in ("mean", "covariance", "shares"))
    return Statistics(mean, covariance, shares, known["zero_point"].value)


def forget(layer: func.FuncOp) -> None:
    """Drop statistics and significance, which no longer hold."""
    for name in (STATISTICS, SIGNIFICANCE, GRANULARITY):
        if name in layer.operation.attributes:
            del layer.operation.attributes[name]
