"""Lines that are a step late at a few accumulators, where none has all steps of a rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinymlir.line_fit import Line, common_shift, line_of
from tinymlir.numerics import I32_MIN, IntArray
from tinymlir.stairs import spread, stairs_of

#: Stands for no accumulator.
NEVER = I32_MIN
#: What accumulators are below: then kernels have room for the number of a channel beside one.
_LIMIT = 1 << 27


def fit_late_line(
    scales: np.ndarray,
    reference: Callable[[IntArray], IntArray],
    low: IntArray,
    high: IntArray,
    limits: tuple[int, int],
    shift: int,
    most: int,
) -> tuple[Line, IntArray] | None:
    """As `line_fit.fit_line`, lines that are late at a few accumulators; and these.

    At a late accumulator the line is too low, and what it gives at the next one is right. Where
    no line has all steps, the one that asks for the greatest offset is taken an accumulator
    later, until there is a line.

    Args:
        scales: real scales, one for each channel.
        reference: from accumulators (channels x any) to results.
        low, high: the accumulators that occur, for each channel or for all.
        limits: least and greatest result.
        shift: the line's.
        most: late accumulators of all channels that there may be.

    Returns:
        The line, and its late accumulators (rounds x channels, i64), those of a channel in the
        first rounds, then `NEVER`; None if there are more than ``most``.
    """
    greatest, (least, last) = common_shift(scales), spread(low, high, scales)
    if greatest is None or limits[0] == limits[1] or (np.maximum(-least, last) >= _LIMIT).any():
        return None
    shift = min(shift, greatest)
    stairs = stairs_of(reference, (least, last), limits, shift)
    nominal = np.rint(np.ldexp(scales, shift)).astype(np.int64)
    late: list[list[int]] = [[] for _ in scales]
    failing = np.arange(len(scales))
    while len(failing):
        part = stairs.of(failing)
        multipliers = part.widest(nominal[failing])
        lower, upper = part.offsets(multipliers)
        failing, steps = failing[lower > upper], part.last(multipliers)[lower > upper]
        for channel, step in zip(failing, steps, strict=True):
            row = stairs.thresholds[channel]
            at = int(row[step])
            # The next one must be there, of the same result, and not late already.
            if at - 1 in late[channel] or at + 1 in row or at == last[channel]:
                return None
            late[channel].append(at)
            row[row == at] += 1
        if sum(map(len, late)) > most:
            return None
    line = line_of(stairs, nominal, shift)
    if line is None:
        return None
    rounds = max(map(len, late))
    filled = [[*sorted(some), *[NEVER] * (rounds - len(some))] for some in late]
    return line, np.array(filled, np.int64).reshape(len(late), rounds).T
