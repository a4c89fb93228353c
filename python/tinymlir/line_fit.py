"""The line that has the steps of a rounding, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinymlir.numerics import I32_MAX, I32_MIN, MULTIPLIER_BITS, IntArray
from tinymlir.stairs import Stairs, spread, stairs_of

_LEAST_SHIFT, _MOST_SHIFT = 32, 53
#: Bits of the fraction that accumulators may have. Steps of 8-bit results leave an offset room for
#: about a hundredth of an accumulator, so fewer do not do.
_FRACTION, _LONG_FRACTION = 8, 10
#: Multipliers that are tried on both sides of the line's, and that of channels of one result.
_NEAR, _OF_CONSTANTS = 16, 1 << 26
#: Shifts of lines in 32 bits.
_MOST_SHORT_SHIFT = 30


@dataclass(frozen=True)
class Line:
    """``(acc * multiplier + offset) >> shift``; a multiplier and an offset for each channel."""

    multipliers: IntArray
    offsets: IntArray
    shift: int


@dataclass(frozen=True)
class FoldedLine:
    """``((((acc << places) + bias) * multiplier >> 32) + word) >> (shift - 32)``: a multiplier and
    a bias for each channel, and nothing else.
    """

    multipliers: IntArray
    biases: IntArray
    places: int
    word: int
    shift: int


def fit_line(
    scales: np.ndarray,
    reference: Callable[[IntArray], IntArray],
    low: IntArray,
    high: IntArray,
    results: tuple[int, int, int],
    shift: int | None = None,
) -> Line | None:
    """Lines equal to ``reference`` at every accumulator in ``low..high``; None if there are none.

    The reference is a monotone staircase: let ``T_k`` be the least accumulator with a result
    of ``k`` or more. The line has its steps if and only if for every ``k``

        ``T_k * m + r >= k << shift`` and ``(T_k - 1) * m + r < k << shift``.

    For a given multiplier these bound the offset from both sides, and the room between the
    bounds is a concave function of the multiplier: a search by thirds finds where it is
    widest. An offset that is the same for all channels, and whose low word is zero, is
    cheaper; rounding to nearest is one, and tried before.

    Args:
        scales: real scales, one for each channel.
        reference: from accumulators (channels x any) to results.
        low, high: the accumulators that occur, for each channel or for all.
        results: zero point, least and greatest result.
        shift: the line's; without, what leaves multipliers the most bits.
    """
    greatest = common_shift(scales)
    if results[1] == results[2] or greatest is None:
        return None
    shift = greatest if shift is None else min(shift, greatest)
    stairs = stairs_of(reference, spread(low, high, scales), results[1:], shift)
    nominal = np.rint(np.ldexp(scales, shift)).astype(np.int64)
    nearest = np.full(len(scales), (results[0] << shift) + (1 << (shift - 1)))
    multipliers = stairs.multipliers(nearest, nominal)
    if shift > 32 and multipliers is not None:
        return Line(multipliers, nearest, shift)
    return line_of(stairs, nominal, shift)


def line_of(stairs: Stairs, nominal: IntArray, shift: int) -> Line | None:
    """Lines with multipliers near ``nominal`` that leave the most room; None if one has none."""
    # The result of a dead channel is constant, wherever its accumulators are.
    multipliers = np.where(nominal == 0, 0, stairs.widest(nominal))
    lower, upper = stairs.offsets(multipliers)
    if (lower > upper).any():
        return None
    return Line(multipliers, lower + (upper - lower) // 2, shift)


def fit_points(
    scale: float,
    accumulators: IntArray,
    results: IntArray,
    bounds: tuple[int, int, int],
    shift: int,
) -> Line | None:
    """The line with a shift that gives each of some accumulators its result; None without one.

    Args:
        scale: about how fast results rise, which they do with the accumulators.
        accumulators: those that occur, ascending; ``results`` are theirs.
        bounds: about the result of an accumulator of zero, and what results are limited to: the
            line may go beyond where a result is there.
    """
    zero_point, least, most = bounds
    above, below = int(results[0] <= least), int(results[-1] >= most)
    steps = np.arange(results[0] + above, results[-1] + 2 - below)
    if not len(steps):
        return Line(np.array([0]), results[:1] << shift, shift)
    at = np.searchsorted(results, steps)
    reached, kept = at < len(results), at > 0
    thresholds = accumulators[np.minimum(at, len(results) - 1)][None]
    before = accumulators[np.maximum(at - 1, 0)][None]
    stairs = Stairs(thresholds, steps << shift, reached, kept, before)
    multipliers = stairs.widest(np.array([round(scale * 2.0**shift)], np.int64))
    nearest = (zero_point << shift) + (1 << (shift - 1))
    lower, upper = stairs.offsets(multipliers)
    if lower[0] > upper[0]:
        return None
    return Line(multipliers, np.clip(nearest, lower, upper), shift)


def fit_short_line(
    scale: float, accumulators: IntArray, results: IntArray, bounds: tuple[int, int, int]
) -> Line | None:
    """As `fit_points`, a line that 32 bits hold all along."""
    ends = accumulators[[0, -1]]
    shift = short_shift(float(np.abs(ends).max()) * scale, bounds[0])
    line = fit_points(scale, accumulators, results, bounds, shift) if shift > 0 else None
    if line is None:
        return None
    multiplier, offset = int(line.multipliers[0]), int(line.offsets[0])
    if not all(I32_MIN <= n <= I32_MAX for n in (*(ends * multiplier + offset), offset)):
        return None
    # Powers of two that multiplier and shift have in common change nothing.
    common = min((multiplier & -multiplier).bit_length() - 1, shift) if multiplier else shift
    return Line(line.multipliers >> common, line.offsets >> common, shift - common)


def short_shift(reach: float, zero_point: int) -> int:
    """The greatest shift at which 32 bits hold results of up to ``reach`` and a zero point."""
    return min(int(np.floor(31 - np.log2(reach + abs(zero_point) + 2))), _MOST_SHORT_SHIFT)


def split_offsets(
    line: Line, low: IntArray, high: IntArray, results: tuple[int, int]
) -> tuple[IntArray, IntArray] | None:
    """``(biases, words)`` such that ``((((acc + bias) * m) >> 32) + word) >> (shift - 32)``
    equals the line, limited to ``results``, at every accumulator in ``low..high``.

    Cores that have the high word of a product without the low one compute that. It is the line
    with the offset ``bias * m + (word << 32)``; a bias that takes it between the bounds of the
    offset mostly exists. None if none does, or if ``acc + bias`` or ``word`` could overflow 32
    bits; ``acc`` may where its multiplier is zero, as that of a dead channel with a huge bias.
    """
    least, most = spread(low, high, line.multipliers)
    m, r = line.multipliers[:, None], line.offsets[:, None]
    biases, words = np.zeros_like(line.offsets), line.offsets >> 32

    def reference(accumulators: IntArray) -> IntArray:
        return np.clip((accumulators * m + r) >> line.shift, *results)

    if results[0] < results[1]:
        stairs = stairs_of(reference, (least, most), results, line.shift)
        lower, upper = stairs.offsets(line.multipliers)
        for channel, bounds in enumerate(zip(lower, upper, strict=True)):
            multiplier, first, last = int(line.multipliers[channel]), *map(int, bounds)
            bias = _first_multiple(multiplier, 1 << 32, first % (1 << 32), last - first)
            if first > last or bias is None:
                return None
            biases[channel], words[channel] = bias, -((bias * multiplier - first) >> 32)
    inside = (least + biases >= I32_MIN) & (most + biases <= I32_MAX)
    fits = (inside | (line.multipliers == 0)) & (words >= I32_MIN) & (words <= I32_MAX)
    return (biases, words) if fits.all() else None


def fold_biases(
    line: Line, low: IntArray, high: IntArray, results: tuple[int, int]
) -> FoldedLine | None:
    """The line with its offset in biases, equal to it, limited to ``results``, at every
    accumulator in ``low..high``.

    With a fraction, some bias takes the line wherever its steps leave room, so it needs no
    offset: one word for all does, none if possible. None where accumulators and biases would
    not fit 32 bits, or a step has no room even so.
    """
    least, most = spread(low, high, line.multipliers)
    m, r = line.multipliers[:, None], line.offsets[:, None]

    def reference(accumulators: IntArray) -> IntArray:
        return np.clip((accumulators * m + r) >> line.shift, *results)

    if results[0] == results[1]:
        return None
    stairs = stairs_of(reference, (least, most), results, line.shift)
    # Where the result is a limit, wherever the accumulator is, any multiplier will do; a large one
    # needs a small bias to keep it there.
    constant = ~stairs.reached.any(axis=1) | ~stairs.kept.any(axis=1)
    nominal = np.where(constant, _OF_CONSTANTS, line.multipliers)
    # That of a rounding, where biases have not taken from it.
    rounding = 0 if constant.all() else int(line.offsets[~constant].max() >> 32)
    fractions = (_FRACTION, _LONG_FRACTION)
    for places, word in ((_FRACTION, 0), *((places, rounding << places) for places in fractions)):
        multipliers, biases = nominal, np.zeros_like(nominal)
        left = np.ones(len(nominal), bool)
        for change in sorted(range(-_NEAR, _NEAR + 1), key=abs):
            tried = np.where(left, np.clip(nominal + change, 1, I32_MAX), multipliers)
            lower, upper = stairs.offsets(tried)
            for c in np.flatnonzero(left):
                ends = (int(least[c]) << places, int(most[c]) << places)
                offsets = (int(lower[c]) << places, (int(upper[c]) + 1 << places) - 1)
                found = _fitting_bias(int(tried[c]), offsets, ends, word)
                if found is not None:
                    left[c], biases[c] = False, found
            multipliers = tried
            if not left.any() and abs(word) < 1 << 30:
                return FoldedLine(multipliers, biases, places, word, line.shift + places)
    return None


def _fitting_bias(
    multiplier: int, offsets: tuple[int, int], accumulators: tuple[int, int], word: int
) -> int | None:
    """A bias between those that, with ``word``, give the least and the greatest of ``offsets``,
    and that keep ``accumulators`` in 32 bits; None without one.
    """
    first = -(-(offsets[0] - (word << 32)) // multiplier)
    last = (offsets[1] - (word << 32)) // multiplier
    first, last = max(first, I32_MIN - accumulators[0]), min(last, I32_MAX - accumulators[1])
    return None if first > last else first + (last - first) // 2


def _first_multiple(step: int, modulus: int, low: int, width: int) -> int | None:
    """The least n >= 0 with ``n * step mod modulus`` at most ``width`` above ``low``.

    If no multiple below the modulus is there, those of the second turn are, shifted against
    the first, and so on: the same question for the shift, modulo the step.
    """
    if low == 0 or low + width >= modulus:
        return 0
    step %= modulus
    if step == 0:
        return None
    n = -(-low // step)
    if n * step <= low + width:
        return n
    turns = _first_multiple(modulus % step, step, -(low + width) % step, width)
    return None if turns is None else -(-(low + turns * modulus) // step)


def common_shift(scales: np.ndarray) -> int | None:
    """The shift that leaves the greatest of ``scales`` a multiplier of 31 bits.

    None where a line cannot have it: the product is shifted by whole words and more, and
    results times a power of two must fit 64 bits.
    """
    top = float(scales.max())
    if top <= 0:
        return None
    shift = min(MULTIPLIER_BITS - 1 - int(np.floor(np.log2(top))), _MOST_SHIFT)
    return shift if shift >= _LEAST_SHIFT else None
