"""Which operands a channel can best do without, and how the others make up for them.

This is the optimal brain surgeon (Hassibi and Stork, 1993), for one output channel at a time
and several weights in a step, as in "Optimal Brain Compression" (Frantar and Alistarh, 2022).
With C the covariance of the operands, leaving out the operands P costs
w_P' (C⁻¹_PP)⁻¹ w_P of output variance, if the other weights change by -C⁻¹_:P (C⁻¹_PP)⁻¹ w_P.
The mean of what is left out goes into the bias and costs nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymlir.numerics import I8_MAX
from tinymlir.skipping.units import Units

Doubles = npt.NDArray[np.float64]

#: Variance added to every operand, as a share of their mean variance: finite samples
#: show dependencies that are not there.
_DAMPING = 0.003
#: Share of the remaining units that goes between two looks at what the rest costs.
_STEP = 0.05
#: Fits in which weights may come to a bound.
_BOUNDED = 5


def noise(covariance: Doubles) -> Doubles:
    """The (K, K) covariance of noise on every operand that gives ``covariance`` an inverse."""
    return (_DAMPING * np.diagonal(covariance).mean() + 1e-3) * np.eye(len(covariance))


def damped(covariance: Doubles) -> Doubles:
    """A (K, K) covariance with that `noise`."""
    return covariance + noise(covariance)


def removal_costs(weights: Doubles, inverse: Doubles, table: Units) -> Doubles:
    """Output variance lost when a unit goes, after all that cost less and with the rest refitted.

    Args:
        weights: of one channel, (K,).
        inverse: of the `damped` covariance of its operands, (K, K).
        table: operands by unit, (U, size).

    Returns:
        (U,), 0 for units whose weights are zero.
    """
    costs = np.zeros(len(table))
    there = table >= 0
    zero = (np.where(there, weights[table], 0) == 0).all(1)
    place = np.arange(len(weights))
    w, inverse = weights.astype(np.float64), inverse
    left, gone, lost = np.flatnonzero(~zero), table[zero], 0.0
    while True:
        out = place[gone[gone >= 0]]
        if len(out):
            solved = np.linalg.solve(inverse[np.ix_(out, out)], inverse[out])
            lost += float(w[out] @ np.linalg.solve(inverse[np.ix_(out, out)], w[out]))
            keep = np.ones(len(w), bool)
            keep[out] = False
            w = (w - w[out] @ solved)[keep]
            inverse = inverse[np.ix_(keep, keep)] - inverse[np.ix_(keep, out)] @ solved[:, keep]
            numbers = np.cumsum(keep) - 1
            place = np.where(place >= 0, np.where(keep, numbers, -1)[place], -1)
        if not len(left):
            return costs
        at, present = place[table[left]], there[left]
        both = present[:, :, None] & present[:, None, :]
        blocks = np.where(both, inverse[at[:, :, None], at[:, None, :]], np.eye(table.shape[1]))
        values = np.where(present, w[at], 0)
        alone = (values * np.linalg.solve(blocks, values[..., None])[..., 0]).sum(1)
        chosen = np.argsort(alone, kind="stable")[: max(1, round(_STEP * len(left)))]
        # The order is that of the costs one by one, as if those of a step were independent.
        costs[left[chosen]] = lost + np.cumsum(alone[chosen])
        gone = table[left[chosen]]
        left = np.delete(left, chosen)


def refitted(best: Doubles, inverse: Doubles, kept: npt.NDArray[np.bool_]) -> Doubles:
    """Weights on the ``kept`` operands whose output comes nearest to that of others, within int8.

    The least of (v - best)' C (v - best). What passes a bound stays there, and the others are
    fitted again to make up for that. Operands that are not kept get zero.

    Args:
        best: weights without any bounds, (K,).
        inverse: of the `damped` covariance C of the operands, (K, K).
        kept: (K,).
    """
    result, fixed, bound = best, ~kept, np.zeros(len(best))
    for _ in range(_BOUNDED):
        out = np.flatnonzero(fixed)
        moves = np.linalg.solve(inverse[np.ix_(out, out)], bound[out] - best[out])
        result = best + inverse[:, out] @ moves
        result[out] = bound[out]
        over = np.abs(result) > I8_MAX
        if not over.any():
            break
        fixed = fixed | over
        bound = np.where(over, np.sign(result) * I8_MAX, bound)
    return np.clip(result, -I8_MAX, I8_MAX)
