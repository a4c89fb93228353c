"""The other simulator: QEMU's machines, where they are installed.

The firmware boots from its vector table and reads and writes files by semihosting. Instructions
are counted from QEMU's log of the blocks that it runs, by the same account as with Unicorn.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.progress import progress
from tinymlir.simulators.decode import instruction_bytes
from tinymlir.simulators.image import Image
from tinymlir.simulators.trace import BlockTrace

Int8Array = npt.NDArray[np.int8]

# Some hundred times what a sample of the largest network that fits takes.
SAMPLE_SECONDS = 300
_POLL_SECONDS = 0.1
_REPORT = struct.Struct("<7I")
_FINISHED, _FAULTED = 1, 2
# "Trace 0: host-address [cs_base/program counter/flags/cflags] symbol"
_EXECUTED = re.compile(rb"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")
_DISASSEMBLED = re.compile(rb"0x([0-9a-f]+):")


class Qemu:
    """One image and the QEMU machine that it is for."""

    def __init__(self, image: Image) -> None:
        """Find QEMU.

        Raises:
            TinymlirError: it is not installed, or has no machine with this core.
        """
        target = image.target
        if target.qemu is None:
            raise TinymlirError(f"no QEMU machine is known for {target.name}")
        riscv = target.triple.startswith("riscv")
        program = "qemu-system-riscv32" if riscv else "qemu-system-arm"
        if shutil.which(program) is None:
            package = "qemu-system-misc" if riscv else "qemu-system-arm"
            raise TinymlirError(
                f"'{program}' is not installed",
                hint=f"Debian: apt install {package}; macOS: brew install qemu",
            )
        self._image = image
        self._command = [program, "-machine", target.qemu, "-nographic", "-monitor", "none"]
        self._command += ["-serial", "none", "-semihosting-config", "enable=on,target=native"]
        self._command += ["-bios", "none"] if riscv else []
        self._command += ["-cpu", target.qemu_cpu] if target.qemu_cpu else []
        self._stack_bytes = 0

    def run(self, inputs: list[Int8Array]) -> list[Int8Array]:
        """Run all samples in one boot.

        Args:
            inputs: one array per input of the object, (N, bytes).

        Returns:
            one array per output, (N, bytes), and the levels where the image says them.

        Raises:
            TinymlirError: the network faults, hangs, writes beside its buffers, or returns another
                status than 0.
        """
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            self._prepare(folder, inputs)
            messages = self._boot(folder, len(inputs[0]))
            self._check(folder, messages)
            sizes = self._image.output_bytes
            flat = np.fromfile(folder / "output.bin", np.int8).reshape(len(inputs[0]), sum(sizes))
        return np.split(flat, np.cumsum(sizes)[:-1], axis=1)

    def trace(self, inputs: list[Int8Array], trace: BlockTrace) -> None:
        """Run one sample, (1, bytes) per input, and record the blocks that it executes.

        Raises:
            TinymlirError: as ``run``, or this QEMU's log cannot be read.
        """
        elf, call = self._image.elf, self._image.call
        measured = elf.symbol("tinymlir_measured").address
        end = elf.symbol("tinymlir_measured_end").address
        ranges = f"{call.address:#x}+{call.size:#x},{measured:#x}+{end - measured:#x}"
        log = ["-d", "in_asm,exec,nochain", "-dfilter", ranges]
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            self._prepare(folder, inputs)
            with subprocess.Popen(
                [*self._command, *log, "-kernel", "image.elf"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as process:
                assert process.stderr is not None
                try:
                    self._read_log(process.stderr, trace)
                finally:
                    process.kill()
            self._check(folder, "")

    def stack_bytes(self) -> int:
        """Most of the stack that any sample so far has used."""
        return self._stack_bytes

    def _prepare(self, folder: Path, inputs: list[Int8Array]) -> None:
        (folder / "image.elf").write_bytes(self._image.elf.data)
        np.concatenate(inputs, axis=1).tofile(folder / "input.bin")

    def _boot(self, folder: Path, samples: int) -> str:
        """Run the firmware to its end; returns what QEMU said."""
        sample_bytes = sum(self._image.output_bytes)
        with (folder / "messages").open("w+") as messages:
            process = subprocess.Popen(
                [*self._command, "-kernel", "image.elf"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=subprocess.STDOUT,
            )

            def finished() -> Iterator[int]:
                """One item per sample, as the output grows."""
                seen, since, output = 0, time.monotonic(), folder / "output.bin"
                while process.poll() is None:
                    done = output.stat().st_size // sample_bytes if output.exists() else 0
                    if done > seen:
                        yield from range(seen, done)
                        seen, since = done, time.monotonic()
                    if time.monotonic() - since > SAMPLE_SECONDS:
                        raise TinymlirError(
                            f"the network did not finish sample {seen} in {SAMPLE_SECONDS} s"
                        )
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL_SECONDS)

            try:
                for _ in progress(finished(), samples, "simulating"):
                    pass
            finally:
                process.kill()
                process.wait()
            messages.seek(0)
            return messages.read()

    def _check(self, folder: Path, messages: str) -> None:
        """Read the report that the firmware leaves (struct report in runtime.c)."""
        elf, layout = self._image.elf, self._image.layout
        report = folder / "report.bin"
        data = report.read_bytes() if report.exists() else b""
        if len(data) != _REPORT.size:
            reason = (messages.splitlines() or ["no reason given"])[0]
            raise TinymlirError(f"the firmware did not finish on QEMU: {reason}")
        kind, sample, status, lowest_stack, damage, counter, address = _REPORT.unpack(data)
        if kind == _FAULTED:
            where = f": access to {layout.describe(address)}" if address else ""
            raise TinymlirError(f"the network faulted in {elf.describe(counter & ~1)}{where}")
        if status:
            raise TinymlirError(
                f"the network returned {status} for sample {sample}, which is not 0"
            )
        if damage:
            where = layout.describe(damage)
            raise TinymlirError(f"the network wrote outside its buffers: to {where}")
        self._stack_bytes = max(self._stack_bytes, layout.entry_stack - lowest_stack)

    def _read_log(self, lines: Iterable[bytes], trace: BlockTrace) -> None:
        record = trace.recorder()
        blocks: dict[bytes, tuple[int, int]] = {}
        starts: dict[int, int] = {}
        first = last = 0
        # A block is logged before it runs, and taken back if an interruption came first.
        pending: tuple[int, int] | None = None
        for line in lines:
            block = blocks.get(line)
            if block is None:
                if line.startswith(b"IN:"):
                    first = 0
                elif address := _DISASSEMBLED.match(line):
                    last = int(address[1], 16)
                    first = first or last
                    starts[first] = last
                elif executed := _EXECUTED.match(line):
                    block = blocks[line] = self._block(int(executed[1], 16), starts)
                elif line.startswith(b"Stopped execution"):
                    pending = None
            if block is not None:
                if pending is not None:
                    record(*pending)
                pending = block
        if pending is not None:
            record(*pending)

    def _block(self, address: int, starts: dict[int, int]) -> tuple[int, int]:
        """Address and bytes of a block, given the last instruction of each disassembled block."""
        if address not in starts:
            raise TinymlirError(
                "this QEMU logs no disassembly, which the count of instructions needs",
                hint="use a QEMU that was built with capstone",
            )
        last = starts[address]
        code = self._image.elf.read(last, 4)
        return address, last + instruction_bytes(self._image.target, code, 0) - address
