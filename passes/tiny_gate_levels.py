"""``tiny-gate-levels``: a level that is run again exactly where it is not sure."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from tinymlir.bindings import arith, func, ir, scf
from tinymlir.kernels.emitter import Emitter

from ._pass import Pass, PassFailure, register_pass
from .tiny_link_levels import load_level
from .tiny_outline_layers import find_main

#: Below every score.
_LEAST = -128


@register_pass
@dataclass(frozen=True)
class GateLevels(Pass):
    """Add @invoke_gated to linked levels: exact where the two best scores are close

    It runs the level of the state. Where the best score is less than ``margin`` above the second
    best, it runs level 0 as well, on the same input, which no level writes to. It gives the
    number of the level whose output is there. Scores are the last output.

    Before::

        func.func @main(%state: memref<1xi32>, %x: memref<8xi8>, %y: memref<4xi8>,
                        %arena: memref<8xi8>) { return }
        func.func private @run_level(i32, memref<8xi8>, memref<4xi8>, memref<8xi8>) -> i32

    After::

        func.func @main(%state: memref<1xi32>, %x: memref<8xi8>, %y: memref<4xi8>,
                        %arena: memref<8xi8>) { return }
        func.func private @run_level(i32, memref<8xi8>, memref<4xi8>, memref<8xi8>) -> i32
        func.func @invoke_gated(%state: memref<1xi32>, %x: memref<8xi8>, %y: memref<4xi8>,
                                %arena: memref<8xi8>, %margin: i32) -> i32 {
          %c0 = arith.constant 0 : index
          %level = memref.load %state[%c0] : memref<1xi32>
          %ran = call @run_level(%level, %x, %y, %arena)
              : (i32, memref<8xi8>, memref<4xi8>, memref<8xi8>) -> i32
          ...
          %again = scf.if %close -> (i32) {
            %exact = func.call @run_level(%zero, %x, %y, %arena)
                : (i32, memref<8xi8>, memref<4xi8>, memref<8xi8>) -> i32
            scf.yield %exact : i32
          } else {
            scf.yield %ran : i32
          }
          return %again : i32
        }
    """

    name: ClassVar[str] = "tiny-gate-levels"

    def run(self, op: ir.Operation) -> None:
        main = find_main(op)
        i32 = ir.IntegerType.get_signless(32)
        types = list(main.type.inputs)
        if len(types) < 4 or not _are_scores(types[-2]):
            raise PassFailure(main.location, "expects the scores of two classes or more as output")
        with ir.InsertionPoint(op.regions[0].blocks[0]), main.location:
            gated = func.FuncOp("invoke_gated", ([*types, i32], [i32]))
        if "arg_attrs" in main.operation.attributes:
            given = list(main.operation.attributes["arg_attrs"])
            gated.operation.attributes["arg_attrs"] = ir.ArrayAttr.get(
                [*given, *[ir.DictAttr.get({})] * (len(types) + 1 - len(given))]
            )
        with ir.InsertionPoint(gated.add_entry_block()), main.location:
            state, *buffers, margin = gated.arguments
            ran = func.call([i32], "run_level", [load_level(state), *buffers])
            best, second = _best_two(buffers[-2])
            close = arith.cmpi(arith.CmpIPredicate.slt, arith.subi(best, second), margin)
            zero = arith.constant(i32, 0)
            fast = arith.cmpi(arith.CmpIPredicate.ne, ran, zero)
            again = scf.IfOp(arith.andi(fast, close), [i32], has_else=True)
            with ir.InsertionPoint(again.then_block):
                scf.yield_([func.call([i32], "run_level", [zero, *buffers])])
            with ir.InsertionPoint(again.else_block):
                scf.yield_([ran])
            func.ReturnOp(again.results)


def _are_scores(kind: ir.Type) -> bool:
    """Whether a buffer has one score of 8 bits for each of two classes or more."""
    i8 = ir.IntegerType.get_signless(8)
    if not isinstance(kind, ir.MemRefType) or kind.element_type != i8:
        return False
    return max(kind.shape, default=1) == prod(kind.shape) > 1


def _best_two(scores: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The best and the second best, as i32."""
    emitter = Emitter()
    flat = emitter.flat(scores)

    def step(place: ir.Value, best: ir.Value, second: ir.Value) -> list[ir.Value]:
        score = emitter.widen(emitter.load(flat, [place]))
        return [
            arith.maxsi(best, score),
            arith.maxsi(second, arith.minsi(best, score)),
        ]

    least = emitter.integer(_LEAST)
    best, second = emitter.loop(0, flat.type.shape[0], 1, step, [least, least])
    return best, second
