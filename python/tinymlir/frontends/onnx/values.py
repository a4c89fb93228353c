"""What an ONNX tensor can be while the importer walks the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.frontends.canonical.builder import Clamp
from tinymlir.frontends.canonical.tensors import Activation, Dequantized, Quantization

from .graph import Node

Array = npt.NDArray[Any]


@dataclass
class Meaning:
    """What the integers of a tensor stand for, once some operator has said so."""

    quantization: Quantization | None = None


@dataclass(frozen=True)
class Integer:
    """An int8 tensor, or a uint8 one carried as int8 (lowered by 128)."""

    activation: Activation
    unsigned: bool
    meaning: Meaning

    @property
    def shape(self) -> tuple[int, ...]:
        return self.activation.layout.shape


@dataclass(frozen=True)
class FloatInput:
    """A float graph input, which a QuantizeLinear must turn into integers."""

    activation: Activation
    meaning: Meaning

    @property
    def shape(self) -> tuple[int, ...]:
        return self.activation.layout.shape


@dataclass(frozen=True)
class QuantizedConstant:
    """Constant integers with their scales; ``axis`` is where those run along."""

    array: Array
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def _along_axis(self, values: Array) -> Array:
        if values.size == 1:
            return values.reshape(())
        shape = [1] * self.array.ndim
        shape[self.axis] = values.size
        return values.reshape(shape)

    def centred(self) -> npt.NDArray[np.int64]:
        """Integers with their zero point taken off."""
        return self.array.astype(np.int64) - self._along_axis(self.zero_point)

    def real(self) -> npt.NDArray[np.float32]:
        return self.centred().astype(np.float32) * self._along_axis(self.scale)


@dataclass(frozen=True)
class Function:
    """Reals that depend on one int8 number each: what a chain of float operators makes of them.

    Attributes:
        activation: the int8 numbers.
        reals: the 256 results, float32.
        linear: where the reals are, to rounding, what the numbers stand for at a scale
            and zero point of their own, perhaps limited: those.
        limited: whether they are.
        node: the last operator of the chain, for names and errors; None for a
            DequantizeLinear.
    """

    activation: Activation
    reals: npt.NDArray[np.float32]
    linear: Quantization | None = None
    limited: bool = False
    node: Node | None = None

    @staticmethod
    def of(x: Dequantized) -> Function:
        """What a DequantizeLinear gives."""
        levels = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1) - x.quantization.zero_point
        reals = levels.astype(np.float32) * x.quantization.scale
        return Function(x.activation, reals, x.quantization)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.activation.layout.shape

    def quantized(self, target: Quantization, clamp: Clamp) -> npt.NDArray[np.int8]:
        """The 256 reals as int8."""
        with np.errstate(all="ignore"):
            steps = np.rint(self.reals / target.scale)
        # As the conversion to integers does it on x86-64: no number is the least one.
        steps = np.nan_to_num(steps, nan=-np.inf) + target.zero_point
        return np.clip(steps, clamp.low, clamp.high).astype(np.int8)


Build = Callable[[Quantization, Clamp], Activation]


@dataclass
class Deferred:
    """Reals that an integer layer will compute once its output quantisation is known.

    Attributes:
        node: the operator, for names and errors.
        shape: the logical shape.
        build: emits the layer.
        low, high: the limits that activation functions have put on the result.
        affine: the same times constant reals plus constant reals, where the layer can
            absorb them.
    """

    node: Node
    shape: tuple[int, ...]
    build: Build
    low: float = -np.inf
    high: float = np.inf
    affine: Callable[[Array, Array], Deferred | None] | None = None
    _built: dict[tuple[Quantization, Clamp], Activation] = field(default_factory=dict)

    def clamped(self, low: float, high: float) -> Deferred:
        """The same, through ``min(max(., low), high)``."""
        least, most = (min(max(limit, low), high) for limit in (self.low, self.high))
        return Deferred(self.node, self.shape, self.build, least, most)

    def emit(self, quantization: Quantization, outer: Clamp | None = None) -> Activation:
        """The integer tensor; built once for each quantisation.

        Args:
            outer: limits that a following operator puts on the int8 result.
        """
        low, high = (quantize(limit, quantization) for limit in (self.low, self.high))
        if outer is not None:
            low, high = (min(max(v, outer.low), outer.high) for v in (low, high))
        clamp = Clamp(low, high)
        if (quantization, clamp) not in self._built:
            self._built[quantization, clamp] = self.build(quantization, clamp)
        return self._built[quantization, clamp]


def quantize(value: float, quantization: Quantization) -> int:
    """One real as int8, saturating, ties to even; NaN counts as zero."""
    if np.isnan(value):
        return quantization.zero_point
    if np.isinf(value):
        return numerics.I8_MAX if value > 0 else numerics.I8_MIN
    steps = np.rint(np.float32(value) / quantization.scale) + quantization.zero_point
    return int(np.clip(steps, numerics.I8_MIN, numerics.I8_MAX))


#: An importer value; plain arrays are constants.
Value = Array | Integer | FloatInput | Dequantized | Function | QuantizedConstant | Deferred
