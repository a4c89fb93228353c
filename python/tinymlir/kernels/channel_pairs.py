"""Two output channels in a halfword: one product of it adds to the sums of both.

A halfword ``low + 256 · high`` has a weight of one channel and that of the next, for the same
operand. SMLAD of such halfwords adds up ``T = L + 256 · H``, of their low bytes widened (SXTB16)
``L``. So two channels take one word of bytes and one that is widened, not two; and ``H`` is
``(T - L) >> 8``, exactly, since all is modulo 2³², where it takes no more than 24 bits.
"""

from __future__ import annotations

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.kernels.convolution import Convolution

#: What a sum of the second channel keeps below.
_LIMIT = 1 << 23


def fit_halfwords(conv: Convolution) -> bool:
    """Whether the weights of two channels fit a halfword, and sums 24 bits, wherever they must."""
    weights = conv.weights[0].reshape(conv.out_per_group, -1).astype(np.int64)
    both = len(weights) // 2 * 2
    low, high = weights[:both:2], weights[1:both:2]
    sums = np.abs(high).sum(axis=1) * 128 + np.abs(conv.bias[1:both:2].astype(np.int64))
    return bool(((high > -128) | (low >= 0)).all() and (sums < _LIMIT).all())


def in_halfwords(weights: np.ndarray) -> np.ndarray:
    """Weights ``[channel, operand]``, i8, as the bytes of the halfwords of both channels."""
    halfwords = weights.copy()
    halfwords[1::2] -= weights[::2] < 0
    return halfwords


def joint_biases(biases: np.ndarray) -> np.ndarray:
    """Biases ``[channel]``, i32, as what the sums of a pair begin with: ``L`` and ``T``."""
    joint = biases.astype(np.int64)
    joint[1::2] = joint[::2] + 256 * joint[1::2]
    return joint.astype(np.uint32).view("<i4")


def separate(sums: list[ir.Value]) -> list[ir.Value]:
    """The sums of both channels of each pair, from ``L`` and ``T``."""
    i32 = ir.IntegerType.get_signless(32)
    separated = []
    for low, total in zip(sums[::2], sums[1::2], strict=True):
        high = arith.shrsi(arith.subi(total, low), arith.constant(i32, 8))
        separated += [low, high]
    return separated
