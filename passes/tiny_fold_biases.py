"""``tiny-fold-biases``: one constant a channel for what a bias and an offset are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import arith, func, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.convolution import Convolution, find_convolution, replace_constants
from tinymlir.kernels.late_steps import read_step_over
from tinymlir.kernels.requantization import Requantization, read_requantization
from tinymlir.late_lines import NEVER
from tinymlir.line_fit import FoldedLine, Line, fold_biases

from ._late import step_over
from ._pass import Pass, register_pass
from ._tables import replace_by_tables
from ._words import constant


@register_pass
@dataclass(frozen=True)
class FoldBiases(Pass):
    """Give accumulators a fraction, so that a channel's bias is its offset as well

    A convolution whose requantisation is a line (tiny-fit-requantize) has three constants for
    each channel: a bias, a multiplier and an offset. Here sums of products are shifted up first;
    then one addend, which has the bias, the rounding and the zero point in it, gives the line its
    place, and the convolution itself has no biases. As the fit, this is exact: taken only where
    each accumulator that can occur keeps its result. It takes 4 bytes a channel from flash, and
    an instruction or none from a result.

    Before::

        func.func private @layer0(%x: tensor<3x4xi8>) -> tensor<3x2xi8>
            attributes {tiny.layer = "fc"} {
          %w = arith.constant dense<[[1, -2], [3, 4], [-5, 6], [7, 100]]> : tensor<4x2xi8>
          %b = arith.constant dense<[8, 10]> : tensor<2xi32>
          %m = arith.constant dense<[1717986918, 644245094]> : tensor<2xi32>
          %o = arith.constant dense<[-16320, -16317]> : tensor<2xi32>
          %e32 = tensor.empty() : tensor<3x2xi32>
          %i = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<3x2xi32>)
                 dimensions = [0]
          %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x2xi8>)
                   outs(%i : tensor<3x2xi32>) -> tensor<3x2xi32>
          %e = tensor.empty() : tensor<3x2xi8>
          %q = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>,
                 affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d1)>,
                 affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
                 ins(%acc, %m, %o : tensor<3x2xi32>, tensor<2xi32>, tensor<2xi32>)
                 outs(%e : tensor<3x2xi8>) {
          ^bb0(%a: i32, %mc: i32, %oc: i32, %unused: i8):
            %r = "tiny.rescale"(%a, %mc, %oc) {max = 127 : i32, min = -128 : i32,
                   shift = 39 : i32} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<3x2xi8>
          return %q : tensor<3x2xi8>
        }

    After::

        func.func private @layer0(%x: tensor<3x4xi8>) -> tensor<3x2xi8>
            attributes {tiny.layer = "fc"} {
          ...
          %b = arith.constant dense<0> : tensor<2xi32>
          %i = linalg.broadcast ins(%b : tensor<2xi32>) {{.*}}
          ...
          %q = linalg.generic ... {
          ^bb0(%a: i32, %mc: i32, %oc: i32, %unused: i8):
            ...
            %s = arith.shli %a, %{{.*}} : i32
            %t = arith.addi %s, %oc : i32
            ...
            %r = "tiny.rescale"(%t, %mc, %{{.*}}) {max = 127 : i32, min = -128 : i32,
                   shift = 47 : i32} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<3x2xi8>
          return %q : tensor<3x2xi8>
        }
    """

    name: ClassVar[str] = "tiny-fold-biases"
    #: pixels of the largest results to do it for: flash is of channels, instructions are of pixels
    most_pixels: int | None = None

    def run(self, op: ir.Operation) -> None:
        for child in op.regions[0].blocks[0].operations:
            if isinstance(child, func.FuncOp) and "tiny.layer" in child.operation.attributes:
                for inner in list(child.body.blocks[0].operations):
                    self._fold(inner.operation)

    def _fold(self, generic: ir.Operation) -> None:
        found = read_requantization(generic)
        if found is None or found.op.name != "tiny.rescale" or found.constants[1].size == 1:
            return
        conv = find_convolution(generic.results[0], by_rows=True)
        if conv is None or found.constants[0].size == 1:
            return
        if self.most_pixels is not None and prod(conv.out_hw) > self.most_pixels:
            return
        folded = _folded(found, conv)
        if folded is None:
            return
        shift = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), folded.shift)
        least, most = (found.op.attributes[name] for name in ("min", "max"))

        def make(acc: ir.Value, multiplier: ir.Value, bias: ir.Value) -> ir.Value:
            total = arith.addi(arith.shli(acc, constant(folded.places)), bias)
            word = constant(folded.word)
            return tiny.RescaleOp(total, multiplier, word, shift=shift, min=least, max=most).res

        shape = found.constants[0].shape
        with ir.InsertionPoint(generic), generic.location:
            # Sums wrap around on the way, as what is added may.
            biases = folded.biases + (conv.bias.astype(np.int64) << folded.places)
            words = (a.astype(np.uint32).view(np.int32) for a in (folded.multipliers, biases))
            tables = [a.reshape(shape) for a in words]
            _move_late(generic, found.channels, conv.bias.reshape(shape))
            replace_constants(conv, conv.weights, np.zeros_like(conv.bias))
            replace_by_tables(generic, found.channels, tables, make)


def _move_late(generic: ir.Operation, channels: ir.AffineMap, biases: np.ndarray) -> None:
    """Take ``biases`` from the late accumulators that are stepped over before ``generic``."""
    before = generic.operands[0].owner.operation
    late = read_step_over(before)
    if late is None:
        return
    late = late.reshape(-1, *biases.shape)
    moved = np.where(late == NEVER, NEVER, late - biases).astype(np.int32)
    generic.operands[0] = before.operands[0]
    step_over(generic, channels, moved)
    before.erase()


def _folded(found: Requantization, conv: Convolution) -> FoldedLine | None:
    """The line of ``found``, over the accumulators that ``conv`` reaches."""
    multipliers, offsets = (a.reshape(-1).astype(np.int64) for a in found.constants)
    offsets = offsets << (64 - found.op.operands[2].type.width)
    low, high = numerics.accumulator_range(conv.weights.reshape(len(conv.bias), -1), conv.bias)
    wraps = (low < numerics.I32_MIN) | (high > numerics.I32_MAX)
    if (wraps & (multipliers != 0)).any():
        return None
    line = Line(multipliers, offsets, found.attribute("shift"))
    return fold_biases(line, low, high, (found.attribute("min"), found.attribute("max")))
