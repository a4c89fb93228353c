"""Instructions in the place of their stand-ins, in what LLVM emits."""

from __future__ import annotations

import struct

import llvmlite.binding as llvm
import pytest

from tinymlir import stand_ins
from tinymlir.bindings import ir
from tinymlir.codegen import generate, target_machine
from tinymlir.errors import TinymlirError
from tinymlir.simulators.elf import read_elf
from tinymlir.stand_ins import MAX_B, SDOTSP_B, replace_in_assembly, replace_in_object
from tinymlir.targets import TARGETS, get_target

#: A function in which a product by a stand-in is added to a10, as arguments are in order.
ACCUMULATE = """
declare i32 @llvm.riscv.cv.mac.machhuRN(i32, i32, i32, i32)
define i32 @work(i32 %acc, i32 %x, i32 %w) nounwind {{
  %r = call i32 @llvm.riscv.cv.mac.machhuRN(i32 %x, i32 %w, i32 %acc, i32 {immediate})
  ret i32 %r
}}
"""
COMBINE = """
declare i32 @llvm.riscv.cv.mac.mulhhuRN(i32, i32, i32)
define i32 @work(i32 %x, i32 %y, i32 %z) nounwind {{
  %r = call i32 @llvm.riscv.cv.mac.mulhhuRN(i32 %z, i32 %y, i32 {immediate})
  ret i32 %r
}}
"""
A0, A1, A2 = 10, 11, 12


def emit(text: str, target: str = "rv32imc_xcv") -> tuple[bytes, str]:
    """Object and assembly as LLVM makes them."""
    machine = target_machine(get_target(target))
    text = f'target triple = "{machine.triple}"\n{text}'

    def module() -> llvm.ModuleRef:
        return llvm.parse_assembly(text, llvm.create_context())

    return machine.emit_object(module()), str(machine.emit_assembly(module()))


def register_format(funct7: int, rs2: int, rs1: int, funct3: int, rd: int, opcode: int) -> int:
    return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode


@pytest.mark.parametrize(
    ("text", "instruction", "word", "line"),
    [
        (
            ACCUMULATE,
            SDOTSP_B,
            register_format(0b1010100, A2, A1, 0b001, A0, 0x7B),
            "cv.sdotsp.b\ta0, a1, a2",
        ),
        (
            COMBINE,
            MAX_B,
            register_format(0b0011000, A1, A2, 0b001, A0, 0x7B),
            "cv.max.b\ta0, a2, a1",
        ),
    ],
)
def test_registers_stay_and_the_rest_is_as_in_the_manual(
    text: str, instruction: stand_ins.Instruction, word: int, line: str
) -> None:
    code, assembly = emit(text.format(immediate=instruction.immediate))
    patched = replace_in_object(code)
    assert struct.pack("<I", word) in patched
    changed = [i for i, (a, b) in enumerate(zip(code, patched, strict=True)) if a != b]
    assert changed[-1] - changed[0] < 4
    assert line in replace_in_assembly(assembly)
    assert instruction.stand_in.mnemonic not in replace_in_assembly(assembly)


@pytest.mark.parametrize("immediate", [0, 31])
def test_what_stands_for_nothing_is_an_error(immediate: int) -> None:
    code, assembly = emit(ACCUMULATE.format(immediate=immediate))
    message = f"'cv.machhurn' with immediate {immediate} stands for no instruction"
    with pytest.raises(TinymlirError, match=message):
        replace_in_object(code)
    with pytest.raises(TinymlirError, match=message):
        replace_in_assembly(assembly)


def test_data_and_halves_of_instructions_are_none() -> None:
    """The bits of a stand-in in a constant, and across two instructions."""
    word = SDOTSP_B.stand_in.bits | SDOTSP_B.immediate << 25
    code, _ = emit(f"@data = constant i32 {word}\ndefine i32 @work() nounwind {{ ret i32 0 }}")
    assert struct.pack("<I", word) in code
    assert replace_in_object(code) == code
    # An instruction whose high half is a stand-in's low one, then a compressed one, its high half.
    low, high = struct.pack("<HH", 0x0537, word & 0xFFFF), struct.pack("<H", word >> 16)
    code, _ = emit(ACCUMULATE.format(immediate=SDOTSP_B.immediate))
    split = code.replace(
        struct.pack("<IH", word | A2 << 20 | A1 << 15 | A0 << 7, 0x8082), low + high
    )
    assert struct.pack("<I", word) in split != code
    assert replace_in_object(split) == split


def test_llvm_presumes_nothing_of_the_results() -> None:
    """The stand-ins of constants would be 0 and 1, none of them negative."""
    text = f"""
    llvm.func @work() -> i32 {{
      %zero = llvm.mlir.constant(0 : i32) : i32
      %high = llvm.mlir.constant(65536 : i32) : i32
      %quad = llvm.mlir.constant({SDOTSP_B.immediate} : i32) : i32
      %max = llvm.mlir.constant({MAX_B.immediate} : i32) : i32
      %0 = llvm.call_intrinsic "{SDOTSP_B.intrinsic}"(%zero, %zero, %zero, %quad)
        : (i32, i32, i32, i32) -> i32
      %1 = llvm.call_intrinsic "{MAX_B.intrinsic}"(%high, %high, %max) : (i32, i32, i32) -> i32
      %2 = llvm.or %0, %1 : i32
      %top = llvm.mlir.constant(31 : i32) : i32
      %sign = llvm.lshr %2, %top : i32
      llvm.return %sign : i32
    }}
    """
    with ir.Context(), ir.Location.unknown():
        code = generate(ir.Module.parse(text), get_target("rv32imc_xcv"))
    for name in ("cv.sdotsp.b", "cv.max.b", "srli"):
        assert f"\t{name}\t" in code.assembly


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("rv32imc_xcv",)])
def test_other_objects_stay(target: str) -> None:
    code, _ = emit("define i32 @work(i32 %x) nounwind { ret i32 %x }", target)
    assert replace_in_object(code) == code


def test_the_object_names_its_extensions() -> None:
    code, _ = emit(ACCUMULATE.format(immediate=1))
    assert b"_xcvsimd1p0" in code
    assert [s.name for s in read_elf(code).symbols if s.function] == ["work"]
