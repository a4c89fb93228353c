"""Each rule of the cycle model, on the shortest sequence that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinymlir.simulators.cycles import price_block
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
LE = "f00f c003"  # le lr, .-2


def price(target: str, code: str) -> tuple[int, int, int]:
    """Instructions, cycles when falling through, and cycles when branching."""
    core = get_target(target)
    halfwords = b"".join(int(word, 16).to_bytes(2, "little") for word in code.split())
    cost = price_block(core.costs, decoder(core)(halfwords, 0x1000))
    return cost.instructions, cost.cycles_if_falling_through, cost.cycles_if_branching


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
        ("cortex-m7", LDR_R0, 1),
        ("cortex-m7", f"{LDR_R0} {USE_R0}", 1 + 1 + 1),
        ("cortex-m33", f"{LDR_R0} {USE_R0}", 1 + 1 + 1),
        ("cortex-m33", f"{LDR_R0} {OTHER}", 2),
        # What a load adds to its base is there in time for the next.
        ("cortex-m33", f"{LDR_POST} {LDR_NEXT}", 2),
        ("cortex-m55", VLDRB, 2),
        ("cortex-m55", f"{VLDRB} {VADD}", 3),
        ("cortex-m55", f"{VADD} {VADD}", 4),
        ("cortex-m55", f"{ADDS} {LE}", 2),
    ],
)
def test_thumb(target: str, code: str, cycles: int) -> None:
    assert price(target, code)[1] == cycles


@pytest.mark.parametrize(
    ("target", "code", "not_taken", "taken"),
    [
        ("cortex-m0", BNE, 1, 3),
        ("cortex-m4", BNE, 1, 3),
        ("cortex-m7", BNE, 1, 1),
        ("cortex-m33", BNE, 1, 2),
        ("cortex-m4", B, 3, 3),
        ("cortex-m4", ADDS, 1, 1),
        ("rv32imc", "fd75", 1, 3),  # c.bnez a0, .-4
    ],
)
def test_branches(target: str, code: str, not_taken: int, taken: int) -> None:
    assert price(target, code)[1:] == (not_taken, taken)


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
        ("00ef 0000", 2),  # jal ra, .
    ],
)
def test_riscv(code: str, cycles: int) -> None:
    assert price("rv32imc", code)[1] == cycles


def test_every_halfword_is_counted() -> None:
    """16- and 32-bit instructions, known to the disassembler or not."""
    code = f"{ADDS} {MLA} {LE} {VADD} {PUSH} ffff ffff"
    assert price("cortex-m55", code)[0] == 6
    assert price("rv32imc", "4188 a503 0005 0001 ffff ffff")[0] == 4


def test_the_documentation_has_the_prices(root: Path) -> None:
    text = (root / "docs" / "cycle-models.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text[text.index("## Prices") :].splitlines()
        if line.startswith("|")
    ]
    names = ["rv32imc" if name == "rv32imc" else f"cortex-{name.lower()}" for name in rows[0][1:]]
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
        vector = f"{costs.vector}, overlapped {costs.vector_overlapped}" if costs.vector else "–"
        expected = {
            "arithmetic": str(costs.alu),
            "32-bit multiply": str(costs.mul),
            "multiply-accumulate": said(costs.mac),
            "64-bit product": said(costs.mul_long),
            "SMLAD and its kin": said(costs.dual_mac),
            "divide": said(costs.divide),
            "load": load,
            "store": str(costs.store),
            "branch taken, not taken": f"{costs.branch_taken}, {costs.branch_not_taken}",
            "jump or return, call": f"{costs.jump}, {costs.call}",
            "vector": vector,
        }
        assert {row: shown(row) for row in prices} == expected, name
