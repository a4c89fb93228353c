"""Two executions of a network, layer by layer: where they first differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir import artifact
from tinymlir.arrays import Int8Array, from_object
from tinymlir.bindings import ir
from tinymlir.codegen import generate
from tinymlir.compiler import Compilation, compile_model, identifier, lower_module
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.frontends import import_model
from tinymlir.host import HostModel
from tinymlir.network import TensorInfo
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.passes.tiny_tap_layers import TAP
from tinymlir.pipeline import run_pipeline
from tinymlir.references import Reference
from tinymlir.simulators import simulate
from tinymlir.targets import Target

Array = npt.NDArray[Any]

#: What one batch of tapped samples may take.
_BATCH_BYTES = 1 << 26


@dataclass(frozen=True)
class Point:
    """A tensor at which executions are compared: the result of a layer, or an output.

    ``tensor`` is its name in the model; None for what exists in the compiled network alone.
    """

    layer: str
    op: str
    tensor: str | None
    info: TensorInfo


@dataclass(frozen=True)
class Difference:
    """The first element that differs: which sample, where in the tensor, the two values."""

    sample: int
    index: tuple[int, ...]
    value: int | float
    expected: int | float


@dataclass
class Finding:
    """What comparing all samples at one point gave; ``elements`` is 0 where there was nothing."""

    point: Point
    shape: tuple[int, ...] = ()
    elements: int = 0
    differing: int = 0
    max_difference: int | float = 0
    first: Difference | None = None

    def add(self, samples: Array, expected: Array, start: int) -> None:
        """Compare a batch.

        Args:
            samples: of the network, (N, ...).
            expected: the same of the other execution, of the shape that is shown.
            start: the number of the first sample.

        Raises:
            TinymlirError: the tensors have different sizes.
        """
        if samples.size != expected.size:
            raise TinymlirError(
                f"has {samples[0].size} elements here and {expected[0].size} there",
                node=self.point.tensor or self.point.layer,
                hint="compare networks of the same architecture",
            )
        self.shape = expected.shape[1:]
        self.elements += expected.size
        samples = samples.reshape(expected.shape)
        exact = np.float64 if samples.dtype.kind == "f" else np.int64
        difference = np.abs(samples.astype(exact) - expected.astype(exact))
        wrong = np.flatnonzero(difference)
        if not wrong.size:
            return
        self.differing += int(wrong.size)
        self.max_difference = max(self.max_difference, difference.max().item())
        if self.first is None:
            sample, *index = (int(i) for i in np.unravel_index(wrong[0], expected.shape))
            values = samples.flat[wrong[0]].item(), expected.flat[wrong[0]].item()
            self.first = Difference(start + sample, tuple(index), *values)


@dataclass
class Comparison:
    """Layers in the order of execution, then outputs."""

    layers: list[Finding] = field(default_factory=list)
    outputs: list[Finding] = field(default_factory=list)

    @property
    def first(self) -> Finding | None:
        """The first layer, or else output, that differs."""
        return next((f for f in (*self.layers, *self.outputs) if f.differing), None)


#: Results of layers and outputs, samples first.
Batch = tuple[list[Array], list[Array]]


class Tapped:
    """A model compiled twice: as it is, and with the results of all layers as further outputs.

    ``layers`` and ``outputs`` are what can be compared. The outputs come from the network as it
    is, so a difference that only sharing memory makes is seen.
    """

    def __init__(self, model: Path, target: Target, simulator: str | None = None) -> None:
        """
        Raises:
            TinymlirError: the model cannot be compiled, or the target is not simulated.
        """
        self.target = target
        plain = compile_model(model, target)
        self._plain = _executable(plain, simulator)
        tapped, names = _compile_tapped(model, target)
        self._tapped = _executable(tapped, simulator)
        self.inputs = plain.inputs
        results = tapped.outputs[len(plain.outputs) :]
        layers = [layer for layer in tapped.layers if layer.op != TAP]
        self.layers = [
            Point(layer.name, layer.op, name, info)
            for layer, name, info in zip(layers, names, results, strict=True)
        ]
        self.outputs = [Point(info.name, "output", info.name, info) for info in plain.outputs]
        self._bytes_per_sample = sum(prod(point.info.shape) for point in self.layers)

    def __call__(self, inputs: Sequence[Int8Array]) -> Iterator[Batch]:
        """Results of layers and outputs, in the model's layout, batch by batch."""
        step = max(1, _BATCH_BYTES // max(1, self._bytes_per_sample))
        for start in range(0, len(inputs[0]), step):
            batch = [array[start : start + step] for array in inputs]
            taps = self._tapped(batch)[len(self.outputs) :]
            yield (
                _in_model_layout(taps, self.layers),
                _in_model_layout(self._plain(batch), self.outputs),
            )


def _in_model_layout(arrays: Sequence[Int8Array], points: Sequence[Point]) -> list[Array]:
    return [
        from_object(array, point.info).reshape(len(array), *point.info.model_shape)
        for array, point in zip(arrays, points, strict=True)
    ]


def _compile_tapped(model: Path, target: Target) -> tuple[Compilation, list[str | None]]:
    """The tapped network, and what the model calls the result of each layer."""
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = import_model(model, context)
        outputs = len(find_main(module.operation).type.results)
        run_pipeline(module, "builtin.module(tiny-outline-layers,tiny-tap-layers)")
        described = find_main(module.operation).operation.attributes["res_attrs"]
        names = [
            facts["tiny.name"].value if "tiny.name" in facts else None
            for facts in list(described)[outputs:]
        ]
        return lower_module(module, target, identifier(model.stem)), names


Executable = Callable[[Sequence[Int8Array]], list[Int8Array]]


def _executable(compilation: Compilation, simulator: str | None) -> Executable:
    """The network as a function of samples, on this machine or its target's simulator."""
    if not compilation.target.triple:
        host = HostModel(compilation)
        return lambda inputs: host(*inputs)
    code = generate(compilation.module, compilation.target)
    report = artifact.report(compilation, code, {})
    return lambda inputs: simulate(report, code.object, list(inputs), simulator).outputs


def against_reference(
    network: Tapped, batches: Iterable[Batch], reference: Reference, samples: Sequence[Array]
) -> Iterator[Comparison]:
    """Compare with an interpreter; the comparison so far, after each sample.

    Args:
        batches: what the network gave of the samples.
        samples: as the model takes them, samples first.

    Raises:
        TinymlirError: the interpreter cannot run the model, or has tensors of other sizes.
    """
    result = _empty(network)
    number = 0
    for layers, outputs in batches:
        for offset in range(len(outputs[0])):
            sample = [
                array[number].reshape(info.model_shape)
                for array, info in zip(samples, network.inputs, strict=True)
            ]
            answer = reference(sample)
            if len(answer.outputs) != len(outputs):
                raise TinymlirError(
                    f"the reference has {len(answer.outputs)} outputs, the network {len(outputs)}"
                )
            for finding, ours in zip(result.layers, layers, strict=True):
                theirs = answer.tensors.get(finding.point.tensor or "")
                if theirs is not None:
                    finding.add(ours[offset : offset + 1], theirs[np.newaxis], number)
            for finding, ours, theirs in zip(result.outputs, outputs, answer.outputs, strict=True):
                finding.add(ours[offset : offset + 1], theirs[np.newaxis], number)
            number += 1
            yield result


def against_network(
    network: Tapped, other: Tapped, inputs: Sequence[Int8Array]
) -> Iterator[Comparison]:
    """Compare with the same model on another machine; the comparison so far, after each batch."""
    result = _empty(network)
    number = 0
    for ours, theirs in zip(network(inputs), other(inputs), strict=True):
        for findings, left, right in zip(
            (result.layers, result.outputs), ours, theirs, strict=True
        ):
            for finding, a, b in zip(findings, left, right, strict=True):
                finding.add(a, b, number)
        number += len(ours[1][0])
        yield result


def _empty(network: Tapped) -> Comparison:
    return Comparison([Finding(p) for p in network.layers], [Finding(p) for p in network.outputs])
