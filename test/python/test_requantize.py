"""The arithmetic that passes write, against NumPy: requantization, float sums, division."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from native_code import NativeCode, elementwise

from tinymlir import numerics
from tinymlir.dialects.tiny import FLOAT32_BITS, ROUNDING_MODES

I32 = np.int32
Scale = tuple[int, int]
#: zero point, least and greatest result
LIMITS = [(0, -128, 127), (-5, -128, 127), (127, -128, 127), (-128, -128, 127), (3, -20, 41)]


def random_scales(rounding: str, count: int, rng: np.random.Generator) -> list[Scale]:
    """From 2^-14 to 4, powers of two among them; under float32, float32s."""
    scales = []
    for i in range(count):
        exponent = rng.uniform(-14, 2)
        scale = 2.0 ** (round(exponent) if i % 5 == 0 else exponent)
        scales.append(numerics.quantize_multiplier(float(np.float32(scale))))
    if rounding == "float32":
        return scales
    odd = rng.integers(0, 1 << (31 - FLOAT32_BITS), count)
    return [(m + int(low), s) for (m, s), low in zip(scales, odd, strict=True)]


def accumulators(scale: Scale, rounding: str, rng: np.random.Generator) -> npt.NDArray[I32]:
    """Near where the result changes, near where float32 loses bits, the ends, and any."""
    multiplier, shift = scale
    results = rng.integers(-260, 260, 2000)
    near = (2 * results + 1).astype(object) * (1 << shift) // max(2 * multiplier, 1)
    near += rng.integers(-2, 3, 2000)
    large = rng.integers(-(2**31), 2**31, 300)
    inexact = rng.integers(2**24 - 9, 2**25, 300) * rng.choice([-1, 1], 300)
    ends = np.array([0, 1, -1, 2**31 - 1, -(2**31), 2**31 - 64, 2**31 - 65, 2**24 + 1])
    bound = 2**31 - 1
    if rounding == "double":
        # Where the accumulator is scaled up first, that must not overflow.
        bound >>= max(31 - shift, 0)
    values = np.concatenate([near, large, inexact, ends])
    return np.clip(values, -bound - 1, bound).astype(I32)


def requantize(rounding: str, limits: tuple[int, int, int], more: str = "") -> str:
    zero_point, low, high = limits
    return (
        f'%r = "tiny.requantize"(%v0, %m, %s) {{zero_point = {zero_point} : i32,'
        f' min = {low} : i32, max = {high} : i32, rounding = "{rounding}"{more}}}'
        " : (i32, i32, i32) -> i8"
    )


def lowering(long_multiply: bool) -> str:
    return f"tiny-lower-requantize{'' if long_multiply else ',tiny-expand-multiply'}"


def assert_equal(
    code: NativeCode,
    function: str,
    scale: Scale,
    limits: tuple[int, int, int],
    rounding: str,
    rng: np.random.Generator,
    parameters: tuple[int, ...] = (),
    headroom: int = 0,
) -> None:
    given = accumulators(scale, rounding, rng)
    given = given[np.abs(given.astype(np.int64)) < 1 << (31 - headroom)]
    result = code[function](np.int8, given, parameters=parameters)
    expected = numerics.requantize(given, *scale, *limits, rounding)
    wrong = np.flatnonzero(result != expected)
    assert not len(wrong), (scale, limits, given[wrong[:3]], result[wrong[:3]], expected[wrong[:3]])


def constant_scales(
    cases: list[tuple[Scale, tuple[int, int, int]]], rounding: str, more: str = ""
) -> str:
    """Functions ``f0``, ``f1``, ..., each of one scale and its limits."""
    return "".join(
        elementwise(
            f"f{i}",
            ["i32"],
            "i8",
            f"%m = arith.constant {m} : i32\n%s = arith.constant {s} : i32\n"
            + requantize(rounding, limits, more),
        )
        for i, ((m, s), limits) in enumerate(cases)
    )


@pytest.mark.parametrize("long_multiply", [True, False])
@pytest.mark.parametrize("rounding", ROUNDING_MODES)
def test_constant_scales(rounding: str, long_multiply: bool) -> None:
    rng = np.random.default_rng(1)
    scales = [*random_scales(rounding, 30, rng), (0, 62), (1 << 30, 62), (3 << 20, 40)]
    cases = [(scale, LIMITS[i % len(LIMITS)]) for i, scale in enumerate(scales)]
    if rounding == "double":
        # So near 2^31 that adding the zero point would wrap.
        cases.append(((2**31 - 1, 30), (127, -128, 127)))
    code = NativeCode(constant_scales(cases, rounding), lowering(long_multiply))
    for i, (scale, limits) in enumerate(cases):
        assert_equal(code, f"f{i}", scale, limits, rounding, rng)


def table_module(scales: list[Scale], rounding: str, limits: tuple[int, int, int]) -> str:
    kind = f"memref<{len(scales)}xi32>"
    tables = "".join(
        f'memref.global "private" constant @{name} : {kind} = dense<{[s[i] for s in scales]}>\n'
        for i, name in enumerate(("multipliers", "shifts"))
    )
    body = f"""
    %ms = memref.get_global @multipliers : {kind}
    %ss = memref.get_global @shifts : {kind}
    %m = memref.load %ms[%channel] : {kind}
    %s = memref.load %ss[%channel] : {kind}
    {requantize(rounding, limits)}
    """
    return tables + elementwise("f", ["i32"], "i8", body, ", %channel: index")


#: Shifts that tables hold: any, those of the fast form, those whose ties need both words.
SHIFTS = [range(29, 63), range(33, 63), range(38, 63)]


@pytest.mark.parametrize("shifts", SHIFTS, ids=["any", "fast", "large"])
@pytest.mark.parametrize("long_multiply", [True, False])
@pytest.mark.parametrize("rounding", ROUNDING_MODES)
def test_scales_from_tables(rounding: str, long_multiply: bool, shifts: range) -> None:
    rng = np.random.default_rng(2)
    scales = [s for s in random_scales(rounding, 60, rng) if s[1] in shifts]
    scales += [(0, 62), (3, 62)]
    assert min(s for _, s in scales) < 33 or shifts.start >= 33
    code = NativeCode(table_module(scales, rounding, LIMITS[1]), lowering(long_multiply))
    for channel, scale in enumerate(scales):
        assert_equal(code, "f", scale, LIMITS[1], rounding, rng, (channel,))


def test_every_shift_of_one_multiplier() -> None:
    """From the least shift that the fast form takes to the greatest there is."""
    rng = np.random.default_rng(3)
    scales = [(0x55555500, s) for s in range(3, 63)]
    for rounding in ("float32", "nearest_even", "nearest_up"):
        code = NativeCode(table_module(scales, rounding, LIMITS[0]), lowering(True))
        for channel, scale in enumerate(scales):
            assert_equal(code, "f", scale, LIMITS[0], rounding, rng, (channel,))


@pytest.mark.parametrize("places", [1, 5, 12])
def test_headroom(places: int) -> None:
    """Accumulators scaled up round as they do by themselves, beyond 24 bits and near ties too."""
    rng = np.random.default_rng(4)
    scales = [(m, s) for m in (0x55555500, 1 << 30, 0x7FFFFF80, 3 << 20) for s in (36, 37)]
    cases = [(scale, LIMITS[i % len(LIMITS)]) for i, scale in enumerate(scales)]
    functions = constant_scales(cases, "float32", f", tiny.headroom = {places} : i32")
    code = NativeCode(functions, lowering(True))
    for i, (scale, limits) in enumerate(cases):
        assert_equal(code, f"f{i}", scale, limits, "float32", rng, headroom=places)


def test_float_sums() -> None:
    """Rounded as IEEE 754 does, numbers being multiples of one power of two."""
    addition = elementwise(
        "f", ["i64", "i64"], "i64", '%r = "tiny.add_float32"(%v0, %v1) : (i64, i64) -> i64'
    )
    add = NativeCode(addition, "tiny-lower-add-float32")["f"]
    rng = np.random.default_rng(4)
    n = 100_000

    def numbers(bits: int) -> npt.NDArray[np.float32]:
        """Of 24 significant bits, up to 2^bits."""
        size = np.exp2(rng.uniform(0, bits, n))
        return np.trunc(rng.choice([-1, 1], n) * size).astype(np.float32)

    def check(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> None:
        integers = a.astype(np.int64), b.astype(np.int64)
        result, expected = add(np.int64, *integers), (a + b).astype(np.int64)
        wrong = np.flatnonzero(result != expected)
        assert not len(wrong), (a[wrong[:3]], b[wrong[:3]], result[wrong[:3]], expected[wrong[:3]])

    check(numbers(30), numbers(30))
    check(numbers(54), numbers(54))
    a = numbers(50)
    # Differences that cancel many bits, and halves of a unit in the last place.
    near = a * (1 + rng.integers(-3, 4, n) * np.exp2(-rng.integers(1, 24, n)))
    check(a, np.trunc(near * rng.choice([-1, 1], n)).astype(np.float32))
    units = np.spacing(np.abs(a)) * rng.choice([0.5, 0.25, 1.5, 0.75], n)
    check(a, np.trunc(units * rng.choice([-1, 1], n)).astype(np.float32))
    # Just below a power of two: the sum carries, and what falls off decides a tie.
    below = np.exp2(rng.integers(26, 54, n)) * (1 - rng.integers(1, 5, n) * 2.0**-24)
    tiny = rng.choice([0, 2.0**-12, 2.0**-20, -(2.0**-20)], n)
    step = np.exp2(np.floor(np.log2(below)) - 23) * rng.integers(1, 9, n) / 2 * (1 + tiny)
    sign = rng.choice([-1, 1], n)
    check((sign * below).astype(np.float32), np.trunc(sign * step).astype(np.float32))
    check(np.exp2(rng.integers(24, 54, n)).astype(np.float32), -numbers(30))
    check(a, -a)
