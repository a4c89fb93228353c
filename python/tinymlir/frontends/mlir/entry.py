"""Which function is the network, and whether it is one that can be compiled."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tinymlir.bindings import func, ir
from tinymlir.errors import TinymlirError
from tinymlir.frontends.canonical.tensors import MAX_TENSOR_BYTES
from tinymlir.pipeline import position_of, run_pipeline

from .batch import to_one_sample
from .quantized_types import to_storage_types
from .resources import inline_resources
from .source import LOWER_FIRST, check_strings, not_utf8

_DIALECTS = ("arith", "func", "linalg", "math", "scf", "tensor", "tiny", "tosa")
#: Operations of those dialects that have no place in a network: control flow and calls.
_REFUSED = ("func.call", "func.call_indirect", "func.constant", "scf.for", "scf.while")
#: What may touch floats, as it computes nothing from them by itself.
_FLOAT_OPS = re.compile(r"arith\.(bitcast|constant|select)|scf\..*|linalg\..*|tensor\..*")
_QUANTIZE = (
    "quantise the network to int8 arithmetic;"
    " one that dequantises between its layers is taken as ONNX"
)
_STATIC = "give each dimension a size, and the batch dimension 1"
#: Attributes that hold a number for each dimension.
_SIZES = {
    *("dilation", "dilations", "kernel", "out_pad", "pad", "static_high", "static_low"),
    *("static_offsets", "static_sizes", "static_strides", "stride", "strides"),
}
_DYNAMIC = ir.ShapedType.get_dynamic_size()
_INPUT_TYPES = ("i8", "ui8", "si8")


def prepare(module: ir.Module, path: Path) -> None:
    """Leave one function ``@main`` of statically shaped integer tensors in ``module``.

    Other functions are inlined into it; attributes of other dialects than ours are dropped.

    Raises:
        TinymlirError: there is no such function, or something in it cannot be compiled.
    """
    checks = _Checks(path)
    try:
        _drop_foreign_attributes(module.operation)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise not_utf8(path) from error
    # Those of others may hold any bytes.
    check_strings(module, path)
    entry = _entry(module, checks)
    inline_resources(module, checks.fail)
    to_storage_types(module)
    functions = _functions(module)
    for function in functions:
        function.operation.attributes["sym_visibility"] = ir.StringAttr.get("private")
    del entry.operation.attributes["sym_visibility"]
    if len(functions) > 1:
        run_pipeline(module, "builtin.module(inline,symbol-dce)")
    entry.operation.attributes["sym_name"] = ir.StringAttr.get("main")
    for op in module.body.operations:
        if op.operation != entry.operation:
            checks.fail(op.operation, "stands beside the network's function", LOWER_FIRST)
    to_one_sample(module, entry)
    checks.interface(entry)
    for op in entry.body.blocks[0].operations:
        checks.operation(op.operation)


def check_result(main: func.FuncOp, path: Path) -> None:
    """Raise a TinymlirError where what the import made cannot be compiled."""
    checks = _Checks(path)
    for index, kind in enumerate(main.type.results):
        if not isinstance(kind, ir.RankedTensorType) or str(kind.element_type) != "i8":
            checks.fail(
                main.operation,
                f"has the result {index} of type {kind}, not an i8 tensor",
                "requantise it to i8, or leave what follows the last i8 tensor out",
            )
    for op in main.body.blocks[0].operations:
        if any(isinstance(value.type, ir.IndexType) for value in op.operands):
            checks.fail(op.operation, "has a size or place that is no constant", _STATIC)


def _functions(module: ir.Module) -> list[func.FuncOp]:
    return [op for op in module.body.operations if isinstance(op, func.FuncOp)]


def _entry(module: ir.Module, checks: _Checks) -> func.FuncOp:
    """``@main``, else the only public function, else the only one."""
    defined = [f for f in _functions(module) if not f.is_external]
    named = [f for f in defined if f.name.value == "main"]
    public = [f for f in defined if "sym_visibility" not in f.operation.attributes]
    for choice in (named, public, defined):
        if len(choice) == 1:
            return choice[0]
    if defined:
        names = ", ".join(f"@{f.name.value}" for f in public or defined)
        checks.fail(
            module.operation,
            f"has several functions ({names})",
            "call the network's function @main, or make the others private",
        )
    checks.fail(module.operation, "has no function with a body", LOWER_FIRST)


def _drop_foreign_attributes(root: ir.Operation) -> None:
    """Drop discardable attributes of dialects that are not ours: nobody here reads them."""

    def ours(name: str) -> bool:
        return "." not in name or name.startswith("tiny.")

    def clean(op: ir.Operation) -> ir.WalkResult:
        for name in [name for name in op.attributes if not ours(name)]:
            del op.attributes[name]
        for key in [key for key in ("arg_attrs", "res_attrs") if key in op.attributes]:
            op.attributes[key] = ir.ArrayAttr.get(
                [
                    ir.DictAttr.get({n.name: n.attr for n in each if ours(n.name)})
                    for each in op.attributes[key]
                ]
            )
        return ir.WalkResult.ADVANCE

    root.walk(clean)


class _Checks:
    """What the compiler cannot take, said of the operation at fault."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, op: ir.Operation, problem: str, hint: str) -> NoReturn:
        position = position_of(op.location)
        known = position is not None and position.line > 0
        raise TinymlirError(
            f"'{op.name}' op {problem}", file=str(position if known else self.path), hint=hint
        )

    def interface(self, function: func.FuncOp) -> None:
        """Arguments are 8-bit tensors; the body is one block."""
        op = function.operation
        if len(function.body.blocks) != 1:
            self.fail(op, f"has {len(function.body.blocks)} blocks", "remove the control flow")
        for index, kind in enumerate(function.type.inputs):
            self._type(op, kind, f"argument {index}")
            if not isinstance(kind, ir.RankedTensorType) or str(kind.element_type) not in (
                _INPUT_TYPES
            ):
                self.fail(
                    op, f"has the argument {index} of type {kind}, not an i8 tensor", LOWER_FIRST
                )
        for index, kind in enumerate(function.type.results):
            self._type(op, kind, f"result {index}")
        if not function.type.results:
            self.fail(op, "returns nothing", "return the network's outputs as tensors")

    def operation(self, op: ir.Operation) -> None:
        """One operation of the network, with everything inside it."""
        if not op.context.is_registered_operation(op.name):
            self.fail(op, "is of an unknown dialect", LOWER_FIRST)
        if op.name in _REFUSED or op.name.split(".")[0] not in _DIALECTS:
            self.fail(op, "has no place in a network", LOWER_FIRST)
        for word, values in (("operand", op.operands), ("result", op.results)):
            for index, value in enumerate(values):
                self._type(op, value.type, f"{word} {index}")
        for name in sorted(_SIZES & set(op.attributes), reverse=True):
            if any(abs(n) > MAX_TENSOR_BYTES and n != _DYNAMIC for n in op.attributes[name]):
                hint = f"such numbers must stay under {MAX_TENSOR_BYTES}"
                self.fail(op, f"has the absurd {name} {list(op.attributes[name])}", hint)
        for name in _float_computations(op):
            inside = "" if name == op.name else f", with '{name}'"
            self.fail(op, f"computes in floating point{inside}", _QUANTIZE)

    def _type(self, op: ir.Operation, kind: ir.Type, what: str) -> None:
        if isinstance(kind, ir.UnrankedTensorType) or (
            isinstance(kind, ir.RankedTensorType) and not kind.has_static_shape
        ):
            self.fail(op, f"has the {what} of type {kind}, whose shape is dynamic", _STATIC)
        if isinstance(kind, ir.MemRefType | ir.UnrankedMemRefType):
            self.fail(
                op, f"has the {what} of type {kind}, a buffer", "give it before bufferization"
            )
        if not isinstance(kind, ir.RankedTensorType):
            return
        if op.name == "func.func" and _is_float(kind.element_type):
            self.fail(op, f"has the {what} of type {kind}, which is not quantised", _QUANTIZE)
        if math.prod(kind.shape) > MAX_TENSOR_BYTES or 0 in kind.shape:
            hint = f"tensors must have elements, and stay under {MAX_TENSOR_BYTES >> 20} MiB"
            self.fail(op, f"has the {what} of the absurd type {kind}", hint)


def _is_float(kind: ir.Type) -> bool:
    element = kind.element_type if isinstance(kind, ir.ShapedType) else kind
    return isinstance(element, ir.FloatType)


def _float_computations(root: ir.Operation) -> Iterator[str]:
    """Names of the float operations in ``root`` that no pass lowers."""
    found: list[str] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        floats = any(_is_float(value.type) for value in [*op.operands, *op.results])
        if floats and not _FLOAT_OPS.fullmatch(op.name):
            found.append(op.name)
            return ir.WalkResult.INTERRUPT
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    yield from found
