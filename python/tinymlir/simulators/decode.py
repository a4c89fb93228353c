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
#   branch (conditional), loop_end (the end of a low-overhead loop), and for the pipes of Helium
#   vector_memory, vector (integer) and vector_multiply.
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
_ARM_REGISTERS = (*(f"r{i}" for i in range(9)), "sb", "sl", "fp", "ip", "sp", "lr", "pc")
_REGISTER, _IMMEDIATE, _MEMORY = 1, 2, 3  # capstone.arm.ARM_OP_REG, ARM_OP_IMM, ARM_OP_MEM
_ALWAYS = (0, 15)  # no condition: capstone.arm.ARM_CC_INVALID, ARM_CC_AL
_COMPARES = frozenset(("cmp", "cmn", "tst", "teq"))
# With two operands, these do not read the first.
_UNARY = re.compile(r"mov|movw|mvn|[su]xt[bh](16)?|clz|rev(16|sh)?|rbit|adr|mrs")
# The destination is an operand as well.
_IN_PLACE = re.compile(r"movt|bf[ic]|[su]mlal.*|smlsld.*|umaal")
_TWO_RESULTS = re.compile(r"[su]mull|[su]mlal.*|smlsld.*|umaal|ldrd")
_RISCV_NAME = re.compile(r"\b(?:zero|ra|sp|gp|tp|[ast]\d+|x\d+)\b")


def _by_name(kinds: dict[str, str]) -> dict[str, str]:
    return {name: kind for kind, names in kinds.items() for name in names.split()}


@dataclass(frozen=True)
class Instruction:
    """One instruction, as far as its time depends on it.

    ``name`` is the mnemonic without condition and width, ``size`` its bytes. ``reads`` are all
    registers that it needs, with ``cpsr`` for the flags; of them it needs ``addresses`` to access
    memory, ``late`` only to accumulate to or to store, and ``shifted`` goes through the shifter
    first. ``writes`` leaves out ``updates``, the base that an access advances, which is early.
    ``leaves`` says that the program counter is written other than by a branch, ``backward`` that a
    branch goes back.
    """

    kind: str
    name: str = ""
    size: int = 2
    transfers: int = 1
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()
    shifted: frozenset[str] = frozenset()
    updates: frozenset[str] = frozenset()
    indexed: bool = False
    leaves: bool = False
    backward: bool = False


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
                yield Instruction("alu", size=size)
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
        return _decode_helium(first, second)
    # LE and LETP (Armv8-M reference manual, C2.4). What starts a loop is priced like an addition.
    if first & 0xFFCF == 0xF00F and second & 0xF001 == 0xC001:
        return Instruction("loop_end", size=4)
    return None


def _decode_helium(first: int, second: int) -> Instruction:
    """Which pipe it takes; vector registers where most encodings have them.

    Armv8-M reference manual, C2.4. A field that holds something else at worst adds a dependence.
    """
    if first & 0xFFBF == 0xFE31 and second & 0x1FFF == 0x0F4D:
        return Instruction("alu", "vpst", size=4)
    destination, left, right = (f"q{field >> 1 & 7}" for field in (second >> 12, first, second))
    if first & 0xFFA0 == 0xEC00 and second & 0x1FE0 == 0x0F00:
        # Two lanes, from or to core registers.
        core, kind = {_ARM_REGISTERS[first & 15], _ARM_REGISTERS[second & 15]}, "vector"
        reads, writes = (core, {destination}) if first & 0x10 else ({destination}, core)
    elif first & 0xEE00 == 0xEC00:
        loads = first & 0x10
        reads, writes = (set(), {destination}) if loads else ({destination}, set())
        kind, reads = "vector_memory", reads | {_ARM_REGISTERS[first & 15]}
    elif _is_reduction(first, second):
        kind, reads, writes = "vector_multiply", {left, right}, {_ARM_REGISTERS[second >> 12 & 14]}
    else:
        slow = _is_product(first, second) or _is_float(first, second)
        kind = "vector_multiply" if slow else "vector"
        reads, writes = {left, right}, {destination}
    return Instruction(kind, size=4, reads=frozenset(reads), writes=frozenset(writes))


def _is_reduction(first: int, second: int) -> bool:
    """VMLADAV, VMLALDAV, VADDV and their variants, but not VMAXV or VABAV."""
    inside = first & 0xEF80 == 0xEE80 and second & 0x0ED0 == 0x0E00
    return inside and first & 0xEFF3 != 0xEEE2 and second & 0x0101 != 0x0101


def _is_float(first: int, second: int) -> bool:
    """VMUL of floats, VCVT to and from integers, VRINT."""
    if first & 0xFFA1 == 0xFF00:
        return second & 0x1F51 == 0x0D50
    if first & 0xFFB3 == 0xFFB3:
        return second & 0x1E51 == 0x0640 or second & 0x1C51 == 0x0040
    return first & 0xFFB3 == 0xFFB2 and second & 0x1C51 == 0x0440


def _is_product(first: int, second: int) -> bool:
    """VMUL, VMULH, VMULL, VQDMULH, VMLA and their variants, by vectors or a scalar."""
    if first & 0xEFC1 == 0xEF00:
        by_vector = first < 0xF000 and second & 0x0FF1 == 0x0950
        return by_vector or second & 0x1FF1 == 0x0B40
    wide = first & 0x30 == 0x30  # Other instructions have this in place of a size.
    return first & 0xEFC1 == 0xEE01 and second & 0x0F90 == 0x0E00 and not wide


def _decode_arm(decoded: Any, name: str, kinds: dict[str, str]) -> Instruction:
    """Registers come from the operands' places: capstone's own lists of them have gaps."""
    operands = decoded.operands
    registers = [decoded.reg_name(o.reg) for o in operands if o.type == _REGISTER]
    memory = [o.mem for o in operands if o.type == _MEMORY]
    kind = kinds.get(name, "alu")
    if name == "b":
        kind = "jump" if decoded.cc in _ALWAYS else "branch"
    elif name.startswith(("ldr", "ldm", "pop", "vldr", "vldm", "vpop", "tb")):
        kind = "load"
    elif name.startswith(("str", "stm", "push", "vstr", "vstm", "vpush")):
        kind = "store"
    facts: dict[str, Any] = {"kind": kind, "name": name, "size": decoded.size}
    flags = frozenset() if decoded.cc in _ALWAYS else frozenset(("cpsr",))
    if kind in ("load", "store"):
        facts |= _transfer(decoded, name, kind, registers, memory)
    elif kind in ("branch", "jump", "call"):
        facts["reads"] = frozenset(registers)
        facts["backward"] = any(o.type == _IMMEDIATE and o.imm <= decoded.address for o in operands)
    else:
        facts |= _operation(decoded, name, kind, registers)
    facts["reads"] |= flags
    facts["leaves"] = kind in ("load", "alu") and ("pc" in facts["writes"] or name.startswith("tb"))
    return Instruction(**facts)


def _transfer(
    decoded: Any, name: str, kind: str, registers: list[str], memory: list[Any]
) -> dict[str, Any]:
    """A load or store: of one register or two at an address, or of a list of them."""
    if memory:
        base = decoded.reg_name(memory[0].base)
        addresses = {base, decoded.reg_name(memory[0].index)} - {None}
        updates = {base} if decoded.writeback else set()
        indexed = memory[0].index != 0
    else:
        updates = {"sp"} if name in ("push", "pop", "vpush", "vpop") else {registers.pop(0)}
        addresses, indexed = updates, False
    moved = frozenset(registers)
    return {
        "transfers": max(1, len(registers)),
        "reads": frozenset(addresses) | (moved if kind == "store" else frozenset()),
        "writes": moved if kind == "load" else frozenset(),
        "addresses": frozenset(addresses),
        "late": moved if kind == "store" else frozenset(),
        "updates": frozenset(updates),
        "indexed": indexed,
    }


def _operation(decoded: Any, name: str, kind: str, registers: list[str]) -> dict[str, Any]:
    """Anything that goes from registers to registers."""
    results = 0 if name in _COMPARES else 2 if _TWO_RESULTS.fullmatch(name) else 1
    in_place = _IN_PLACE.fullmatch(name) or (
        len(decoded.operands) == 2 and not _UNARY.fullmatch(name)
    )
    reads = registers if in_place else registers[results:]
    accumulators = registers[:2] if _IN_PLACE.fullmatch(name) else registers[3:]
    sets_flags = decoded.update_flags or name in _COMPARES
    takes_carry = name in ("adc", "sbc", "rrx")
    return {
        "reads": frozenset(reads) | (frozenset(("cpsr",)) if takes_carry else frozenset()),
        "writes": frozenset(registers[:results]) | frozenset(("cpsr",) if sets_flags else ()),
        "late": frozenset(accumulators if "mac" in kind or kind == "mul_long" else ()),
        "shifted": frozenset(
            decoded.reg_name(o.reg)
            for o in decoded.operands
            if o.type == _REGISTER and o.shift.type and not name.startswith(("sxt", "uxt"))
        ),
    }


def _decode_riscv(decoded: Any, kinds: dict[str, str]) -> Instruction:
    name: str = decoded.mnemonic.removeprefix("c.")
    kind = kinds.get(name, "alu")
    registers = _RISCV_NAME.findall(decoded.op_str)
    if kind in ("store", "branch", "jump"):
        return Instruction(kind, name, decoded.size, reads=frozenset(registers))
    if kind == "call":
        # Written short where the link is the usual one: `jalr ra` is `jalr ra, 0(ra)`.
        return Instruction(kind, name, decoded.size, reads=frozenset(registers[-1:]))
    # A compressed arithmetic instruction also reads its destination.
    compressed = decoded.mnemonic.startswith("c.")
    in_place = kind == "alu" and compressed and name not in ("li", "lui", "mv")
    reads = registers if in_place else registers[1:]
    return Instruction(
        kind, name, decoded.size, reads=frozenset(reads), writes=frozenset(registers[:1])
    )
