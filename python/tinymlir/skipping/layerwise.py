"""A network on this machine, one layer at a time, with the weights of any layer replaced."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import func, ir
from tinymlir.host import HostModel, compile_for_host
from tinymlir.kernels.convolution import layer_convolution, replace_constants
from tinymlir.passes.tiny_outline_layers import VIEW_OPS, find_main

Bytes = npt.NDArray[np.int8]
#: Weights, of the shape of ``Convolution.weights``, and biases.
Constants = tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]

#: Samples that run at a time.
BATCH = 256
#: Compiled layers that are kept, the ones used last.
_KEPT = 512
#: Bytes that the values of all samples of a `Layerwise.trace` take, at most.
_MEMORY = 1 << 28


@dataclass(frozen=True)
class Step:
    """A call of a layer; values are numbered, the inputs first."""

    symbol: str
    #: ``tiny.op`` of the layer
    op: str
    sources: tuple[int, ...]


class Layerwise:
    """The layers of an outlined network; its module must stay alive, and its context active.

    Each variant of a layer is compiled once, so that a network costs no more than the layers
    in which it differs from those before.
    """

    def __init__(self, module: ir.Module) -> None:
        self._layers = {
            child.name.value: child
            for child in module.body.operations
            if isinstance(child, func.FuncOp)
        }
        self._compiled: OrderedDict[tuple[str, bytes], HostModel] = OrderedDict()
        main = find_main(module.operation)
        numbers = {argument: i for i, argument in enumerate(main.arguments)}
        self.steps: list[Step] = []
        for child in main.body.blocks[0].operations:
            op = child.operation
            if op.name in VIEW_OPS:
                numbers[op.results[0]] = numbers[op.operands[0]]
            elif op.name == "func.call":
                symbol = op.attributes["callee"].value
                kind = self._layers[symbol].operation.attributes["tiny.op"].value
                self.steps.append(Step(symbol, kind, tuple(numbers[v] for v in op.operands)))
                numbers[op.results[0]] = len(main.arguments) + len(self.steps) - 1
            else:
                self.results = [numbers[v] for v in op.operands]
        self.inputs = len(main.arguments)

    @property
    def scores(self) -> int:
        """The value that is the first result; where a softmax gives that, what it is of."""
        step = self.results[0] - self.inputs
        softmax = step >= 0 and self.steps[step].op == "softmax"
        return self.steps[step].sources[0] if softmax else self.results[0]

    def trace(self, samples: Sequence[Bytes]) -> list[Bytes]:
        """All values on the first of ``samples``, as many as memory allows."""
        count = 1
        for _ in range(2):
            values = [array[:count] for array in samples]
            for step in self.steps:
                values.append(self.run(step, values))
            count = min(len(samples[0]), max(1, _MEMORY // sum(v[0].nbytes for v in values)))
        return values

    def run(self, step: Step, values: Sequence[Bytes], constants: Constants | None = None) -> Bytes:
        """What a layer gives, (N, ...), on ``values``; with other ``constants``, if any."""
        layer = self._layer(step.symbol, constants)
        inputs = [
            values[number].reshape(-1, *info.shape)
            for number, info in zip(step.sources, layer.inputs, strict=True)
        ]
        return layer(*inputs)[0]

    def _layer(self, symbol: str, constants: Constants | None) -> HostModel:
        digest = hashlib.blake2b()
        for array in constants or ():
            digest.update(array.tobytes())
        key = symbol, digest.digest() if constants else b""
        if key not in self._compiled:
            self._compiled[key] = self._compile(self._layers[symbol], constants)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]

    def _compile(self, layer: func.FuncOp, constants: Constants | None) -> HostModel:
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            main = func.FuncOp("main", layer.type)
            copy = layer.operation.clone()
        with ir.InsertionPoint(main.add_entry_block()):
            func.ReturnOp([func.CallOp(copy, list(main.arguments)).results[0]])
        if constants is not None:
            conv = layer_convolution(copy)
            assert conv is not None
            replace_constants(conv, *constants)
        return compile_for_host(module)
