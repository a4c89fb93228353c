"""``tiny-narrow-requantize``: requantisations of small accumulators as one line in 32 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, func, ir
from tinymlir.linalg_info import constant_scalar
from tinymlir.line_fit import Line, fit_short_line
from tinymlir.reachable import reachable

from ._pass import Pass, find_ops, register_pass


@register_pass
@dataclass(frozen=True)
class NarrowRequantize(Pass):
    """Replace tiny.requantize by 32-bit arithmetic where its accumulator leaves room for it

    Sums of a few bytes and bytes less a zero point take few bits, so that one line, a
    multiplier and an offset, may have the steps of the reference's rounding without the
    product ever needing a second word. As in tiny-fit-requantize the fit is exact, over all
    accumulators that can occur, and taken only then.

    Before::

        func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8>
            attributes {tiny.layer = "q"} {
          %m = arith.constant 1431655765 : i32
          %s = arith.constant 31 : i32
          %z = arith.constant 3 : i32
          %e = tensor.empty() : tensor<4xi8>
          %q = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>,
                 affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
                 ins(%x : tensor<4xi8>) outs(%e : tensor<4xi8>) {
          ^bb0(%a: i8, %unused: i8):
            %w = arith.extsi %a : i8 to i32
            %d = arith.subi %w, %z : i32
            %r = "tiny.requantize"(%d, %m, %s) {zero_point = 5 : i32, min = -128 : i32,
                   max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<4xi8>
          return %q : tensor<4xi8>
        }

    After::

        func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8>
            attributes {tiny.layer = "q"} {
          ...
          %q = linalg.generic ... ins(%x : tensor<4xi8>) outs(%e : tensor<4xi8>) {
          ^bb0(%a: i8, %unused: i8):
            %w = arith.extsi %a : i8 to i32
            %d = arith.subi %w, %z : i32
            ...
            %p = arith.muli %d, %{{.*}} : i32
            ...
            %l = arith.addi %p, %{{.*}} : i32
            ...
            %b = arith.shrsi %l, %{{.*}} : i32
            ...
            %r = arith.trunci %{{.*}} : i32 to i8
            linalg.yield %r : i8
          } -> tensor<4xi8>
          return %q : tensor<4xi8>
        }
    """

    name: ClassVar[str] = "tiny-narrow-requantize"

    def run(self, op: ir.Operation) -> None:
        for child in list(op.regions[0].blocks[0].operations):
            if isinstance(child, func.FuncOp) and "tiny.layer" in child.operation.attributes:
                for requantize in find_ops(child.operation, "tiny.requantize"):
                    line = _short_line(requantize)
                    if line is not None:
                        _replace(requantize, line)


def _short_line(op: ir.Operation) -> Line | None:
    """The line in 32 bits that equals a requantisation; None where there is none."""
    accumulators = reachable(op.operands[0])
    multiplier, shift = (constant_scalar(value) for value in list(op.operands)[1:])
    if accumulators is None or multiplier is None or shift is None:
        return None
    zero_point, least, most = (op.attributes[n].value for n in ("zero_point", "min", "max"))
    quotient = numerics.scaled(accumulators, multiplier, shift, op.attributes["rounding"].value)
    results = np.clip(quotient + zero_point, least, most)
    scale = float(np.ldexp(float(multiplier), -shift))
    return fit_short_line(scale, accumulators, results, (zero_point, least, most))


def _replace(op: ir.Operation, line: Line) -> None:
    i32 = ir.IntegerType.get_signless(32)

    def constant(value: int) -> ir.Value:
        return arith.constant(i32, value)

    with ir.InsertionPoint(op), op.location:
        value, multiplier = op.operands[0], int(line.multipliers[0])
        if multiplier != 1:
            value = arith.muli(value, constant(multiplier))
        value = arith.addi(value, constant(int(line.offsets[0])))
        if line.shift:
            value = arith.shrsi(value, constant(line.shift))
        least, most = (constant(op.attributes[name].value) for name in ("min", "max"))
        result = arith.trunci(
            ir.IntegerType.get_signless(8), arith.maxsi(arith.minsi(value, most), least)
        )
    op.results[0].replace_all_uses_with(result)
    op.erase()
