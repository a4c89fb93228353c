"""Run networks with every buffer between pages that nobody may touch.

As a program: MLIR texts as a JSON list of [text, bytes less of arena] on stdin; a line on
stdout for each, before it runs and after. A network that strays ends the process.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys

import numpy as np
import numpy.typing as npt
from networks import SCHEDULES, lower

from tinymlir.host import HostModel

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOTHING = 0  # PROT_NONE


class Buffer:
    """Bytes that begin right behind a forbidden page, or end right before one.

    ``alignment`` leaves a gap at the end where the size is no multiple of it.
    """

    def __init__(self, size: int, at_end: bool, alignment: int = 1) -> None:
        page = mmap.PAGESIZE
        pages = max(1, -(-size // page))
        self._map = mmap.mmap(-1, (pages + 2) * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for guard in (start, start + (pages + 1) * page):
            if _LIBC.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), _NOTHING):
                raise OSError(ctypes.get_errno(), "mprotect")
        room = pages * page - -(-size // alignment) * alignment
        self.address = start + page + (room if at_end else 0)
        self.size = size

    def write(self, data: npt.NDArray[np.int8]) -> None:
        ctypes.memmove(self.address, data.tobytes(), self.size)

    def read(self) -> bytes:
        return ctypes.string_at(self.address, self.size)


def run(model: HostModel, at_end: bool, less_arena: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    inputs = [Buffer(info.bytes, at_end) for info in model.inputs]
    for buffer in inputs:
        buffer.write(rng.integers(-128, 128, buffer.size).astype(np.int8))
    outputs = [Buffer(info.bytes, at_end) for info in model.outputs]
    arena = Buffer(model.compilation.arena_bytes - less_arena, at_end, 4)
    buffers = [*inputs, *outputs, arena]
    given = [buffer.read() for buffer in inputs]
    assert model._invoke(*(buffer.address for buffer in buffers)) == 0
    assert [buffer.read() for buffer in inputs] == given
    return [buffer.read() for buffer in outputs]


if __name__ == "__main__":
    for index, (text, less_arena) in enumerate(json.load(sys.stdin)):
        print("begins", index, flush=True)
        for schedule in SCHEDULES:
            model = HostModel(lower(text, schedule))
            assert run(model, True, less_arena) == run(model, False, less_arena)
        print("ends", index, flush=True)
