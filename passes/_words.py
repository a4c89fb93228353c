"""Words in the IR: constants, and differences of them that need no op."""

from __future__ import annotations

from tinymlir.bindings import arith, ir
from tinymlir.linalg_info import constant_scalar


def i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def constant(value: int) -> ir.Value:
    return arith.constant(i32(), value)


def wrap(value: int) -> int:
    """``value`` modulo 2^32 as an i32."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def sub(a: ir.Value, b: ir.Value) -> ir.Value:
    known_a, known_b = constant_scalar(a), constant_scalar(b)
    if known_a is not None and known_b is not None:
        return constant(known_a - known_b)
    return arith.subi(a, b)
