"""What a pooling of bytes is, and how a layer's is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tinymlir.bindings import ir
from tinymlir.kernels.emitter import Emitter, Index
from tinymlir.linalg_info import constant_scalar, dense_ints, indexing_maps, pad_value

#: Taps of a window without a loop between them.
_MOST_UNROLLED = 9
MAX, _SUM = "linalg.pooling_nhwc_max", "linalg.pooling_nhwc_sum"
#: First and last of a range.
Range: TypeAlias = tuple[Index, Index]


@dataclass(frozen=True)
class Pooling:
    """A pooling of bytes of a layer's input, one image, channels last.

    ``pad`` are the rows above and the columns to the left that are not there; all that is not
    there is ``padding``.
    """

    op: ir.Operation
    source: ir.BlockArgument
    pad: tuple[int, int]
    padding: int

    @property
    def result(self) -> ir.Value:
        return self.op.results[0]

    @property
    def in_shape(self) -> tuple[int, int, int]:
        _, rows, columns, channels = self.source.type.shape
        return rows, columns, channels

    @property
    def kernel(self) -> tuple[int, int]:
        rows, columns = self.op.operands[1].type.shape
        return rows, columns

    def pair(self, name: str) -> tuple[int, int]:
        """Strides or dilations."""
        given = dense_ints(self.op.attributes[name]) if name in self.op.attributes else [1, 1]
        return given[0], given[1]

    @property
    def padded(self) -> bool:
        return bool(self.op.operands[0] != self.source)

    @property
    def unrolled(self) -> bool:
        """Whether there are so few taps that they need no loop."""
        return self.kernel[0] * self.kernel[1] <= _MOST_UNROLLED

    def interior(self, axis: int) -> range:
        """The outputs whose windows do not reach into padding."""
        reach = (self.kernel[axis] - 1) * self.pair("dilations")[axis]
        stride, pad = self.pair("strides")[axis], self.pad[axis]
        last = (self.in_shape[axis] - 1 - reach + pad) // stride
        return range(-(-pad // stride), min(last + 1, self.result.type.shape[1 + axis]))

    def taps(self, emitter: Emitter, axis: int, at: Index, inside: bool) -> tuple[Index, Range]:
        """Where the window of output ``at`` begins in the input, and its taps that are there.

        That is all of them where the output is known to be in the interior.
        """
        size, kernel, step = self.in_shape[axis], self.kernel[axis], self.pair("dilations")[axis]
        start = emitter.sub(emitter.mul(at, self.pair("strides")[axis]), self.pad[axis])
        if inside or self.op.operands[0].type.shape[1 + axis] == size:
            return start, (0, kernel)
        missing = emitter.maximum(emitter.sub(0, start), 0)
        left = emitter.maximum(emitter.sub(size, start), 0)
        first = emitter.ceildiv(missing, step)
        last = emitter.minimum(emitter.ceildiv(left, step), kernel)
        # A window wholly beside the image has no taps.
        return start, (first, emitter.maximum(first, last))


def find_pooling(root: ir.Value) -> Pooling | None:
    """The pooling whose maxima are ``root``, or whose sums are scaled to ``root`` in place."""
    op = root.owner.operation
    if op.name == MAX:
        return _read(op)
    if op.name != "linalg.generic" or root.type.rank != 4:
        return None
    identity = ir.AffineMap.get_identity(4)
    for value, place in zip(list(op.operands)[:-1], indexing_maps(op)[:-1], strict=True):
        if isinstance(value, ir.BlockArgument) or value.owner.operation.name != _SUM:
            continue
        pooling = _read(value.owner.operation)
        if pooling is not None and place == identity and value.type.shape == root.type.shape:
            return pooling
    return None


def _read(op: ir.Operation) -> Pooling | None:
    """``op``, if it pools bytes, and maxima begin with the least one, as padding does."""
    source, _, init = op.operands
    pad, padding = (0, 0), -128
    if not isinstance(source, ir.BlockArgument) and source.owner.operation.name == "tensor.pad":
        around = source.owner.operation
        low, high = (list(around.attributes[f"static_{end}"]) for end in ("low", "high"))
        value = constant_scalar(pad_value(around))
        if low[0] or low[3] or high[0] or high[3] or value is None or min(*low, *high) < 0:
            return None
        source, pad, padding = around.operands[0], (low[1], low[2]), value
    if not isinstance(source, ir.BlockArgument) or source.type.shape[0] != 1:
        return None
    if str(source.type.element_type) != "i8" or isinstance(init, ir.BlockArgument):
        return None
    start = init.owner.operation
    if op.name == MAX and (padding, _filled_with(start)) != (-128, -128):
        return None
    return Pooling(op, source, pad, padding)


def _filled_with(op: ir.Operation) -> int | None:
    return constant_scalar(op.operands[0]) if op.name == "linalg.fill" else None
