"""The default simulator: Unicorn, in this process, with a memory map that is strict.

Flash and inputs are read-only; what is outside flash, buffers and stack does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.simulators.image import INSTALL_HINT, Image
from tinymlir.simulators.layout import PAGE, PAINT
from tinymlir.simulators.trace import BlockTrace

Int8Array = npt.NDArray[np.int8]

# Some hundred times what a sample of the largest network that fits takes.
SAMPLE_SECONDS = 300


class Emulator:
    """One image, loaded, ready to run samples."""

    def __init__(self, image: Image, trace: BlockTrace | None = None) -> None:
        """Map and fill the machine's memory.

        Args:
            trace: records the blocks of the first run; it slows down every run.

        Raises:
            TinymlirError: the ``simulation`` extra is missing, or Unicorn lacks the core.
        """
        if image.target.unicorn is None:
            raise TinymlirError(
                f"Unicorn cannot run {image.target.name}", hint="use --simulator qemu"
            )
        try:
            import unicorn
        except ImportError:
            raise TinymlirError(
                "the simulator needs the package 'unicorn'", hint=INSTALL_HINT
            ) from None
        self._unicorn = unicorn
        self._image = image
        self._machine, self._registers = _start(unicorn, image.target.unicorn)
        self._fault: str | None = None
        self._machine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_fault)
        if trace is not None:
            record = trace.recorder()
            self._machine.hook_add(
                unicorn.UC_HOOK_BLOCK, lambda _machine, at, size, _data: record(at, size)
            )
            if trace.flash is not None:
                read = trace.reader(trace.flash)
                starts = [address for address, _ in image.elf.segments]
                ends = [address + len(data) for address, data in image.elf.segments]
                self._machine.hook_add(
                    unicorn.UC_HOOK_MEM_READ,
                    lambda _machine, _access, at, size, _value, _data: read(at, size),
                    begin=min(starts),
                    end=max(ends),
                )
        self._map()

    def run(self, inputs: Sequence[Int8Array]) -> list[Int8Array]:
        """One inference: the object's inputs to its outputs, flat, and the level where it says so.

        Raises:
            TinymlirError: the network touches what is not its own, does not return, or returns
                another status than 0.
        """
        machine, layout = self._machine, self._image.layout
        for region, values in zip(layout.inputs, inputs, strict=True):
            machine.mem_write(region.address, values.tobytes())
        status = self._call()
        outputs = [
            np.frombuffer(machine.mem_read(region.address, region.size), np.int8)
            for region in layout.outputs
        ]
        if self._image.returns_level:
            return [*outputs, np.array([status], np.int8)]
        if status:
            raise TinymlirError(f"the network returned {status}, which is not 0")
        return outputs

    def stack_bytes(self) -> int:
        """Most of the stack that any sample so far has used."""
        stack = self._image.layout.stack
        return self._image.layout.entry_stack - self._first_touched(stack.address, stack.size)

    def check_gaps(self) -> None:
        """Look for stray writes beside the buffers, on pages that have to be writable.

        Raises:
            TinymlirError: there are some.
        """
        layout = self._image.layout
        for start, size in layout.gaps():
            # Of a gap, only what shares a page with the region after or before it is mapped.
            for region in layout.regions():
                first, bytes_ = region.pages
                low, high = max(start, first), min(start + size, first + bytes_)
                if low < high and (touched := self._first_touched(low, high - low)) < high:
                    where = layout.describe(touched)
                    raise TinymlirError(f"the network wrote outside its buffers: to {where}")

    def _map(self) -> None:
        unicorn, machine, image = self._unicorn, self._machine, self._image
        pages = {
            page
            for address, data in image.elf.segments
            for page in range(address // PAGE * PAGE, address + len(data), PAGE)
        }
        for page in sorted(pages):
            machine.mem_map(page, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        for address, data in image.elf.segments:
            machine.mem_write(address, data)
        for region in image.layout.regions():
            first, size = region.pages
            write = unicorn.UC_PROT_WRITE if region.writable else 0
            machine.mem_map(first, size, unicorn.UC_PROT_READ | write)
            machine.mem_write(first, bytes([PAINT]) * size)

    def _call(self) -> int:
        """Run the entry point; what it returns."""
        machine, image, registers = self._machine, self._image, self._registers
        self._fault = None
        # The emulation ends where the call returns to.
        halt = image.elf.symbol("tinymlir_reset").address
        machine.reg_write(registers.stack_pointer, image.layout.system.end)
        machine.reg_write(registers.link, halt | registers.thumb)
        begin = image.call.address | registers.thumb
        try:
            machine.emu_start(begin, halt, timeout=SAMPLE_SECONDS * 1_000_000)
        except self._unicorn.UcError as error:
            reason = self._fault or f"{self._where()}: {error}"
            raise TinymlirError(f"the network faulted in {reason}") from None
        if machine.reg_read(registers.program_counter) & ~1 != halt:
            raise TinymlirError(
                f"the network was still in {self._where()} after {SAMPLE_SECONDS} s"
            )
        return int(machine.reg_read(registers.result))

    def _where(self) -> str:
        counter = self._machine.reg_read(self._registers.program_counter)
        return self._image.elf.describe(counter & ~self._registers.thumb)

    def _on_fault(
        self, _machine: Any, access: int, address: int, size: int, _value: int, _data: Any
    ) -> bool:
        """Write down what went wrong; that nothing is mapped there ends the run."""
        verb = {
            self._unicorn.UC_MEM_WRITE_UNMAPPED: "write to",
            self._unicorn.UC_MEM_WRITE_PROT: "write to the read-only",
            self._unicorn.UC_MEM_FETCH_UNMAPPED: "jump to",
            self._unicorn.UC_MEM_FETCH_PROT: "jump to",
        }.get(access, "read from")
        what = self._image.layout.describe(address)
        self._fault = f"{self._where()}: {verb} {what}, {size} bytes"
        return False

    def _first_touched(self, start: int, size: int) -> int:
        untouched = self._machine.mem_read(start, size)
        return start + size - len(bytes(untouched).lstrip(bytes([PAINT])))


@dataclass(frozen=True)
class _Registers:
    """Unicorn's numbers of the registers that a call needs; ``thumb`` marks a Thumb address."""

    thumb: int
    stack_pointer: int
    link: int
    result: int
    program_counter: int


def _start(unicorn: Any, core: str) -> tuple[Any, _Registers]:
    if core == "riscv32":
        from unicorn import riscv_const as riscv

        machine = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        names = ("SP", "RA", "A0", "PC")
        numbers = [getattr(riscv, f"UC_RISCV_REG_{name}") for name in names]
        return machine, _Registers(0, *numbers)
    from unicorn import arm_const as arm

    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(getattr(arm, f"UC_CPU_ARM_{core.upper().replace('-', '_')}"))
    numbers = [getattr(arm, f"UC_ARM_REG_{name}") for name in ("SP", "LR", "R0", "PC")]
    return machine, _Registers(1, *numbers)
