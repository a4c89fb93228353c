"""Modelled cycles: what a basic block costs on a core, by the target's cost table.

docs/cycle-models.md says what is modelled, what is not, and where the figures come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinymlir.simulators.decode import Instruction
from tinymlir.targets import Costs


@dataclass(frozen=True)
class BlockCost:
    """Of one run through a block, which depends on where its last instruction goes."""

    instructions: int
    cycles_if_falling_through: int
    cycles_if_branching: int


def price_block(costs: Costs, instructions: Iterable[Instruction]) -> BlockCost:
    """Price a basic block, instruction by instruction, with the hazards between neighbours.

    What ran before the block is not known, so nothing stalls or overlaps across its start.
    """
    count = cycles = 0
    refill = 0
    previous = Instruction("alu")
    for instruction in instructions:
        count += 1
        cycles += _price(costs, instruction, previous)
        if previous.writes & instruction.reads:
            if previous.kind == "load":
                cycles += costs.load_use_stall
            elif instruction.kind == "load":
                cycles += costs.address_stall
        conditional = instruction.kind == "branch"
        refill = costs.branch_taken - costs.branch_not_taken if conditional else 0
        previous = instruction
    return BlockCost(count, cycles, cycles + refill)


def _price(costs: Costs, instruction: Instruction, previous: Instruction) -> int:
    kind = instruction.kind
    if kind in ("load", "store"):
        return _price_transfer(costs, instruction, previous)
    if kind in ("vector", "vector_memory"):
        assert costs.vector is not None and costs.vector_overlapped is not None
        other = "vector" if kind == "vector_memory" else "vector_memory"
        return costs.vector_overlapped if previous.kind == other else costs.vector
    if kind == "branch":
        return costs.branch_not_taken
    if instruction.leaves:
        return costs.jump
    # The loop cache makes the end of a low-overhead loop as cheap as any instruction.
    price = costs.alu if kind == "loop_end" else getattr(costs, kind)
    # A core without the instruction cannot have executed it: its cheapest stand-in is the adder.
    return costs.alu if price is None else int(price)


def _price_transfer(costs: Costs, instruction: Instruction, previous: Instruction) -> int:
    if instruction.transfers > 1 or instruction.leaves:
        refill = costs.branch_taken - costs.branch_not_taken if instruction.leaves else 0
        return costs.load + (instruction.transfers - 1) * costs.load_multiple_extra + refill
    pipelined = previous.kind == "load" and previous.transfers == 1
    # A store may take what was just loaded as its data, so only a load is known to depend on it.
    depends = instruction.kind == "load" and previous.writes & instruction.reads
    if costs.load_after_load is not None and pipelined and not depends:
        return costs.load_after_load
    return costs.load if instruction.kind == "load" else costs.store
