"""What code costs before there is any: instructions by class, how often they run, their size.

A kernel describes its schedule once, as an instruction `Mix`: straight lines, loops around
them, calls, branches. That gives both what runs and what lies in flash. `Price` is the mix in
the numbers of a core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tinymlir.simulators.flash import Flash
from tinymlir.targets import Target

#: Memory that keeps up with the core.
NO_WAIT = Flash(0)

#: Registers that a function saves and restores.
_SAVED = {"thumb": 9, "riscv": 13}

#: Classes that issue together with another instruction, and those of them that one unit computes.
_PAIRED = ("alu", "load", "load_next", "load_word", "store", "skip", "mul", "mac", "dual_mac")
_PRODUCTS = ("mul", "mac", "dual_mac")
_LOADS = ("load", "load_next", "load_word")


@dataclass(frozen=True)
class Mix:
    """Instructions by class: those that run, and those that are there.

    Classes are the fields of `tinymlir.targets.Costs` that one can count, and:

    * ``load_next``: a load right after another one; ``load_pair``: two words by LDRD;
      ``load_word``: one that waits for nothing,
    * ``branch``: a conditional branch that is taken; ``skip``: one that is not,
    * ``mul_long``: the high word of a product; ``mac_high``: added to a word; ``mac_long``: of a
      product and a double word, which ``copy_long`` keeps for the next one,
    * ``saturate``: a value shifted and brought into eight bits; ``limit``: kept from exceeding any,
    * ``vector``: an instruction on vectors,
    * ``frame``: what a function saves and restores.
    """

    runs: Mapping[str, float] = field(default_factory=dict)
    code: Mapping[str, float] = field(default_factory=dict)
    #: the code that is come to once in a run, and parts that are come to so many times each
    once: Mapping[str, float] = field(default_factory=dict)
    parts: Sequence[tuple[float, Mix]] = ()

    def __add__(self, other: Mix) -> Mix:
        """One after the other."""
        return Mix(
            _sum((1, self.runs), (1, other.runs)),
            _sum((1, self.code), (1, other.code)),
            _sum((1, self.once), (1, other.once)),
            (*self.parts, *other.parts),
        )

    def __mul__(self, copies: float) -> Mix:
        """``copies`` times, one after another, without a loop."""
        runs, code, once = (_sum((copies, counts)) for counts in (self.runs, self.code, self.once))
        return Mix(runs, code, once, [part for part in self.parts for _ in range(round(copies))])

    def elsewhere(self) -> Mix:
        """What runs alone: its code is counted elsewhere."""
        return replace(self, code={})

    def times(self, runs: float) -> Mix:
        """The same code, run that often: as a function, or in a branch taken at times."""
        return Mix(_sum((runs, self.runs)), self.code, {}, [(runs, self)])


def line(*, load: float = 0, **classes: float) -> Mix:
    """A straight line of instructions; loads follow one another."""
    if load:
        classes |= {"load": min(load, 1), "load_next": max(load - 1, 0)}
    return Mix(classes, classes, classes)


_TURN = line(alu=1, branch=1)


def loop(body: Mix, trips: float, unroll: int = 1) -> Mix:
    """`tinymlir.kernels.emitter.Emitter.loop` around ``body``: counter and branch added.

    A number of trips that is no integer is an average.
    """
    unroll = max(1, min(unroll, round(trips)))
    turns, rest = divmod(trips, unroll) if float(trips).is_integer() else (trips / unroll, 0)
    if turns < 1:
        return body * 0
    if turns == 1:
        return body * trips
    return ((body * unroll) + _TURN).times(turns) + body * rest


def function(body: Mix) -> Mix:
    """``body`` as a function, called once."""
    return body + line(call=1, jump=1, frame=1)


def either(share: float, then: Mix, otherwise: Mix) -> Mix:
    """A test, and ``then`` in that share of the cases."""
    return line(alu=2, skip=1) + then.times(share) + otherwise.times(1 - share)


@dataclass(frozen=True)
class Price:
    """What a layer costs on a core: what it runs in one inference, and its flash in bytes."""

    instructions: int
    cycles: int
    flash_bytes: int
    #: bytes of it that are functions which other layers may call too, by names of these
    shared: Mapping[str, int] = field(default_factory=dict, compare=False)

    def figures(self) -> dict[str, int]:
        """The three of them, for reports."""
        return {name: getattr(self, name) for name in ("instructions", "cycles", "flash_bytes")}


@dataclass(frozen=True)
class ConstantReads:
    """What a layer reads of flash: bytes, in ``rounds`` of ``round_bytes`` for each of them.

    Kernels go through all constants for each block of pixels: then a round is all of them.
    """

    bytes: int
    round_bytes: float
    rounds: float


def price(
    mix: Mix,
    constants: ConstantReads,
    core: Target,
    flash: Flash = NO_WAIT,
    shared: Mapping[str, Mix] | None = None,
) -> Price:
    """``mix`` and its constants on ``core``, coming from ``flash``.

    ``shared`` is all code, by names that are the same where that may be; none if nothing is.
    """
    sizes = {name: round(_bytes(part.code, core)) for name, part in (shared or {"": mix}).items()}
    executed = _plain(mix.runs, core)
    cycles = sum(count * _unit(kind, core)[1] for kind, count in executed.items())
    if core.costs.issue > 1:
        paired = sum(executed.get(kind, 0) for kind in _PAIRED)
        products = sum(executed.get(kind, 0) for kind in _PRODUCTS)
        loads = sum(executed.get(kind, 0) for kind in _LOADS)
        # Kernels load what products need one after the other: these issue with each other.
        fewest = paired / core.costs.issue
        cycles -= paired - max(fewest, (fewest + products + loads / core.costs.issue) / 2)
    if flash.wait_states:
        cycles += flash.wait_states * (_code_lines(mix, core, flash) + _lines(constants, flash))
    return Price(
        instructions=round(sum(count * _unit(kind, core)[0] for kind, count in executed.items())),
        cycles=round(cycles),
        flash_bytes=constants.bytes + sum(sizes.values()),
        # What takes other room is other code.
        shared={f"{name} {size}": size for name, size in sizes.items() if name},
    )


def _bytes(code: Mapping[str, float], core: Target) -> float:
    return sum(count * _unit(kind, core)[2] for kind, count in _plain(code, core).items())


def _plain(counts: Mapping[str, float], core: Target) -> dict[str, float]:
    """Counts of classes that ``core`` has, what it has in their place for the others."""
    parts = [(count, _instead(kind, core) or {kind: 1}) for kind, count in counts.items()]
    total = _sum(*parts)
    return total if total == counts else _plain(total, core)


def _footprint(mix: Mix, core: Target) -> float:
    """Bytes of all code that a run comes to."""
    return _bytes(mix.once, core) + sum(_footprint(part, core) for _, part in mix.parts)


def _code_lines(mix: Mix, core: Target, flash: Flash) -> float:
    """Lines of code that flash must give in a run: all once, or each time what it does not keep."""
    kept = flash.code_lines * flash.line_bytes
    size = _footprint(mix, core)
    if size <= kept:
        return size / flash.line_bytes
    lines = _bytes(mix.once, core) / flash.line_bytes
    for times, part in mix.parts:
        fits = _footprint(part, core) <= kept
        lines += _code_lines(part, core, flash) * (min(times, 1) if fits else times)
    return lines


def _lines(constants: ConstantReads, flash: Flash) -> float:
    """Lines of constants that flash must give."""
    kept = constants.round_bytes <= flash.data_lines * flash.line_bytes
    return constants.bytes / flash.line_bytes * (1 if kept else constants.rounds)


def _unit(kind: str, core: Target) -> tuple[float, float, float]:
    """Instructions, cycles and bytes of one of a class on ``core``.

    Cycles are the core's `Costs`. What an instruction takes in flash is the average over what
    LLVM makes of the kernels: 16 or 32 bits, by registers and offsets.
    """
    costs = core.costs
    riscv, thumb1 = core.triple.startswith("riscv"), core.triple.startswith("thumbv6m")
    # A load stalls at the end of a run of loads alone.
    follow = costs.load if costs.load_after_load is None else costs.load_after_load
    first = costs.load + costs.load_use_stall
    # Thumb-1 has half words alone; literals and moves between registers go with them.
    short, middle, long = (3, 3, 3) if thumb1 else (2.5, 3.2, 4)
    if kind == "vector":
        return 1, costs.alu, 4
    if kind == "frame":
        if riscv:
            saved = _SAVED["riscv"]
            return 2 * saved, saved * (costs.load + costs.store), 2 * saved * short
        transfers = 2 * (costs.load + (_SAVED["thumb"] - 1) * costs.load_multiple_extra)
        return (8, transfers + 6 * costs.alu, 16) if thumb1 else (2, transfers, 8)
    known = {
        "load": first,
        "load_next": follow,
        "load_word": follow,
        "load_pair": first + costs.load_multiple_extra,
        "branch": costs.branch_taken,
        "skip": costs.branch_not_taken,
    }.get(kind) or getattr(costs, kind)
    sizes = {"alu": middle, "branch": middle, "skip": short, "jump": short, "call": 4}
    if riscv:
        # Loads of bytes and products have no short form; calls take two instructions.
        sizes |= {"store": middle, "load_word": middle, "call": 8}
    return 1, costs.alu if known is None else known, sizes.get(kind, long)


def _instead(kind: str, core: Target) -> Mapping[str, float] | None:
    """What LLVM, or a pass, has in the place of one of a class that ``core`` lacks."""
    costs = core.costs
    riscv, thumb1 = core.triple.startswith("riscv"), core.triple.startswith("thumbv6m")
    plain = riscv or thumb1
    if kind == "load_pair" and not core.has("ldrd"):
        return {"load": 1, "load_word": 1} if riscv else {"load_word": 2}
    if kind in ("load", "load_next") and thumb1:
        # Signed bytes have no immediate offsets.
        return {"alu": 1, "load_word": 1}
    if kind == "mac" and costs.mac is None:
        return {"mul": 1, "alu": 1}
    if kind == "mul_long" and costs.mul_long is None:
        return {"mul": 3, "alu": 17}
    if kind == "mac_long":
        # Words apart, with a carry between those of the sum.
        return {"mul_long": 1, "mul": int(riscv), "alu": 4} if plain else {"mul_long": 1}
    if kind == "mac_high":
        return {"mul_long": 1, "alu": int(not core.has("dsp"))}
    if kind == "copy_long":
        return {"alu": 0 if plain else 2}
    if kind in ("limit", "saturate") and core.has("xcvalu"):
        return {"alu": 1 if kind == "limit" else 2}
    if kind == "limit":
        # A branch around a move; or a conditional move, of a constant made for it.
        return {"alu": 1.5, "branch": 1} if plain else {"alu": 3.5}
    if kind == "saturate":
        return {"alu": 1, "limit": 2} if plain else {"alu": 1}
    return None


def _sum(*parts: tuple[float, Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for factor, counts in parts:
        for kind, count in counts.items():
            total[kind] = total.get(kind, 0) + factor * count
    return total
