"""Lines that are late at a few accumulators, in the IR."""

from __future__ import annotations

import functools

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import tiny

from ._tables import change_by_tables


def step_over(generic: ir.Operation, channels: ir.AffineMap, late: np.ndarray) -> None:
    """Have an elementwise linalg.generic read the next accumulator where one is ``late``.

    ``late`` is rounds x channels, i32, and ``channels`` the map of what is of a channel, which may
    have several dimensions.
    """

    def make(acc: ir.Value, *late: ir.Value) -> ir.Value:
        return functools.reduce(lambda acc, at: tiny.StepOverOp(acc, at).res, late, acc)

    change_by_tables(generic, channels, list(late), make)
