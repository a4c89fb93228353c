"""Generated objects link with firmware of the hard-float and of the soft-float convention."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from tinymlir.build_attributes import fit_any_float_abi
from tinymlir.codegen import target_machine
from tinymlir.targets import TARGETS, get_target

CORES_WITH_FLOATS = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
FIRMWARE = """
int work(void);
float entry(float x) { work(); return x; }
void __aeabi_unwind_cpp_pr0(void) {}
"""
GNU_LD = shutil.which("arm-none-eabi-ld")
needs_gnu_ld = pytest.mark.skipif(GNU_LD is None, reason="GNU ld for Arm is not installed")


def compile_function(target_name: str) -> bytes:
    machine = target_machine(get_target(target_name))
    text = f'target triple = "{machine.triple}"\ndefine i32 @work() nounwind {{ ret i32 0 }}'
    return machine.emit_object(llvm.parse_assembly(text, llvm.create_context()))


def link(
    linker: str, folder: Path, abi: str, target_name: str, ours: bytes
) -> subprocess.CompletedProcess[str]:
    """Link ``ours`` with firmware that passes floats by the convention ``abi``."""
    pytest.importorskip("ziglang")
    zig = [sys.executable, "-m", "ziglang"]
    source, firmware, work = (str(folder / name) for name in ("main.c", "main.o", "work.o"))
    Path(source).write_text(FIRMWARE)
    Path(work).write_bytes(ours)
    machine = [f"--target=thumb-freestanding-{abi}", f"-mcpu={target_name.replace('-', '_')}"]
    subprocess.run([*zig, "cc", *machine, "-c", source, "-o", firmware], check=True)
    command = [*zig, "ld.lld"] if linker == "lld" else [str(GNU_LD)]
    command += ["-e", "entry", firmware, work, "-o", str(folder / "image")]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("linker", ["lld", pytest.param("gnu-ld", marks=needs_gnu_ld)])
@pytest.mark.parametrize("target_name", CORES_WITH_FLOATS)
@pytest.mark.parametrize("abi", ["eabi", "eabihf"])
def test_links_with_either_convention(
    tmp_path: Path, linker: str, target_name: str, abi: str
) -> None:
    ours = fit_any_float_abi(compile_function(target_name))
    linked = link(linker, tmp_path, abi, target_name, ours)
    assert linked.returncode == 0, linked.stderr


@needs_gnu_ld
def test_else_gnu_ld_refuses(tmp_path: Path) -> None:
    linked = link("gnu-ld", tmp_path, "eabihf", "cortex-m4", compile_function("cortex-m4"))
    assert linked.returncode != 0
    assert "uses VFP register arguments" in linked.stderr


@pytest.mark.parametrize("target_name", [name for name in TARGETS if name != "host"])
def test_only_one_attribute_of_arm_objects_changes(target_name: str) -> None:
    before = compile_function(target_name)
    after = fit_any_float_abi(before)
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == ([] if target_name.startswith("rv32") else [(23, 28)])


def test_other_formats_are_left_alone() -> None:
    assert fit_any_float_abi(b"\xcf\xfa\xed\xfe" + bytes(60)) == b"\xcf\xfa\xed\xfe" + bytes(60)
