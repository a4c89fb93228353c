"""Where the firmware keeps what: buffers, stack, and the unused gaps that tell of stray writes.

Every buffer ends at the end of a page and is followed by an unused page, so that a simulator that
protects pages catches the first byte read or written past it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinymlir.errors import TinymlirError
from tinymlir.targets import Target

PAGE = 4096
STACK_BYTES = 64 * 1024
SYSTEM_STACK_BYTES = PAGE
# What unused memory holds, to see afterwards what was touched.
PAINT = 0xA5


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


@dataclass(frozen=True)
class Region:
    """Bytes of RAM with one purpose."""

    name: str
    address: int
    size: int
    writable: bool = True

    @property
    def end(self) -> int:
        return self.address + self.size

    @property
    def pages(self) -> tuple[int, int]:
        """First address of the pages that hold the region, and their bytes (at least a page)."""
        first = self.address // PAGE * PAGE
        return first, max(PAGE, _round_up(self.end - first, PAGE))


@dataclass(frozen=True)
class Layout:
    """The RAM of the firmware."""

    stack: Region
    system: Region
    inputs: tuple[Region, ...]
    outputs: tuple[Region, ...]
    arena: Region
    numbers: tuple[int, ...]
    register_arguments: int

    @property
    def arguments(self) -> list[int]:
        """What the entry point is called with: addresses, then numbers."""
        held = [region for region in self.inputs if not self._in_arena(region)]
        buffers = (*held, *self.outputs, self.arena)
        return [*(region.address for region in buffers), *self.numbers]

    @property
    def entry_stack(self) -> int:
        """Stack pointer at the call: below it are only bytes of the network's own use."""
        passed_on_stack = max(0, len(self.arguments) - self.register_arguments)
        return self.stack.end - _round_up(4 * passed_on_stack, 16)

    def regions(self) -> Iterator[Region]:
        held = [region for region in self.inputs if not self._in_arena(region)]
        yield from (self.stack, self.system, *held, *self.outputs, self.arena)

    def _in_arena(self, region: Region) -> bool:
        return self.arena.address <= region.address < self.arena.end

    def gaps(self) -> list[tuple[int, int]]:
        """Address and bytes of what lies between the regions and after the last."""
        regions = list(self.regions())
        starts = [region.address for region in regions[1:]] + [sum(regions[-1].pages) + PAGE]
        return [
            (region.end, start - region.end)
            for region, start in zip(regions, starts, strict=True)
            if start > region.end
        ]

    def describe(self, address: int) -> str:
        """An address in terms of the nearest region, for messages."""

        def distance(region: Region) -> int:
            return max(region.address - address, address - region.end + 1, 0)

        region = min(self.regions(), key=distance)
        if address >= region.end:
            where = f"{address - region.end} bytes after the end of"
        elif address < region.address:
            where = f"{region.address - address} bytes before"
        else:
            where = f"at byte {address - region.address} of"
        if distance(region) > 16 * PAGE:
            return f"{address:#010x}"
        return f"{address:#010x} ({where} the {region.name})"


def plan_layout(
    target: Target,
    inputs: list[tuple[str, int, int | None]],
    outputs: list[tuple[str, int]],
    arena_bytes: int,
    alignment: int,
    numbers: tuple[int, ...] = (),
) -> Layout:
    """Lay out the RAM of ``target``'s machine.

    Args:
        inputs: name, bytes and place in the arena, if it is there, of each, in the order of the
            entry point's arguments.
        outputs: name and bytes, likewise.
        alignment: of the arena, in bytes. Inputs and outputs end with a page, which aligns
            arrays of any element.
        numbers: what the entry point is given after all buffers, not below 0.

    Raises:
        TinymlirError: the machine has too little RAM.
    """
    assert target.memory is not None
    start, ram_bytes = target.memory.ram
    at = start

    def place(name: str, size: int, writable: bool = True, alignment: int = 1) -> Region:
        nonlocal at
        padded = _round_up(size, alignment)
        end = at + max(PAGE, _round_up(padded, PAGE))
        at = end + PAGE
        return Region(name, end - padded, size, writable)

    # The stack is first, as there is nothing below it that an overflow could reach.
    stack, system = place("stack", STACK_BYTES), place("runtime's stack", SYSTEM_STACK_BYTES)
    named = [(f"input '{name}'", size, offset) for name, size, offset in inputs]
    held = {
        name: place(name, size, writable=False) for name, size, offset in named if offset is None
    }
    results = tuple(place(f"output '{name}'", size) for name, size in outputs)
    arena = place("arena", arena_bytes, alignment=alignment)
    layout = Layout(
        stack=stack,
        system=system,
        inputs=tuple(
            held[name] if offset is None else Region(name, arena.address + offset, size)
            for name, size, offset in named
        ),
        outputs=results,
        arena=arena,
        numbers=numbers,
        register_arguments=8 if target.triple.startswith("riscv") else 4,
    )
    if at > start + ram_bytes:
        raise TinymlirError(
            f"the firmware needs {at - start} bytes of RAM; "
            f"the simulated {target.name} has {ram_bytes}"
        )
    return layout
