"""``tiny-expand-division``: unsigned division for cores that have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.linalg_info import constant_scalar

from ._pass import Pass, PassFailure, find_ops, register_pass

_HELPER = "divide"
#: Bits of numbers of which a product is a word.
_SHORT = 16
_Cast = Callable[[ir.Type, ir.Value], ir.Value]


@register_pass
@dataclass(frozen=True)
class ExpandDivision(Pass):
    """Replace arith.divui and arith.remui by calls to a shift-and-subtract routine

    On a core without a divide instruction LLVM would call a run-time library that
    the object must not need. Works on index and on integers of up to 32 bits. Those of up to 16
    bits by a constant are a product, with an inverse that is one too small at the most.

    Before::

        func.func @f(%a: i32, %b: i32) -> i32 {
          %q = arith.divui %a, %b : i32
          return %q : i32
        }

    After::

        func.func private @divide(%a: i32, %b: i32) -> i32 { ... }
        func.func @f(%a: i32, %b: i32) -> i32 {
          %q = call @divide(%a, %b) : (i32, i32) -> i32
          return %q : i32
        }
    """

    name: ClassVar[str] = "tiny-expand-division"

    def run(self, op: ir.Operation) -> None:
        found = find_ops(op, "arith.divui", "arith.remui")
        if not all(map(_short_divisor, found)):
            with ir.InsertionPoint.at_block_begin(op.regions[0].blocks[0]), op.location:
                _emit_divide()
        for division in found:
            with ir.InsertionPoint(division), division.location:
                result = _divide(division)
            division.results[0].replace_all_uses_with(result)
            division.erase()


def _short_divisor(division: ir.Operation) -> int | None:
    """A constant that numbers are divided by of which a product fits a word."""
    kind = division.results[0].type
    if not isinstance(kind, ir.IntegerType) or kind.width > _SHORT:
        return None
    value = constant_scalar(division.operands[1])
    return value % (1 << kind.width) or None if value is not None else None


def _divide(division: ir.Operation) -> ir.Value:
    i32 = ir.IntegerType.get_signless(32)
    kind = division.results[0].type
    widen, narrow = _casts(division, kind)
    dividend, divisor = (widen(i32, v) for v in division.operands)
    known = _short_divisor(division)
    if known is None:
        value = func.call([i32], _HELPER, [dividend, divisor])
    else:
        product = arith.muli(dividend, arith.constant(i32, (1 << _SHORT) // known))
        value = arith.shrui(product, arith.constant(i32, _SHORT))
        left = arith.subi(dividend, arith.muli(value, divisor))
        more = arith.cmpi(arith.CmpIPredicate.uge, left, divisor)
        value = arith.addi(value, arith.extui(i32, more))
    if division.name == "arith.remui":
        value = arith.subi(dividend, arith.muli(value, divisor))
    return narrow(kind, value)


def _casts(division: ir.Operation, kind: ir.Type) -> tuple[_Cast, _Cast]:
    """From ``kind`` to i32 and back."""
    if isinstance(kind, ir.IndexType):
        return arith.index_cast, arith.index_cast
    if not isinstance(kind, ir.IntegerType) or kind.width > 32:
        raise PassFailure(division.location, f"has no division of {kind} for this core")
    if kind.width < 32:
        return arith.extui, arith.trunci
    return (lambda _, value: value), (lambda _, value: value)


def _emit_divide() -> None:
    """One quotient bit per step, from the top; a divisor of zero gives all ones."""
    i32 = ir.IntegerType.get_signless(32)
    function = func.FuncOp(_HELPER, ([i32, i32], [i32]), visibility="private")
    with ir.InsertionPoint(function.add_entry_block()):
        dividend, divisor = function.arguments
        zero, one = arith.constant(i32, 0), arith.constant(i32, 1)
        top = arith.constant(i32, 31)
        index = ir.IndexType.get()
        bounds = [arith.constant(index, v) for v in (0, 32, 1)]
        loop = scf.ForOp(*bounds, [zero, zero, dividend])
        with ir.InsertionPoint(loop.body):
            quotient, remainder, rest = loop.inner_iter_args
            shifted = arith.ori(arith.shli(remainder, one), arith.shrui(rest, top))
            fits = arith.cmpi(arith.CmpIPredicate.uge, shifted, divisor)
            left = arith.select(fits, arith.subi(shifted, divisor), shifted)
            doubled = arith.shli(quotient, one)
            scf.yield_([arith.ori(doubled, arith.extui(i32, fits)), left, arith.shli(rest, one)])
        func.ReturnOp([loop.results[0]])
