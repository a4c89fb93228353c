"""Build attributes of ARM objects: the calling convention that the object claims.

Linkers refuse to mix objects of the hard-float and the soft-float calling convention. Generated
code passes no floating-point values and computes none, so it fits both; LLVM has no way to say so.
Layout: "Addenda to, and Errata in, the ABI for the Arm Architecture", section "Build attributes".
"""

from __future__ import annotations

import struct

_EM_ARM = 40
_SHT_ARM_ATTRIBUTES = 0x70000003
_FP_NUMBER_MODEL = 23
_VFP_ARGS, _COMPATIBLE_WITH_BOTH = 28, 3
_IEEE_754 = 3


def fit_any_float_abi(elf: bytes) -> bytes:
    """``elf``, an object for Cortex-M, declared compatible with either float convention.

    The claim to IEEE 754 arithmetic, of which integer code has no use, makes room for it: nothing
    moves. Objects for other architectures, or of another format, come back as they are.
    """
    if elf[:4] != b"\x7fELF" or struct.unpack_from("<H", elf, 18) != (_EM_ARM,):
        return elf
    patched = bytearray(elf)
    (table,) = struct.unpack_from("<I", elf, 32)
    entry_bytes, entries = struct.unpack_from("<HH", elf, 46)
    for index in range(entries):
        _, kind, _, _, start, size = struct.unpack_from("<6I", elf, table + index * entry_bytes)
        if kind == _SHT_ARM_ATTRIBUTES:
            position = _position_of(elf, _FP_NUMBER_MODEL, start, start + size)
            if elf[position + 1] == _IEEE_754:
                patched[position : position + 2] = bytes([_VFP_ARGS, _COMPATIBLE_WITH_BOTH])
    return bytes(patched)


def _position_of(elf: bytes, wanted: int, start: int, end: int) -> int:
    """Where the attribute ``wanted`` is in the section from ``start`` to ``end``.

    All tags and integer values that LLVM writes for Cortex-M fit one byte of LEB128.
    """
    # Format version, length of the vendor's part, its name, then the file's scope and length.
    at = elf.index(b"\0", start + 5) + 1 + 5
    while at < end:
        tag = elf[at]
        if tag == wanted:
            return at
        text = tag in (4, 5) or (tag > 32 and tag % 2 == 1)
        at = elf.index(b"\0", at + 1) + 1 if text else at + 2
    raise ValueError(f"no build attribute {wanted} in this object")
