"""Each rule of the cycle model, on the shortest sequence that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinymlir.simulators.cycles import Block, price_block
from tinymlir.simulators.decode import decoder
from tinymlir.targets import get_target

# Halfwords of Thumb code.
ADDS = "1840"  # adds r0, r0, r1
OTHER = "1889"  # adds r1, r1, r2
LDR_R0 = "6808"  # ldr r0, [r1]
LDR_R2 = "681a"  # ldr r2, [r3]
LDR_R4_R0 = "6804"  # ldr r4, [r0]
USE_R0 = "1c40"  # adds r0, r0, #1
STR_R0 = "6018"  # str r0, [r3]
LDR_POST = "f851 0b04"  # ldr r0, [r1], #4
LDR_NEXT = "f851 2b04"  # ldr r2, [r1], #4
PUSH = "b5f0"  # push {r4-r7, lr}
POP_PC = "bdf0"  # pop {r4-r7, pc}
LDRD = "e9d1 0200"  # ldrd r0, r2, [r1]
BNE = "d1fe"  # bne .
B = "e7fe"  # b .
BX = "4770"  # bx lr
BL = "f7ff fffe"  # bl .
MULS = "4348"  # muls r0, r1, r0
MLA = "fb01 0002"  # mla r0, r1, r2, r0
SMULL = "fb81 0102"  # smull r0, r1, r1, r2
SMLAL = "fbc1 0302"  # smlal r0, r3, r1, r2
SMLAD = "fb21 0002"  # smlad r0, r1, r2, r0
SMLABB = "fb11 0002"  # smlabb r0, r1, r2, r0
SDIV = "fb90 f0f1"  # sdiv r0, r0, r1
SXTB16 = "fa2f f081"  # sxtb16 r0, r1
VLDRB = "ed91 1e00"  # vldrb.u8 q0, [r1], as Helium encodes it
VADD = "ef02 2840"  # vadd.i8 q1, q1, q0
VMLADAVA = "eef2 0f20"  # vmladava.s8 r0, q1, q0
VADDV = "eef1 0f00"  # vaddv.s8 r0, q0
VMAXV = "eee2 0f00"  # vmaxv.s8 r0, q0
VQRDMULH = "ff22 4b44"  # vqrdmulh.s32 q2, q1, q2
VMUL_F32 = "ff02 0d54"  # vmul.f32 q0, q1, q2
VCVT_F32 = "ffbb 0642"  # vcvt.f32.s32 q0, q1
VCVT_S32 = "ffbb 674e"  # vcvt.s32.f32 q3, q7
VRINTN = "ffba 0448"  # vrintn.f32 q0, q4
VMOV_LANES = "ec1c 6f08"  # vmov q3[2], q3[0], r8, r12
LE = "f00f c003"  # le lr, .-2
LDRB_R0 = "7808"  # ldrb r0, [r1]
MOV_R3 = "2300"  # movs r3, #0
USE_R3 = "3301"  # adds r3, #1
ADD_SHIFTED_R0 = "eb02 0440"  # add.w r4, r2, r0, lsl #1
STR_INDEXED = "5058"  # str r0, [r3, r1]
STR_AT_R0 = "6001"  # str r1, [r0]
BACK = "d1fd"  # bne .-2


START = Block(0x1000, 0, ())


def block(target: str, code: str, address: int = 0x1000) -> Block:
    halfwords = b"".join(int(word, 16).to_bytes(2, "little") for word in code.split())
    instructions = tuple(decoder(get_target(target))(halfwords, address))
    return Block(address, len(halfwords), instructions)


def price(target: str, code: str) -> int:
    """Cycles of a block after nothing."""
    return price_block(get_target(target), START, block(target, code))


def price_going_to(target: str, code: str, address: int, then: str) -> int:
    """Cycles of a block and of one more at ``address``."""
    core = get_target(target)
    return price(target, code) + price_block(
        core, block(target, code), block(target, then, address)
    )


@pytest.mark.parametrize(
    ("target", "code", "cycles"),
    [
        ("cortex-m0", ADDS, 1),
        ("cortex-m0", LDR_R0, 2),
        ("cortex-m0", f"{LDR_R0} {LDR_R2}", 4),
        ("cortex-m0", STR_R0, 2),
        ("cortex-m0", PUSH, 1 + 5),
        ("cortex-m0", POP_PC, 1 + 5 + 2),
        ("cortex-m0", MULS, 1),
        ("cortex-m0", BL, 4),
        ("cortex-m0", BX, 3),
        ("cortex-m0plus", POP_PC, 1 + 5 + 1),
        ("cortex-m0plus", BL, 3),
        ("cortex-m0plus", BX, 2),
        ("cortex-m3", f"{LDR_R0} {LDR_R2}", 3),
        ("cortex-m3", f"{LDR_R0} {LDR_R2} {STR_R0}", 4),
        ("cortex-m3", f"{LDR_R0} {LDR_R4_R0}", 4),
        ("cortex-m3", f"{USE_R0} {LDR_R4_R0}", 1 + 2 + 1),
        ("cortex-m3", f"{LDR_R0} {USE_R0}", 3),
        ("cortex-m3", LDRD, 3),
        ("cortex-m3", MLA, 2),
        ("cortex-m3", SMULL, 5),
        ("cortex-m3", SDIV, 7),
        ("cortex-m4", MLA, 1),
        ("cortex-m4", SMULL, 1),
        ("cortex-m4", SMLAL, 1),
        ("cortex-m4", SMLABB, 1),
        ("cortex-m4", f"{SXTB16} {SMLAD}", 2),
        # A store to the sum of two registers takes two cycles, after a load one.
        ("cortex-m4", STR_INDEXED, 2),
        ("cortex-m4", f"{LDR_R2} {STR_INDEXED}", 2 + 1),
        ("cortex-m4", f"{USE_R0} {STR_AT_R0}", 1 + 1 + 1),
        ("cortex-m4", f"{USE_R0} {STR_R0}", 1 + 1),
        ("cortex-m33", f"{LDR_R0} {USE_R0}", 1 + 1 + 1),
        ("cortex-m33", f"{LDR_R0} {OTHER}", 2),
        # What a load adds to its base is there in time for the next.
        ("cortex-m33", f"{LDR_POST} {LDR_NEXT}", 2),
    ],
)
def test_thumb(target: str, code: str, cycles: int) -> None:
    assert price(target, code) == cycles


@pytest.mark.parametrize(
    ("target", "code", "then", "not_taken", "taken"),
    [
        ("cortex-m0", BNE, ADDS, 1, 3),
        ("cortex-m0plus", BNE, ADDS, 1, 2),
        ("cortex-m4", BNE, ADDS, 1, 3),
        ("cortex-m33", BNE, ADDS, 1, 2),
        ("cortex-m4", B, ADDS, 3, 3),
        ("cortex-m4", ADDS, ADDS, 1, 1),
        ("rv32imc", "fd75", "0505", 1, 3),  # c.bnez a0, .-4
    ],
)
def test_branches(target: str, code: str, then: str, not_taken: int, taken: int) -> None:
    assert price_going_to(target, code, 0x1002, then) == not_taken + 1
    assert price_going_to(target, code, 0x0FF0, then) == taken + 1


@pytest.mark.parametrize(
    ("target", "code", "wide", "extra"),
    [
        ("cortex-m0", BNE, BL, 0),
        ("cortex-m4", BNE, SXTB16, 1),
        ("cortex-m33", BNE, SXTB16, 1),
        ("rv32imc", "fd75", "8533 02b5", 1),  # mul a0, a1, a1
    ],
)
def test_wide_targets_that_cross_words(target: str, code: str, wide: str, extra: int) -> None:
    aligned = price_going_to(target, code, 0x0FF0, wide)
    assert price_going_to(target, code, 0x0FF2, wide) == aligned + extra
    assert price_going_to(target, code, 0x1002, wide) < aligned


def test_hazards_cross_blocks() -> None:
    """A load at the end of a block delays the first instruction of the next that uses it."""
    load, use = "4188", "0505"  # c.lw a0, 0(a1); c.addi a0, 1
    assert price_going_to("rv32imc", load, 0x1002, use) == 3


@pytest.mark.parametrize(
    ("code", "cycles"),
    [
        # Two simple operations in a cycle, unless the second needs the result of the first.
        (f"{ADDS} {MOV_R3}", 1),
        (f"{MOV_R3} {USE_R3}", 2),
        # A load and arithmetic, two loads; a store and a load; two stores do not pair.
        (f"{LDR_R0} {MOV_R3}", 1),
        (f"{LDR_R0} {LDR_R2}", 1),
        (f"{STR_R0} {LDR_R2}", 1),
        (f"{STR_R0} {STR_R0}", 2),
        # Bytes arrive a cycle later than words.
        (f"{LDR_R0} {USE_R0}", 2),
        (f"{LDRB_R0} {USE_R0}", 3),
        # An address is needed a cycle earlier than an operand, but what a load adds is early.
        (f"{USE_R0} {LDR_R4_R0}", 3),
        (f"{LDR_POST} {LDR_NEXT}", 2),
        # One multiplier; its accumulator is needed late, so that a chain goes at full speed.
        (f"{SMLAD} {SMLAD}", 2),
        (f"{SMLAD} {MOV_R3}", 1),
        (f"{SMLAD} {USE_R0}", 3),
        # Parallel and packing operations go first or alone, and one at a time.
        (f"{SXTB16} {MOV_R3}", 1),
        (f"{MOV_R3} {SXTB16}", 2),
        (f"{SXTB16} {SXTB16}", 2),
        # What goes through the shifter is needed a cycle early.
        (f"{USE_R0} {ADD_SHIFTED_R0}", 3),
        # Several registers at once pair with nothing, and go two a cycle.
        (f"{PUSH} {MOV_R3}", 3 + 1),
        (f"{SDIV} {MOV_R3}", 7 + 1),
    ],
)
def test_cortex_m7_issues_two(code: str, cycles: int) -> None:
    assert price("cortex-m7", code) == cycles


@pytest.mark.parametrize(
    ("code", "cycles"),
    [
        # Two beats in a pipe, which those in another pipe overlap.
        (f"{VLDRB} {VLDRB}", 1 + 2),
        (f"{VADD} {VADD}", 1 + 2),
        (f"{VLDRB} {VMLADAVA} {VLDRB} {VMLADAVA}", 4),
        (f"{VADD} {VQRDMULH} {VADD} {VQRDMULH}", 4),
        (f"{VADDV} {VMLADAVA}", 1 + 2),
        (f"{VMAXV} {VADD}", 1 + 2),
        # Floats are multiplied, converted and rounded in the multiply pipe.
        (f"{VADD} {VCVT_S32} {VADD} {VCVT_S32}", 4),
        (f"{VCVT_S32} {VRINTN}", 1 + 2),
        (f"{VCVT_F32} {VMUL_F32}", 1 + 2),
        # Two lanes at a time from core registers, past a load.
        (f"{VLDRB} {VMOV_LANES} {VLDRB} {VMOV_LANES}", 4),
        # Two 16-bit instructions, where one is a simple one that the other does not need.
        (f"{ADDS} {MOV_R3}", 1),
        (f"{LDR_R0} {USE_R3}", 1),
        (f"{LDR_R0} {LDR_R2}", 2),
        (f"{MOV_R3} {USE_R3}", 2),
        (f"{SXTB16} {MOV_R3}", 2),
        # What is loaded or multiplied is there in two cycles.
        (f"{LDR_R0} {USE_R0}", 3),
        (f"{SMLAD} {SMLAD}", 3),
        (f"{ADDS} {LE}", 2),
    ],
)
def test_cortex_m55_overlaps_beats_and_pairs(code: str, cycles: int) -> None:
    assert price("cortex-m55", code) == cycles


def test_low_overhead_loops_go_back_at_no_cost() -> None:
    loop = f"{VADD} {LE}"
    core, body = get_target("cortex-m55"), block("cortex-m55", loop)
    assert price_block(core, body, body) == 2
    assert price_going_to("cortex-m55", BNE, 0x0FF0, SXTB16) == 1 + 1 + 1


def test_cortex_m7_predicts_branches() -> None:
    """A loop's branch pairs with what precedes it, and costs when the loop ends."""
    loop = f"{LDR_R0} {BACK}"
    assert price("cortex-m7", loop) == 1
    assert price_going_to("cortex-m7", loop, 0x1000, ADDS) == 2
    assert price_going_to("cortex-m7", loop, 0x1004, ADDS) == 2 + 6


@pytest.mark.parametrize(
    ("code", "cycles"),
    [
        ("4188", 1),  # c.lw a0, 0(a1)
        ("4188 0505", 3),  # c.lw a0, 0(a1); c.addi a0, 1
        ("4188 4501", 2),  # c.lw a0, 0(a1); c.li a0, 0
        ("a503 0005 8533 02b5", 2),  # lw a0, 0(a1); mul a0, a1, a1
        ("a503 0005 0533 02a5", 3),  # lw a0, 0(a1); mul a0, a0, a0
        ("9533 02b5", 5),  # mulh a0, a1, a1
        ("c533 02b5", 35),  # div a0, a1, a1
        ("a023 00b5", 1),  # sw a1, 0(a1)
        ("8082", 2),  # ret
        ("a001", 2),  # c.j .
        ("0097 0000 80e7 0000", 1 + 2 + 2),  # auipc ra, 0; jalr ra
        ("00ef 0000", 2),  # jal ra, .
    ],
)
def test_riscv(code: str, cycles: int) -> None:
    assert price("rv32imc", code) == cycles


def test_every_halfword_is_counted() -> None:
    """16- and 32-bit instructions, known to the disassembler or not."""
    code = f"{ADDS} {MLA} {LE} {VADD} {PUSH} ffff ffff"
    assert len(block("cortex-m55", code).instructions) == 6
    assert len(block("rv32imc", "4188 a503 0005 0001 ffff ffff").instructions) == 4


def test_the_documentation_has_the_prices(root: Path) -> None:
    text = (root / "docs" / "cycle-models.md").read_text()
    section = text[text.index("## Prices") : text.index("## Cortex-M7")]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    cores = [name.lower().replace("+", "plus") for name in rows[0][1:]]
    names = [name if name == "rv32imc" else f"cortex-{name}" for name in cores]
    prices = {row[0]: row[1:] for row in rows[2:]}
    for column, name in enumerate(names):
        costs = get_target(name).costs

        def shown(row: str, column: int = column) -> str:
            return prices[row][column]

        def said(value: int | None) -> str:
            return "–" if value is None else str(value)

        load = str(costs.load)
        load += f", pipelined {costs.load_after_load}" if costs.load_after_load else ""
        load += f" + {costs.load_use_stall}" if costs.load_use_stall else ""
        across = f"+ {costs.misaligned_target}" if costs.misaligned_target else "–"
        expected = {
            "arithmetic": str(costs.alu),
            "32-bit multiply": str(costs.mul),
            "multiply-accumulate": said(costs.mac),
            "64-bit product": said(costs.mul_long),
            "SMLAD and its kin": said(costs.dual_mac),
            "divide": said(costs.divide),
            "load": load,
            "store, indexed": f"{costs.store}, {costs.indexed_store}",
            "branch taken, not taken": f"{costs.branch_taken}, {costs.branch_not_taken}",
            "jump or return, call": f"{costs.jump}, {costs.call}",
            "to a target across words": across,
        }
        assert {row: shown(row) for row in prices} == expected, name
