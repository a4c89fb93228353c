"""Scalar code of a pass, compiled for this machine and called over arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import llvmlite.binding as llvm_binding
import numpy as np
import numpy.typing as npt

from tinymlir import codegen
from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.pipeline import run_pipeline
from tinymlir.targets import get_target

Array = npt.NDArray[np.generic]

_TO_LLVM = (
    "convert-scf-to-cf,finalize-memref-to-llvm{index-bitwidth=32},"
    "convert-arith-to-llvm{index-bitwidth=32},"
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv index-bitwidth=32},"
    "convert-cf-to-llvm{index-bitwidth=32},reconcile-unrealized-casts"
)


def elementwise(name: str, inputs: list[str], output: str, body: str, parameters: str = "") -> str:
    """A function that computes ``%r`` from ``%v0``, ``%v1``, ... for each of ``%n`` elements.

    Args:
        inputs, output: element types.
        body: MLIR; ``parameters`` are further index arguments that it uses.
    """
    buffers = ", ".join(f"%a{i}: memref<1048576x{t}>" for i, t in enumerate(inputs))
    loads = "\n".join(
        f"%v{i} = memref.load %a{i}[%i] : memref<1048576x{t}>" for i, t in enumerate(inputs)
    )
    return f"""
func.func @{name}({buffers}, %o: memref<1048576x{output}>, %n: index {parameters}) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {{
    {loads}
    {body}
    memref.store %r, %o[%i] : memref<1048576x{output}>
  }}
  return
}}
"""


class NativeCode:
    """The functions of a module, lowered by ``passes`` and then upstream's conversions."""

    def __init__(self, text: str, passes: str) -> None:
        context = ir.Context()
        register(context)
        with context, ir.Location.unknown():
            module = ir.Module.parse(text)
            run_pipeline(module, f"builtin.module({passes},{_TO_LLVM})")
            lowered, machine = codegen.optimize(module, get_target("host"))
        self._engine = llvm_binding.create_mcjit_compiler(lowered, machine)
        self._engine.finalize_object()

    def __getitem__(self, name: str) -> Callable[..., Array]:
        """``call(result dtype, *arrays, parameters=())`` of the `elementwise` function."""
        engine = self._engine

        def call(dtype: npt.DTypeLike, *arrays: Array, parameters: tuple[int, ...] = ()) -> Array:
            size = len(arrays[0])
            assert size <= 1 << 20 and all(len(a) == size for a in arrays)
            result = np.zeros(size, dtype)
            pointers = [np.ascontiguousarray(a) for a in (*arrays, result)]
            kinds = [ctypes.c_void_p] * len(pointers) + [ctypes.c_int32] * (1 + len(parameters))
            # The code lives as long as its engine.
            function = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(name))
            function(*(p.ctypes.data for p in pointers), size, *parameters)
            return pointers[-1]

        return call
