"""Small linalg modules as text, as producers other than tinymlir write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tosa_models import tensor_type

Array = npt.NDArray[Any]


def constant(name: str, array: Array, element: str) -> str:
    kind = tensor_type(array.shape, element)
    return f"%{name} = arith.constant dense<{array.tolist()}> : {kind}"


def fill(name: str, value: int, shape: Sequence[int], element: str = "i32") -> str:
    kind = tensor_type(shape, element)
    return f"""
  %{name}_value = arith.constant {value} : {element}
  %{name}_empty = tensor.empty() : {kind}
  %{name} = linalg.fill ins(%{name}_value : {element}) outs(%{name}_empty : {kind}) -> {kind}"""


def generic(
    name: str,
    operands: Sequence[tuple[str, Sequence[int], str]],
    maps: Sequence[str],
    shape: Sequence[int],
    element: str,
    body: str,
) -> str:
    """An elementwise ``linalg.generic``; the operands' scalars are %a0, %a1, ..."""
    kind = tensor_type(shape, element)
    dims = ", ".join(f"d{i}" for i in range(len(shape)))
    every = ", ".join(f"affine_map<({dims}) -> ({m})>" for m in [*maps, dims])
    parallel = ", ".join(['"parallel"'] * len(shape))
    values = ", ".join(value for value, _, _ in operands)
    types = ", ".join(tensor_type(s, e) for _, s, e in operands)
    scalars = ", ".join(f"%a{i}: {e}" for i, (_, _, e) in enumerate(operands))
    return f"""
  %{name}_empty = tensor.empty() : {kind}
  %{name} = linalg.generic {{indexing_maps = [{every}], iterator_types = [{parallel}]}}
      ins({values} : {types}) outs(%{name}_empty : {kind}) {{
  ^bb0({scalars}, %out: {element}):{body}
  }} -> {kind}"""


def requantize(
    name: str, value: str, shape: Sequence[int], shift: int = 9, zero_point: int = 3
) -> str:
    """i32 to i8 by a shift, in arith."""
    dims = ", ".join(f"d{i}" for i in range(len(shape)))
    body = f"""
    %rq_s = arith.constant {shift} : i32
    %rq_z = arith.constant {zero_point} : i32
    %rq_low = arith.constant -128 : i32
    %rq_high = arith.constant 127 : i32
    %rq_1 = arith.shrsi %a0, %rq_s : i32
    %rq_2 = arith.addi %rq_1, %rq_z : i32
    %rq_3 = arith.maxsi %rq_2, %rq_low : i32
    %rq_4 = arith.minsi %rq_3, %rq_high : i32
    %rq_5 = arith.trunci %rq_4 : i32 to i8
    linalg.yield %rq_5 : i8"""
    return generic(name, [(value, shape, "i32")], [dims], shape, "i8", body)


def pad(
    name: str, value: str, shape: Sequence[int], low: Sequence[int], high: Sequence[int], by: int
) -> str:
    indices = ", ".join(f"%i{d}: index" for d in range(len(shape)))
    padded = [a + n + b for a, n, b in zip(low, shape, high, strict=True)]
    return f"""
  %{name}_value = arith.constant {by} : i8
  %{name} = tensor.pad {value} low{list(low)} high{list(high)} {{
  ^bb0({indices}):
    tensor.yield %{name}_value : i8
  }} : {tensor_type(shape, "i8")} to {tensor_type(padded, "i8")}"""


@dataclass(frozen=True)
class Form:
    """A named convolution or product: the shapes of its operands, and where they have what.

    Attributes:
        spatial: the dimensions of the data that a window slides along.
        channels: the dimensions of the result that have a bias each. Where there are
            two they are merged before the requantization.
        quantized: how the form with zero points is called, if there is one.
    """

    data: tuple[int, ...]
    weights: tuple[int, ...]
    result: tuple[int, ...]
    spatial: tuple[int, ...]
    channels: tuple[int, ...]
    quantized: str | None = None

    @property
    def padded(self) -> list[int]:
        return [n + 2 * (d in self.spatial) for d, n in enumerate(self.data)]

    def merged(self, shape: Sequence[int], groups: int | None) -> tuple[list[int], str]:
        """``shape`` with dimension ``groups`` and the next as one, and the reassociation."""
        if groups is None:
            return list(shape), ""
        parts = [[d] for d in range(len(shape))]
        parts[groups : groups + 2] = [[groups, groups + 1]]
        return [math.prod(shape[d] for d in part) for part in parts], str(parts)

    @property
    def result_groups(self) -> int | None:
        return self.channels[0] if len(self.channels) == 2 else None

    @property
    def data_groups(self) -> int | None:
        """Where the data have a dimension of groups."""
        return self.result_groups if len(self.data) == 5 else None


FORMS = {
    "conv_2d_nhwc_fhwc": Form(
        (1, 6, 5, 3), (4, 3, 3, 3), (1, 6, 5, 4), (1, 2), (3,), "conv_2d_nhwc_fhwc_q"
    ),
    "conv_2d_nhwc_hwcf": Form(
        (1, 6, 5, 3), (3, 3, 3, 4), (1, 6, 5, 4), (1, 2), (3,), "conv_2d_nhwc_hwcf_q"
    ),
    "conv_2d_nchw_fchw": Form(
        (1, 3, 6, 5), (4, 3, 3, 3), (1, 4, 6, 5), (2, 3), (1,), "conv_2d_nchw_fchw_q"
    ),
    "conv_2d_nhwgc_gfhwc": Form(
        (1, 6, 5, 2, 3), (2, 4, 3, 3, 3), (1, 6, 5, 2, 4), (1, 2), (3, 4), "conv_2d_nhwgc_gfhwc_q"
    ),
    "conv_2d_ngchw_gfchw": Form(
        (1, 2, 3, 6, 5), (2, 4, 3, 3, 3), (1, 2, 4, 6, 5), (3, 4), (1, 2), "conv_2d_ngchw_gfchw_q"
    ),
    "conv_2d_ngchw_fgchw": Form((1, 2, 3, 6, 5), (4, 2, 3, 3, 3), (1, 2, 4, 6, 5), (3, 4), (1, 2)),
    "conv_1d_nwc_wcf": Form((1, 6, 3), (3, 3, 4), (1, 6, 4), (1,), (2,)),
    "conv_1d_ncw_fcw": Form((1, 3, 6), (4, 3, 3), (1, 4, 6), (2,), (1,)),
    "depthwise_conv_2d_nhwc_hwc": Form(
        (1, 6, 5, 3), (3, 3, 3), (1, 6, 5, 3), (1, 2), (3,), "depthwise_conv_2d_nhwc_hwc_q"
    ),
    "depthwise_conv_2d_nchw_chw": Form((1, 3, 6, 5), (3, 3, 3), (1, 3, 6, 5), (2, 3), (1,)),
    "depthwise_conv_2d_nhwc_hwcm": Form(
        (1, 6, 5, 3), (3, 3, 3, 2), (1, 6, 5, 3, 2), (1, 2), (3, 4), "depthwise_conv_2d_nhwc_hwcm_q"
    ),
    "matmul": Form((3, 7), (7, 5), (3, 5), (), (1,), "quantized_matmul"),
    "batch_matmul": Form((1, 3, 7), (1, 7, 5), (1, 3, 5), (), (2,), "quantized_batch_matmul"),
}


def broadcast(name: str, array: Array, shape: Sequence[int], channels: Sequence[int]) -> str:
    """A bias repeated by ``linalg.broadcast``."""
    kind = tensor_type(shape, "i32")
    added = [d for d in range(len(shape)) if d not in channels]
    return f"""
  {constant(f"{name}_bias", array, "i32")}
  %{name}_empty = tensor.empty() : {kind}
  %{name} = linalg.broadcast ins(%{name}_bias : {tensor_type(array.shape, "i32")})
      outs(%{name}_empty : {kind}) dimensions = {added}"""


def repeat(name: str, array: Array, shape: Sequence[int], channels: Sequence[int]) -> str:
    """A bias repeated by a ``linalg.generic``, as upstream's lowering of TOSA does it."""
    places = ", ".join(f"d{d}" for d in channels)
    operand = (f"%{name}_bias", array.shape, "i32")
    body = "\n    linalg.yield %a0 : i32"
    return f"  {constant(f'{name}_bias', array, 'i32')}" + generic(
        name, [operand], [places], shape, "i32", body
    )


def whole(name: str, array: Array, shape: Sequence[int], channels: Sequence[int]) -> str:
    """A bias as a constant of the result's shape."""
    spread = array.reshape([n if d in channels else 1 for d, n in enumerate(shape)])
    return f"  {constant(name, np.broadcast_to(spread, shape), 'i32')}"


def filled(name: str, array: Array, shape: Sequence[int], channels: Sequence[int]) -> str:
    """The same bias everywhere."""
    return fill(name, int(array.flat[0]), shape)


STARTS = {"broadcast": broadcast, "generic": repeat, "constant": whole, "fill": filled}


def contraction(
    op: str,
    form: Form,
    start: str,
    rng: np.random.Generator,
    zeros: tuple[int, int] | None = None,
    name: str = "main",
) -> str:
    """A network of one convolution or product, with its padding and requantization.

    Args:
        op: the named op.
        start: what the accumulators start from: one of `STARTS`.
        zeros: the zero points of data and weights, where ``op`` takes them.
    """
    weights = rng.integers(-90, 90, form.weights)
    bias = rng.integers(-5000, 5000, [form.result[d] for d in form.channels])
    lines = [constant("w", weights, "i8")]
    data, shape = "%x", form.data
    whole, _ = form.merged(shape, form.data_groups)
    if form.spatial:
        padded, parts = form.merged(form.padded, form.data_groups)
        around = [(after - before) // 2 for before, after in zip(whole, padded, strict=True)]
        lines.append(pad("p", data, whole, around, around, zeros[0] if zeros else 0))
        data, shape = "%p", tuple(form.padded)
        if parts:
            data = "%g"
            lines.append(
                f"  %g = tensor.expand_shape %p {parts} output_shape {list(shape)}"
                f" : {tensor_type(padded, 'i8')} into {tensor_type(shape, 'i8')}"
            )
    lines.append(STARTS[start]("start", bias, form.result, form.channels))
    operands, types = [data, "%w"], [tensor_type(shape, "i8"), tensor_type(form.weights, "i8")]
    if zeros is not None:
        lines += [f"  %z{i} = arith.constant {zero} : i32" for i, zero in enumerate(zeros)]
        operands, types = [*operands, "%z0", "%z1"], [*types, "i32", "i32"]
    kind, count = tensor_type(form.result, "i32"), len(form.spatial)
    windows = f"dense<1> : tensor<{count}xi64>"
    steps = f" {{strides = {windows}, dilations = {windows}}}" if count else ""
    lines.append(
        f"  %acc = linalg.{op}{steps} ins({', '.join(operands)} : {', '.join(types)})"
        f" outs(%start : {kind}) -> {kind}"
    )
    result, parts = form.merged(form.result, form.result_groups)
    if parts:
        lines.append(
            f"  %flat = tensor.collapse_shape %acc {parts} : {kind} into"
            f" {tensor_type(result, 'i32')}"
        )
    lines.append(requantize("y", "%flat" if parts else "%acc", result))
    return function(lines, whole, result, name)


def function(
    lines: Sequence[str], data: Sequence[int], result: Sequence[int], name: str = "main"
) -> str:
    """A function of one i8 tensor ``%x`` that returns ``%y``."""
    kind = tensor_type(result, "i8")
    body = "\n  ".join([*lines, f"return %y : {kind}"])
    return f"func.func @{name}(%x: {tensor_type(data, 'i8')}) -> {kind} {{\n  {body}\n}}\n"
