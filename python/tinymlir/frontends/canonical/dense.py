"""Fully connected layers."""

from __future__ import annotations

import math

from tinymlir.bindings import linalg

from .builder import Builder
from .convolution import Linear
from .layout import Layout
from .tensors import Activation, Dequantized, arrange, atoms


def fully_connected(b: Builder, name: str, operand: Dequantized, linear: Linear) -> Activation:
    """An operand of logical shape ...×K by weights N×K; the result is ...×N.

    Whatever order the K elements lie in, the weights follow.

    Raises:
        OverflowError: see `Linear.folded_bias`.
    """
    x = operand.activation
    last = x.layout.rank - 1
    inner = x.layout.within([last])
    leading = x.layout.within(range(last))
    if x.layout.order != leading + inner:
        x = arrange(b, name, x, leading + inner)
    rows, depth, outputs = math.prod(x.layout.shape[:-1]), x.layout.shape[-1], len(linear.weights)
    bias = linear.folded_bias(operand.quantization.zero_point)
    weights = linear.weights[:, x.layout.logical_index(last)]
    source = b.reshape(x.value, (rows, depth))
    with b.layer(name, "fully_connected"):
        init = b.broadcast(b.constant(bias), (rows, outputs), (0,))
        acc = linalg.matmul(source, b.constant(weights.T), outs=[init])
        value = linear.requantized(b, acc, bias, 1)
    columns = atoms(outputs)
    return Activation(value, Layout((*x.layout.dims[:-1], columns), leading + columns))
