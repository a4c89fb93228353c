"""Conv, Gemm, MatMul and their QLinear forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinymlir import numerics
from tinymlir.frontends.canonical import movement
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.convolution import Linear, conv2d
from tinymlir.frontends.canonical.dense import fully_connected
from tinymlir.frontends.canonical.tensors import Activation, Quantization

from .graph import Node
from .operands import EXPORT_AGAIN, HOW_TO_QUANTIZE, Operands
from .registry import operator
from .values import Array, Deferred, Dequantized, QuantizedConstant, Value
from .windows import expanded, flattened, image, window_of


def constant_weights(
    imp: Operands, node: Node, value: Value | None, outputs: int
) -> tuple[Array, Array]:
    """Constant weights less their zero point, and a scale for each of the axis ``outputs``."""
    if isinstance(value, np.ndarray):
        hint = HOW_TO_QUANTIZE
        if node.op == "ConvTranspose":
            hint = "quantise in QDQ format: onnxruntime.quantization has no QOperator for it"
        imp.fail(node, f"weights are {value.dtype}, not quantised", hint)
    if not isinstance(value, QuantizedConstant):
        imp.fail(
            node, "the weights are not constant", "weights must be initializers or Constant nodes"
        )
    if value.array.dtype == np.int32:
        imp.fail(node, "weights are int32", "quantise weights to int8 or uint8")
    if value.scale.size > 1 and value.axis != outputs:
        imp.fail(
            node,
            f"weights have a scale for each index of axis {value.axis}",
            f"quantise per tensor or along the output channels, axis {outputs}",
        )
    scales = np.broadcast_to(value.scale, (value.array.shape[outputs],))
    return value.centred(), scales


def fitting_int8(
    imp: Operands, node: Node, x: Dequantized, weights: Array, dim: int, groups: int = 1
) -> tuple[Dequantized, Array]:
    """The operand and its weights (output channels first, then those of a group) as int8.

    Unsigned weights that are not centred have nine bits less their zero point. They become
    the sum of two, and every channel (dimension ``dim``) of the operand stands there twice.
    """
    near = np.clip(weights, numerics.I8_MIN, numerics.I8_MAX)
    rest = weights - near
    if not rest.any():
        return x, near.astype(np.int8)
    if rest.max() > numerics.I8_MAX:
        imp.fail(
            node,
            "weights less their zero point do not fit two int8",
            "quantise weights symmetrically (WeightSymmetric=True) or to int8",
        )
    places: list[Sequence[int]] = [range(n) for n in x.shape]
    channels = np.arange(x.shape[dim]).reshape(groups, 1, -1)
    places[dim] = np.repeat(channels, 2, axis=1).reshape(-1).tolist()
    twice = movement.select(imp.builder, f"{node.name}_repeat", "repeat", x.activation, places)
    both = np.concatenate([near, rest], axis=1).astype(np.int8)
    return Dequantized(twice, x.quantization), both


@dataclass(frozen=True)
class Weighted:
    """The constants of a layer whose output scale is not known yet.

    Attributes:
        weights: int8, output channels first.
        unit: what one step of the accumulator stands for, for each output; positive.
        bias: in those steps.
        whole: whether the bias is rounded to them: ONNX Runtime does that to the float bias
            of a layer right behind a DequantizeLinear, not to what is added to its result.
    """

    weights: Array
    unit: Array
    bias: Array
    whole: bool = True

    def linear(self, target: Quantization, clamp: Clamp) -> Linear:
        """The constants that give results at the scale of ``target``."""
        if not (np.abs(self.bias) < 2**31).all():
            raise ValueError("the bias does not fit 32 bits at the accumulator's scale")
        whole = np.rint(self.bias)
        scales = self.unit.astype(np.float64) / float(target.scale)
        if self.whole:
            scales = (self.unit.astype(np.float32) / target.scale).astype(np.float32)
        rest = None if self.whole else self.bias - whole
        return Linear(self.weights, whole.astype(np.int64), scales, target.zero_point, clamp, rest)

    def scaled(self, factors: Array, addends: Array) -> Weighted:
        """The result times ``factors`` plus ``addends``, one of each for each output."""
        negative, zero = factors < 0, factors == 0
        column = (slice(None), *[None] * (self.weights.ndim - 1))
        weights = self.weights.astype(np.int64) * np.where(negative, -1, 1)[column]
        weights *= ~zero[column]
        if weights.max(initial=0) > 127:
            raise ValueError("a weight of -128 would have to change its sign")
        unit = np.where(zero, self.unit, self.unit.astype(np.float64) * np.abs(factors))
        bias = np.where(zero, 0, np.where(negative, -self.bias, self.bias)) + addends / unit
        return Weighted(weights.astype(np.int8), unit, bias, whole=False)


def weighted(
    imp: Operands, node: Node, weights: Array, unit: Array, value: Value | None
) -> Weighted:
    """Constants of a layer with the bias ``value``.

    Args:
        unit: the accumulator's scale for each output, float32.
        value: reals, or int32 constants in those units already.
    """
    if value is None or (isinstance(value, np.ndarray) and value.size == 0):
        return Weighted(weights, unit, np.zeros(unit.shape))
    if isinstance(value, QuantizedConstant):
        same = np.allclose(value.scale, unit, rtol=1e-5, atol=0)
        value = value.centred().astype(np.int32) if same else value.real()
    if not isinstance(value, np.ndarray):
        imp.fail(node, "the bias is not constant", "the bias must be an initializer")
    steps = np.broadcast_to(value.astype(np.float64).reshape(-1), unit.shape)
    if value.dtype == np.int32:
        return Weighted(weights, unit, steps)
    # A reshape in between is enough for ONNX Runtime to compute the layer in float32.
    source = imp.graph.producer(node.input(0))
    whole = source is not None and source.op == "DequantizeLinear"
    return Weighted(weights, unit, steps / unit, whole)


def layer(
    node: Node,
    shape: tuple[int, ...],
    trailing: int,
    constants: Weighted,
    emit: Callable[[Linear], Activation],
) -> Deferred:
    """Reals that ``emit`` computes from the final constants.

    Args:
        shape: of the result.
        trailing: how many of its dimensions follow that of the outputs.
    """
    outputs = len(constants.unit)

    def build(target: Quantization, clamp: Clamp) -> Activation:
        return emit(constants.linear(target, clamp))

    def affine(factors: Array, addends: Array) -> Deferred | None:
        along = (outputs, *[1] * trailing)
        pair = []
        for values in (factors, addends):
            if values.size != 1 and values.shape[-1 - trailing :] != along:
                return None
            if values.size not in (1, outputs) or values.ndim > len(shape):
                return None
            pair.append(np.broadcast_to(values.reshape(-1), (outputs,)).astype(np.float64))
        return layer(node, shape, trailing, constants.scaled(*pair), emit)

    return Deferred(node, shape, build, affine=affine)


def convolution(
    imp: Operands, node: Node, x: Dequantized, w: Value | None, bias: Value | None
) -> Deferred:
    """Conv of one or two spatial dimensions."""
    weights, scales = constant_weights(imp, node, w, 0)
    size = image(imp, node, x.shape)
    spatial = len(size)
    if weights.ndim != spatial + 2:
        imp.fail(node, f"weights {list(weights.shape)} for {spatial}-D input", EXPORT_AGAIN)
    groups, outputs = node.attribute("group", 1), weights.shape[0]
    if groups < 1 or weights.shape[1] * groups != x.shape[1] or outputs % groups:
        imp.fail(
            node,
            f"weights {list(weights.shape)} in {groups} groups do not fit {x.shape[1]} channels",
            EXPORT_AGAIN,
        )
    window = window_of(imp, node, size, weights.shape[2:])
    x, weights = fitting_int8(imp, node, x, weights, 1, groups)
    rows, columns = (window.output(d, n) for d, n in enumerate((1, *size)[-2:]))
    shape = (1, outputs, *(rows, columns)[2 - spatial :])
    kernel = weights.reshape(*weights.shape[:2], *window.kernel)
    source = Dequantized(expanded(x.activation), x.quantization)

    def emit(linear: Linear) -> Activation:
        y = conv2d(imp.builder, node.name, source, linear, window, groups)
        return flattened(y, spatial)

    constants = weighted(imp, node, kernel, x.quantization.scale * scales, bias)
    return layer(node, shape, spatial, constants, emit)


def dense(
    imp: Operands,
    node: Node,
    x: Dequantized,
    w: Value | None,
    bias: Value | None,
    *,
    transposed: bool,
) -> Deferred:
    """A product with constant weights K×N (N×K if ``transposed``)."""
    array = w.array if isinstance(w, QuantizedConstant) else w
    if isinstance(array, np.ndarray) and array.ndim != 2:
        imp.fail(node, f"weights have {array.ndim} dimensions", "use a weight matrix")
    weights, scales = constant_weights(imp, node, w, 0 if transposed else 1)
    weights = weights if transposed else weights.T
    outputs = weights.shape[0]
    if len(x.shape) < 2 or x.shape[-1] != weights.shape[1]:
        imp.fail(
            node,
            f"an input {list(x.shape)} does not fit {weights.shape[1]} weights per output",
            EXPORT_AGAIN,
        )
    x, weights = fitting_int8(imp, node, x, weights, len(x.shape) - 1)

    def emit(linear: Linear) -> Activation:
        return fully_connected(imp.builder, node.name, x, linear)

    constants = weighted(imp, node, weights, x.quantization.scale * scales, bias)
    return layer(node, (*x.shape[:-1], outputs), 0, constants, emit)


_CONV = "1-D and 2-D; groups, depthwise, strides, dilations, pads, auto_pad"


@operator("Conv", note=_CONV)
def conv(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    return convolution(imp, node, x, imp.input(node, 1), imp.input(node, 2))


@operator("QLinearConv", note="as Conv")
def qlinear_conv(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2, 1))
    w = imp.dequantize(node, 3, 4, 5, 0)
    return imp.quantize(node, convolution(imp, node, x, w, imp.input(node, 8)), 6, 7)


_GEMM = "constant B; alpha, transA and transB"


@operator("Gemm", note=_GEMM + "; beta")
def gemm(imp: Operands, node: Node) -> Value:
    x = _rows(imp, node, imp.activation(node, imp.input(node, 0)))
    alpha, beta = (float(node.attribute(name, 1.0)) for name in ("alpha", "beta"))
    w, transposed = imp.input(node, 1), bool(node.attribute("transB", 0))
    if alpha == beta == 1:
        return dense(imp, node, x, w, imp.input(node, 2), transposed=transposed)
    product = dense(imp, node, x, w, None, transposed=transposed)
    addends = imp.constant(node, 2)
    shift = np.zeros(()) if addends is None else beta * addends.astype(np.float64)
    scaled = product.affine(np.array(alpha), shift) if product.affine else None
    if scaled is None:
        imp.fail(node, f"a bias {list(shift.shape)}", "give one number for each column")
    return scaled


def _rows(imp: Operands, node: Node, x: Dequantized) -> Dequantized:
    """The first operand as it is multiplied."""
    if not node.attribute("transA", 0):
        return x
    if len(x.shape) != 2:
        imp.fail(node, f"an input {list(x.shape)} to transpose", EXPORT_AGAIN)
    layout = x.activation.layout.transposed((1, 0))
    return Dequantized(Activation(x.activation.value, layout), x.quantization)


@operator("QGemm", "com.microsoft", note="constant B; transA and transB")
def qgemm(imp: Operands, node: Node) -> Value:
    transposed = bool(node.attribute("transB", 0))
    if not math.isclose(node.attribute("alpha", 1.0), 1.0):
        imp.fail(node, "only alpha = 1 is supported", "fold the factor into the weights")
    x = _rows(imp, node, imp.activation(node, imp.dequantize(node, 0, 1, 2, 1)))
    w = imp.dequantize(node, 3, 4, 5, 0 if transposed else 1)
    if not node.input(7):
        imp.fail(node, "without an output scale the result is float", "quantise its output")
    product = dense(imp, node, x, w, imp.input(node, 6), transposed=transposed)
    return imp.quantize(node, product, 7, 8)


@operator("MatMul", note="a constant matrix on the right")
def matmul(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.input(node, 0))
    return dense(imp, node, x, imp.input(node, 1), None, transposed=False)


@operator("QLinearMatMul", note="as MatMul")
@operator("QLinearMatMul", "com.microsoft", note="as MatMul")
def qlinear_matmul(imp: Operands, node: Node) -> Value:
    x = imp.activation(node, imp.dequantize(node, 0, 1, 2, 1))
    w = imp.dequantize(node, 3, 4, 5, 1)
    return imp.quantize(node, dense(imp, node, x, w, None, transposed=False), 6, 7)
