"""Instructions, as far as counting and pricing them asks: length, kind, and load hazards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tinymlir.errors import TinymlirError
from tinymlir.simulators.image import INSTALL_HINT
from tinymlir.targets import Target

# Kinds beyond the names of the fields of tinymlir.targets.Costs:
#   branch (conditional), vector_memory, vector, loop_end (the end of a low-overhead loop).
_ARM_KINDS = {
    "mul": "mul smulbb smulbt smultb smultt smulwb smulwt smmul smmulr",
    "mul_long": "smull umull smlal umlal umaal smlalbb smlalbt smlaltb smlaltt",
    "mac": "mla mls smlabb smlabt smlatb smlatt smlawb smlawt smmla smmlar smmls smmlsr",
    "dual_mac": "smlad smladx smuad smuadx smusd smusdx smlsd smlsdx smlald smlaldx smlsld smlsldx",
    "divide": "sdiv udiv",
    "jump": "bx",
    "call": "bl blx",
    "branch": "cbz cbnz",
}
_RISCV_KINDS = {
    "mul": "mul",
    "mul_long": "mulh mulhu mulhsu",
    "divide": "div divu rem remu",
    "load": "lb lbu lh lhu lw lwsp",
    "store": "sb sh sw swsp",
    "branch": "beq bne blt bge bltu bgeu beqz bnez bgez blez bgtz bltz bgt ble bgtu bleu",
    "jump": "j jr ret",
    "call": "jal jalr",
}
_MEMORY = 3  # capstone.arm.ARM_OP_MEM
_RISCV_NAME = re.compile(r"\b(?:zero|ra|sp|gp|tp|[ast]\d+|x\d+)\b")


def _by_name(kinds: dict[str, str]) -> dict[str, str]:
    return {name: kind for kind, names in kinds.items() for name in names.split()}


@dataclass(frozen=True)
class Instruction:
    """One instruction: its class, how many registers it moves from or to memory, and operands.

    ``writes`` leaves out the base that a load updates, which is early; ``leaves`` says that the
    program counter is written other than by a branch.
    """

    kind: str
    transfers: int = 1
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    leaves: bool = False


def instruction_bytes(target: Target, code: bytes, offset: int) -> int:
    """Length of the instruction at ``offset``, from its first halfword.

    Thumb: Arm v7-M reference manual, A5.1. RISC-V: unprivileged specification, 1.5.
    """
    first = int.from_bytes(code[offset : offset + 2], "little")
    if target.triple.startswith("riscv"):
        return 4 if first & 3 == 3 else 2
    return 4 if first >> 11 in (0b11101, 0b11110, 0b11111) else 2


def decoder(target: Target) -> Callable[[bytes, int], Iterator[Instruction]]:
    """A function from a block's code and address to its instructions.

    Raises:
        TinymlirError: the ``simulation`` extra is missing.
    """
    try:
        import capstone
    except ImportError:
        raise TinymlirError(
            "modelled cycles need the package 'capstone'", hint=INSTALL_HINT
        ) from None
    riscv = target.triple.startswith("riscv")
    if riscv:
        machine = capstone.Cs(
            capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC
        )
        kinds = _by_name(_RISCV_KINDS)
    else:
        machine = capstone.Cs(
            capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS
        )
        kinds = _by_name(_ARM_KINDS)
    machine.detail = True

    def decode(code: bytes, address: int) -> Iterator[Instruction]:
        offset = 0
        while offset < len(code):
            size = instruction_bytes(target, code, offset)
            word = code[offset : offset + size]
            coprocessor = None if riscv else _decode_v81(word, target.has("mve"))
            decoded = next(machine.disasm(word, address + offset, 1), None)
            if coprocessor is not None:
                yield coprocessor
            elif decoded is None:
                yield Instruction("alu")
            elif riscv:
                yield _decode_riscv(decoded, kinds)
            else:
                yield _decode_arm(decoded, machine.insn_name(decoded.id), kinds)
            offset += size

    return decode


def _decode_v81(word: bytes, vectors: bool) -> Instruction | None:
    """What Armv8.1-M adds and capstone does not know: Helium and low-overhead loops."""
    if len(word) != 4:
        return None
    first, second = (int.from_bytes(word[i : i + 2], "little") for i in (0, 2))
    if vectors and first & 0xEC00 == 0xEC00:
        return Instruction("vector_memory" if first & 0xEE00 == 0xEC00 else "vector")
    # LE and LETP (Armv8-M reference manual, C2.4). What starts a loop is priced like an addition.
    if first & 0xFFCF == 0xF00F and second & 0xF001 == 0xC001:
        return Instruction("loop_end")
    return None


def _decode_arm(decoded: Any, name: str, kinds: dict[str, str]) -> Instruction:
    read, written = decoded.regs_access()
    reads = frozenset(map(decoded.reg_name, read))
    writes = frozenset(map(decoded.reg_name, written))
    operands: str = decoded.op_str
    leaves = "pc" in writes or bool(re.search(r"\{.*pc\}", operands))
    kind = kinds.get(name, "alu")
    transfers = 1
    if name == "b":
        kind = "jump" if decoded.mnemonic in ("b", "b.w") else "branch"
    elif name.startswith(("ldr", "ldm", "pop", "vldr", "tb")):
        kind = "load"
        leaves = leaves or name.startswith("tb")
    elif name.startswith(("str", "stm", "push", "vstr")):
        kind = "store"
    if kind in ("load", "store"):
        if name in ("ldrd", "strd"):
            transfers = 2
        elif "{" in operands:
            listed = operands[operands.index("{") + 1 : operands.index("}")].split(",")
            transfers = len(listed)
            writes = frozenset(register.strip() for register in listed)
        else:
            writes -= {decoded.reg_name(o.mem.base) for o in decoded.operands if o.type == _MEMORY}
    return Instruction(kind, transfers, reads, writes, leaves and kind in ("load", "alu"))


def _decode_riscv(decoded: Any, kinds: dict[str, str]) -> Instruction:
    name: str = decoded.mnemonic.removeprefix("c.")
    kind = kinds.get(name, "alu")
    registers = _RISCV_NAME.findall(decoded.op_str)
    if kind in ("store", "branch", "jump"):
        return Instruction(kind, reads=frozenset(registers))
    # A compressed arithmetic instruction also reads its destination.
    compressed = decoded.mnemonic.startswith("c.")
    in_place = kind == "alu" and compressed and name not in ("li", "lui", "mv")
    reads = registers if in_place else registers[1:]
    return Instruction(kind, reads=frozenset(reads), writes=frozenset(registers[:1]))
