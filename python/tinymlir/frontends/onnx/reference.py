"""What ONNX Runtime computes in float32 where it adds and multiplies quantised numbers.

Established by experiment with onnxruntime 1.31 on x86-64, where sums of products are
fused; the tests hold the code to it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.frontends.canonical.float_sum import LEVELS, SumReference
from tinymlir.frontends.canonical.tensors import Quantization

Float32s = npt.NDArray[np.float32]


def _fused(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Float32s:
    """``a * b + c`` rounded once: products of float32 are exact in double precision."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    return np.asarray(product + np.asarray(c, np.float64)).astype(np.float32)


def _saturated(results: npt.NDArray[np.floating]) -> npt.NDArray[np.int8]:
    return np.clip(results, numerics.I8_MIN, numerics.I8_MAX).astype(np.int8)


def qlinear_sum(
    x: Quantization, y: Quantization, target: Quantization, offset: int, *, swapped: bool
) -> SumReference:
    """QLinearAdd: the zero points are taken together before anything is added.

    Args:
        offset: of the integers that the reference sees above their int8 carriers.
        swapped: whether the reference begins with ``x``.
    """
    first, second = (y, x) if swapped else (x, y)
    ratios = [q.scale / target.scale for q in (first, second)]
    zeros = [np.float32(q.zero_point + offset) for q in (first, second)]
    zero = np.float32(target.zero_point + offset)
    fixed = zero - _fused(ratios[0], zeros[0], ratios[1] * zeros[1])
    levels = LEVELS + offset
    inner = _fused(levels, ratios[1], fixed)
    outer = levels * np.float64(ratios[0])
    total = (outer[:, None] + inner).astype(np.float32)
    results = _saturated(np.rint(total) - offset)
    inner_terms = inner.astype(np.float64) - offset
    terms = (inner_terms, outer) if swapped else (outer, inner_terms)
    return SumReference(terms, 1.0, 0, results.T if swapped else results)


def float_sum(
    x: Quantization, y: Quantization, target: Quantization, *, subtract: bool
) -> SumReference:
    """DequantizeLinear, Add or Sub, QuantizeLinear, one after the other."""
    left, right = ((LEVELS - q.zero_point).astype(np.float32) * q.scale for q in (x, y))
    right = -right if subtract else right
    total = left[:, None] + right
    results = _saturated(np.rint(total / target.scale) + target.zero_point)
    terms = (left.astype(np.float64), right.astype(np.float64))
    return SumReference(terms, float(target.scale), target.zero_point, results)
