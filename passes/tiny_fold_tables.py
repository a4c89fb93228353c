"""``tiny-fold-tables``: whatever depends on one byte alone as one table of 256 bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import arith, ir, linalg, tensor
from tinymlir.linalg_info import constant_array, constant_scalar, indexing_maps, yielded
from tinymlir.reachable import ARITHMETIC

from ._pass import Pass, find_ops, register_pass
from .tiny_outline_layers import find_main

_BYTES = np.arange(numerics.I8_MIN, numerics.I8_MAX + 1)
_PAIRS: dict[str, np.ufunc] = {**ARITHMETIC, "arith.shrsi": np.right_shift}
_COMPARISONS: dict[arith.CmpIPredicate, Callable[..., Any]] = {
    arith.CmpIPredicate.eq: np.equal,
    arith.CmpIPredicate.ne: np.not_equal,
    arith.CmpIPredicate.slt: np.less,
    arith.CmpIPredicate.sle: np.less_equal,
    arith.CmpIPredicate.sgt: np.greater,
    arith.CmpIPredicate.sge: np.greater_equal,
}
_CASTS = ("arith.extsi", "arith.trunci", "arith.index_cast")

#: A value of an element, for each value of the byte that it depends on: signed, in 64 bits.
Column = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Table:
    """An i8 tensor as a function of the elements of another, ``source``."""

    source: ir.Value
    entries: Column


@register_pass
@dataclass(frozen=True)
class FoldTables(Pass):
    """Replace elementwise layers whose elements depend on one byte by lookups of that byte

    Activation functions come as several layers: x * sigmoid(x) is a table and a product,
    hard swish a sum, a clamp and two products. All that an element of the last depends on
    is one byte of x, so one table holds it. Layers are folded where that makes no tensor
    live longer: the layers between have no other reader, or x is read as it is already.

    Before::

        func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
          %e = tensor.empty() : tensor<4xi8>
          %one = arith.constant 1 : i8
          %h = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>,
                 affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
                 ins(%x : tensor<4xi8>) outs(%e : tensor<4xi8>) {
          ^bb0(%a: i8, %unused: i8):
            %r = arith.maxsi %a, %one : i8
            linalg.yield %r : i8
          } -> tensor<4xi8>
          %y = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>,
                 affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
                 iterator_types = ["parallel"]}
                 ins(%x, %h : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) {
          ^bb0(%a: i8, %b: i8, %unused: i8):
            %r = arith.subi %a, %b : i8
            linalg.yield %r : i8
          } -> tensor<4xi8>
          return %y : tensor<4xi8>
        }

    After::

        func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
          ...
          %t = arith.constant dense<{{.*}}> : tensor<256xi8>
          ...
          %y = linalg.generic ... ins(%x : tensor<4xi8>) outs(%{{.*}} : tensor<4xi8>) ... {
          ^bb0(%a: i8, %unused: i8):
            ...
            %r = tensor.extract %t[%{{.*}}] : tensor<256xi8>
            linalg.yield %r : i8
          } -> tensor<4xi8>
          return %y : tensor<4xi8>
        }
    """

    name: ClassVar[str] = "tiny-fold-tables"

    def run(self, op: ir.Operation) -> None:
        tables: dict[ir.Value, _Table] = {}
        for layer in find_ops(find_main(op).operation, "linalg.generic"):
            table = _tabulated(layer, tables)
            if table is None:
                continue
            if _folds(layer, table.source):
                lookup = _lookup(layer, table)
                layer.results[0].replace_all_uses_with(lookup.results[0])
                _erase_unread(layer, tables)
                layer = lookup
            tables[layer.results[0]] = table


def _tabulated(layer: ir.Operation, tables: dict[ir.Value, _Table]) -> _Table | None:
    """The result of an elementwise layer as a table of the one tensor behind its operands."""
    *sources, _ = operands = list(layer.operands)
    if len(operands) < 2 or any(operand.type != layer.results[0].type for operand in operands):
        return None
    identity = ir.AffineMap.get_identity(len(layer.results[0].type.shape))
    if str(sources[0].type.element_type) != "i8" or any(
        found != identity for found in indexing_maps(layer)
    ):
        return None
    behind = [tables.get(source, _Table(source, _BYTES)) for source in sources]
    if any(table.source != behind[0].source for table in behind[1:]):
        return None
    block = layer.regions[0].blocks[0]
    known = {a: t.entries for a, t in zip(block.arguments, behind, strict=False)}
    entries = _column(yielded(block), known)
    return None if entries is None else _Table(behind[0].source, entries)


def _folds(layer: ir.Operation, source: ir.Value) -> bool:
    """Whether a lookup of ``source`` is less than ``layer`` and keeps nothing alive for longer."""
    sources = list(layer.operands)[:-1]
    between = [operand for operand in sources if operand != source]
    if not between:
        return len(sources) > 1
    mine = all(use.owner.operation == layer for operand in between for use in operand.uses)
    return mine or source in sources


def _column(value: ir.Value, known: dict[ir.Value, Column]) -> Column | None:
    """A scalar for each byte; None where it is not integer arithmetic of what is known."""
    if value in known:
        return known[value]
    if isinstance(value, ir.BlockArgument):
        return None
    op = value.owner.operation
    constant = constant_scalar(value)
    if constant is not None:
        return np.full(_BYTES.size, constant, np.int64)
    if op.name == "tensor.extract":
        array = constant_array(op.operands[0])
        places = [_column(index, known) for index in list(op.operands)[1:]]
        if array is None or any(place is None for place in places):
            return None
        return np.asarray(array[tuple(places)], np.int64)
    operands = [_column(operand, known) for operand in op.operands]
    if any(operand is None for operand in operands):
        return None
    column = _computed(op, operands)
    known_width = isinstance(value.type, ir.IntegerType) and value.type.width < 64
    return _wrapped(column, value.type.width) if column is not None and known_width else column


def _computed(op: ir.Operation, operands: list[Any]) -> Column | None:
    if op.name in _PAIRS:
        return np.asarray(_PAIRS[op.name](*operands), np.int64)
    if op.name in _CASTS:
        return np.asarray(operands[0], np.int64)
    if op.name == "arith.select":
        return np.where(operands[0] != 0, operands[1], operands[2])
    if op.name == "arith.cmpi":
        predicate = arith.CmpIPredicate(op.attributes["predicate"].value)
        compare = _COMPARISONS.get(predicate)
        return None if compare is None else np.asarray(compare(*operands), np.int64)
    if op.name == "tiny.requantize":
        names = ("zero_point", "min", "max", "rounding")
        rest = [op.attributes[name].value for name in names]
        return numerics.requantize(*operands, *rest).astype(np.int64)
    return None


def _wrapped(column: Column, width: int) -> Column:
    """As the signed integer of ``width`` bits that is left of it; one bit is 0 or -1."""
    away = 64 - width
    return (column << away) >> away


def _lookup(layer: ir.Operation, table: _Table) -> ir.Operation:
    """A layer of the name of ``layer`` that looks up what that one computes."""
    context = layer.context
    i8, i32 = (ir.IntegerType.get_signless(width, context) for width in (8, 32))
    kind = layer.results[0].type
    with ir.InsertionPoint(layer), layer.location:
        dense = ir.DenseElementsAttr.get(table.entries.astype(np.int8), type=i8)
        entries = arith.constant(dense.type, dense)
        init = tensor.empty(kind.shape, i8)
        same = ir.AffineMap.get_identity(len(kind.shape))
        loops = layer.attributes["iterator_types"]
        lookup = linalg.GenericOp([kind], [table.source], [init], [same, same], loops).operation
    body = lookup.regions[0].blocks.append(i8, i8, arg_locs=[layer.location] * 2)
    with ir.InsertionPoint(body), layer.location:
        wide = arith.extsi(i32, body.arguments[0])
        place = arith.subi(wide, arith.constant(i32, numerics.I8_MIN))
        index = arith.index_cast(ir.IndexType.get(context), place)
        linalg.YieldOp([tensor.extract(entries, [index])])
    for name in layer.attributes:
        if name.startswith("tiny."):
            lookup.attributes[name] = layer.attributes[name]
    lookup.attributes["tiny.op"] = ir.StringAttr.get("lookup", context)
    return lookup


def _erase_unread(layer: ir.Operation, tables: dict[ir.Value, _Table]) -> None:
    """Erase ``layer`` and the layers that only it has read."""
    sources = set(list(layer.operands)[:-1])
    tables.pop(layer.results[0], None)
    layer.erase()
    for source in sources:
        if source in tables and not list(source.uses):
            _erase_unread(source.owner.operation, tables)
