"""Cores that issue two instructions in a cycle: which pair, and when operands are there.

The figures are those of LLVM's scheduling models (docs/cycle-models.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinymlir.simulators.decode import Instruction


@dataclass(frozen=True)
class Timing:
    """How an instruction goes through the pipeline.

    It issues when one of each of ``units`` is free and keeps it for ``holds`` cycles; ``latency``
    cycles later its result can be read by an instruction that needs it at the usual stage.
    ``early`` registers are needed one cycle before that stage, ``late`` ones one cycle after it. An
    instruction may issue ``alone`` only, or only as the ``first`` of a pair, and take ``cycles`` of
    issuing for itself.
    """

    units: tuple[str, ...]
    latency: int = 1
    early: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()
    alone: bool = False
    first: bool = False
    cycles: int = 1
    holds: int = 1


@dataclass(frozen=True)
class Pipeline:
    """An in-order core that issues up to two instructions in a cycle.

    ``units`` says how many there are of each; ``refill`` are the cycles that are lost where control
    goes elsewhere, ``misprediction`` what a loop's branch costs when it falls through at last.
    """

    units: dict[str, int]
    timing: Callable[[Instruction], Timing]
    refill: int = 0
    misprediction: int = 0

    def cycles(self, instructions: Sequence[Instruction | None]) -> int:
        """Cycles in which the instructions issue; at None, control goes elsewhere."""
        now, issued = 0, 2  # The cycle of the latest to issue, and how many it has taken.
        free = {unit: [0] * count for unit, count in self.units.items()}
        ready: dict[str, int] = {}
        for instruction in instructions:
            if instruction is None:
                now, issued = now + self.refill, 2
                continue
            timing = self.timing(instruction)
            full = issued == 2 or (issued == 1 and (timing.alone or timing.first))
            registers = [_needed(r, ready, timing) for r in instruction.reads]
            at = max([now + full, *registers, *(min(free[unit]) for unit in timing.units)])
            if at > now:
                now, issued = at, 0
            issued = 2 if timing.alone else issued + 1
            for unit in timing.units:
                free[unit].remove(min(free[unit]))
                free[unit].append(now + timing.holds)
            for register in instruction.writes:
                ready[register] = now + timing.latency
            for register in instruction.updates:
                ready[register] = now
            now += timing.cycles - 1
        return now


def _needed(register: str, ready: dict[str, int], timing: Timing) -> int:
    at = ready.get(register, -1)
    if register in timing.early:
        return at + 1
    return at - 1 if register in timing.late else at


_SHIFTS = frozenset(("lsl", "lsr", "asr", "ror"))
_EXTENDS = re.compile(r"[su]xt(b16|b|h)")
_PARALLEL = re.compile(r"[su]h?(add|sub)(8|16)|[su]h?(asx|sax)|sel")
_SATURATING = re.compile(r"u?q(add|sub)(8|16)?|u?q(asx|sax)|usada?8")
_EARLY_SATURATING = re.compile(r"[su]sat(16)?|qd(add|sub)")
_REVERSALS = re.compile(r"rbit|rev(16|sh)?")
_FIELDS = re.compile(r"[su]bfx")
_PACKS = re.compile(r"pkh(bt|tb)|[su]xta(b16|b|h)")
_FIRST = re.compile(r"bf[ci]")
_NARROW = re.compile(r"ldrs?[bh].*")


def _cortex_m7(instruction: Instruction) -> Timing:
    """By LLVM's ARMScheduleM7.td, whose zero point is the second execution stage (EX2)."""
    i, name = instruction, instruction.name
    if i.kind in ("load", "store"):
        return _cortex_m7_transfer(i)
    if i.kind in ("mul", "mul_long", "mac", "dual_mac"):
        return Timing(("mac",), 2, late=i.late)
    if i.kind == "divide":
        return Timing(("alu",), 1, alone=True, cycles=7)
    if i.kind in ("branch", "jump", "call"):
        return Timing(("branch",))
    if _EXTENDS.fullmatch(name) or _PARALLEL.fullmatch(name):
        return Timing(("simd", "alu"), 1, first=True)
    if _SATURATING.fullmatch(name):
        return Timing(("simd", "alu"), 2, first=True)
    if _EARLY_SATURATING.fullmatch(name):
        return Timing(("simd", "alu", "shift"), 2, i.reads, first=True)
    if _REVERSALS.fullmatch(name):
        return Timing(("simd", "alu", "shift"), 0, i.reads, first=True)
    if _FIELDS.fullmatch(name):
        return Timing(("simd", "alu", "shift"), 1, i.reads, first=True)
    if _PACKS.fullmatch(name):
        return Timing(("simd", "alu", "shift"), 1, i.shifted, first=True)
    if name in _SHIFTS or _FIRST.fullmatch(name):
        return Timing(("alu", "shift"), 1, first=name not in _SHIFTS)
    if i.shifted:
        return Timing(("alu", "shift"), 1, i.shifted)
    return Timing(("alu",), 1, first=name == "clz")


def _cortex_m7_transfer(i: Instruction) -> Timing:
    if i.leaves and i.name.startswith("tb"):
        return Timing(("load",), 1, i.addresses, alone=True, cycles=2)
    if i.transfers > 1:
        # Two words a cycle: the caches and the tightly coupled memories are 64 bits wide.
        unit, cycles = i.kind, (i.transfers + 1) // 2
        return Timing((unit,), 1, i.addresses, i.late, alone=True, cycles=cycles)
    if i.kind == "store":
        return Timing(("store",), 1, i.addresses, i.late)
    return Timing(("load",), 2 if _NARROW.fullmatch(i.name) else 1, i.addresses)


_PAIRS_WITH_ANY = re.compile(r"movs?|[su]xt[bh]|it|nop|hint")


def _cortex_m55(i: Instruction) -> Timing:
    """By LLVM's ARMScheduleM55.td. Vector instructions take two beats in their pipe."""
    if i.kind.startswith("vector"):
        return Timing((i.kind,), 2 if i.kind == "vector_multiply" else 1, alone=True, holds=2)
    if i.kind in ("load", "store") and i.transfers > 1:
        return Timing(("alu",), 2, alone=True, cycles=i.transfers)
    if i.kind == "divide":
        return Timing(("alu",), 2, alone=True, cycles=6)
    slow = i.kind in ("load", "mul", "mul_long", "mac", "dual_mac") or i.shifted
    timing = Timing(("alu",), 2 if slow else 1, alone=i.size == 4)
    by_constant = i.name in ("add", "sub") and len(i.reads) == 1
    if i.size == 2 and (by_constant or i.kind == "branch" or _PAIRS_WITH_ANY.fullmatch(i.name)):
        return Timing(())
    return timing


#: By target.
PIPELINES = {
    "cortex-m55": Pipeline(
        {"alu": 1, "vector_memory": 1, "vector": 1, "vector_multiply": 1}, _cortex_m55, refill=1
    ),
    "cortex-m7": Pipeline(
        {"alu": 2, "shift": 1, "simd": 1, "mac": 1, "load": 2, "store": 1, "branch": 1},
        _cortex_m7,
        misprediction=6,
    ),
}
