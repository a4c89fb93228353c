"""What simulators say of networks that misbehave, and of machines that lack a tool."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
from simulated import BOTH, build, object_code, ramp, report, run

from tinymlir.errors import TinymlirError
from tinymlir.simulators import emulator, qemu, simulate
from tinymlir.simulators.emulator import Emulator
from tinymlir.simulators.qemu import Qemu
from tinymlir.simulators.trace import BlockTrace

SIGNATURE = "int net_invoke(signed char *x, signed char *y, volatile signed char *arena)"


def program(body: str) -> str:
    return f"{SIGNATURE} {{ {body} return 0; }}"


# What the network does, and how the message says it.
STRAY = [
    (
        "y[0] = ((volatile signed char *)x)[16];",
        r"read from \S+ \(0 bytes after the end of the input",
    ),
    ("((volatile signed char *)x)[3] = 1;", r"write to the read-only \S+ \(at byte 3 of the input"),
    ("arena[64] = 1;", r"write to \S+ \(0 bytes after the end of the arena\)"),
    ("y[0] = arena[-4050];", r"read from \S+ \(4050 bytes before the arena\)"),
    ("*(volatile int *)0x60000000 = 1;", "write to 0x60000000,"),
    ("((void (*)(void))0x08000001)();", "jump to 0x08000000,"),
    (
        "volatile char a[70000]; a[x[0]] = 1;",
        r"write to \S+ \(\d+ bytes before the stack\)",
    ),
]


@pytest.mark.parametrize(("body", "message"), STRAY)
@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_unicorn_stops_at_the_first_stray_access(target: str, body: str, message: str) -> None:
    image = build(target, program(body), layers=0)
    with pytest.raises(TinymlirError, match=rf"faulted in \S+: {message}"):
        run(image, "unicorn", ramp(16))


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_a_fault_is_placed_in_its_function(target: str) -> None:
    source = (
        "__attribute__((noinline)) void net_layer0(volatile signed char *a) { a[64] = 1; }"
        + program("net_layer0(arena);")
    )
    with pytest.raises(TinymlirError, match=r"faulted in net_layer0\+0x[0-9a-f]+: write to"):
        run(build(target, source), "unicorn", ramp(16))


@pytest.mark.parametrize("simulator", BOTH)
@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_a_write_before_a_buffer_is_found_afterwards(target: str, simulator: str) -> None:
    image = build(target, program("arena[-1] = 1;"), layers=0)
    message = r"wrote outside its buffers: to \S+ \(1 bytes before the arena\)"
    with pytest.raises(TinymlirError, match=message):
        run(image, simulator, ramp(16))


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33", "cortex-m55", "rv32imc"])
@pytest.mark.parametrize("simulator", BOTH[1:])
def test_qemu_reports_faults(target: str, simulator: str) -> None:
    image = build(target, program("*(volatile int *)0xe8000000 = 1;"), layers=0)
    with pytest.raises(TinymlirError, match=r"faulted in net_invoke\+0x\S+ access to 0xe8000000"):
        run(image, simulator, ramp(16))


@pytest.mark.parametrize("simulator", BOTH[1:])
def test_unaligned_words_fault_on_cortex_m0(simulator: str) -> None:
    """The machine is a Cortex-M3, which would load them."""
    source = program("*(volatile int *)(arena + x[1]) = 1;")
    assert run(build("cortex-m3", source, layers=0), simulator, ramp(16))
    with pytest.raises(TinymlirError, match=r"faulted in net_invoke\+"):
        run(build("cortex-m0", source, layers=0), simulator, ramp(16))


@pytest.mark.parametrize("simulator", BOTH)
@pytest.mark.parametrize("target", ["cortex-m0", "rv32imc"])
def test_another_status_than_zero_is_an_error(target: str, simulator: str) -> None:
    image = build(target, SIGNATURE + "{ return 7; }", layers=0)
    with pytest.raises(TinymlirError, match="returned 7"):
        run(image, simulator, ramp(16))


@pytest.mark.parametrize("simulator", BOTH)
def test_a_hang_ends(simulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "SAMPLE_SECONDS", 1)
    monkeypatch.setattr(qemu, "SAMPLE_SECONDS", 1)
    image = build("cortex-m4", program("for (;;) arena[0]++;"), layers=0)
    with pytest.raises(
        TinymlirError, match=r"still in net_invoke\+|did not finish sample 0 in 1 s"
    ):
        run(image, simulator, ramp(16))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int counter = 1; " + program("y[0] = counter++;"), r"\.data"),
        ("static int counter; " + program("y[0] = counter++;"), r"\.bss"),
        ("void *malloc(unsigned); " + program("y[0] = *(char *)malloc(3);"), "malloc"),
        ("int other;", "net_invoke"),
    ],
)
def test_an_object_that_no_firmware_can_hold(source: str, message: str) -> None:
    with pytest.raises(TinymlirError, match=rf"^net\.o: cannot be linked: .*{message}"):
        build("cortex-m4", source, layers=0)


def test_an_object_without_its_layers() -> None:
    with pytest.raises(TinymlirError, match=r"^net\.o: has no function 'net_layer0'"):
        build("cortex-m4", program(""), layers=1)


def test_more_memory_than_the_machine_has() -> None:
    with pytest.raises(TinymlirError, match=r"needs \d+ bytes of RAM; the simulated cortex-m4 has"):
        build("cortex-m4", program(""), layers=0, arena_bytes=5_000_000)


def test_more_flash_than_the_machine_has() -> None:
    source = "const char table[5000000] = {1, 2}; " + program("y[0] = table[x[0]];")
    with pytest.raises(TinymlirError, match=r"cannot be linked: .*flash"):
        build("cortex-m4", source, layers=0)


def test_the_host_is_no_firmware() -> None:
    with pytest.raises(TinymlirError, match="'host' runs in process"):
        simulate(report("host"), b"", [np.zeros((1, 16), np.int8)])


def test_unicorn_lacks_helium() -> None:
    image = build("cortex-m55", program(""), layers=0)
    with pytest.raises(TinymlirError, match="cannot run cortex-m55; use --simulator qemu"):
        Emulator(image)


@pytest.mark.parametrize("package", ["unicorn", "capstone", "ziglang"])
def test_without_the_simulation_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = object_code("cortex-m4", program(""))
    monkeypatch.setitem(sys.modules, package, None)
    found = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == package else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(TinymlirError, match=rf"'{package}'; pip install 'tinymlir\[simulation\]'"):
        simulate(report("cortex-m4", layers=0), compiled, [np.zeros((1, 16), np.int8)])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cortex-m55", "'qemu-system-arm' is not installed; Debian: apt install qemu-system-arm"),
        ("rv32imc", "'qemu-system-riscv32' is not installed; .*qemu-system-misc.*brew"),
    ],
)
def test_without_qemu(target: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = build(target, program(""), layers=0)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TinymlirError, match=message):
        Qemu(image)


@pytest.mark.parametrize("simulator", BOTH[1:])
def test_a_qemu_that_cannot_disassemble(simulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = build("cortex-m4", program(""), layers=0)
    machine = Qemu(image)
    log = [b"IN: \n", b"OBJD-T: 80b5\n", b"Trace 0: 0x7f [00800408/00001028/00000110/ff000200]\n"]
    with pytest.raises(TinymlirError, match="no disassembly"):
        machine._read_log(log, BlockTrace(image))
