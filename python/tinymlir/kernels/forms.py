"""The forms in which operands of dot products lie in scratch memory: widened, or as they are."""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.bindings import ir
from tinymlir.kernels.pairs import STEP
from tinymlir.kernels.price import Mix, line
from tinymlir.kernels.words import extend, repeated


@dataclass(frozen=True)
class Form:
    """Operands of ``bits`` bits each."""

    bits: int

    @property
    def step_words(self) -> int:
        """Words of a step, which is a word of bytes in the input."""
        return STEP * self.bits // 32

    def words(self, word: ir.Value) -> list[ir.Value]:
        """A step, from its bytes in a word."""
        return [word] if self.bits == 8 else [extend(word, 0), extend(word, 1)]

    def mix(self) -> Mix:
        """What takes a step from its bytes in a word to scratch memory."""
        return line(store=1) if self.bits == 8 else line(alu=2, store=2)

    def filler(self, value: int) -> int:
        """A word that holds nothing but ``value``."""
        return repeated(value, self.bits)


#: Operands 0 and 2 of a step, then 1 and 3, as `tiny.extend_bytes` widens them.
HALFWORDS = Form(16)
BYTES = Form(8)
