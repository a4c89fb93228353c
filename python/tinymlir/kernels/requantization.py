"""What a layer's requantization is, read from its linalg form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymlir.bindings import ir
from tinymlir.linalg_info import constant_array, constant_scalar, indexing_maps


@dataclass(frozen=True)
class Requantization:
    """A linalg.generic whose body is one ``op``, tiny.requantize or tiny.rescale.

    ``accumulators`` is what it is applied to. ``constants`` are the other operands: arrays of
    one element, or of one for each channel; then ``channels`` is their indexing map.
    """

    generic: ir.Operation
    op: ir.Operation
    accumulators: ir.Value
    constants: tuple[np.ndarray, ...]
    channels: ir.AffineMap | None

    def attribute(self, name: str) -> int:
        """An integer attribute of ``op``."""
        return int(self.op.attributes[name].value)


def read_requantization(generic: ir.Operation) -> Requantization | None:
    """What ``generic`` requantises; None where its body does more than that."""
    if generic.name != "linalg.generic":
        return None
    block = generic.regions[0].blocks[0]
    body = [op.operation for op in block.operations]
    if len(body) != 2 or body[0].name not in ("tiny.requantize", "tiny.rescale"):
        return None
    op = body[0]
    if op.operands[0] != block.arguments[0] or body[1].operands[0] != op.results[0]:
        return None
    maps = indexing_maps(generic)
    constants: list[np.ndarray] = []
    channels: ir.AffineMap | None = None
    for operand in list(op.operands)[1:]:
        if isinstance(operand, ir.BlockArgument) and operand.owner == block:
            array = constant_array(generic.operands[operand.arg_number])
            where = maps[operand.arg_number]
            if array is None or (channels is not None and channels != where):
                return None
            channels = where
        else:
            scalar = constant_scalar(operand)
            array = None if scalar is None else np.array([scalar])
            if array is None:
                return None
        constants.append(array)
    return Requantization(generic, op, generic.operands[0], tuple(constants), channels)
