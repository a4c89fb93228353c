"""What a kernel is: one way to compute a convolution, row by row or as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import func, ir
from tinymlir.kernels.channel_tables import scalar_code
from tinymlir.kernels.columns import Columns, Span, widest
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import ConstantPool, Emitter, Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.late_steps import late_steps, stepped
from tinymlir.kernels.price import NO_WAIT, ConstantReads, Mix, Price, price
from tinymlir.kernels.rows import Rows
from tinymlir.simulators.flash import Flash
from tinymlir.targets import Target


@dataclass(frozen=True)
class Layer:
    """A layer function on its way to loops: its buffers, and where code and constants go.

    ``root`` is the layer's result, of which ``target`` holds rows; ``source`` holds rows of
    the convolution's input. ``arguments`` are those of the function, in whose place a
    helper function has its own (`within`).
    """

    function: func.FuncOp
    root: ir.Value
    evaluator: Evaluator
    source: Rows
    target: Rows
    rebind: Callable[[func.FuncOp], Layer]

    @property
    def emitter(self) -> Emitter:
        return self.evaluator.emitter

    @property
    def pool(self) -> ConstantPool:
        return self.evaluator.pool


class Kernel(ABC):
    """One way to compute a convolution.

    Made for one layer; `prepare` emits the functions that it calls, then either `whole`
    emits all rows, or `row` one segment of a row, at the current insertion point.
    """

    name: ClassVar[str]
    #: neighbours of a row computed together
    pixels: int = 1
    #: whether `row` is there; a kernel without goes through all rows in an order of its own
    by_rows: ClassVar[bool] = True
    #: whether `whole` goes from the first pixel to the last all the same
    in_order: ClassVar[bool] = False
    #: whether layers of one shape are the same code, but for their constants
    alike: ClassVar[bool] = True
    #: whether all that is read for pixels computed together is read before any of them is written
    gathers: bool = False
    #: whether it steps over late accumulators itself (`late_steps`), many sums at once
    steps_over: ClassVar[bool] = False

    def __init__(self, conv: Convolution, core: Target, **options: int) -> None:
        self.conv = stepped(conv) if self.steps_over else conv
        self.core, self.options = core, options

    @classmethod
    def variants(cls, conv: Convolution, core: Target) -> list[Kernel]:
        """The kernel with each set of options worth a price, the preferred one first."""
        return [cls(conv, core)]

    @property
    def label(self) -> str:
        """The name with the options, as ``im2col{unroll=4}``: what ``tiny.kernel`` says."""
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}{{{options}}}" if options else self.name

    @classmethod
    @abstractmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether the kernel computes ``conv``, and pays at all."""

    @abstractmethod
    def mix(self) -> Mix:
        """What `whole` and the helper functions are made of, and how often it runs.

        A description beside the schedule, loop by loop; what LLVM adds to it (spills, moves,
        address arithmetic) in round figures, read off its assembly. ``benchmarks/prices.py``
        compares it with what simulators count.
        """

    @abstractmethod
    def constant_bytes(self) -> int:
        """Bytes of flash that weights, biases and tables take."""

    def constant_reads(self) -> ConstantReads:
        """How constants are read: all of them for each block of pixels."""
        rows, columns = self.conv.out_hw
        size = self.constant_bytes()
        return ConstantReads(size, size, rows * -(-columns // self.pixels))

    def price(self, flash: Flash = NO_WAIT) -> Price:
        """What the layer costs on the core, code and constants coming from ``flash``."""
        mix = self.mix()
        return price(mix, self.constant_reads(), self.core, flash, self._code(mix))

    def _code(self, mix: Mix) -> Mapping[str, Mix]:
        """Code that other layers may have too, by names of it: all of it where they are `alike`."""
        if not self.alike:
            return {}
        conv = self.conv
        shape = f"{conv.in_hw} {conv.out_hw} {conv.stride} {conv.dilation} {conv.pad}"
        steps = "l" * (late_steps(conv) is not None)
        alike = f"{self.label}{steps} {conv.weights.shape} {shape} {scalar_code(conv)}"
        return {alike: mix, **self.shared_code()}

    def shared_code(self) -> Mapping[str, Mix]:
        """Functions that `mix` has run only, by names that those have which are one function.

        They are once in flash, whichever layers call them.
        """
        return {}

    def scratch_bytes(self) -> int:
        """Scratch memory that `whole` wants."""
        return 0

    def row_scratch_bytes(self, columns: int) -> int:
        """Scratch memory for `row` with so many columns at the most."""
        return self.scratch_bytes()

    def lean(self) -> Kernel:
        """The kernel in its form that wants the least scratch memory, fast or not."""
        return self

    def for_rows(self, spans: Sequence[Span], room: int) -> Kernel:
        """The kernel in its fastest form for a row of each of these spans of columns.

        It wants ``room`` bytes of scratch memory for them at the most, which do for `lean`.
        """
        return self if self.row_scratch_bytes(widest(spans)) <= room else self.lean()

    def row_price(self, spans: Sequence[Span]) -> Price | None:
        """What a row of each of these spans of columns costs together, where it is known."""
        return None

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        """MACs that the loops execute; for these output rows and columns, if not all."""
        height, width = self.conv.out_hw
        return self.conv.executed_macs(rows or range(height), columns or range(width))

    def works_in_place(self) -> bool:
        """Whether the output may begin where the input does, and replace it."""
        return False

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        """Emit helper functions, and note where to compute."""
        self.layer, self.scratch = layer, scratch

    def whole(self) -> None:
        """Emit the layer."""
        rows, columns = self.conv.out_hw
        everything = Columns.all(columns)
        self.layer.emitter.loop(0, rows, 1, lambda row: self.row(row, everything))

    @abstractmethod
    def row(self, row: Index, columns: Columns) -> None:
        """Emit these output columns of a row."""
