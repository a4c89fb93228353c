"""CORE-V SIMD instructions that LLVM can encode but not select, and has no intrinsics for.

The IR has another instruction in the place of each, its stand-in: one with an intrinsic, the same
operands, and an immediate of five bits that tells which instruction is meant. LLVM allocates
registers for it, schedules and removes it as a pure function of its operands, and neither folds it
nor knows bits of its result. In the object only its remaining bits change; no instruction moves or
grows. No pattern of LLVM selects the two instructions that are stand-ins: where they occur, we have
asked for them.

Encodings: CV32E40P user manual, "CORE-V Instruction Set Custom Extensions": "16-Bit x 16-Bit
Multiply-Accumulate operations" for the stand-ins, "SIMD ALU Encoding" for what they become. These
are LLVM's, and those of cores with the parameter COREV_PULP; older ones, with PULP_XPULP, as RI5CY
was, have the same instructions under other encodings.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from tinymlir.errors import TinymlirError

_EM_RISCV = 243
_SHF_EXECINSTR = 4

#: rd, rs1 and rs2; besides these, a stand-in has five bits that LLVM takes as an immediate.
_REGISTERS = 0x1F << 7 | 0x1F << 15 | 0x1F << 20
_IMMEDIATE_SHIFT, _IMMEDIATE = 25, 0x1F << 25


@dataclass(frozen=True)
class _StandIn:
    """An instruction of LLVM's in whose place others come: its intrinsic, name and fixed bits."""

    intrinsic: str
    mnemonic: str
    bits: int


#: rd = f(rd, rs1, rs2), and rd = f(rs1, rs2)
_ACCUMULATES = _StandIn("llvm.riscv.cv.mac.machhuRN", "cv.machhurn", 0xC000_705B)
_COMBINES = _StandIn("llvm.riscv.cv.mac.mulhhuRN", "cv.mulhhurn", 0xC000_505B)


@dataclass(frozen=True)
class Instruction:
    """An instruction, its bits without registers, and the stand-in with its immediate."""

    mnemonic: str
    bits: int
    stand_in: _StandIn
    immediate: int

    @property
    def intrinsic(self) -> str:
        """Takes rs1, rs2, rd where the instruction accumulates, and `immediate`."""
        return self.stand_in.intrinsic


#: rd += Σ rs1[i]·rs2[i] over four signed bytes
SDOTSP_B = Instruction("cv.sdotsp.b", 0xA800_107B, _ACCUMULATES, 1)
#: rd[i] = max(rs1[i], rs2[i]) over four signed bytes
MAX_B = Instruction("cv.max.b", 0x3000_107B, _COMBINES, 1)

_INSTRUCTIONS = {(i.stand_in, i.immediate): i for i in (SDOTSP_B, MAX_B)}
_BY_MNEMONIC = {stand_in.mnemonic: stand_in for stand_in in (_ACCUMULATES, _COMBINES)}


def _replacement(stand_in: _StandIn, immediate: int) -> Instruction:
    instruction = _INSTRUCTIONS.get((stand_in, immediate))
    if instruction is None:
        raise TinymlirError(
            f"'{stand_in.mnemonic}' with immediate {immediate} stands for no instruction"
        )
    return instruction


def replace_in_object(elf: bytes) -> bytes:
    """``elf`` with the instructions meant in the place of their stand-ins.

    Objects for other architectures, or of another format, come back as they are.

    Raises:
        TinymlirError: a stand-in stands for no instruction.
    """
    if elf[:4] != b"\x7fELF" or struct.unpack_from("<H", elf, 18) != (_EM_RISCV,):
        return elf
    patched = bytearray(elf)
    (table,) = struct.unpack_from("<I", elf, 32)
    entry_bytes, entries = struct.unpack_from("<HH", elf, 46)
    for index in range(entries):
        header = struct.unpack_from("<6I", elf, table + index * entry_bytes)
        flags, start, size = header[2], header[4], header[5]
        if flags & _SHF_EXECINSTR:
            _replace_in_code(patched, start, start + size)
    return bytes(patched)


def _replace_in_code(code: bytearray, at: int, end: int) -> None:
    """Instruction by instruction: RISC-V keeps no data among them."""
    while at < end:
        if code[at] & 3 != 3:
            at += 2
            continue
        (word,) = struct.unpack_from("<I", code, at)
        for stand_in in _BY_MNEMONIC.values():
            if word & ~(_REGISTERS | _IMMEDIATE) == stand_in.bits:
                immediate = (word & _IMMEDIATE) >> _IMMEDIATE_SHIFT
                bits = _replacement(stand_in, immediate).bits
                struct.pack_into("<I", code, at, word & _REGISTERS | bits)
        at += 4


def replace_in_assembly(text: str) -> str:
    """The same for LLVM's assembly text.

    Raises:
        TinymlirError: a stand-in stands for no instruction.
    """
    names = "|".join(map(re.escape, _BY_MNEMONIC))

    def replaced(match: re.Match[str]) -> str:
        instruction = _replacement(_BY_MNEMONIC[match[1]], int(match[3]))
        return f"{instruction.mnemonic}{match[2]}"

    return re.sub(rf"\b({names})(\s+\w+, \w+, \w+), (\d+)$", replaced, text, flags=re.MULTILINE)
