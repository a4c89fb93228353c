"""The ``tiny`` dialect: what quantised microcontroller code needs and upstream lacks."""

# No `from __future__ import annotations` here: the bindings read the annotations as types.
from tinymlir.bindings import ext, ir

I8 = ir.IntegerType[8]
I32 = ir.IntegerType[32]

#: How ``tiny.requantize`` rounds; see `RequantizeOp`.
ROUNDING_MODES = ("nearest_even", "nearest_up", "double")
MAX_SHIFT = 62


class Tiny(ext.Dialect, name="tiny"):
    """Dialect namespace; `register` loads it into a context."""


class RequantizeOp(Tiny.Operation, name="requantize", traits=[ext.Pure]):
    """Scale an i32 accumulator to i8.

    ``res = clamp(round(acc * multiplier / 2**shift) + zero_point, min, max)``

    with ``0 <= multiplier < 2**31`` and ``0 <= shift <= 62``. Rounding modes:

    - ``nearest_even``: the exact quotient, ties to even (ONNX Runtime).
    - ``nearest_up``: the exact quotient, ties towards plus infinity.
    - ``double``: saturating rounding doubling high multiply, then a rounding
      shift that sends ties away from zero (TFLite's reference kernels;
      gemmlowp ``fixedpoint.h``). A shift below 31 scales ``acc`` up first.

    Example (valid MLIR)::

        %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32,
               max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
    """

    acc: ext.Operand[I32]
    multiplier: ext.Operand[I32]
    shift: ext.Operand[I32]
    zero_point: ir.IntegerAttr
    min: ir.IntegerAttr
    max: ir.IntegerAttr
    rounding: ir.StringAttr
    res: ext.Result[I8] = ext.infer_result()


def register(context: ir.Context) -> None:
    """Load the dialect into ``context``; does nothing where it is loaded already."""
    if not context.is_dialect_loaded(Tiny.DIALECT_NAMESPACE):
        with context, ir.Location.unknown(context):
            Tiny.load()
