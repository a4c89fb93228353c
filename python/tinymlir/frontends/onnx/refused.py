"""Operators that exporters leave behind and that need another answer than 'not supported'."""

from __future__ import annotations

from .graph import Node
from .operands import Operands
from .registry import operator
from .values import Value


@operator("BatchNormalization", note="no: fold it into the convolution before quantising")
def batch_normalization(imp: Operands, node: Node) -> Value:
    imp.fail(
        node,
        "batch normalisation must be folded into the convolution before it",
        "run onnxruntime.quantization.quant_pre_process on the float model, then quantise it",
    )
