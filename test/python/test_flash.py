"""Flash with wait states: which lines are kept, and what the others cost."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import build, object_code, ramp, report

from tinymlir.errors import TinymlirError
from tinymlir.simulators import simulate
from tinymlir.simulators.emulator import Emulator
from tinymlir.simulators.flash import Flash, KeptLines, parse_flash
from tinymlir.simulators.trace import BlockTrace

# Ten rounds of three instructions in eight bytes, of which one reads a constant.
ROUNDS = 10
SOURCE = """
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
    .balign 64
    .global net_layer0
    .type net_layer0, %function
    .thumb_func
net_layer0:
    adr r1, constants
    movs r2, #10
    nop
    nop
loop:
    ldr r0, [r1]
    adds r1, #4
    subs r2, #1
    bne loop
    bx lr
    .size net_layer0, . - net_layer0
    .balign 64
constants:
    .space 64
"""


def test_the_lines_used_last_are_kept() -> None:
    lines = KeptLines(line_bytes=16, lines=2)
    assert lines.misses(0x100, 16) == 1
    assert lines.misses(0x10F, 2) == 1  # The second line only.
    assert lines.misses(0x104, 4) == 0
    assert lines.misses(0x120, 1) == 1  # In place of the second.
    assert lines.misses(0x100, 4) == 0
    assert lines.misses(0x110, 4) == 1


@pytest.mark.parametrize(
    ("flash", "misses"),
    [
        # Of code two words before the loop, two a round and one after it; a constant a round.
        (Flash(3), 2 + 2 * ROUNDS + 1 + ROUNDS),
        # The loop is a line of 8 bytes, and a line holds two constants.
        (Flash(3, 8), 1 + 1 + 1 + ROUNDS // 2),
        # All code in a line of 32 bytes.
        (Flash(3, 32), 1 + 2),
    ],
)
def test_misses_cost_their_wait_states(flash: Flash, misses: int) -> None:
    image = build("cortex-m4", SOURCE, "S")
    cycles = []
    for timing in (None, flash):
        trace = BlockTrace(image, timing)
        Emulator(image, trace).run([ramp(16)])
        cycles.append(trace.counts().layers[0].cycles)
    assert cycles[1] - cycles[0] == misses * flash.wait_states


def test_only_unicorn_shows_reads() -> None:
    code = object_code("cortex-m4", SOURCE, "S")
    with pytest.raises(TinymlirError, match="qemu does not show reads"):
        simulate(report("cortex-m4"), code, [np.zeros((1, 16), np.int8)], "qemu", Flash(1))


def test_flash_is_written_with_colons() -> None:
    assert parse_flash("5") == Flash(5, 4, 1, 1)
    assert parse_flash("5:16:64:8") == Flash(5, 16, 64, 8)
    for wrong in ("", "x", "5:", "5:-4", "5:16:64:8:1", "5:3", "5:24", "5:0", "5:16:0"):
        with pytest.raises(TinymlirError, match="--flash-timing"):
            parse_flash(wrong)
