"""Flash memory that is slower than the core: wait states, and the lines that are kept of it."""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.errors import TinymlirError

SYNTAX = "WAIT_STATES[:LINE_BYTES[:CODE_LINES[:DATA_LINES]]]"


@dataclass(frozen=True)
class Flash:
    """How code and constants come from flash.

    The flash gives an aligned line of ``line_bytes`` at a time, ``wait_states`` cycles late. The
    ``code_lines`` and ``data_lines`` that were used last are kept, fully associative, and cost
    nothing. One line of four bytes is what a core's own fetch buffer holds: no cache at all.
    """

    wait_states: int
    line_bytes: int = 4
    code_lines: int = 1
    data_lines: int = 1


def parse_flash(text: str) -> Flash:
    """``5`` or ``5:16`` or ``5:16:64:8``.

    Raises:
        TinymlirError: it is none of that.
    """
    parts = text.split(":")
    if not 1 <= len(parts) <= 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise TinymlirError(f"'{text}' is not {SYNTAX}", node="--flash-timing")
    flash = Flash(*map(int, parts))
    if flash.line_bytes & flash.line_bytes - 1 or flash.line_bytes < 4:
        raise TinymlirError("a line has 4 bytes, or 8, or 16, ...", node="--flash-timing")
    if not flash.code_lines or not flash.data_lines:
        raise TinymlirError("at least one line is kept", node="--flash-timing")
    return flash


class KeptLines:
    """The lines that were used last."""

    def __init__(self, line_bytes: int, lines: int) -> None:
        self._shift = line_bytes.bit_length() - 1
        self._lines = lines
        self._kept: dict[int, None] = {}

    def misses(self, address: int, size: int) -> int:
        """Read ``size`` bytes in order; how many lines of them were not there."""
        kept, missed = self._kept, 0
        for line in range(address >> self._shift, (address + size - 1 >> self._shift) + 1):
            if line in kept:
                del kept[line]
            else:
                missed += 1
                if len(kept) == self._lines:
                    del kept[next(iter(kept))]
            # A dict keeps its keys in the order in which they came.
            kept[line] = None
        return missed
