"""A network on this machine, one layer at a time, with the weights of any layer replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import func, ir
from tinymlir.host import HostModel, compile_for_host
from tinymlir.kernels.convolution import Convolution, layer_convolution, take_accumulators
from tinymlir.linalg_info import VIEW_OPS
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.skipping.accumulate import accumulate
from tinymlir.skipping.statistics import Bytes

#: Weights, of the shape of ``Convolution.weights``, and biases.
Constants = tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]

#: Samples that run at a time.
BATCH = 256
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

    Each layer is compiled once, and once more for other weights: without its products, which
    `accumulate` adds up, so that no variant of a layer needs the compiler.
    """

    def __init__(self, module: ir.Module) -> None:
        self._layers = {
            child.name.value: child
            for child in module.body.operations
            if isinstance(child, func.FuncOp)
        }
        self._compiled: dict[str, HostModel] = {}
        self._rest: dict[str, _Scaled] = {}
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
        given = [values[number] for number in step.sources]
        if constants is None:
            return _call(self._layer(step.symbol), given)
        scaled = self._scaled(step.symbol)
        parts = [
            scaled(constants, [array[start : start + BATCH] for array in given])
            for start in range(0, len(given[0]), BATCH)
        ]
        return np.concatenate(parts)

    def _layer(self, symbol: str) -> HostModel:
        if symbol not in self._compiled:
            self._compiled[symbol] = _compile(self._layers[symbol].operation.clone())
        return self._compiled[symbol]

    def _scaled(self, symbol: str) -> _Scaled:
        if symbol not in self._rest:
            conv = layer_convolution(self._layers[symbol])
            assert conv is not None
            rest = self._layers[symbol].operation.clone()
            kept = take_accumulators(rest)
            self._rest[symbol] = _Scaled(conv, kept, _compile(rest))
        return self._rest[symbol]


@dataclass(frozen=True)
class _Scaled:
    """A layer around a convolution: what is ``rest`` once products are added up.

    That reads the inputs ``kept``, by number, and then the accumulators.
    """

    conv: Convolution
    kept: tuple[int, ...]
    rest: HostModel

    def __call__(self, constants: Constants, inputs: Sequence[Bytes]) -> Bytes:
        source = ir.BlockArgument(self.conv.source).arg_number
        accumulators = accumulate(self.conv, *constants, inputs[source])
        return _call(self.rest, [*(inputs[number] for number in self.kept), accumulators])


def _call(layer: HostModel, inputs: Sequence[npt.NDArray[np.integer]]) -> Bytes:
    shaped = zip(inputs, layer.inputs, strict=True)
    return layer(*(array.reshape(-1, *info.shape) for array, info in shaped))[0]


def _compile(layer: func.FuncOp) -> HostModel:
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        main = func.FuncOp("main", layer.type)
        module.body.append(layer)
    with ir.InsertionPoint(main.add_entry_block()):
        func.ReturnOp([func.CallOp(layer, list(main.arguments)).results[0]])
    return compile_for_host(module)
