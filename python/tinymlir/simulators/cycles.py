"""Modelled cycles: what a run through a basic block costs on a core.

docs/cycle-models.md says what is modelled, what is not, and where the figures come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.simulators.decode import Instruction
from tinymlir.simulators.dual_issue import PIPELINES, Pipeline
from tinymlir.targets import Costs, Target


@dataclass(frozen=True)
class Block:
    """A basic block: only its last instruction may go elsewhere than to the next."""

    address: int
    size: int
    instructions: tuple[Instruction, ...]


def price_block(target: Target, before: Block, block: Block) -> int:
    """Cycles from the end of ``before``, which ran just before, to the end of ``block``.

    What the branch costs that led from one to the other is included.
    """
    falls_through = block.address == before.address + before.size
    pipeline = PIPELINES.get(target.name)
    if pipeline is not None:
        return _price_dual(pipeline, before, block, falls_through)
    costs, cycles = target.costs, 0
    previous = before.instructions[-1] if before.instructions else Instruction("alu")
    if not falls_through and block.instructions:
        cycles += _refill(costs, previous, block)
    for instruction in block.instructions:
        cycles += _price(costs, instruction, previous)
        previous = instruction
    return cycles


def _price_dual(pipeline: Pipeline, before: Block, block: Block, falls_through: bool) -> int:
    history = before.instructions
    last = history[-1].kind if history else "alu"
    # The end of a low-overhead loop goes back at no cost.
    jump = [] if falls_through or last == "loop_end" else [None]
    cycles = pipeline.cycles([*history, *jump, *block.instructions]) - pipeline.cycles(history)
    if falls_through and last == "branch" and history[-1].backward:
        cycles += pipeline.misprediction
    return cycles


def _refill(costs: Costs, previous: Instruction, block: Block) -> int:
    """What it takes to go on elsewhere, beyond the price of the instruction that leaves."""
    extra = costs.branch_taken - costs.branch_not_taken if previous.kind == "branch" else 0
    if block.address % 4 and block.instructions[0].size == 4:
        extra += costs.misaligned_target
    return extra


def _price(costs: Costs, instruction: Instruction, previous: Instruction) -> int:
    kind = instruction.kind
    if kind in ("load", "store"):
        price = _price_transfer(costs, instruction, previous)
    elif kind == "branch":
        price = costs.branch_not_taken
    elif instruction.leaves:
        price = costs.jump
    else:
        known = getattr(costs, kind)
        # A core without the instruction cannot have run it: its cheapest stand-in is the adder.
        price = costs.alu if known is None else known
    return price + _stall(costs, instruction, previous)


def _stall(costs: Costs, instruction: Instruction, previous: Instruction) -> int:
    if previous.kind == "load":
        return costs.load_use_stall if previous.writes & instruction.reads else 0
    if previous.writes & instruction.addresses:
        return costs.address_stall
    by_register = instruction.kind in ("jump", "call") and previous.writes & instruction.reads
    return costs.jump_register_stall if by_register else 0


def _price_transfer(costs: Costs, instruction: Instruction, previous: Instruction) -> int:
    if instruction.transfers > 1 or instruction.leaves:
        refill = costs.branch_taken - costs.branch_not_taken if instruction.leaves else 0
        return costs.load + (instruction.transfers - 1) * costs.load_multiple_extra + refill
    pipelined = previous.kind == "load" and previous.transfers == 1
    # What was just loaded may be the data of a store, not an address.
    depends = previous.writes & instruction.addresses
    if costs.load_after_load is not None and pipelined and not depends:
        return costs.load_after_load
    if instruction.kind == "load":
        return costs.load
    return costs.indexed_store if instruction.indexed else costs.store
