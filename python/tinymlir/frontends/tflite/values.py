"""What a TFLite tensor can be while the importer walks the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.frontends.canonical.tensors import Activation, Dequantized, Quantization

from . import arithmetic
from .schema import Array, Node

Reshape = Callable[[Activation, Sequence[int]], Activation]


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
class Phases:
    """An image split into those of its every n-th pixels, which SPACE_TO_BATCH_ND makes a batch.

    A convolution of the phases is one of the image with gaps between its taps.

    Attributes:
        steps: n along each dimension of ``image``; 1 along the batch and the channels.
        low, high: the border around the image before it was split.
    """

    image: Integer
    steps: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = zip(self.low, self.image.shape, self.high, self.steps, strict=True)
        inner = [sum(parts) // step for *parts, step in sizes]
        return (inner[0] * math.prod(self.steps), *inner[1:])

    def reshaped(self, shape: Sequence[int], view: Reshape) -> Phases | None:
        """The same with dimensions of size one put in or left out; None if more would change."""
        old, taken, at = self.shape, [0], 1
        if not shape or shape[0] != old[0]:
            return None
        for size in shape[1:]:
            while at < len(old) and old[at] == self.steps[at] == 1 and size != 1:
                at += 1
            if at < len(old) and old[at] == size:
                taken.append(at)
                at += 1
            elif size == 1:
                taken.append(-1)
            else:
                return None
        if any(n != 1 for n in (*old[at:], *self.steps[at:])):
            return None

        def pick(values: Sequence[int], absent: int) -> tuple[int, ...]:
            return tuple(absent if d < 0 else values[d] for d in taken)

        image = Integer(
            view(self.image.activation, pick(self.image.shape, 1)), self.image.quantization
        )
        return Phases(image, pick(self.steps, 1), pick(self.low, 0), pick(self.high, 0))


@dataclass(frozen=True)
class Real:
    """A float32 tensor that depends element by element on an integer one.

    ``reals`` are its elements for the 256 values of that; `of` makes the dequantised ones.
    """

    integer: Integer
    reals: npt.NDArray[np.float32]

    @staticmethod
    def of(integer: Integer) -> Real:
        return Real(integer, arithmetic.dequantized(integer.quantization))

    @property
    def dequantized(self) -> bool:
        """Whether no function but dequantising has been applied."""
        return np.array_equal(self.reals, arithmetic.dequantized(self.integer.quantization))

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
Value = Array | Integer | Padded | Phases | Real | FloatInput
