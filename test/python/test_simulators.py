"""What simulators say of programs whose outputs, instructions, cycles and stack are known."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from simulated import (
    BOTH,
    ON_UNICORN,
    SIMULATED,
    build,
    needs_qemu,
    object_code,
    ramp,
    report,
    run,
)

from tinymlir.simulators import simulate
from tinymlir.simulators.layout import PAGE, plan_layout
from tinymlir.simulators.trace import Work
from tinymlir.targets import get_target

# layer 0: 202 instructions: a loop of 100 rounds; layer 1: 4 and those of a memcpy of 8 bytes.
THUMB = """
    .syntax unified
    .thumb
    .macro function name
    .global \\name
    .type \\name, %function
    .thumb_func
    \\name:
    .endm

    function net_invoke
    push {r4, lr}
    movs r4, r1
    bl net_layer0
    movs r0, r4
    bl net_layer1
    movs r0, #0
    pop {r4, pc}
    .size net_invoke, . - net_invoke

    function net_layer0
    movs r3, #100
1:  subs r3, #1
    bne 1b
    bx lr
    .size net_layer0, . - net_layer0

    function net_layer1
    push {r4, lr}
    movs r2, #8
    mov r1, pc
    bl memcpy
    pop {r4, pc}
    .size net_layer1, . - net_layer1
"""
RISCV = """
    .global net_invoke
    .type net_invoke, @function
net_invoke:
    addi sp, sp, -16
    sw ra, 12(sp)
    mv s2, a1
    jal ra, net_layer0
    mv a0, s2
    jal ra, net_layer1
    li a0, 0
    lw ra, 12(sp)
    addi sp, sp, 16
    ret
    .size net_invoke, . - net_invoke

    .global net_layer0
    .type net_layer0, @function
net_layer0:
    li t0, 100
1:  addi t0, t0, -1
    bnez t0, 1b
    ret
    .size net_layer0, . - net_layer0

    .global net_layer1
    .type net_layer1, @function
    .balign 4
net_layer1:
    mv t1, ra
    li a2, 8
    auipc a1, 0
    jal ra, memcpy
    jr t1
    .size net_layer1, . - net_layer1
"""
# Of the loop: 1 + 100 + 99 taken branches and one not + the return.
LOOP_CYCLES = {
    "cortex-m0": 1 + 100 + 99 * 3 + 1 + 3,
    "cortex-m0plus": 1 + 100 + 99 * 2 + 1 + 2,
    "cortex-m3": 1 + 100 + 99 * 3 + 1 + 3,
    "cortex-m4": 1 + 100 + 99 * 3 + 1 + 3,
    # The flags that a branch needs come a cycle earlier; the last is predicted wrong.
    "cortex-m7": 1 + 100 + 100 + 6 + 1,
    "cortex-m33": 1 + 100 + 99 * 2 + 1 + 2,
    # The refill of the call; flags as above; what a branch loses; the return pairs.
    "cortex-m55": 1 + 1 + 100 + 100 + 99,
    "rv32imc": 1 + 100 + 99 * 3 + 1 + 2,
}
# push, mov, bl, mov, bl, mov, pop of Cortex-M0: 1+N, 1, 4, 1, 4, 1, 1+N and the refill.
M0_ENTRY_CYCLES = 3 + 1 + 4 + 1 + 4 + 1 + 5


def assembly(target: str) -> str:
    return RISCV if target == "rv32imc" else THUMB


@pytest.mark.parametrize("simulator", BOTH)
@pytest.mark.parametrize("target", ON_UNICORN)
def test_counts_are_those_of_the_program(target: str, simulator: str) -> None:
    image = build(target, assembly(target), "S", layers=2)
    _, counts, _ = run(image, simulator, ramp(16))
    assert counts.layers[0] == Work(202, LOOP_CYCLES[target])
    assert counts.invoke.instructions == (10 if target == "rv32imc" else 7)
    assert counts.layers[1].instructions > 5 + 2
    assert counts.total.instructions == sum(
        work.instructions for work in (*counts.layers, counts.invoke)
    )
    if target == "cortex-m0":
        assert counts.invoke.cycles == M0_ENTRY_CYCLES


@needs_qemu
@pytest.mark.parametrize("target", ON_UNICORN)
def test_simulators_count_alike(target: str) -> None:
    image = build(target, assembly(target), "S", layers=2)
    assert run(image, "unicorn", ramp(16))[1:] == run(image, "qemu", ramp(16))[1:]


@needs_qemu
def test_what_unicorn_lacks_is_counted_on_qemu() -> None:
    image = build("cortex-m55", THUMB, "S", layers=2)
    _, counts, _ = run(image, "qemu", ramp(16))
    assert counts.layers[0] == Work(202, LOOP_CYCLES["cortex-m55"])


@needs_qemu
def test_helium_runs_and_low_overhead_loops_are_counted() -> None:
    source = """
    .syntax unified
    .thumb
    .global net_invoke
    .type net_invoke, %function
    .thumb_func
net_invoke:
    push {r4, lr}
    bl net_layer0
    movs r0, #0
    pop {r4, pc}
    .size net_invoke, . - net_invoke
    .global net_layer0
    .type net_layer0, %function
    .thumb_func
net_layer0:
    push {r4, lr}
    movs r2, #4
    dls lr, r2
1:  vldrb.u8 q0, [r0]
    vadd.i8 q1, q0, q0
    vstrb.u8 q1, [r1]
    le lr, 1b
    pop {r4, pc}
    .size net_layer0, . - net_layer0
"""
    image = build("cortex-m55", source, "S", flags="+mve")
    (output,), counts, _ = run(image, "qemu", ramp(16))
    assert np.array_equal(output, 2 * ramp(16))
    # Each round: load, addition, store and loop end, whose beats overlap.
    # Around: the refill of the call 1, push 2, movs 1, dls 1, pop 2.
    assert counts.layers[0] == Work(3 + 4 * 4 + 1, 1 + 4 + 4 * 4 + 2)


@pytest.mark.parametrize("simulator", BOTH)
@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_stack_is_measured_to_the_word(target: str, simulator: str) -> None:
    arm = """
    .syntax unified
    .global net_invoke
    .type net_invoke, %function
    .thumb_func
net_invoke:
    push {r4, lr}
    sub sp, #200
    str r0, [sp]
    movs r0, #0
    add sp, #200
    pop {r4, pc}
    .size net_invoke, . - net_invoke
"""
    riscv = """
    .global net_invoke
    .type net_invoke, @function
net_invoke:
    addi sp, sp, -208
    sw zero, 0(sp)
    li a0, 0
    addi sp, sp, 208
    ret
    .size net_invoke, . - net_invoke
"""
    source = riscv if target == "rv32imc" else arm
    image = build(target, source, "S", layers=0)
    assert run(image, simulator, ramp(16))[2] == 208


@pytest.mark.parametrize("simulator", BOTH)
@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_arguments_beyond_the_registers_arrive(target: str, simulator: str) -> None:
    parameters = ", ".join(f"const signed char *x{i}" for i in range(6))
    lines = "".join(f"y0[{i}] = x{i}[{i}]; y1[{i}] = -x{i}[{i}]; y2[{i}] = {i};" for i in range(6))
    source = f"""
    int net_invoke({parameters}, signed char *y0, signed char *y1, signed char *y2, char *arena) {{
      {lines} arena[0] = 1; return 0;
    }}"""
    image = build(
        target,
        source,
        inputs=tuple((f"x{i}", 6) for i in range(6)),
        outputs=(("y0", 6), ("y1", 6), ("y2", 6)),
        layers=0,
    )
    inputs = [np.full(6, 10 + i, np.int8) for i in range(6)]
    (y0, y1, y2), _, stack_bytes = run(image, simulator, *inputs)
    expected = np.arange(10, 16, dtype=np.int8)
    assert np.array_equal(y0, expected)
    assert np.array_equal(y1, -expected)
    assert np.array_equal(y2, np.arange(6))
    # What the caller pushes is the caller's.
    assert stack_bytes <= 64


@pytest.mark.parametrize("simulator", BOTH)
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_floating_point_unit_is_on(target: str, simulator: str) -> None:
    source = """
    int net_invoke(const int *x, int *y, void *arena) {
      __asm__("vmov s0, %1; vmov s1, %2; vadd.f32 s0, s0, s1; vmov %0, s0"
              : "=r"(y[0]) : "r"(x[0]), "r"(x[1]) : "s0", "s1");
      return 0;
    }"""
    unit = "+vfp4d16sp" if target == "cortex-m4" else "+fp_armv8d16sp"
    sizes = (("x", 8),), (("y", 4),)
    image = build(target, source, flags=unit, inputs=sizes[0], outputs=sizes[1], layers=0)
    given = np.array([1.5, 2.25], np.float32).view(np.int8)
    (output,), _, _ = run(image, simulator, given)
    assert output.view(np.float32)[0] == 3.75


@pytest.mark.parametrize("simulator", BOTH)
def test_simulate_keeps_samples_apart(simulator: str) -> None:
    source = """
    int net_invoke(const signed char *x, signed char *y, signed char *arena) {
      for (int i = 0; i < 16; ++i) y[i] = 3 * x[i]; return 0;
    }"""
    samples = np.arange(20 * 16).reshape(20, 1, 16).astype(np.int8)
    done = simulate(
        report("cortex-m4", layers=0), object_code("cortex-m4", source), [samples], simulator
    )
    assert done.simulator == simulator
    assert done.outputs[0].shape == (20, 1, 16)
    assert np.array_equal(done.outputs[0], (3 * samples.astype(np.int32)).astype(np.int8))


@pytest.mark.parametrize("target", SIMULATED)
def test_buffers_end_with_their_page(target: str) -> None:
    inputs: list[tuple[str, int, int | None]] = [("a", 1, None), ("b", 5000, None)]
    layout = plan_layout(get_target(target), inputs, [("c", 4096)], 100_001, 16)
    regions = list(layout.regions())
    assert [region.size for region in regions[2:]] == [1, 5000, 4096, 100_001]
    for region, following in itertools.pairwise(regions):
        assert region.end % PAGE == 0
        assert following.pages[0] - sum(region.pages) == PAGE
    assert layout.arena.address % 16 == 0
    assert 0 <= -layout.arena.end % PAGE < 16
    assert layout.arguments == [region.address for region in regions[2:]]
    assert sum(size for _, size in layout.gaps()) + sum(r.size for r in regions) == (
        sum(regions[-1].pages) + PAGE - regions[0].address
    )


@pytest.mark.parametrize("target", SIMULATED)
def test_the_documentation_has_the_machine(target: str, root: Path) -> None:
    core = get_target(target)
    assert core.memory is not None
    (row,) = [
        line
        for line in (root / "docs" / "simulators.md").read_text().splitlines()
        if line.startswith("|")
        and "0x" in line
        and target in re.findall(r"[\w-]+", line.split("|")[1])
    ]
    regions = [
        f"{start:#010x}, {size >> 20} MiB" for start, size in (core.memory.flash, core.memory.ram)
    ]
    for fact in (f"`{core.qemu}`", *regions):
        assert fact in row
