"""Which basic blocks ran, how often, on behalf of which layer; and what that amounts to."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from tinymlir.simulators.cycles import Block, price_block
from tinymlir.simulators.decode import decoder
from tinymlir.simulators.image import Image

# A block is one integer, address · 4096 + bytes: cheap to hash, as there are millions of events.
_SIZE_BITS = 12
_OUTSIDE, _INVOKE, _FIRST_LAYER = 0, 1, 2


@dataclass(frozen=True)
class Work:
    """Retired instructions and modelled cycles of one inference, or of a part of it."""

    instructions: int
    cycles: int


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
        return Work(sum(p.instructions for p in parts), sum(p.cycles for p in parts))


def region_starts(image: Image) -> dict[int, int]:
    """The instructions that, when they run, begin another region of the run, by address.

    The regions are 0, all but the network; 1, the entry point's own code; and 2 + i, layer i. A
    layer starts when its function is entered and stops when code of the entry point runs.
    """
    invoke, call = image.invoke, image.call
    starts = {at: _OUTSIDE for at in range(call.address, call.address + call.size, 2)}
    starts |= {at: _INVOKE for at in range(invoke.address, invoke.address + invoke.size, 2)}
    return starts | {layer.address: _FIRST_LAYER + i for i, layer in enumerate(image.layers)}


def count_regions(image: Image) -> int:
    """How many regions ``region_starts`` tells apart."""
    return _FIRST_LAYER + len(image.layers)


class BlockTrace:
    """Counts the transitions between the basic blocks of one inference, by region."""

    def __init__(self, image: Image) -> None:
        self._image = image
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
                running = transitions[starts[address]]
            block = address << _SIZE_BITS | size
            running[previous, block] += 1
            previous = block

        return record

    def counts(self) -> Counts:
        """Instructions and cycles of what was recorded."""
        target, elf = self._image.target, self._image.elf
        decode = decoder(target)

        @functools.cache
        def decoded(block: int) -> Block:
            address, size = block >> _SIZE_BITS, block & (1 << _SIZE_BITS) - 1
            return Block(address, size, tuple(decode(elf.read(address, size), address)))

        def work(transitions: dict[tuple[int, int], int]) -> Work:
            instructions = cycles = 0
            for (before, number), times in transitions.items():
                block = decoded(number)
                instructions += times * len(block.instructions)
                cycles += times * price_block(target, decoded(before), block)
            return Work(instructions, cycles)

        invoke, *layers = [work(transitions) for transitions in self._transitions[_INVOKE:]]
        return Counts(tuple(layers), invoke)
