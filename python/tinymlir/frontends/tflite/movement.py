"""Operators that only regroup or join elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.tensors import Activation, Quantization, reshaped

from .operands import CONVERT_AGAIN, Operands
from .registry import operator
from .schema import Node
from .values import FloatInput, Integer, Padded, Phases, Real, Value


def _regrouped(imp: Operands, node: Node, shape: Sequence[int]) -> Value:
    """Input 0 under another shape."""
    value = imp.value(node, 0)
    if isinstance(value, Phases):
        phases = value.reshaped(shape, lambda x, new: reshaped(imp.builder, node.name, x, new))
        if phases is None:
            imp.fail(node, "mixes the phases of a split image", CONVERT_AGAIN)
        return phases
    return _moved(imp, node, lambda x: reshaped(imp.builder, node.name, x, shape))


def _moved(imp: Operands, node: Node, move: Callable[[Activation], Activation]) -> Value:
    """Input 0 with its elements placed by ``move``: integers, or the reals they stand for."""
    value = imp.value(node, 0)
    if isinstance(value, Real):
        inner = value.integer
        moved = Integer(move(inner.activation), inner.quantization, inner.unsigned)
        return Real(moved, value.reals)
    if isinstance(value, FloatInput):
        return FloatInput(value.tensor, move(value.activation))
    x = imp.activation(node, unsigned=True)
    return Integer(move(x.activation), placed_result(imp, node, x), x.unsigned)


def placed_result(imp: Operands, node: Node, x: Integer, index: int = 0) -> Quantization:
    """The quantisation of a result: kernels that move integers do not look at it."""
    tensor = imp.graph.tensors[node.outputs[index]]
    if (tensor.type == "uint8") != x.unsigned:
        imp.fail(node, f"the result has another type, {tensor.type}", CONVERT_AGAIN)
    return imp.quantization(node, tensor)


@operator("RESHAPE", note="any type; free")
def reshape(imp: Operands, node: Node) -> Value:
    old = imp.shape(node)
    known = imp.has_input(node, 1) and isinstance(imp.value(node, 1), np.ndarray)
    shape = imp.integers(node, 1) if known else list(node.options["NewShape"])
    if not known and imp.has_input(node, 1):
        # Computed at run time; the converter has worked it out.
        shape = list(imp.graph.tensors[node.outputs[0]].shape)
    count = math.prod(old)
    if shape.count(-1) == 1:
        rest = math.prod(n for n in shape if n != -1)
        shape[shape.index(-1)] = count // rest if rest > 0 else 0
    if min(shape, default=1) < 1 or math.prod(shape) != count:
        imp.fail(node, f"{list(old)} cannot become {shape}", CONVERT_AGAIN)
    return _regrouped(imp, node, shape)


@operator("SQUEEZE", note="any type; free")
def squeeze(imp: Operands, node: Node) -> Value:
    old = imp.shape(node)
    dims = node.options["SqueezeDims"]
    gone = {imp.axis(node, d, len(old)) for d in dims}
    if not dims:
        gone = {d for d, n in enumerate(old) if n == 1}
    if any(old[d] != 1 for d in gone):
        imp.fail(node, f"{list(old)} has no dimensions {sorted(gone)} of size one", CONVERT_AGAIN)
    return _regrouped(imp, node, [n for d, n in enumerate(old) if d not in gone])


@operator("EXPAND_DIMS", note="any type; free")
def expand_dims(imp: Operands, node: Node) -> Value:
    shape = list(imp.shape(node))
    axes = imp.integers(node, 1)
    if len(axes) != 1:
        imp.fail(node, "the axis must be one number", CONVERT_AGAIN)
    shape.insert(imp.axis(node, axes[0], len(shape) + 1), 1)
    return _regrouped(imp, node, shape)


@operator("TRANSPOSE", note="any type; free before and after convolutions")
def transpose(imp: Operands, node: Node) -> Value:
    permutation, rank = imp.integers(node, 1), len(imp.shape(node))
    if sorted(permutation) != list(range(rank)):
        imp.fail(node, f"{permutation} does not permute {rank} dimensions", CONVERT_AGAIN)
    return _moved(imp, node, lambda x: Activation(x.value, x.layout.transposed(permutation)))


@operator("PAD", "PADV2", note="int8; free before a convolution that it pads with zeros")
def pad(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, unsigned=True)
    amounts = np.array(imp.integers(node, 1)).reshape(-1, 2)
    if len(amounts) != len(x.shape) or amounts.min(initial=0) < 0:
        imp.fail(node, f"{amounts.tolist()} does not pad {list(x.shape)}", CONVERT_AGAIN)
    target = placed_result(imp, node, x)
    fill = target.zero_point
    if node.op == "PADV2" and imp.has_input(node, 2):
        value = imp.constant(node, 2)
        if value.size != 1 or value.dtype not in (np.int8, np.uint8):
            imp.fail(node, "the padding value must be one int8", CONVERT_AGAIN)
        fill = int(value.reshape(-1)[0]) - (128 if value.dtype == np.uint8 else 0)
    low, high = (tuple(int(n) for n in amounts[:, side]) for side in (0, 1))
    if not any((*low, *high)):
        return Integer(x.activation, target, x.unsigned)
    return Padded(node, x, low, high, fill, target)


@operator("CONCATENATION", note="int8 of one scale, as the reference demands")
def concatenation(imp: Operands, node: Node) -> Value:
    parts = [imp.activation(node, i) for i in range(len(node.inputs))]
    target = imp.output(node)
    if not imp.clamp(node, target).trivial:
        imp.fail(node, "has a fused activation function", CONVERT_AGAIN)
    axis = imp.axis(node, node.options["Axis"], len(parts[0].shape))
    return Integer(_joined(imp, node, parts, axis, target), target)


def _joined(
    imp: Operands, node: Node, parts: Sequence[Integer], axis: int, target: Quantization
) -> Activation:
    for part in parts:
        if part.quantization != target:
            imp.fail(node, "operands and result differ in scale or zero point", CONVERT_AGAIN)
        rest = [
            [n for d, n in enumerate(shape) if d != axis] for shape in (part.shape, parts[0].shape)
        ]
        if len(part.shape) != len(parts[0].shape) or rest[0] != rest[1]:
            shapes = [list(p.shape) for p in parts]
            imp.fail(node, f"the shapes {shapes} do not fit along axis {axis}", CONVERT_AGAIN)
    if len(parts) == 1:
        return parts[0].activation
    return movement.concat(imp.builder, node.name, [p.activation for p in parts], axis)


@operator("PACK", note="int8 of one scale")
def pack(imp: Operands, node: Node) -> Value:
    parts = [imp.activation(node, i) for i in range(len(node.inputs))]
    target = imp.output(node)
    rank = len(parts[0].shape)
    axis = imp.axis(node, node.options["Axis"], rank + 1)
    expanded = [
        Integer(_with_dimension(imp, node, p.activation, axis), p.quantization) for p in parts
    ]
    return Integer(_joined(imp, node, expanded, axis, target), target)


def _with_dimension(imp: Operands, node: Node, x: Activation, axis: int) -> Activation:
    shape = list(x.layout.shape)
    shape.insert(min(axis, len(shape)), 1)
    return reshaped(imp.builder, node.name, x, shape)


@operator("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", note="int8")
def depth_and_space(imp: Operands, node: Node) -> Value:
    """Blocks of pixels become channels, or the reverse: a transposition of the factors."""
    x, block = imp.activation(node, unsigned=True), node.options["BlockSize"]
    to_space, area = node.op == "DEPTH_TO_SPACE", block * block
    split = x.shape[3:] if to_space else x.shape[1:3]
    if len(x.shape) != 4 or block < 1 or any(n % (area if to_space else block) for n in split):
        imp.fail(node, f"{list(x.shape)} has no blocks of {block}", CONVERT_AGAIN)
    n, rows, columns, channels = x.shape
    if to_space:
        factors = (n, rows, columns, block, block, channels // area)
        shape = (n, rows * block, columns * block, channels // area)
    else:
        factors = (n, rows // block, block, columns // block, block, channels)
        shape = (n, rows // block, columns // block, channels * area)
    factored = reshaped(imp.builder, node.name, x.activation, factors)
    # Its own inverse, so that both directions share it.
    layout = factored.layout.transposed((0, 1, 3, 2, 4, 5))
    y = reshaped(imp.builder, node.name, Activation(factored.value, layout), shape)
    return Integer(y, placed_result(imp, node, x), x.unsigned)
