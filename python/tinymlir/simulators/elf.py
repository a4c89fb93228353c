"""What the simulators read from an ELF32 image: segments and symbols."""

from __future__ import annotations

import bisect
import struct
from dataclasses import dataclass

_LOAD, _FUNCTION, _SYMTAB = 1, 2, 2


@dataclass(frozen=True)
class Symbol:
    """A function or object: its first address (without the Thumb bit) and bytes."""

    name: str
    address: int
    size: int
    function: bool
    defined: bool = True

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.address + self.size


@dataclass(frozen=True)
class Elf:
    """A linked little-endian ELF32 file."""

    data: bytes
    segments: tuple[tuple[int, bytes], ...]
    symbols: tuple[Symbol, ...]

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name.

        Raises:
            KeyError: there is none.
        """
        for symbol in self.symbols:
            if symbol.name == name:
                return symbol
        raise KeyError(name)

    def read(self, address: int, size: int) -> bytes:
        """What the image holds at an address, as far as it reaches."""
        for start, data in self.segments:
            if start <= address < start + len(data):
                return data[address - start : address - start + size]
        return b""

    def describe(self, address: int) -> str:
        """``function+0x12`` for a code address, else the address itself."""
        functions = [symbol for symbol in self.symbols if symbol.function]
        index = bisect.bisect_right([f.address for f in functions], address) - 1
        if index < 0 or address not in functions[index]:
            return f"{address:#010x}"
        return f"{functions[index].name}+{address - functions[index].address:#x}"


def read_elf(data: bytes) -> Elf:
    """Load segments (by physical address) and named symbols, both in order of address."""
    (phoff, shoff) = struct.unpack_from("<II", data, 28)
    (phnum, _, shnum) = struct.unpack_from("<HHH", data, 44)
    segments = []
    for i in range(phnum):
        kind, offset, _, address, size = struct.unpack_from("<5I", data, phoff + 32 * i)
        if kind == _LOAD and size:
            segments.append((address, data[offset : offset + size]))
    headers = [struct.unpack_from("<10I", data, shoff + 40 * i) for i in range(shnum)]
    symbols = []
    for header in headers:
        if header[1] == _SYMTAB:
            symbols += _read_symbols(data, header[4], header[5], headers[header[6]][4])
    return Elf(data, tuple(sorted(segments)), tuple(sorted(symbols, key=lambda s: s.address)))


def _read_symbols(data: bytes, offset: int, size: int, strings: int) -> list[Symbol]:
    symbols = []
    for at in range(offset, offset + size, 16):
        name, value, length, info, _, section = struct.unpack_from("<IIIBBH", data, at)
        # Mapping symbols ($t, $d, $x) and section symbols name nothing.
        end = data.index(b"\0", strings + name)
        text = data[strings + name : end].decode()
        if text and not text.startswith("$"):
            function = info & 15 == _FUNCTION
            # On Arm, an odd address of a function says that it is Thumb code; RISC-V has none.
            address = value & ~1 if function else value
            symbols.append(Symbol(text, address, length, function, section != 0))
    return symbols
