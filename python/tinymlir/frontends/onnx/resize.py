"""Nearest-neighbour resizing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tinymlir.frontends.canonical.tensors import is_absurd

from .graph import Node
from .operands import EXPORT_AGAIN, Operands
from .registry import operator
from .selection import selected
from .values import Value

Float = np.float32
Floats = npt.NDArray[np.float32]


def _half_pixel(places: Floats, scale: Float, size: int, result: int) -> Floats:
    return (places + Float(0.5)) / scale - Float(0.5)


def _pytorch_half_pixel(places: Floats, scale: Float, size: int, result: int) -> Floats:
    return _half_pixel(places, scale, size, result) if result > 1 else np.zeros_like(places)


def _half_pixel_symmetric(places: Floats, scale: Float, size: int, result: int) -> Floats:
    adjustment = Float(result) / (scale * Float(size))
    offset = Float(size) / Float(2) * (Float(1) - adjustment)
    return np.asarray(offset + _half_pixel(places, scale, size, result), Float)


def _asymmetric(places: Floats, scale: Float, size: int, result: int) -> Floats:
    return np.asarray(places / scale, Float)


def _align_corners(places: Floats, scale: Float, size: int, result: int) -> Floats:
    if result == 1:
        return np.zeros_like(places)
    return (places * Float(size - 1) / Float(result - 1)).astype(Float)


#: Where a place of the result lies among those of the input, as ONNX names the ways.
_COORDINATES: dict[str, Callable[[Floats, Float, int, int], Floats]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
}

_ROUNDING: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - Float(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + Float(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


@operator("Resize", note="mode nearest, any coordinates but tf_crop_and_resize")
def resize(imp: Operands, node: Node) -> Value:
    shape = imp.shape(node)
    mode = node.attribute("mode", "nearest")
    how = node.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = node.attribute("nearest_mode", "round_prefer_floor")
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if mode != "nearest" or how not in _COORDINATES or rounding not in _ROUNDING:
        imp.fail(node, f"mode '{mode}' with {how}, {rounding}", "resize to the nearest neighbour")
    if policy != "stretch":
        imp.fail(node, f"the policy {policy}", "give the sizes to resize to")
    axes = [imp.axis(node, a, len(shape)) for a in node.attribute("axes", range(len(shape)))]
    scales, sizes = imp.constant(node, 2), imp.integers(node, 3, "sizes")
    factors = [Float(1)] * len(shape)
    result = list(shape)
    if scales is not None and scales.size:
        for axis, factor in _paired(imp, node, axes, scales.reshape(-1).tolist()):
            factors[axis] = Float(factor)
            result[axis] = math.floor(shape[axis] * factors[axis])
    else:
        for axis, size in _paired(imp, node, axes, sizes or []):
            factors[axis] = Float(size) / Float(shape[axis])
            result[axis] = int(size)
    return _nearest(imp, node, result, factors, _COORDINATES[how], _ROUNDING[rounding])


def _paired(
    imp: Operands, node: Node, axes: Sequence[int], values: Sequence[float]
) -> list[tuple[int, float]]:
    if len(values) != len(axes) or not all(math.isfinite(v) and v > 0 for v in values):
        imp.fail(node, f"{list(values)} along {len(axes)} axes", EXPORT_AGAIN)
    return list(zip(axes, values, strict=True))


def _nearest(
    imp: Operands,
    node: Node,
    result: Sequence[int],
    factors: Sequence[Float],
    coordinates: Callable[[Floats, Float, int, int], Floats],
    rounding: Callable[[Floats], Floats],
) -> Value:
    if is_absurd(result) or min(result, default=1) < 1:
        imp.fail(node, f"the result has the absurd shape {list(result)}", EXPORT_AGAIN)
    places: list[Sequence[int]] = []
    for size, n, factor in zip(imp.shape(node), result, factors, strict=True):
        if size == n and factor == 1:
            places.append(range(n))
            continue
        at = rounding(coordinates(np.arange(n).astype(np.float32), factor, size, n))
        places.append(np.clip(at, 0, size - 1).astype(int).tolist())
    return selected(imp, node, places, kind="resize")
