"""Which basic blocks ran, how often, on behalf of which layer; and what that amounts to."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from tinymlir.simulators.cycles import Block, price_block
from tinymlir.simulators.decode import Instruction, decoder
from tinymlir.simulators.flash import Flash, KeptLines
from tinymlir.simulators.image import Image

# A block is one integer, address · 4096 + bytes: cheap to hash, as there are millions of events.
_SIZE_BITS = 12
_OUTSIDE, _INVOKE, _FIRST_LAYER = 0, 1, 2


@dataclass(frozen=True)
class Work:
    """Retired instructions and modelled cycles of one inference, or of a part of it.

    ``stack`` of the instructions load from the stack or store to it, one by one: arguments,
    registers that are saved, and what a loop has no register for. No pushes and pops.
    """

    instructions: int
    cycles: int
    stack: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Counts:
    """Of one inference: of each layer, and of the entry point's own code.

    Library functions (``memcpy``) count where they are called.
    """

    layers: tuple[Work, ...]
    invoke: Work

    @property
    def total(self) -> Work:
        parts = (*self.layers, self.invoke)
        sums = (sum(getattr(p, f.name) for p in parts) for f in fields(Work))
        return Work(*sums)


def _goes_to_stack(instruction: Instruction) -> bool:
    return (
        instruction.kind in ("load", "store")
        and "sp" in instruction.reads
        and "sp" not in instruction.updates
    )


def region_starts(image: Image) -> dict[int, int]:
    """The instructions that, when they run, begin another region of the run, by address.

    The regions are 0, all but the network; 1, the entry points' own code; and 2 + i, layer i. A
    layer starts when its function is entered and stops when code of an entry point runs.
    """
    call = image.call
    starts = {at: _OUTSIDE for at in range(call.address, call.address + call.size, 2)}
    for entry in image.entries:
        starts |= {at: _INVOKE for at in range(entry.address, entry.address + entry.size, 2)}
    return starts | {layer.address: _FIRST_LAYER + i for i, layer in enumerate(image.layers)}


def count_regions(image: Image) -> int:
    """How many regions ``region_starts`` tells apart."""
    return _FIRST_LAYER + len(image.layers)


class BlockTrace:
    """Counts the transitions between the basic blocks of one inference, by region.

    Where code and constants come from a ``flash`` that waits, its lines are followed as well.
    """

    def __init__(self, image: Image, flash: Flash | None = None) -> None:
        self._image, self.flash = image, flash
        self._region = _OUTSIDE
        self._misses = [0] * count_regions(image)
        self._transitions: list[defaultdict[tuple[int, int], int]] = [
            defaultdict(int) for _ in range(count_regions(image))
        ]

    def recorder(self) -> Callable[[int, int], None]:
        """A function to call with address and bytes of each block as it starts to run."""
        starts, transitions = region_starts(self._image), self._transitions
        running = transitions[_OUTSIDE]
        previous = 0

        def record(address: int, size: int) -> None:
            nonlocal running, previous
            if address in starts:
                self._region = starts[address]
                running = transitions[self._region]
            block = address << _SIZE_BITS | size
            running[previous, block] += 1
            previous = block

        return record if self.flash is None else self._with_fetches(record, self.flash)

    def _with_fetches(
        self, record: Callable[[int, int], None], flash: Flash
    ) -> Callable[[int, int], None]:
        lines = KeptLines(flash.line_bytes, flash.code_lines)

        def record_fetches(address: int, size: int) -> None:
            record(address, size)
            self._misses[self._region] += lines.misses(address, size)

        return record_fetches

    def reader(self, flash: Flash) -> Callable[[int, int], None]:
        """A function to call with address and bytes of each access to a constant."""
        lines = KeptLines(flash.line_bytes, flash.data_lines)

        def record(address: int, size: int) -> None:
            self._misses[self._region] += lines.misses(address, size)

        return record

    def counts(self) -> Counts:
        """Instructions and cycles of what was recorded."""
        target, elf = self._image.target, self._image.elf
        decode = decoder(target)
        wait_states = self.flash.wait_states if self.flash else 0

        @functools.cache
        def decoded(block: int) -> Block:
            address, size = block >> _SIZE_BITS, block & (1 << _SIZE_BITS) - 1
            return Block(address, size, tuple(decode(elf.read(address, size), address)))

        def work(region: int) -> Work:
            instructions, cycles, stack = 0, self._misses[region] * wait_states, 0
            for (before, number), times in self._transitions[region].items():
                block = decoded(number)
                instructions += times * len(block.instructions)
                stack += times * sum(map(_goes_to_stack, block.instructions))
                cycles += times * price_block(target, decoded(before), block)
            return Work(instructions, cycles, stack)

        invoke, *layers = [work(region) for region in range(_INVOKE, len(self._transitions))]
        return Counts(tuple(layers), invoke)
