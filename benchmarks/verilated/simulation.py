"""Running a firmware image on a Verilated core, and counting what each layer takes."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.simulators.image import Image
from tinymlir.simulators.trace import Counts, Work, count_regions, region_starts

Int8Array = npt.NDArray[np.int8]

# Reset vectors are aligned so on every core; Ibex starts 128 bytes further on.
_BOOT, _IBEX_OFFSET = 0x100, 0x80
_FINISHED, _FAULTED = 0, 1


class _Memory(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("writable", ctypes.c_uint32),
        ("bytes", ctypes.c_void_p),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("stopped", ctypes.c_uint32),
        ("status", ctypes.c_uint32),
        ("fault_address", ctypes.c_uint32),
        ("fault_pc", ctypes.c_uint32),
    )


def run(
    library: Path, image: Image, inputs: Sequence[Int8Array], cycle_limit: int
) -> tuple[list[Int8Array], Counts]:
    """One inference: the object's inputs to its outputs, flat, and exact counts.

    A cycle belongs to the layer whose instruction was the last to leave the decode stage.

    Raises:
        TinymlirError: the network touches what is no memory, does not return within the limit, or
            returns another status than 0.
    """
    layout, memory = image.layout, image.target.memory
    assert memory is not None
    ram_start, end = memory.ram[0], layout.arena.end
    ram = np.zeros(-(-(end - ram_start) // 4) * 4, np.uint8)
    for region, values in zip(layout.inputs, inputs, strict=True):
        at = region.address - ram_start
        ram[at : at + region.size] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    memories = [(_BOOT, _boot_code(image), False), (ram_start, ram, True)]
    for address, data in image.elf.segments:
        padded = data + bytes(-len(data) % 4)
        memories.append((address, np.frombuffer(padded, np.uint8), False))

    starts = region_starts(image)
    first, last = min(starts), max(starts)
    regions = np.zeros((last - first) // 2 + 1, np.uint16)
    for address, number in starts.items():
        regions[(address - first) // 2] = number + 1
    cycles = np.zeros(count_regions(image) + 1, np.uint64)
    instructions = np.zeros_like(cycles)
    result = _Result()
    ctypes.CDLL(str(library)).run(
        (_Memory * len(memories))(
            *(_Memory(at, len(data), write, data.ctypes.data) for at, data, write in memories)
        ),
        ctypes.c_uint32(len(memories)),
        ctypes.c_uint32(_BOOT),
        ctypes.c_uint32(first),
        ctypes.c_uint32(len(regions)),
        ctypes.c_void_p(regions.ctypes.data),
        ctypes.c_uint64(cycle_limit),
        ctypes.c_void_p(cycles.ctypes.data),
        ctypes.c_void_p(instructions.ctypes.data),
        ctypes.byref(result),
    )
    _check(result, image, cycle_limit)
    outputs = [
        ram[region.address - ram_start :][: region.size].view(np.int8).copy()
        for region in layout.outputs
    ]
    # Of the regions, the first is what runs before any other, the second all outside the network.
    work = [Work(int(i), int(c)) for i, c in zip(instructions, cycles, strict=True)]
    _, _, invoke, *layers = work
    return outputs, Counts(tuple(layers), invoke)


def _boot_code(image: Image) -> npt.NDArray[np.uint8]:
    """Calls ``tinymlir_call`` on a stack and stores what it returns to address 0."""
    sp, t0, ra, a0 = 2, 5, 1, 10

    def load_upper(register: int, value: int) -> int:
        return (value + 0x800 & 0xFFFF_F000) | register << 7 | 0x37

    def immediate(opcode: int, to: int, of: int, value: int) -> int:
        return (value & 0xFFF) << 20 | of << 15 | to << 7 | opcode

    stack, call = image.layout.system.end, image.call.address
    code = [
        load_upper(sp, stack),
        immediate(0x13, sp, sp, stack),  # addi
        load_upper(t0, call),
        immediate(0x67, ra, t0, call),  # jalr
        a0 << 20 | 2 << 12 | 0x23,  # sw a0, 0(zero)
        0x6F,  # j .
    ]
    words = struct.pack(f"<{len(code)}I", *code)
    return np.frombuffer(words.ljust(_IBEX_OFFSET, b"\0") + words + bytes(16), np.uint8)


def _check(result: _Result, image: Image, cycle_limit: int) -> None:
    where = image.elf.describe(result.fault_pc)
    if result.stopped == _FAULTED:
        what = image.layout.describe(result.fault_address)
        raise TinymlirError(f"the network faulted near {where}: access to {what}")
    if result.stopped != _FINISHED:
        raise TinymlirError(f"the network was still running after {cycle_limit} cycles")
    if result.status:
        raise TinymlirError(f"the network returned {result.status}, which is not 0")
