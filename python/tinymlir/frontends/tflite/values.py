"""What a TFLite tensor can be while the importer walks the graph."""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.frontends.canonical.tensors import Activation, Dequantized, Quantization

from .schema import Array, Node


@dataclass(frozen=True)
class Integer:
    """An int8 tensor, or a uint8 one carried as int8 (lowered by 128)."""

    activation: Activation
    quantization: Quantization
    unsigned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.activation.layout.shape

    @property
    def operand(self) -> Dequantized:
        """As the layer builders want it."""
        return Dequantized(self.activation, self.quantization)


@dataclass(frozen=True)
class Padded:
    """An int8 tensor with a border, which a convolution may take as part of its own padding."""

    node: Node
    source: Integer
    low: tuple[int, ...]
    high: tuple[int, ...]
    fill: int
    quantization: Quantization

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = zip(self.low, self.source.shape, self.high, strict=True)
        return tuple(sum(parts) for parts in sizes)


@dataclass(frozen=True)
class Real:
    """A float32 tensor: the dequantised integers."""

    integer: Integer

    @property
    def shape(self) -> tuple[int, ...]:
        return self.integer.shape


@dataclass(frozen=True)
class FloatInput:
    """A float32 graph input, which QUANTIZE must turn into integers."""

    tensor: int
    activation: Activation

    @property
    def shape(self) -> tuple[int, ...]:
        return self.activation.layout.shape


#: An importer value; plain arrays are constants.
Value = Array | Integer | Padded | Real | FloatInput
