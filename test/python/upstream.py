"""What upstream MLIR's own lowering of a module computes: the reference for MLIR input."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm_binding
import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir, linalg
from tinymlir.codegen import optimize
from tinymlir.dialects import register
from tinymlir.pipeline import run_pipeline
from tinymlir.targets import get_target

Array = npt.NDArray[Any]

_TO_LINALG = """builtin.module(
  func.func(tosa-convert-integer-type-to-signless, tosa-optional-decompositions,
            tosa-to-linalg-named, tosa-to-linalg,
            tosa-to-arith{include-apply-rescale=true use-32-bit=false}, tosa-to-tensor),
  canonicalize)"""
_TO_MEMREF = """builtin.module(
  one-shot-bufferize{bufferize-function-boundaries=1
                     function-boundary-type-conversion=identity-layout-map},
  canonicalize)"""
_TO_LLVM = """builtin.module(
  convert-linalg-to-loops, convert-scf-to-cf, expand-strided-metadata, lower-affine,
  finalize-memref-to-llvm, convert-math-to-llvm, convert-arith-to-llvm,
  convert-func-to-llvm{use-bare-ptr-memref-call-conv}, convert-cf-to-llvm,
  reconcile-unrealized-casts)"""


class Upstream:
    """A module of one function on tensors, compiled for this machine by upstream's passes.

    Call it with one array for each argument, of its shape; it returns one for each result.
    """

    def __init__(self, text: str) -> None:
        context = ir.Context()
        register(context)
        with context, ir.Location.unknown():
            module = ir.Module.parse(text)
            run_pipeline(module, _TO_LINALG)
            run_pipeline(module, _TO_MEMREF)
            function = _function(module)
            self.results = [_shape_and_type(kind) for kind in function.type.results]
            self.arguments = [_shape_and_type(kind) for kind in function.type.inputs]
            _results_to_arguments(function)
            _copies_to_loops(module)
            run_pipeline(module, _TO_LLVM)
            llvm_module, machine = optimize(module, get_target("host"))
        self._engine = llvm_binding.create_mcjit_compiler(llvm_module, machine)
        self._engine.finalize_object()
        address = self._engine.get_function_address("reference")
        count = len(self.arguments) + len(self.results)
        self._invoke = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(address)

    def __call__(self, *arrays: Array) -> list[Array]:
        assert [a.shape for a in arrays] == [shape for shape, _ in self.arguments]
        given = [np.ascontiguousarray(array) for array in arrays]
        results = [np.empty(shape, kind) for shape, kind in self.results]
        self._invoke(*(array.ctypes.data for array in (*given, *results)))
        return results

    def random(self, seed: int) -> list[Array]:
        """Arguments that cover the range of their types."""
        rng = np.random.default_rng(seed)
        return [
            rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, kind, endpoint=True)
            for shape, kind in self.arguments
        ]


def tosa_to_linalg(text: str) -> str:
    """A TOSA module as upstream's passes lower it to linalg."""
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(text)
        run_pipeline(module, _TO_LINALG)
        return str(module)


def _function(module: ir.Module) -> Any:
    functions = [op for op in module.body.operations if op.operation.name == "func.func"]
    assert len(functions) == 1
    functions[0].operation.attributes["sym_name"] = ir.StringAttr.get("reference")
    return functions[0]


def _shape_and_type(kind: ir.Type) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return tuple(kind.shape), np.dtype(f"int{ir.IntegerType(kind.element_type).width}")


def _results_to_arguments(function: Any) -> None:
    """Copy each result into a further argument."""
    block = function.body.blocks[0]
    last = block.operations[len(block.operations) - 1].operation
    with ir.InsertionPoint(last), last.location:
        for value in last.operands:
            kind = ir.MemRefType.get(value.type.shape, value.type.element_type)
            _copy(value, block.add_argument(kind, last.location))
        ir.Operation.create("func.return")
    last.erase()
    signature = ir.FunctionType.get([argument.type for argument in block.arguments], [])
    attributes = function.operation.attributes
    attributes["function_type"] = ir.TypeAttr.get(signature)
    for name in ("arg_attrs", "res_attrs"):
        if name in attributes:
            del attributes[name]


def _copies_to_loops(module: ir.Module) -> None:
    """A strided ``memref.copy`` would be a call of a library."""
    found: list[ir.Operation] = []

    def collect(op: ir.Operation) -> ir.WalkResult:
        if op.name == "memref.copy":
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    for op in found:
        with ir.InsertionPoint(op), op.location:
            _copy(*op.operands)
        op.erase()


def _copy(source: ir.Value, target: ir.Value) -> None:
    linalg.copy(source, outs=[target])
