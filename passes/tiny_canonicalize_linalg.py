"""``tiny-canonicalize-linalg``: convolutions and products in the forms that have kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import ir, linalg
from tinymlir.frontends.canonical.builder import Builder
from tinymlir.linalg_info import (
    broadcast_array,
    constant_array,
    constant_scalar,
    dense_ints,
    indexing_maps,
    pad_value,
)

from ._pass import Pass, register_pass

Permutation = tuple[int, ...]


@dataclass(frozen=True)
class _Form:
    """How a named op maps to the one that kernels take.

    Attributes:
        op_class: that op.
        data: the permutation that gives its input; none if empty, as in the others.
        weights: the permutation that gives its weights.
        result: the permutation of its result that gives the named op's.
        reduced: the dimensions of its weights that it sums over.
        lift: 1 if its tensors have rows (of one) and the named op's do not,
            -1 if the named op's have a batch (of one) and its do not.
    """

    op_class: Any
    data: Permutation = ()
    weights: Permutation = ()
    result: Permutation = ()
    reduced: tuple[int, ...] = (1, 2, 3)
    lift: int = 0

    def lifted(self, shape: Sequence[int]) -> list[int]:
        """The shape that a tensor of the named op has for `op_class`."""
        return [list(shape[1:]), list(shape), [shape[0], 1, *shape[1:]]][self.lift + 1]


_FHWC, _GFHWC = linalg.Conv2DNhwcFhwcOp, linalg.Conv2DNhwgcGfhwcOp
_HWC, _HWCM = linalg.DepthwiseConv2DNhwcHwcOp, linalg.DepthwiseConv2DNhwcHwcmOp
_TAPS, _GROUPED = (0, 1), (2, 3, 4)

_FORMS: dict[str, _Form] = {
    "conv_2d_nhwc_fhwc": _Form(_FHWC),
    "conv_2d_nhwc_hwcf": _Form(_FHWC, weights=(3, 0, 1, 2)),
    "conv_2d_nchw_fchw": _Form(_FHWC, (0, 2, 3, 1), (0, 2, 3, 1), (0, 3, 1, 2)),
    "conv_1d_nwc_wcf": _Form(_FHWC, weights=(2, 0, 1), lift=1),
    "conv_1d_ncw_fcw": _Form(_FHWC, (0, 2, 1), (0, 2, 1), (0, 2, 1), lift=1),
    "conv_2d_nhwgc_gfhwc": _Form(_GFHWC, reduced=_GROUPED),
    "conv_2d_ngchw_gfchw": _Form(
        _GFHWC, (0, 3, 4, 1, 2), (0, 1, 3, 4, 2), (0, 3, 4, 1, 2), _GROUPED
    ),
    "conv_2d_ngchw_fgchw": _Form(
        _GFHWC, (0, 3, 4, 1, 2), (1, 0, 3, 4, 2), (0, 3, 4, 1, 2), _GROUPED
    ),
    "depthwise_conv_2d_nhwc_hwc": _Form(_HWC, reduced=_TAPS),
    "depthwise_conv_2d_nchw_chw": _Form(_HWC, (0, 2, 3, 1), (1, 2, 0), (0, 3, 1, 2), _TAPS),
    "depthwise_conv_2d_nhwc_hwcm": _Form(_HWCM, reduced=_TAPS),
    "matmul": _Form(linalg.MatmulOp, reduced=(0,)),
    "batch_matmul": _Form(linalg.MatmulOp, reduced=(0,), lift=-1),
}
_SPELLED_OTHERWISE = {"quantized_matmul": "matmul", "quantized_batch_matmul": "batch_matmul"}
_POOLINGS: dict[str, type] = {
    "linalg.pooling_nchw_max": linalg.PoolingNhwcMaxOp,
    "linalg.pooling_nchw_sum": linalg.PoolingNhwcSumOp,
}
#: What stands for an operand among static sizes.
_DYNAMIC = -(2**63)
_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
#: How the operands of a product are indexed, and whether that transposes the second.
_PRODUCTS: dict[tuple[str, ...], bool] = {
    ("(d0, d1, d2) -> (d0, d2)", "(d0, d1, d2) -> (d2, d1)"): False,
    ("(d0, d1, d2) -> (d0, d2)", "(d0, d1, d2) -> (d1, d2)"): True,
    ("(d0, d1, d2, d3) -> (d0, d1, d3)", "(d0, d1, d2, d3) -> (d0, d3, d2)"): False,
    ("(d0, d1, d2, d3) -> (d0, d1, d3)", "(d0, d1, d2, d3) -> (d0, d2, d3)"): True,
}


@register_pass
@dataclass(frozen=True)
class CanonicalizeLinalg(Pass):
    """Bring convolutions and products of i8 tensors to the forms that have kernels

    Channels come last, weights lie as the kernels read them, zero points are folded
    into the bias, and the bias is a broadcast constant. Where the layout changes,
    ``linalg.transpose`` ops around the convolution say so; tiny-sink-transposes
    removes them. Padding is static. What is not a product of i8 tensors by constants
    stays as it is.

    Before::

        func.func @main(%x: tensor<2x3xi8>) -> tensor<2x2xi32> {
          %w = arith.constant dense<[[1, 2], [3, 4], [5, 6]]> : tensor<3x2xi8>
          %b = arith.constant dense<[[10, 20], [10, 20]]> : tensor<2x2xi32>
          %xz = arith.constant 1 : i32
          %wz = arith.constant 0 : i32
          %y = linalg.quantized_matmul
              ins(%x, %w, %xz, %wz : tensor<2x3xi8>, tensor<3x2xi8>, i32, i32)
              outs(%b : tensor<2x2xi32>) -> tensor<2x2xi32>
          return %y : tensor<2x2xi32>
        }

    After::

        func.func @main(%x: tensor<2x3xi8>) -> tensor<2x2xi32> {
          %w = arith.constant dense<[[1, 2], [3, 4], [5, 6]]> : tensor<3x2xi8>
          ...
          %b = arith.constant dense<[1, 8]> : tensor<2xi32>
          %e = tensor.empty() : tensor<2x2xi32>
          %s = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e : tensor<2x2xi32>) dimensions = [0]
          %y = linalg.matmul ins(%x, %w : tensor<2x3xi8>, tensor<3x2xi8>)
                             outs(%s : tensor<2x2xi32>) -> tensor<2x2xi32>
          return %y : tensor<2x2xi32>
        }
    """

    name: ClassVar[str] = "tiny-canonicalize-linalg"

    def run(self, op: ir.Operation) -> None:
        found: list[ir.Operation] = []

        def collect(nested: ir.Operation) -> ir.WalkResult:
            if _base_name(nested) in _FORMS or nested.name in (*_POOLINGS, "tensor.pad"):
                found.append(nested)
            return ir.WalkResult.ADVANCE

        op.walk(collect)
        builder = Builder(op.context)
        for named in found:
            with ir.InsertionPoint(named), named.location:
                if named.name == "tensor.pad":
                    result = _padding(builder, named)
                elif named.name in _POOLINGS:
                    result = _pooling(builder, named)
                else:
                    result = _contraction(builder, named)
            if result is not None:
                named.results[0].replace_all_uses_with(result)
                named.erase()


def _base_name(op: ir.Operation) -> str:
    """The name of a linalg op, as its form without zero points has it."""
    name = op.name.removeprefix("linalg.").removesuffix("_q")
    return _SPELLED_OTHERWISE.get(name, name) if op.name.startswith("linalg.") else ""


@dataclass(frozen=True)
class _Contraction:
    """A convolution or product, read.

    ``weights`` are less their zero point, and lie as `_Form.op_class` takes them;
    ``kernel`` is what they were made of; ``bias`` is what each channel of its result
    starts from, None where that is not one constant for each.
    """

    form: _Form
    data: ir.Value
    weights: npt.NDArray[np.int8]
    zero_point: int
    kernel: ir.Value
    outs: ir.Value
    bias: npt.NDArray[np.int64] | None


def _contraction(b: Builder, op: ir.Operation) -> ir.Value | None:
    """``op`` by the op that has a kernel; None where it is that already, or is nothing like it."""
    read = _read(op)
    if read is None:
        return None
    form, old = read.form, list(read.outs.type.shape)
    shape = [old[form.result.index(d)] for d in range(len(old))] if form.result else old
    data = _data(b, form, read.data)
    bias = -read.zero_point * read.weights.sum(axis=form.reduced, dtype=np.int64)
    bias += 0 if read.bias is None else read.bias
    lifted = form.lifted(shape)
    start = b.broadcast(b.constant(_wrapped(bias)), lifted, range(len(lifted) - bias.ndim))
    weights = read.kernel
    if not np.array_equal(read.weights, np.asarray(constant_array(weights))):
        weights = b.constant(read.weights)
    if form.op_class is linalg.MatmulOp:
        acc = linalg.matmul(data, weights, outs=[start])
    else:
        strides, dilations = (_pair(op, name) for name in ("strides", "dilations"))
        acc = b.structured(form.op_class, [data, weights], start, strides, dilations)
    acc = _transposed(b, b.reshape(acc, shape), form.result)
    if read.bias is None:
        acc = linalg.add(acc, read.outs, outs=[b.empty(old, b.i32)])
    return acc


def _data(b: Builder, form: _Form, value: ir.Value) -> ir.Value:
    """``value`` as ``form.op_class`` reads it; padding stays next to it, where kernels look."""
    pad = None if isinstance(value, ir.BlockArgument) else value.owner.operation
    fill = None if pad is None or pad.name != "tensor.pad" else constant_scalar(pad_value(pad))
    if form.lift < 0 or pad is None or fill is None:
        value = _transposed(b, value, form.data)
        return b.reshape(value, form.lifted(value.type.shape))
    if not form.data and not form.lift:
        return value
    source = _transposed(b, pad.operands[0], form.data)
    sides = []
    for name in ("static_low", "static_high"):
        amounts = list(pad.attributes[name])
        ordered = [amounts[d] for d in form.data] or amounts
        sides.append([ordered[0], *[0] * form.lift, *ordered[1:]])
    return b.pad(b.reshape(source, form.lifted(source.type.shape)), sides[0], sides[1], fill)


def _padding(b: Builder, op: ir.Operation) -> ir.Value | None:
    """A pad whose amounts are operands, all of them constants, with the amounts in attributes."""
    amounts = [constant_scalar(value) for value in list(op.operands)[1:]]
    known = [amount for amount in amounts if amount is not None]
    fill = constant_scalar(pad_value(op))
    if not known or len(known) < len(amounts) or fill is None:
        return None
    low, high = (
        [known.pop(0) if n == _DYNAMIC else int(n) for n in op.attributes[name]]
        for name in ("static_low", "static_high")
    )
    return b.pad(op.operands[0], low, high, fill)


def _pair(op: ir.Operation, name: str) -> list[int]:
    """Strides or dilations along rows and columns."""
    given = dense_ints(op.attributes[name]) if name in op.attributes else []
    return [1] * (2 - len(given)) + given


def _read(op: ir.Operation) -> _Contraction | None:
    """What ``op`` computes, if that is i8 by constant i8 to i32 and not canonical yet."""
    form = _FORMS[_base_name(op)]
    data, kernel, *zero_points, outs = op.operands
    elements = [str(getattr(v.type, "element_type", v.type)) for v in (data, kernel, outs)]
    body = [nested.operation.name for nested in op.regions[0].blocks[0].operations]
    weights = constant_array(kernel)
    if elements != ["i8", "i8", "i32"] or "arith.extui" in body or weights is None:
        return None
    data_zero, weights_zero = [constant_scalar(v) for v in zero_points] or [0, 0]
    if data_zero is None or weights_zero is None or (form.lift < 0 and len(weights) != 1):
        return None
    transposed = False
    if form.op_class is linalg.MatmulOp:
        product = _PRODUCTS.get(tuple(str(m) for m in indexing_maps(op)[:2]))
        if product is None:
            return None
        transposed = product
        weights = np.swapaxes(weights, -1, -2) if transposed else weights
    weights = weights.transpose(form.weights) if form.weights else weights
    weights = weights.reshape(form.lifted(weights.shape)).astype(np.int64) - weights_zero
    if weights.min(initial=0) < numerics.I8_MIN or weights.max(initial=0) > numerics.I8_MAX:
        return None
    channels = weights.ndim - len(form.reduced)
    bias = _bias(outs, form, channels)
    canonical = (
        op.name == form.op_class.OPERATION_NAME
        and not zero_points
        and not transposed
        and bias is not None
        and outs.owner.operation.name in ("linalg.broadcast", "linalg.fill")
    )
    if canonical:
        return None
    return _Contraction(form, data, weights.astype(np.int8), data_zero, kernel, outs, bias)


def _bias(outs: ir.Value, form: _Form, channels: int) -> npt.NDArray[np.int64] | None:
    """What each channel of the accumulators starts from, if that is one constant for each."""
    array = broadcast_array(outs)
    if array is None:
        return None
    if form.result:
        array = array.transpose([form.result.index(d) for d in range(array.ndim)])
    others = array.ndim - channels
    # A view that repeats elements has strides of zero; only what is stored is compared.
    stored = array[tuple(slice(1 if array.strides[d] == 0 else None) for d in range(others))]
    bias = stored[(0,) * others]
    return bias.astype(np.int64) if (stored == bias).all() else None


def _pooling(b: Builder, op: ir.Operation) -> ir.Value | None:
    """A pooling of channels-first tensors as one of channels-last tensors between transposes."""
    data, kernel, outs = op.operands
    fill = None if isinstance(outs, ir.BlockArgument) else outs.owner.operation
    if fill is None or fill.name != "linalg.fill":
        return None
    value = constant_scalar(fill.operands[0])
    if value is None:
        return None
    source = _transposed(b, data, _TO_NHWC)
    shape = [outs.type.shape[d] for d in _TO_NHWC]
    init = b.fill(shape, value, outs.type.element_type)
    pairs = (_pair(op, "strides"), _pair(op, "dilations"))
    pooled = b.structured(_POOLINGS[op.name], [source, kernel], init, *pairs)
    return _transposed(b, pooled, _TO_NCHW)


def _transposed(b: Builder, value: ir.Value, permutation: Permutation) -> ir.Value:
    if not permutation:
        return value
    shape = [value.type.shape[d] for d in permutation]
    init = b.empty(shape, value.type.element_type)
    return linalg.transpose(value, outs=[init], permutation=list(permutation)).results[0]


def _wrapped(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Modulo 2^32, as the accumulators are."""
    return array.astype(np.uint64).astype(np.uint32).view(np.int32)
