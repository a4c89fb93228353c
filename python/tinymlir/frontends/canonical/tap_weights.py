"""Means over windows of which some reach into padding that does not count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import arith, ir
from tinymlir.numerics import IntArray

from .builder import Builder, Place


@dataclass(frozen=True)
class TapWeights:
    """Weights that make the sums of different counts of taps sums of one count.

    ``sum * rows[r] * columns[c] / count`` is the mean at output row r and column c.
    """

    count: int
    rows: IntArray
    columns: IntArray

    @staticmethod
    def of(rows: IntArray, columns: IntArray) -> TapWeights:
        """For windows of ``rows[r] * columns[c]`` taps each."""
        present = [np.maximum(axis, 1) for axis in (rows, columns)]
        common = [math.lcm(*(int(n) for n in axis)) for axis in present]
        weights = [n // axis for n, axis in zip(common, present, strict=True)]
        return TapWeights(math.prod(common), weights[0], weights[1])

    @property
    def most(self) -> int:
        return int(self.rows.max() * self.columns.max())

    def cases(self, taps: IntArray) -> list[tuple[int, int]]:
        """The pairs of taps (rows by columns) and a weight that there are."""
        of_all = np.multiply.outer(self.rows, self.columns)
        pairs = np.stack([np.broadcast_to(taps, of_all.shape).ravel(), of_all.ravel()])
        return [(int(n), int(w)) for n, w in np.unique(pairs, axis=1).T]

    def inputs(self, b: Builder) -> list[tuple[ir.Value, Sequence[Place]]]:
        """What a body over rows (loop 1) and columns (loop 2) gets for `of_body`."""
        axes = ((self.rows, 1), (self.columns, 2))
        return [
            (b.constant(weights.astype(np.min_scalar_type(-int(weights.max()) - 1))), (loop,))
            for weights, loop in axes
            if weights.max() > 1
        ]

    def of_body(self, b: Builder, weights: Sequence[ir.Value]) -> ir.Value | None:
        """The i32 weight, from the scalars of `inputs`; None where all weights are one."""
        wide = [w if w.type == b.i32 else arith.extsi(b.i32, w) for w in weights]
        if not wide:
            return None
        return wide[0] if len(wide) == 1 else arith.muli(*wide)
