"""Pooling and means."""

from __future__ import annotations

from tinymlir.bindings import ir
from tinymlir.frontends.canonical import pooling
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.convolution import Window
from tinymlir.frontends.canonical.tensors import Activation

from .constants import is_byte, single
from .converter import Converter
from .movement import uncropped
from .names import name_of
from .rescale import Rescale

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def _image(op: ir.Operation, x: Activation) -> Activation:
    """``x``, which is N×H×W×C, as the N×C×H×W that windows are put on."""
    if x.layout.shape[0] != 1:
        raise NotImplementedError(
            f"a batch of {x.layout.shape[0]}; export the network for one sample"
        )
    return Activation(x.value, x.layout.transposed(_TO_NCHW))


def _window(op: ir.Operation) -> Window:
    top, bottom, left, right = op.attributes["pad"]
    kernel, stride = (tuple(op.attributes[name]) for name in ("kernel", "stride"))
    return Window(
        (kernel[0], kernel[1]), (stride[0], stride[1]), (1, 1), (top, left), (bottom, right)
    )


def max_pool2d(conv: Converter, op: ir.Operation) -> Activation:
    x = _image(op, conv.signed(op, uncropped(op, op.operands[0])))
    y = pooling.max_pool2d(conv.builder, name_of(op), x, _window(op))
    return Activation(y.value, y.layout.transposed(_TO_NHWC))


def avg_pool2d(conv: Converter, op: ir.Operation) -> Activation | None:
    """Padding does not count.

    TOSA divides by a multiplier a bit above the reciprocal (RESCALE, ``reciprocal_scale``), which
    for sums of bytes is the quotient, ties away from zero.
    """
    zeros = [single(op.operands[i]) for i in (1, 2)]
    if zeros[0] is None or zeros[1] is None or str(op.attributes["acc_type"]) != "i32":
        return None
    x = _image(op, conv.signed(op, uncropped(op, op.operands[0])))
    zero_points = zeros[0], zeros[1]
    y = pooling.quotient2d(conv.builder, name_of(op), x, zero_points, Clamp(), _window(op))
    return Activation(y.value, y.layout.transposed(_TO_NHWC))


def mean(conv: Converter, value: ir.Value, rescale: Rescale) -> Activation | None:
    """Sums over rows, columns or both of an int8 tensor less its zero point, rescaled."""
    axes = set()
    while not isinstance(value, ir.BlockArgument) and value.owner.name == "tosa.reduce_sum":
        op = value.owner.operation
        axes.add(op.attributes["axis"].value)
        value = op.operands[0]
    if isinstance(value, ir.BlockArgument) or value.owner.name != "tosa.rescale":
        return None
    inner = value.owner.operation
    widened = Rescale.read(inner)
    source = inner.operands[0]
    plain = widened.exact and widened.output_zero == 0 and not widened.input_unsigned
    if not is_byte(source) or not plain or widened.width != 32 or not rescale.uniform:
        return None
    shape = source.type.shape
    if len(shape) != 4 or shape[0] != 1 or not axes <= {1, 2}:
        return None
    kernel = (shape[1] if 1 in axes else 1, shape[2] if 2 in axes else 1)
    window = Window(kernel, kernel, (1, 1), (0, 0), (0, 0))
    x = _image(inner, conv.signed(inner, source))
    scaling, name = rescale.scaling(), name_of(op)
    y = pooling.scaled_sum2d(conv.builder, name, x, widened.input_zero, window, scaling)
    return Activation(y.value, y.layout.transposed(_TO_NHWC))
