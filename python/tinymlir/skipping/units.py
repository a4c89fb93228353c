"""What is skipped together: single products, or those of one SMLAD, or of one word of weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Granularity = Literal["single", "pair", "word"]
#: What a layer's significance is of: where kernels leave out nothing less, whole channels.
Unit = Literal["single", "pair", "word", "channel"]
Units = npt.NDArray[np.intp]

#: Operands of a word of weights.
_WORD = 4
#: Operands of a unit within a word: pairs are those that `tiny.extend_bytes` puts side by side.
_PATTERNS: dict[Granularity, list[list[int]]] = {
    "single": [[0], [1], [2], [3]],
    "pair": [[0, 2], [1, 3]],
    "word": [[0, 1, 2, 3]],
}


def units(operands: int, granularity: Unit) -> Units:
    """Operands 0 to ``operands`` - 1 of a window, by unit: (U, size), -1 past the end."""
    if granularity == "channel":
        return np.arange(operands)[None]
    words = np.arange(0, operands, _WORD)
    pattern = np.array(_PATTERNS[granularity])
    table = (words[:, None, None] + pattern).reshape(-1, pattern.shape[1])
    table = table[table[:, 0] < operands]
    return np.where(table < operands, table, -1)


def sum_by_unit(values: npt.NDArray[np.float64], table: Units) -> npt.NDArray[np.float64]:
    """Sums over each unit's operands: (..., K) to (..., U)."""
    return np.where(table >= 0, values[..., table], 0).sum(-1)


def whole_units(chosen: npt.NDArray[np.bool_], table: Units) -> npt.NDArray[np.bool_]:
    """Units of which all operands are chosen: (..., K) to (..., U)."""
    return np.asarray(np.where(table >= 0, chosen[..., table], True).all(-1))


def by_operand(chosen: npt.NDArray[np.bool_], table: Units, operands: int) -> npt.NDArray[np.bool_]:
    """The operands of the units that are chosen: (..., U) to (..., K)."""
    result = np.zeros((*chosen.shape[:-1], operands), bool)
    for place in table.T:
        there = place >= 0
        result[..., place[there]] = chosen[..., there]
    return result
