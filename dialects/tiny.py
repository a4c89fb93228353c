"""The ``tiny`` dialect: what quantised microcontroller code needs and upstream lacks."""

# No `from __future__ import annotations` here: the bindings read the annotations as types.
import sys
from typing import TYPE_CHECKING, Any, Union

from tinymlir.bindings import ROOT, ext, ir

I8 = ir.IntegerType[8]
I32 = ir.IntegerType[32]
I64 = ir.IntegerType[64]
I8x16 = ir.VectorType[[16], I8]

#: How ``tiny.requantize`` rounds; see `RequantizeOp`.
ROUNDING_MODES = ("float32", "nearest_even", "nearest_up", "double")
MAX_SHIFT = 62
FLOAT32_BITS = 24
_I8_RANGE = range(-128, 128)

if TYPE_CHECKING:
    I32OrI64 = Any
    I32InI8Range = Any
    RoundingMode = Any
else:
    I32OrI64 = Union[I32, I64]  # noqa: UP007
    # IRDL has no ranges and no "attribute of this type": a set of values says both.
    I32InI8Range = Union[tuple(ir.IntegerAttr[I32, value] for value in _I8_RANGE)]  # noqa: UP007
    RoundingMode = Union[tuple(ir.StringAttr[mode] for mode in ROUNDING_MODES)]  # noqa: UP007


# The bindings look for a dialect's module here, at each operation anew if there is none.
sys.modules.setdefault(f"{ROOT}.dialects.tiny", sys.modules[__name__])


class Tiny(ext.Dialect, name="tiny"):
    """Dialect namespace; `register` loads it into a context."""

    @classmethod
    def _emit_module(cls) -> ir.Module:
        """The IRDL: from the classes in a process's first context, then from its text: faster."""
        made = getattr(cls, "_mlir_module", None)
        return super()._emit_module() if made is None else ir.Module.parse(str(made))


class RequantizeOp(Tiny.Operation, name="requantize", traits=[ext.Pure]):
    """Scale an i32 accumulator to i8.

    ``res = clamp(round(acc * multiplier / 2**shift) + zero_point, min, max)``

    with ``0 <= multiplier < 2**31`` and ``0 <= shift <= 62``. Rounding modes:

    - ``float32``: accumulator and product are each rounded to a float32, the product
      then to the nearest integer, ties to even (ONNX Runtime). The scale must be a
      float32 itself: at most 24 significant bits in the multiplier. The attribute
      ``tiny.headroom`` says by how many places ``acc`` may be shifted up within 32 bits.
    - ``nearest_even``: the exact quotient, ties to even.
    - ``nearest_up``: the exact quotient, ties towards plus infinity.
    - ``double``: saturating rounding doubling high multiply, then a rounding
      shift that sends ties away from zero (TFLite's reference kernels;
      gemmlowp ``fixedpoint.h``). A shift below 31 scales ``acc`` up first; the attribute
      ``tiny.shrinks`` says that none does, nor a shift of 31.

    Example (valid MLIR)::

        %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32,
               max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
    """

    acc: ext.Operand[I32]
    multiplier: ext.Operand[I32]
    shift: ext.Operand[I32]
    zero_point: I32InI8Range
    min: I32InI8Range
    max: I32InI8Range
    rounding: RoundingMode
    res: ext.Result[I8] = ext.infer_result()

    @staticmethod
    def verify_invariants(op: ir.OpView) -> bool:
        """Check what IRDL cannot, and say in words what it can.

        Runs before the IRDL constraints, so operands and attributes may be
        missing here; IRDL then says so.
        """
        fault = _requantize_fault(op.operation)
        if fault:
            op.location.emit_error(f"'tiny.requantize' op {fault}")
        return fault is None


class RescaleOp(Tiny.Operation, name="rescale", traits=[ext.Pure]):
    """Scale an i32 accumulator to i8 by one line, rounded down.

    ``res = clamp(floor((acc * multiplier + offset) / 2**shift), min, max)``

    with ``0 <= multiplier < 2**31``, ``32 <= shift <= 62`` and no overflow of 64 bits.
    Rounding and zero point are in the offset: ``(zero_point << shift) + (1 << (shift - 1))``
    is ``nearest_up``; ``tiny-fit-requantize`` finds lines for the other modes. An i32 offset is
    one of whole words, ``offset * 2**32``: only the high word of the product matters then.

    Example (valid MLIR)::

        %q = "tiny.rescale"(%acc, %m, %offset) {shift = 40 : i32, min = -128 : i32,
               max = 127 : i32} : (i32, i32, i64) -> i8
    """

    acc: ext.Operand[I32]
    multiplier: ext.Operand[I32]
    offset: ext.Operand[I32OrI64]
    shift: ir.IntegerAttr
    min: I32InI8Range
    max: I32InI8Range
    res: ext.Result[I8] = ext.infer_result()

    @staticmethod
    def verify_invariants(op: ir.OpView) -> bool:
        """Ranges of the shift, the limits, and the multiplier where it is constant."""
        fault = _rescale_fault(op.operation)
        if fault:
            op.location.emit_error(f"'tiny.rescale' op {fault}")
        return fault is None


class StepOverOp(Tiny.Operation, name="step_over", traits=[ext.Pure]):
    """Take one accumulator for the next: ``res = acc + (acc == late)``.

    Where a line (`RescaleOp`) is one too low at ``late`` alone, and right at ``late + 1``, it is
    right everywhere after this. A ``late`` that no accumulator reaches changes nothing.

    Example (valid MLIR)::

        %next = "tiny.step_over"(%acc, %late) : (i32, i32) -> i32
    """

    acc: ext.Operand[I32]
    late: ext.Operand[I32]
    res: ext.Result[I32] = ext.infer_result()


def _rescale_fault(op: ir.Operation) -> str | None:
    """The first rule that ``op`` breaks, in words."""
    if "shift" in op.attributes:
        shift = _i32_value(op.attributes["shift"])
        if shift is None or not 32 <= shift <= MAX_SHIFT:
            return f"shift must be an i32 in [32, {MAX_SHIFT}], not {op.attributes['shift']}"
    multiplier = _constant(op.operands[1]) if len(op.operands) == 3 else None
    if multiplier is not None and multiplier < 0:
        return f"multiplier must be in [0, 2147483647], not {multiplier}"
    return _clamp_fault(op.attributes)


def _requantize_fault(op: ir.Operation) -> str | None:
    """The first rule that ``op`` breaks, in words."""
    return _rounding_fault(op.attributes) or _clamp_fault(op.attributes) or _scale_fault(op)


def _rounding_fault(attributes: ir.OpAttributeMap) -> str | None:
    if "rounding" not in attributes:
        return None
    rounding = attributes["rounding"]
    if isinstance(rounding, ir.StringAttr) and rounding.value in ROUNDING_MODES:
        return None
    return f"rounding must be one of {', '.join(ROUNDING_MODES)}, not {rounding}"


def _clamp_fault(attributes: ir.OpAttributeMap) -> str | None:
    values: dict[str, int] = {}
    for name in ("zero_point", "min", "max"):
        if name not in attributes:
            continue
        value = _i32_value(attributes[name])
        if value is None:
            return f"{name} must be an i32 integer, not {attributes[name]}"
        if value not in _I8_RANGE:
            return f"{name} must be in [-128, 127], not {value}"
        values[name] = value
    if values.get("min", -128) > values.get("max", 127):
        return f"min must not exceed max, but {values['min']} > {values['max']}"
    return None


def _scale_fault(op: ir.Operation) -> str | None:
    if len(op.operands) != 3:
        return None
    multiplier, shift = (_constant(op.operands[index]) for index in (1, 2))
    if multiplier is not None and multiplier < 0:
        return f"multiplier must be in [0, 2147483647], not {multiplier}"
    if shift is not None and not 0 <= shift <= MAX_SHIFT:
        return f"shift must be in [0, {MAX_SHIFT}], not {shift}"
    if multiplier and "rounding" in op.attributes and op.attributes["rounding"].value == "float32":
        significand = multiplier // (multiplier & -multiplier)
        if significand >> FLOAT32_BITS:
            most = f"at most {FLOAT32_BITS} significant bits"
            return f"multiplier must have {most} for float32, not {multiplier}"
    return None


def _i32_value(attribute: ir.Attribute) -> int | None:
    """The value of ``attribute`` if that is an i32 integer."""
    if not isinstance(attribute, ir.IntegerAttr) or str(attribute.type) != "i32":
        return None
    return int(attribute.value)


def _constant(value: ir.Value) -> int | None:
    """The value of an ``arith.constant`` i32 scalar, None for anything else."""
    owner: Any = value.owner
    if not isinstance(owner, ir.Block) and owner.operation.name == "arith.constant":
        return _i32_value(owner.operation.attributes["value"])
    return None


class MacOp(Tiny.Operation, name="mac", traits=[ext.Pure]):
    """A multiply-accumulate: ``res = acc + lhs·rhs``, modulo 2^32.

    Of two activations in a word and a weight, on cores without SIMD.
    """

    acc: ext.Operand[I32]
    lhs: ext.Operand[I32]
    rhs: ext.Operand[I32]
    res: ext.Result[I32] = ext.infer_result()


class DualMacOp(Tiny.Operation, name="dual_mac", traits=[ext.Pure]):
    """Two multiply-accumulates of packed signed halfwords, as Arm's SMLAD does them.

    ``res = acc + lo(lhs)·lo(rhs) + hi(lhs)·hi(rhs)``, modulo 2^32.
    """

    acc: ext.Operand[I32]
    lhs: ext.Operand[I32]
    rhs: ext.Operand[I32]
    res: ext.Result[I32] = ext.infer_result()


class QuadMacOp(Tiny.Operation, name="quad_mac", traits=[ext.Pure]):
    """Four multiply-accumulates of packed signed bytes, as CORE-V's cv.sdotsp.b does them.

    ``res = acc + Σ byte_i(lhs)·byte_i(rhs)``, modulo 2^32.
    """

    acc: ext.Operand[I32]
    lhs: ext.Operand[I32]
    rhs: ext.Operand[I32]
    res: ext.Result[I32] = ext.infer_result()


class AddHalvesOp(Tiny.Operation, name="add_halves", traits=[ext.Pure]):
    """The sums of the halfwords of two words, each modulo 2^16, as Arm's SADD16 makes them."""

    lhs: ext.Operand[I32]
    rhs: ext.Operand[I32]
    res: ext.Result[I32] = ext.infer_result()


class ExtendBytesOp(Tiny.Operation, name="extend_bytes", traits=[ext.Pure]):
    """Two of the four signed bytes of a word as packed halfwords, as Arm's SXTB16 does it.

    ``first`` is 0 for bytes 0 and 2, 1 for bytes 1 and 3; the lower byte goes low.
    """

    word: ext.Operand[I32]
    first: ir.IntegerAttr
    res: ext.Result[I32] = ext.infer_result()

    @staticmethod
    def verify_invariants(op: ir.OpView) -> bool:
        """``first`` picks one of two pairs."""
        attributes = op.operation.attributes
        fault = "first" in attributes and _i32_value(attributes["first"]) not in (0, 1)
        if fault:
            op.location.emit_error(
                "'tiny.extend_bytes' op first must be 0 or 1 of type i32,"
                f" not {attributes['first']}"
            )
        return not fault


class MaxBytesOp(Tiny.Operation, name="max_bytes", traits=[ext.Pure]):
    """The greater of each of four pairs of signed bytes, as Arm's SSUB8 and SEL find it.

    CORE-V has cv.max.b for it.
    """

    lhs: ext.Operand[I32]
    rhs: ext.Operand[I32]
    res: ext.Result[I32] = ext.infer_result()


class AddFloat32Op(Tiny.Operation, name="add_float32", traits=[ext.Pure]):
    """The sum of two integers, rounded as that of two float32 numbers is.

    To 24 significant bits, to the nearest, ties to even. The operands are float32 numbers in
    units of one power of two, so they have 24 significant bits already; the sum is below 2^55.
    """

    lhs: ext.Operand[I64]
    rhs: ext.Operand[I64]
    res: ext.Result[I64] = ext.infer_result()


class DotOp(Tiny.Operation, name="dot", traits=[ext.Pure]):
    """The sum of 16 products of signed bytes, accumulated, as Arm's VMLADAVA does it.

    ``res = acc + Σ lhs[i]·rhs[i]``, modulo 2^32.
    """

    acc: ext.Operand[I32]
    lhs: ext.Operand[I8x16]
    rhs: ext.Operand[I8x16]
    res: ext.Result[I32] = ext.infer_result()


def register(context: ir.Context) -> None:
    """Load the dialect into ``context``; does nothing where it is loaded already.

    Turns multithreading off in ``context``: the verifier is Python, and a pass
    manager that waits for its threads while it holds Python's lock never returns.
    """
    context.enable_multithreading(False)
    if not context.is_dialect_loaded(Tiny.DIALECT_NAMESPACE):
        with context, ir.Location.unknown(context):
            Tiny.load()


def irdl_text() -> str:
    """The dialect in IRDL, which a stock ``mlir-opt --irdl-file=`` loads."""
    register(ir.Context())
    return str(Tiny._mlir_module)
