"""A network on this machine, layer by layer, with any layer in any of its variants.

What a search asks for is the same network again and again with other weights in some layers.
Each variant of a layer is compiled once, so a candidate costs no compilation at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import func, ir
from tinymlir.host import HostModel, compile_for_host
from tinymlir.kernels.convolution import find_convolution, replace_constants
from tinymlir.passes.tiny_outline_layers import VIEW_OPS, find_main

Bytes = npt.NDArray[np.int8]
Constants = tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]
#: Weights and biases of a variant of a layer; variant 0 is the layer as it is.
Variants = Callable[[str, int], Constants]

#: Samples that run at a time.
_BATCH = 256


@dataclass(frozen=True)
class _Step:
    """A call of a layer; values are numbered, the inputs first."""

    symbol: str
    sources: tuple[int, ...]


class Evaluator:
    """Runs an outlined network; its module must stay alive, and its context active."""

    def __init__(self, module: ir.Module, variants: Variants) -> None:
        self._variants = variants
        self._layers = {
            child.name.value: child
            for child in module.body.operations
            if isinstance(child, func.FuncOp)
        }
        self._compiled: dict[tuple[str, int], HostModel] = {}
        main = find_main(module.operation)
        numbers = {argument: i for i, argument in enumerate(main.arguments)}
        self._steps: list[_Step] = []
        for child in main.body.blocks[0].operations:
            op = child.operation
            if op.name in VIEW_OPS:
                numbers[op.results[0]] = numbers[op.operands[0]]
            elif op.name == "func.call":
                sources = tuple(numbers[v] for v in op.operands)
                self._steps.append(_Step(op.attributes["callee"].value, sources))
                numbers[op.results[0]] = len(main.arguments) + len(self._steps) - 1
            else:
                self._results = [numbers[v] for v in op.operands]

    def __call__(self, samples: Sequence[Bytes], levels: Mapping[str, int]) -> Bytes:
        """The network's first output, (N, elements), with layers at ``levels`` (0 if not named)."""
        batches = range(0, len(samples[0]), _BATCH)
        return np.concatenate(
            [self._batch([a[i : i + _BATCH] for a in samples], levels) for i in batches]
        )

    def _batch(self, samples: list[Bytes], levels: Mapping[str, int]) -> Bytes:
        values = list(samples)
        for step in self._steps:
            layer = self._layer(step.symbol, levels.get(step.symbol, 0))
            inputs = [
                values[number].reshape(-1, *info.shape)
                for number, info in zip(step.sources, layer.inputs, strict=True)
            ]
            values.append(layer(*inputs)[0])
        result = values[self._results[0]]
        return result.reshape(len(result), -1)

    def _layer(self, symbol: str, level: int) -> HostModel:
        key = symbol, level
        if key not in self._compiled:
            self._compiled[key] = self._compile(self._layers[symbol], level)
        return self._compiled[key]

    def _compile(self, layer: func.FuncOp, level: int) -> HostModel:
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kind = layer.type
            main = func.FuncOp("main", kind)
            copy = layer.operation.clone()
        with ir.InsertionPoint(main.add_entry_block()):
            func.ReturnOp([func.CallOp(copy, list(main.arguments)).results[0]])
        if level:
            root = list(copy.body.blocks[0].operations)[-1].operation.operands[0]
            conv = find_convolution(root)
            assert conv is not None
            replace_constants(conv, *self._variants(layer.name.value, level))
        return compile_for_host(module)
