"""Accumulators at which a line is a step late: how kernels look out for them.

A requantisation that is a line (``tiny.rescale``) may take a few accumulators for the next ones
first (``tiny.step_over``), one or two of a channel, and of few channels. To compare each sum would
cost more than the line saves. So kernels test a block of sums at once: the first multiplier of a
block with such channels is negative. It says how many bytes after the block's constants a *record*
ends: the late accumulator and, in its low bits, the channel of the block, then the multiplier that
is meant; or where another record is, as there may be several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tinymlir.bindings import arith, ir, llvm, scf
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.parking import opaque
from tinymlir.kernels.price import Mix, line
from tinymlir.kernels.words import advance_bytes, fetch
from tinymlir.late_lines import NEVER
from tinymlir.linalg_info import VIEW_OPS, constant_array, is_linalg

#: What says of a requantisation which layers step over late accumulators, if it does not itself:
#: one of its shape, or one of another.
STEPS, ALIKE, OTHER = "tiny.steps", "alike", "other"


@dataclass(frozen=True)
class LateSteps:
    """The late accumulators of a layer.

    ``table`` has them, rounds x channels, filled up with `NEVER`; ``multipliers`` is the constant
    that holds the line's.
    """

    table: np.ndarray
    multipliers: ir.Value

    def pack(
        self,
        constants: np.ndarray,
        first: int,
        channels: int,
        place: int,
        base: int,
        *,
        apart: int | None = None,
    ) -> np.ndarray:
        """Constants of blocks of channels, i32, with records behind all of them, as one array.

        Args:
            constants: (blocks, words), the words of each block.
            first: the first block's first channel.
            channels: those of a block.
            place: the word of the first channel's multiplier.
            base: the word from which places of records are counted for the first block.
            apart: words from there to where they are for the next; those of a block if not given.
        """
        (blocks, words), records = constants.shape, []
        constants, apart = constants.copy(), words if apart is None else apart
        table = self.table[:, first : first + blocks * channels]
        for number, at in zip(*np.nonzero(table.T != NEVER), strict=True):
            block, channel = divmod(int(number), channels)
            # The record before it, if it is not the first, has the multiplier.
            records += [int(table[at, number]) * channels + channel, constants[block, place]]
            distance = constants.size + len(records) - 1 - (block * apart + base)
            constants[block, place] = -4 * distance
        return np.concatenate([constants.reshape(-1), np.array(records, "<i4")])

    def emit(
        self,
        sums: list[ir.Value],
        channels: int,
        base: Callable[[], ir.Value],
        multiplier: ir.Value,
    ) -> tuple[list[ir.Value], ir.Value]:
        """Step over the late ones of a block's sums, those of ``channels`` of each pixel in turn.

        Args:
            base: gives where places of records are counted from.
            multiplier: what is in the place of the first channel's.

        Returns:
            The sums from which the line gives results, and the first channel's multiplier.
        """
        carried = [multiplier, *sums]
        kinds, where = [v.type for v in carried], [ir.Location.current] * len(carried)
        i1, i32 = (ir.IntegerType.get_signless(width) for width in (1, 32))
        zero, unlikely = arith.constant(i32, 0), arith.constant(i1, 0)
        loop = scf.WhileOp(kinds, carried)
        before = loop.regions[0].blocks.append(*kinds, arg_locs=where)
        after = loop.regions[1].blocks.append(*kinds, arg_locs=where)
        with ir.InsertionPoint(before):
            late = arith.cmpi(arith.CmpIPredicate.slt, before.arguments[0], zero)
            scf.condition(llvm.intr_expect(late, unlikely), before.arguments)
        with ir.InsertionPoint(after):
            distance, *totals = after.arguments
            back = arith.index_cast(ir.IndexType.get(), arith.subi(zero, distance))
            record = advance_bytes(base(), back)
            which, following = fetch(record, -1), fetch(record, 0)
            for place, total in enumerate(totals):
                own = arith.subi(which, arith.constant(i32, place % channels))
                found = arith.muli(total, arith.constant(i32, channels))
                late = arith.cmpi(arith.CmpIPredicate.eq, found, own)
                totals[place] = arith.addi(total, arith.extui(i32, late))
            scf.yield_([following, *totals])
        first, *stepped = loop.results
        # LLVM knows that it is positive, and would no longer see a product of signed words.
        return stepped, opaque(first)


def stepped(conv: Convolution) -> Convolution:
    """``conv`` for a kernel that steps over late sums itself, where there are any."""
    users = _users(conv.result)
    if len(users) != 1 or read_step_over(users[0]) is None:
        return conv
    past = replace(conv, stepped=users[0].results[0])
    return conv if late_steps(past) is None else past


def late_steps(conv: Convolution, *, shared: bool = False) -> LateSteps | None:
    """Those that a kernel of ``conv`` steps over itself (`stepped`).

    None of them, but still to be looked out for, where a layer that may be the same code has some:
    one of the same shape, or any one if code is ``shared`` (``tiny.steps``).
    """
    users = _users(conv.sums)
    multipliers = _multipliers(users[0]) if len(users) == 1 else None
    if multipliers is None:
        return None
    if conv.stepped is not None:
        table = read_step_over(conv.stepped.owner.operation)
        own = slice(conv.first_channel, conv.first_channel + len(conv.bias))
        return None if table is None else LateSteps(table[:, own], multipliers)
    if STEPS in users[0].attributes and (shared or users[0].attributes[STEPS].value == ALIKE):
        return LateSteps(np.zeros((0, len(conv.bias)), np.int32), multipliers)
    return None


def read_step_over(generic: ir.Operation) -> np.ndarray | None:
    """The late accumulators, rounds x channels, that an op steps over and does nothing else."""
    if generic.name != "linalg.generic":
        return None
    *steps, _ = (op.operation for op in generic.regions[0].blocks[0].operations)
    if not steps or any(op.name != "tiny.step_over" for op in steps):
        return None
    tables = [constant_array(operand) for operand in list(generic.operands)[1:-1]]
    known = [table.reshape(-1) for table in tables if table is not None]
    return np.stack(known) if len(known) == len(steps) else None


def late_bytes(conv: Convolution) -> int:
    """Bytes of all records."""
    late = late_steps(conv)
    return 0 if late is None else 8 * int((late.table != NEVER).sum())


def late_mix(conv: Convolution, channels: int, pixels: int, *, shared: bool = False) -> Mix:
    """What `LateSteps.emit` emits for ``pixels`` of a block of ``channels``."""
    late = late_steps(conv, shared=shared)
    if late is None:
        return Mix()
    blocks = late.table.shape[1] / channels
    record = line(alu=3 * channels * pixels + channels + 1, load=2, branch=1)
    return line(alu=1, skip=1) + record.times((late.table != NEVER).sum() / blocks)


def late_literals(conv: Convolution) -> list[list[int]]:
    """The late accumulators of each channel, for straight-line code: most have nothing to test."""
    late = late_steps(conv)
    own = [[] for _ in conv.bias] if late is None else late.table.T.tolist()
    return [[at for at in channel if at != NEVER] for channel in own]


def late_literals_mix(conv: Convolution, pixels: int) -> Mix:
    """What stepping over all `late_literals` takes for ``pixels``."""
    return line(alu=4 * pixels) * sum(map(len, late_literals(conv)))


def _users(value: ir.Value) -> list[ir.Operation]:
    """The linalg ops that read ``value`` or a reshape of it."""
    users: list[ir.Operation] = []
    for use in value.uses:
        user = use.owner.operation
        users += _users(user.results[0]) if user.name in VIEW_OPS else [user]
    return users


def _multipliers(generic: ir.Operation) -> ir.Value | None:
    """What holds the multipliers of the line that ``generic`` computes, one for each channel."""
    if not is_linalg(generic):
        return None
    block = generic.regions[0].blocks[0]
    for op in block.operations:
        if op.operation.name == "tiny.rescale":
            value = op.operation.operands[1]
            if isinstance(value, ir.BlockArgument) and value.owner == block:
                return generic.operands[value.arg_number]
    return None
