"""What a product of float32 rounds to, in integers: `tiny.requantize` with rounding ``float32``."""

from __future__ import annotations

from tinymlir.bindings import arith, func, ir, scf

from ._words import constant, i32, sub, wrap

#: The function that looks closer where a product seems near a tie.
NEAR_TIE = "round_near_tie"
#: Least total shift: the product's high word, rounded by one more bit.
FAST_SHIFT = 33
#: Bits of the fraction with which hardly a result seems near a tie; a mask of more is no immediate.
ENOUGH_BITS = 9


def emit_near_tie(*, lanes: bool) -> None:
    """``@round_near_tie(acc, m, s)``: what a float32 product rounds to, in integers.

    Write v for the product of the accumulator, rounded to 24 bits, and the
    scale; k for floor(v). The float32 next to v is a tie exactly if v is within
    half a unit in the last place (ulp) of k + 1/2; ties go to the even
    neighbour. So v goes up if it is more than ulp/2 above k + 1/2 where k is
    even, and not more than ulp/2 below where k is odd. Near k + 1/2, ulp/2 is
    the highest power of two in |k + 1/2|, times 2^-24.

    Callers look at the high word of the product, which may have but a few bits of the
    fraction; most of what they take for near is not, if one looks at the low word too.
    """
    function = func.FuncOp(NEAR_TIE, ([i32()] * 3, [i32()]), visibility="private")
    with ir.InsertionPoint(function.add_entry_block()):
        accumulator, multiplier, shift = function.arguments
        down = arith.subi(shift, constant(FAST_SHIFT))
        if lanes:
            func.ReturnOp([_rounded_like_float32(accumulator, multiplier, down)])
            return
        low, high = arith.mulsi_extended(accumulator, multiplier)
        near = near_tie(low, high, down, both=True, least_down=0)
        choice = scf.IfOp(near, [i32()], has_else=True)
        with ir.InsertionPoint(choice.then_block):
            scf.yield_([_rounded_like_float32(accumulator, multiplier, down)])
        with ir.InsertionPoint(choice.else_block):
            one = constant(1)
            scf.yield_([arith.shrsi(arith.addi(arith.shrsi(high, down), one), one)])
        func.ReturnOp([choice.results[0]])


def near_tie(
    low: ir.Value, high: ir.Value, down: ir.Value, both: bool, least_down: int
) -> ir.Value:
    """Whether the product's fraction is so near one half that float32 rounding decides.

    Saturation aside, the product is below 256, where it and a float32 product of a
    float32 accumulator differ by less than 2^-15. Where the high word holds too few
    bits of the fraction, bits of the low word are added to it (``both``).
    """
    c31 = constant(31)
    fraction = arith.shli(high, sub(c31, down))
    guard = 1 << 17
    if both:
        fraction = arith.ori(fraction, arith.shrui(low, arith.addi(down, constant(1))))
    else:
        guard = max(guard, 1 << (31 - least_down))
    shifted = arith.addi(fraction, constant(wrap((1 << 31) + guard)))
    return arith.cmpi(arith.CmpIPredicate.ult, shifted, constant(wrap(2 * guard)))


def _rounded_like_float32(accumulator: ir.Value, multiplier: ir.Value, down: ir.Value) -> ir.Value:
    """The body of ``@round_near_tie``, which see."""
    c0, c1, c31, top = (constant(v) for v in (0, 1, 31, -(1 << 31)))
    low, high = arith.mulsi_extended(_to_float32(accumulator), multiplier)
    whole = arith.shrsi(arith.shrsi(high, down), c1)
    below = arith.addi(down, c1)
    fraction = arith.ori(arith.shli(high, arith.subi(c31, down)), arith.shrui(low, below))
    beyond = arith.andi(low, arith.subi(arith.shli(c1, below), c1))
    distance = arith.subi(fraction, top)
    magnitude = arith.xori(whole, arith.shrsi(whole, c31))
    for step in (1, 2, 4):
        magnitude = arith.ori(magnitude, arith.shrui(magnitude, constant(step)))
    half_ulp = arith.shli(arith.addi(magnitude, c1), constant(7))
    more = arith.cmpi(arith.CmpIPredicate.sgt, distance, half_ulp)
    equal = arith.cmpi(arith.CmpIPredicate.eq, distance, half_ulp)
    inexact = arith.cmpi(arith.CmpIPredicate.ne, beyond, c0)
    even_up = arith.ori(more, arith.andi(equal, inexact))
    odd_up = arith.cmpi(arith.CmpIPredicate.sge, distance, arith.subi(c0, half_ulp))
    odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(whole, c1), c0)
    up = arith.select(odd, odd_up, even_up)
    return arith.addi(whole, arith.extui(i32(), up))


def _to_float32(value: ir.Value) -> ir.Value:
    """``value`` rounded to the 24 significant bits of a float32, ties to even."""
    c0, c1, c31 = (constant(v) for v in (0, 1, 31))
    sign = arith.shrsi(value, c31)
    magnitude = arith.subi(arith.xori(value, sign), sign)
    smeared = magnitude
    for step in (1, 2, 4, 8, 16):
        smeared = arith.ori(smeared, arith.shrui(smeared, constant(step)))
    dropped = arith.shrui(smeared, constant(24))
    unit = arith.addi(dropped, c1)
    half = arith.shrui(unit, c1)
    rest = arith.andi(magnitude, dropped)
    kept = arith.subi(magnitude, rest)
    odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(kept, unit), c0)
    tie = arith.andi(arith.cmpi(arith.CmpIPredicate.eq, rest, half), odd)
    more = arith.cmpi(arith.CmpIPredicate.ugt, rest, half)
    some = arith.cmpi(arith.CmpIPredicate.ne, dropped, c0)
    up = arith.andi(some, arith.ori(more, tie))
    rounded = arith.select(up, arith.addi(kept, unit), kept)
    # Rounding 2^31 - 1 up would wrap; it saturates the result either way.
    bounded = arith.minui(rounded, constant((1 << 31) - (1 << 7)))
    return arith.subi(arith.xori(bounded, sign), sign)
