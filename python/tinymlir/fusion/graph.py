"""The network as the planner sees it: tensors, and layers that read windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinymlir.arena import APART

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """What output position o reads along one axis: ``extent`` positions from
    ``⌊stride·o / repeat⌋ − pad``. Positions beside the tensor are padding.
    """

    stride: int = 1
    pad: int = 0
    extent: int = 1
    repeat: int = 1

    def after(self, inner: Window) -> Window | None:
        """The window on a tensor of which ``inner`` makes what this one reads.

        None where that does not move evenly.
        """
        if ELEMENT in (self, inner):
            return inner if self == ELEMENT else self
        if max(self.repeat, inner.repeat) > 1:
            return None
        return Window(
            self.stride * inner.stride,
            self.pad * inner.stride + inner.pad,
            (self.extent - 1) * inner.stride + inner.extent,
        )

    def hull(self, other: Window) -> Window | None:
        """The window that covers both; None where they move apart."""
        if (self.stride, self.repeat) != (other.stride, other.repeat):
            return None
        pad = max(self.pad, other.pad)
        end = max(self.extent - self.pad, other.extent - other.pad)
        return Window(self.stride, pad, pad + end, self.repeat)

    def begin(self, low: Ints, size: int) -> Ints:
        """First position read for outputs from ``low`` on, of a tensor with ``size``."""
        return np.clip(low * self.stride // self.repeat - self.pad, 0, size - 1)

    def end(self, high: Ints, size: int) -> Ints:
        """Past the last position read for outputs up to ``high``, that one excluded."""
        last = (high - 1) * self.stride // self.repeat
        return np.clip(last - self.pad + self.extent, 1, size)


ELEMENT = Window()


@dataclass(frozen=True)
class Tensor:
    """An activation: ``rows`` × ``columns`` pixels of ``channels`` bytes."""

    rows: int
    columns: int
    channels: int

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * self.channels


@dataclass(frozen=True)
class Read:
    """How a layer reads a tensor.

    ``overlap`` is how many bytes above the layer's output the tensor must start for both to
    share memory where the layer runs by itself (`tinymlir.arena.APART`: not at all), and
    ``lean_overlap`` likewise by the kernel that wants the least work space. ``in_place`` is
    whether a row of the output may replace the row of the tensor that it is made of.
    """

    tensor: int
    rows: Window = ELEMENT
    columns: Window = ELEMENT
    overlap: int = APART
    in_place: bool = False
    lean_overlap: int = APART


@dataclass(frozen=True)
class Layer:
    """One layer of the network.

    Attributes:
        name: unique in the network; plans are written in names.
        op: its kind (docs/design.md).
        reads: its inputs.
        output: the tensor that it makes.
        macs: multiply-accumulates, padding included.
        scratch_bytes: work space where it runs by itself.
        lean_alone_bytes: likewise, by the kernel that wants the least; None where none wants less.
        row_scratch_bytes: work space where it runs row by row in a stage, for one column, for two
            and so on; for more of them the last.
        lean_scratch_bytes: likewise, by the kernel that wants the least.
        fusable: whether it can run row by row.
        accumulates: whether it reduces all rows to one, and can as they come (global pooling).
    """

    name: str
    op: str
    reads: tuple[Read, ...]
    output: int
    macs: int = 0
    scratch_bytes: int = 0
    lean_alone_bytes: int | None = None
    row_scratch_bytes: tuple[int, ...] = (0,)
    lean_scratch_bytes: tuple[int, ...] = (0,)
    fusable: bool = True
    accumulates: bool = False

    def alone(self, lean: bool) -> tuple[int, list[tuple[int, int]]]:
        """By itself: the bytes of its work space; of each input, how many bytes above the output
        it must start for both to share memory.
        """
        if lean and self.lean_alone_bytes is not None:
            return self.lean_alone_bytes, [(r.tensor, r.lean_overlap) for r in self.reads]
        return self.scratch_bytes, [(r.tensor, r.overlap) for r in self.reads]

    @property
    def elementwise(self) -> bool:
        return all(r.rows == ELEMENT == r.columns for r in self.reads)


@dataclass(frozen=True)
class Graph:
    """A network: layers in the order in which they run.

    ``inputs`` and ``outputs`` are those of the network, as places in ``tensors``.
    """

    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each tensor the layers that read it, in order."""
        found: list[list[int]] = [[] for _ in self.tensors]
        for position, layer in enumerate(self.layers):
            for tensor in sorted({read.tensor for read in layer.reads}):
                found[tensor].append(position)
        return tuple(map(tuple, found))

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """For each tensor the last layer that reads it; past the end for the network's outputs."""
        end = len(self.layers)
        return tuple(
            end if tensor in self.outputs else max(readers, default=-1)
            for tensor, readers in enumerate(self.readers)
        )

    @cached_property
    def birth(self) -> tuple[int, ...]:
        """For each tensor the layer that makes it; −1 for inputs of the network."""
        born = [-1] * len(self.tensors)
        for position, layer in enumerate(self.layers):
            born[layer.output] = position
        return tuple(born)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the network run layer by layer."""
        return sum(layer.macs for layer in self.layers)

    @property
    def output_bytes(self) -> int:
        return sum(self.tensors[t].bytes for t in self.outputs)

    @property
    def input_bytes(self) -> int:
        return sum(self.tensors[t].bytes for t in self.inputs)


def chain(source: Tensor, layers: Sequence[tuple[Layer, Tensor]]) -> Graph:
    """A network in which each layer reads the tensor before it, whatever its reads name."""
    tensors, placed = [source], []
    for position, (layer, tensor) in enumerate(layers):
        reads = tuple(replace(read, tensor=position) for read in layer.reads)
        placed.append(replace(layer, reads=reads, output=position + 1))
        tensors.append(tensor)
    return Graph(tuple(tensors), tuple(placed), (0,), (len(layers),))
