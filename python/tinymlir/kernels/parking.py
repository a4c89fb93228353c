"""Values that wait in the stack frame while a hot loop needs all registers.

Where a loop is a register short, LLVM does not spill what is needed at its ends alone: it spills
accumulators many times a turn, or loads a pointer again for each use. So kernels say what waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tinymlir.bindings import arith, func, ir, llvm, scf
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.kernels.words import below


class Cell(Protocol):
    """What holds an i32 or a pointer."""

    def load(self) -> ir.Value:
        """The value, from here on in a register."""

    def store(self, value: ir.Value) -> None:
        """Hold another value."""


@dataclass
class Held:
    """A register."""

    value: ir.Value

    def load(self) -> ir.Value:
        return self.value

    def store(self, value: ir.Value) -> None:
        self.value = value


@dataclass(frozen=True)
class Parked:
    """A word of the stack frame."""

    slot: ir.Value
    kind: ir.Type

    def load(self) -> ir.Value:
        return llvm.load(self.kind, self.slot, volatile_=True, alignment=4)

    def store(self, value: ir.Value) -> None:
        llvm.store(value, self.slot, volatile_=True, alignment=4)


def park(value: ir.Value) -> Parked:
    """A cell in the frame of the function that is emitted."""
    function = ir.InsertionPoint.current.block.owner
    while not isinstance(function.opview, func.FuncOp):
        function = function.parent
    with ir.InsertionPoint.at_block_begin(function.regions[0].blocks[0]):
        one = arith.constant(ir.IntegerType.get_signless(32), 1)
        slot = llvm.alloca(ir.Type.parse("!llvm.ptr"), one, value.type, alignment=4)
    parked = Parked(slot, value.type)
    parked.store(value)
    return parked


#: Emits a turn of a loop: gets a function that loads the counter, and the cell of what is carried.
Turn: TypeAlias = Callable[[Callable[[], Index], Cell], None]


def held_loop(emitter: Emitter, count: int, turn: Turn, init: ir.Value) -> None:
    """A loop from 0 to ``count`` that carries a value in a register."""

    def body(number: Index, value: ir.Value) -> list[ir.Value]:
        cell = Held(value)
        turn(lambda: number, cell)
        return [cell.value]

    emitter.loop(0, count, 1, body, [init])


def parked_loop(emitter: Emitter, count: int, turn: Turn, init: ir.Value) -> None:
    """A loop from 0 to ``count`` that keeps its counter and what it carries in the frame.

    Each turn must load the counter once.
    """
    if count == 1:
        turn(lambda: 0, Held(init))
        return
    cell, counter = park(init), park(emitter.integer(0))
    loop = scf.WhileOp([], [])
    with ir.InsertionPoint(loop.regions[0].blocks.append()):
        loaded: list[ir.Value] = []

        def number() -> ir.Value:
            loaded.append(counter.load())
            return arith.index_cast(ir.IndexType.get(), loaded[0])

        turn(number, cell)
        following = arith.addi(loaded[0], emitter.integer(1))
        counter.store(following)
        more = arith.cmpi(arith.CmpIPredicate.ult, following, emitter.integer(count))
        scf.condition(more, [])
    with ir.InsertionPoint(loop.regions[1].blocks.append()):
        scf.yield_([])


def while_below(
    end: Cell,
    carried: list[ir.Value],
    turn: Callable[..., list[ir.Value]],
    *,
    place: int = 0,
    first: bool = False,
) -> list[ir.Value]:
    """Turns that carry values while one of them, that at ``place``, is an address below ``end``.

    ``first``: there is one turn at least.
    """
    if first:

        def until(*values: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
            moved = turn(*values)
            return below(moved[place], end.load()), moved

        return repeat(until, carried)
    loop, before, after = _while(carried)
    with ir.InsertionPoint(before):
        scf.condition(below(before.arguments[place], end.load()), list(before.arguments))
    with ir.InsertionPoint(after):
        scf.yield_(turn(*after.arguments))
    return list(loop.results)


def repeat(
    turn: Callable[..., tuple[ir.Value, list[ir.Value]]], carried: Sequence[ir.Value] = ()
) -> list[ir.Value]:
    """Turns that carry values, one at least; each gives whether there is another one, and values
    for it.
    """
    loop, before, after = _while(carried)
    with ir.InsertionPoint(before):
        scf.condition(*turn(*before.arguments))
    with ir.InsertionPoint(after):
        scf.yield_(list(after.arguments))
    return list(loop.results)


def _while(carried: Sequence[ir.Value]) -> tuple[scf.WhileOp, ir.Block, ir.Block]:
    """A loop without code, and its blocks: what tests, and what goes on."""
    kinds = [value.type for value in carried]
    locations = [ir.Location.current] * len(kinds)
    loop = scf.WhileOp(kinds, list(carried))
    before, after = (region.blocks.append(*kinds, arg_locs=locations) for region in loop.regions)
    return loop, before, after


def opaque(value: ir.Value) -> ir.Value:
    """``value`` in a register of its own, as one of which nobody knows how it moves.

    LLVM takes pointers that move alike for one that moves and a distance, which is a register more.
    """
    return llvm.inline_asm(value.type, [value], "", "=r,0")
