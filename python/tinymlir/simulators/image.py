"""Firmware images: the object, a small runtime, and a memory layout, linked into an ELF.

One image runs on either simulator. Its entry for an emulator is ``tinymlir_call``, which calls
the network once; booted from its vector table it reads samples through semihosting.
"""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tinymlir.errors import TinymlirError
from tinymlir.simulators.elf import Elf, Symbol, read_elf
from tinymlir.simulators.layout import PAINT, Layout, plan_layout
from tinymlir.targets import Target, get_target

INSTALL_HINT = "pip install 'tinymlir[simulation]'"
_COMPILER_FLAGS = ["-c", "-O2", "-g0", "-ffreestanding", "-fno-builtin", "-fno-sanitize=all"]

# Whatever the network wants beyond code and constants is an error: --orphan-handling=error.
_LINKER_SCRIPT = """\
MEMORY {{
  vectors : ORIGIN = {vectors:#x}, LENGTH = 0x1000
  flash : ORIGIN = {flash:#x}, LENGTH = {flash_bytes:#x}
}}
ENTRY(tinymlir_reset)
SECTIONS {{
  .vectors : {{ KEEP(*(.vectors)) }} > vectors
  .text : {{
    *{startup}.o(.text .text.*) *runtime.c.o(.text .text.*)
    tinymlir_measured = .;
    *(.text .text.*)
    tinymlir_measured_end = .;
  }} > flash
  .rodata : {{ *(.rodata .rodata.* .srodata .srodata.*) }} > flash
  .symtab 0 : {{ *(.symtab) }}
  .strtab 0 : {{ *(.strtab) }}
  .shstrtab 0 : {{ *(.shstrtab) }}
  /DISCARD/ : {{
    *(.ARM.exidx* .ARM.extab* .eh_frame* .comment .note.* .debug_* .*.attributes .llvm_addrsig)
  }}
}}
"""


@dataclass(frozen=True)
class Entry:
    """What is called of an object that holds several levels of a network.

    ``margin`` is that of ``NAME_invoke_gated``; None for ``NAME_invoke``.
    """

    level: int = 0
    margin: int | None = None

    @property
    def gated(self) -> bool:
        return self.margin is not None

    def layers(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        """The layers, as ``NAME.json`` has them, that may run."""
        if "levels" not in report:
            return list(report["layers"])
        ran = list(report["levels"][self.level]["layers"])
        if self.gated:
            known = {layer["symbol"] for layer in ran}
            ran += [la for la in report["levels"][0]["layers"] if la["symbol"] not in known]
        return ran


#: The exact level, or the only one.
EXACT = Entry()


@dataclass(frozen=True)
class Image:
    """A linked firmware.

    ``layers`` are the functions of the layers in their order, ``entries`` those that lead there:
    the network's entry point first; ``call`` is the runtime's function that calls it. ``state`` are
    bytes that come before a sample's inputs. Where ``returns_level``, the entry point returns the
    number of a level, which comes after the outputs as one byte; elsewhere it returns 0.
    """

    target: Target
    elf: Elf
    layout: Layout
    entries: tuple[Symbol, ...]
    call: Symbol
    layers: tuple[Symbol, ...]
    state: bytes = b""
    returns_level: bool = False

    @property
    def output_bytes(self) -> list[int]:
        """Bytes of each output of a sample."""
        sizes = [region.size for region in self.layout.outputs]
        return [*sizes, 1] if self.returns_level else sizes


def build_image(report: dict[str, Any], object_code: bytes, entry: Entry = EXACT) -> Image:
    """Link a compiled network into a firmware.

    Args:
        report: the contents of ``NAME.json``.
        object_code: the contents of ``NAME.o``.
        entry: what is called of an object of several levels.

    Raises:
        TinymlirError: the ``simulation`` extra is missing, the target cannot be simulated, or the
            object does not link: it needs a function that no firmware has to provide, wants
            writable globals, or is too large for the machine.
    """
    target = get_target(report["target"])
    if target.memory is None:
        raise TinymlirError(f"target '{target.name}' runs in process, not in a firmware image")
    levels = report.get("levels", ())
    state = struct.pack("<i", entry.level) if levels else b""
    layout = plan_layout(
        target,
        [
            *([("state", len(state), None)] if state else []),
            *(
                (tensor["name"], tensor["bytes"], tensor.get("arena_offset"))
                for tensor in report["inputs"]
            ),
        ],
        [(tensor["name"], tensor["bytes"]) for tensor in report["outputs"]],
        report["arena_bytes"],
        report["arena_alignment"],
        () if entry.margin is None else (entry.margin,),
    )
    name = report["name"]
    invoke = f"{name}_invoke_gated" if entry.gated else f"{name}_invoke"
    inner = (f"{name}_run_level", *(level["symbol"] for level in levels)) if levels else ()
    elf = read_elf(_link(target, name, layout, object_code, invoke, entry.gated))
    try:
        return Image(
            target,
            elf,
            layout,
            entries=tuple(elf.symbol(symbol) for symbol in (invoke, *inner)),
            call=elf.symbol("tinymlir_call"),
            layers=tuple(elf.symbol(layer["symbol"]) for layer in entry.layers(report)),
            state=state,
            returns_level=entry.gated,
        )
    except KeyError as missing:
        raise TinymlirError(f"has no function {missing}", file=f"{name}.o") from None


def _link(
    target: Target,
    name: str,
    layout: Layout,
    object_code: bytes,
    invoke: str,
    returns_level: bool,
) -> bytes:
    assert target.memory is not None
    runtime = resources.files("tinymlir.simulators") / "runtime"
    startup = "startup_riscv.S" if target.triple.startswith("riscv") else "startup_arm.S"
    machine = ["-target", target.zig_target or "", f"-mcpu={target.zig_cpu}"]
    with tempfile.TemporaryDirectory() as directory, resources.as_file(runtime) as sources:
        folder = Path(directory)
        header = _layout_header(invoke, target, layout, returns_level)
        (folder / "layout.h").write_text(header)
        (folder / "network.o").write_bytes(object_code)
        flash, flash_bytes = target.memory.flash
        vectors = target.memory.vectors
        if vectors is None:
            vectors, flash, flash_bytes = flash, flash + 0x1000, flash_bytes - 0x1000
        (folder / "image.ld").write_text(
            _LINKER_SCRIPT.format(
                startup=startup, vectors=vectors, flash=flash, flash_bytes=flash_bytes
            )
        )
        objects = []
        for source in (startup, "runtime.c", "memory.c"):
            objects.append(str(folder / source) + ".o")
            command = ["cc", *machine, *_COMPILER_FLAGS, f"-I{folder}"]
            _zig([*command, str(sources / source), "-o", objects[-1]], "the simulators' runtime")
        image = folder / "image.elf"
        script = ["-T", str(folder / "image.ld"), "--orphan-handling=error"]
        objects.append(str(folder / "network.o"))
        _zig(["ld.lld", *script, *objects, "-o", str(image)], f"{name}.o")
        return image.read_bytes()


def _layout_header(invoke: str, target: Target, layout: Layout, returns_level: bool) -> str:
    """What the runtime is told about this network, as C macros."""

    def buffers(regions: list[tuple[int, int]]) -> str:
        return ", ".join(f"{{(byte *){address:#x}, {size}}}" for address, size in regions)

    arguments = layout.arguments
    registers = arguments + [0] * (layout.register_arguments - len(arguments))
    stack, arena = layout.stack, layout.arena
    macros = {
        "INVOKE": invoke,
        "RETURNS_LEVEL": int(returns_level),
        # A machine may be more lenient than the core that it stands in for.
        "TRAP_UNALIGNED": int(not target.has("unaligned")),
        "PAINT": hex(PAINT),
        "SYSTEM_STACK_TOP": hex(layout.system.end),
        "ENTRY_STACK": hex(layout.entry_stack),
        "ARGUMENT_COUNT": len(arguments),
        "ARGUMENTS": ", ".join(hex(address) for address in registers),
        "INPUTS": buffers([(region.address, region.size) for region in layout.inputs]),
        "OUTPUTS": buffers([(region.address, region.size) for region in layout.outputs]),
        "PAINTED": buffers([(stack.address, stack.size), (arena.address, arena.size)]),
        "GAPS": buffers(layout.gaps()),
    }
    return "".join(f"#define TINYMLIR_{name} {value}\n" for name, value in macros.items())


def _zig(arguments: list[str], subject: str) -> None:
    """Run one of zig's tools.

    Raises:
        TinymlirError: it is not installed, or it failed: with its first error.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise TinymlirError("firmware images need the package 'ziglang'", hint=INSTALL_HINT)
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        reason = (lines or done.stderr.splitlines() or ["no reason given"])[0]
        raise TinymlirError(f"cannot be linked: {reason.split('error:')[-1].strip()}", file=subject)
