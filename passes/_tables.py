"""Elementwise layers whose bodies read constants of each channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinymlir.bindings import arith, ir, linalg, tensor
from tinymlir.linalg_info import indexing_maps


def replace_by_tables(
    generic: ir.Operation,
    channels: ir.AffineMap | None,
    tables: Sequence[np.ndarray],
    make: Callable[..., ir.Value],
) -> ir.Operation:
    """Put another linalg.generic in the place of one, at the current insertion point.

    Its body yields ``make`` of what the first operand of ``generic`` has, and of the elements of
    ``tables``, which ``channels`` maps. A table of equal elements becomes a scalar.
    """
    init = generic.operands[len(generic.operands) - 1]
    made = _by_tables(generic, init, channels, tables, make)
    for name in generic.attributes:
        if name.startswith("tiny."):
            made.attributes[name] = generic.attributes[name]
    generic.results[0].replace_all_uses_with(made.results[0])
    generic.erase()
    return made


def change_by_tables(
    generic: ir.Operation,
    channels: ir.AffineMap,
    tables: Sequence[np.ndarray],
    make: Callable[..., ir.Value],
) -> None:
    """Change what an elementwise linalg.generic reads first, by ``make`` as `replace_by_tables`."""
    kind = generic.operands[0].type
    init = tensor.empty(kind.shape, kind.element_type)
    generic.operands[0] = _by_tables(generic, init, channels, tables, make).results[0]


def _by_tables(
    generic: ir.Operation,
    init: ir.Value,
    channels: ir.AffineMap | None,
    tables: Sequence[np.ndarray],
    make: Callable[..., ir.Value],
) -> ir.Operation:
    maps = indexing_maps(generic)
    inputs, where = [generic.operands[0]], [maps[0]]
    scalars: list[ir.Value | None] = []
    for table in tables:
        element = ir.IntegerType.get_signless(8 * table.itemsize)
        if (table == table.flat[0]).all():
            scalars.append(arith.constant(element, int(table.flat[0])))
            continue
        assert channels is not None
        scalars.append(None)
        shaped = np.ascontiguousarray(table)
        kind = ir.RankedTensorType.get(list(shaped.shape), element)
        inputs.append(arith.constant(kind, ir.DenseElementsAttr.get(shaped)))
        where.append(channels)
    made = linalg.GenericOp(
        [init.type],
        inputs,
        [init],
        ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in [*where, maps[-1]]]),
        generic.attributes["iterator_types"],
    )
    kinds = [value.type.element_type for value in [*inputs, init]]
    block = made.regions[0].blocks.append(*kinds, arg_locs=[ir.Location.current] * len(kinds))
    acc, *arguments = block.arguments
    rest = iter(arguments)
    with ir.InsertionPoint(block):
        linalg.YieldOp([make(acc, *(next(rest) if s is None else s for s in scalars))])
    return made.operation
