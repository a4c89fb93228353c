"""``tosa.rescale``: what it computes, and as a requantisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import ir
from tinymlir.errors import PassFailure
from tinymlir.frontends.canonical.builder import Clamp, Scaling
from tinymlir.numerics import IntArray

from .constants import constant, is_unsigned, single, width_of

#: Our names for TOSA's rounding modes; docs/mlir-input.md says why they are the same.
_ROUNDINGS = {
    "SINGLE_ROUND": "nearest_up",
    "INEXACT_ROUND": "nearest_up",
    "DOUBLE_ROUND": "double",
}
_MIN_SHIFT, _MAX_SHIFT = 2, 62


@dataclass(frozen=True)
class Rescale:
    """``clip(round((x - input_zero) * multiplier / 2**shift) + output_zero)``.

    ``multipliers`` and ``shifts`` have one element, or one for each index of the last
    dimension. Zero points are those of the numbers themselves, 0 to 255 where those
    are unsigned.
    """

    multipliers: IntArray
    shifts: IntArray
    input_zero: int
    output_zero: int
    input_unsigned: bool
    output_unsigned: bool
    width: int
    rounding: str

    @staticmethod
    def read(op: ir.Operation) -> Rescale:
        """Raises PassFailure where something is not constant, or out of TOSA's bounds."""
        multipliers, shifts = (constant(op.operands[i]) for i in (1, 2))
        if multipliers is None or shifts is None:
            raise PassFailure(op.location, "'tosa.rescale' op takes constant scales only")
        if (shifts < _MIN_SHIFT).any() or (shifts > _MAX_SHIFT).any() or (multipliers < 0).any():
            raise PassFailure(
                op.location,
                f"'tosa.rescale' op takes shifts of {_MIN_SHIFT} to {_MAX_SHIFT}"
                " and multipliers that are not negative",
            )
        mode = str(op.attributes["rounding_mode"])
        rounding = next((ours for theirs, ours in _ROUNDINGS.items() if theirs in mode), None)
        if rounding is None:
            raise PassFailure(op.location, f"'tosa.rescale' op has the unknown mode {mode}")
        unsigned = [
            op.attributes[f"{side}_unsigned"].value or is_unsigned(value)
            for side, value in (("input", op.operands[0]), ("output", op.results[0]))
        ]
        zeros = []
        for index, flag in zip((3, 4), unsigned, strict=True):
            zero = single(op.operands[index])
            if zero is None:
                raise PassFailure(op.location, "'tosa.rescale' op takes constant zero points only")
            zeros.append(_interpreted(np.int64(zero), width_of(op.operands[index]), flag))
        return Rescale(
            multipliers.reshape(-1),
            shifts.reshape(-1),
            int(zeros[0]),
            int(zeros[1]),
            unsigned[0],
            unsigned[1],
            width_of(op.results[0]),
            rounding,
        )

    @property
    def uniform(self) -> bool:
        """Whether there is one scale for all elements."""
        return len({*zip(self.multipliers.tolist(), self.shifts.tolist(), strict=True)}) == 1

    @property
    def exact(self) -> bool:
        """Whether the scale is one."""
        return self.uniform and self.multipliers[0] == 1 << self.shifts[0]

    def scaling(self) -> Scaling:
        """As the requantisation that follows an accumulator; the result is 8-bit."""
        lowered = 128 if self.output_unsigned else 0
        shape = () if self.uniform else self.multipliers.shape
        count = 1 if self.uniform else None
        multipliers, shifts = (
            a[:count].astype(np.int32).reshape(shape) for a in (self.multipliers, self.shifts)
        )
        return Scaling(multipliers, shifts, self.output_zero - lowered, Clamp(), self.rounding)

    def __call__(self, values: IntArray, width: int) -> IntArray:
        """The results for ``values`` of so many bits, by the definition of TOSA.

        There must be one scale.
        """
        centred = _interpreted(values, width, self.input_unsigned) - self.input_zero
        shift = self.shifts[0]
        half = np.int64(1) << (shift - 1)
        if self.rounding == "double" and shift > 31:
            half = half + np.where(centred >= 0, 1 << 30, -(1 << 30))
        result = ((centred * self.multipliers[0] + half) >> shift) + self.output_zero
        low = 0 if self.output_unsigned else -(1 << (self.width - 1))
        return np.clip(result, low, low + (1 << self.width) - 1)


def _interpreted(values: IntArray, width: int, unsigned: bool) -> IntArray:
    """The low ``width`` bits as a number with or without a sign."""
    low = values & ((1 << width) - 1)
    return low if unsigned else low - ((low >> (width - 1)) << width)
