"""Run networks with every buffer and constant between pages that nobody may touch.

As a program: MLIR texts as a JSON list of [text, what is cut short] on stdin, where something is
"arena", "input", "output", "constant" or nothing; a line on stdout for each, before it runs and
after. A network that strays ends the process.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import re
import sys
from dataclasses import dataclass

import llvmlite.binding as llvm_binding
import numpy as np
import numpy.typing as npt
from networks import CORES, lower_for_host

from tinymlir.codegen import optimize, target_machine
from tinymlir.compiler import Compilation

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


@dataclass(frozen=True)
class Constant:
    """A global constant: its bytes, and its line in the text of the module."""

    line: str
    kind: str
    alignment: int
    data: bytes


class Network:
    """A network in LLVM IR, with its constants apart."""

    def __init__(self, compilation: Compilation) -> None:
        self.compilation = compilation
        module, machine = optimize(compilation.module, compilation.target)
        self._text = str(module)
        for constant in module.global_variables:
            constant.linkage = "external"
        engine = llvm_binding.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        self._constants: dict[str, Constant] = {}
        for constant in module.global_variables:
            name, kind = constant.name, constant.global_value_type
            found = re.search(rf"^@{re.escape(name)} = .*, align (\d+)$", self._text, re.MULTILINE)
            assert found is not None, name
            size = machine.target_data.get_abi_size(kind)
            data = ctypes.string_at(engine.get_global_value_address(name), size)
            self._constants[name] = Constant(found[0], str(kind), int(found[1]), data)

    def run(self, at_end: bool, short: str) -> list[bytes]:
        """The outputs for a random input; what is ``short`` lacks a word."""

        def buffer(what: str, size: int, alignment: int = 1) -> Buffer:
            return Buffer(size - (4 if short == what else 0), at_end, alignment)

        text, addresses = self._text, {}
        for name, constant in self._constants.items():
            place = buffer("constant", len(constant.data), constant.alignment)
            place.write(np.frombuffer(constant.data, np.int8)[: place.size])
            addresses[name] = place
            declaration = f"@{name} = external constant {constant.kind}, align {constant.alignment}"
            text = text.replace(constant.line, declaration)
        module = llvm_binding.parse_assembly(text)
        machine = target_machine(self.compilation.target)
        engine = llvm_binding.create_mcjit_compiler(module, machine)
        for name, place in addresses.items():
            engine.add_global_mapping(module.get_global_variable(name), place.address)
        engine.finalize_object()
        rng = np.random.default_rng(0)
        inputs = [buffer("input", info.bytes) for info in self.compilation.inputs]
        for place in inputs:
            place.write(rng.integers(-128, 128, place.size).astype(np.int8))
        outputs = [buffer("output", info.bytes) for info in self.compilation.outputs]
        arena = buffer("arena", self.compilation.arena_bytes, 4)
        given = [place.read() for place in inputs]
        arguments = [place.address for place in (*inputs, *outputs, arena)]
        signature = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * len(arguments))
        invoke = signature(engine.get_function_address(f"{self.compilation.name}_invoke"))
        assert invoke(*arguments) == 0
        assert [place.read() for place in inputs] == given
        return [place.read() for place in outputs]


if __name__ == "__main__":
    for index, (text, short) in enumerate(json.load(sys.stdin)):
        print("begins", index, flush=True)
        for core in CORES:
            network = Network(lower_for_host(text, core))
            assert network.run(True, short) == network.run(False, short)
        print("ends", index, flush=True)
