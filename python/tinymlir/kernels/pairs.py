"""Operands of a dot product in pairs of halfwords, the unit in which zero weights are left out."""

from __future__ import annotations

import numpy as np

from tinymlir.kernels.convolution import Convolution

#: Operands that are widened together: a word of bytes, which makes two pairs.
STEP = 4


def operand_pairs(window: int) -> np.ndarray:
    """The operands of each pair, ``(pairs, 2)``, as cores with SMLAD widen them.

    Operands are numbered as in a flattened ``KH×KW×I`` filter. A word of them becomes bytes 0
    and 2, then 1 and 3 (`tiny.extend_bytes`). What lies at or beyond ``window`` fills up the
    last word and is zero.
    """
    steps = -(-window // STEP)
    return np.arange(steps * STEP).reshape(steps, 2, 2).swapaxes(1, 2).reshape(-1, 2)


def pair_words(conv: Convolution) -> np.ndarray:
    """The weights of each pair as two halfwords, the first one low: ``(channels, pairs)`` i32.

    A word of 0 is a pair that nobody needs to multiply.
    """
    weights = conv.weights[0].reshape(conv.out_per_group, -1)
    pairs = operand_pairs(weights.shape[1])
    padded = np.zeros((len(weights), pairs.size), "<i2")
    padded[:, : weights.shape[1]] = weights
    return np.ascontiguousarray(padded[:, pairs]).view("<i4")[:, :, 0]
