"""The compiled network as a callable of this process: what accuracy is evaluated on."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import llvmlite.binding as llvm_binding
import numpy as np

from tinymlir.bindings import ir
from tinymlir.codegen import optimize
from tinymlir.compiler import Compilation, compile_model, lower_module
from tinymlir.errors import TinymlirError
from tinymlir.network import TensorInfo
from tinymlir.targets import get_target


class HostModel:
    """A network compiled for this machine.

    Call it with one array per input, of its type in the object's layout with samples
    first, ``(N, *inputs[i].shape[1:])`` or ``(N, *inputs[i].shape)``; it returns
    one array per output, ``(N, *outputs[i].shape)``. Samples run in parallel.
    """

    def __init__(self, compilation: Compilation) -> None:
        self.compilation = compilation
        module, machine = optimize(compilation.module, compilation.target)
        self._engine = llvm_binding.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        address = self._engine.get_function_address(f"{compilation.name}_invoke")
        held = [info for info in self.inputs if info.arena_offset is None]
        count = len(held) + len(self.outputs) + 1
        self._invoke = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * count)(address)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self.compilation.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self.compilation.outputs

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on N samples.

        Raises:
            TinymlirError: an array of another shape or type than the input's.
        """
        samples = _samples(self.inputs, arrays)
        given = [
            np.ascontiguousarray(a).reshape(samples, prod(info.shape))
            for a, info in zip(arrays, self.inputs, strict=True)
        ]
        results = [np.empty((samples, prod(info.shape)), info.type) for info in self.outputs]
        workers = min(os.cpu_count() or 1, max(1, samples))
        offsets = [info.arena_offset for info in (*self.inputs, *self.outputs)]

        def run(worker: int) -> None:
            arena = np.empty(max(1, self.compilation.arena_bytes), np.int8)
            for sample in range(worker, samples, workers):
                pointers = []
                for place, values in enumerate((*given, *results)):
                    offset = offsets[place]
                    if offset is None:
                        pointers.append(values.ctypes.data + sample * values.strides[0])
                    else:
                        image = values[sample].view(np.int8)
                        arena[offset : offset + len(image)] = image
                self._invoke(*pointers, arena.ctypes.data)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, range(workers)))
        return [
            r.reshape(samples, *info.shape) for r, info in zip(results, self.outputs, strict=True)
        ]


def _samples(inputs: tuple[TensorInfo, ...], arrays: tuple[np.ndarray, ...]) -> int:
    if len(arrays) != len(inputs):
        raise TinymlirError(f"expects {len(inputs)} input arrays, has {len(arrays)}")
    for array, info in zip(arrays, inputs, strict=True):
        if array.dtype != info.type:
            raise TinymlirError(f"expects {info.type}, has {array.dtype}", node=info.name)
        if array.ndim == 0 or array[0:1].size not in (prod(info.shape), 0):
            raise TinymlirError(
                f"expects samples of shape {info.shape}, has {array.shape[1:]}", node=info.name
            )
        if len(array) != len(arrays[0]):
            raise TinymlirError("has another number of samples than the first", node=info.name)
    return len(arrays[0])


def compile_for_host(model: ir.Module | str | Path, *, float_io: bool = False) -> HostModel:
    """Compile a model file, or a module in canonical form (which is consumed).

    Args:
        float_io: whether float32 inputs and outputs of the model stay that.
    """
    target = get_target("host")
    if isinstance(model, ir.Module):
        with model.context, ir.Location.unknown():
            return HostModel(lower_module(model, target, "network", float_io=float_io))
    return HostModel(compile_model(model, target, float_io=float_io))
