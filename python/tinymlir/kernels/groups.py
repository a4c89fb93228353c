"""Convolution in groups: each of them a dense convolution over a part of the channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tinymlir.bindings import ir
from tinymlir.kernels.columns import Columns, Span, with_rest
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.im2col_shared import Im2colShared
from tinymlir.kernels.kernel import Kernel, Layer
from tinymlir.kernels.price import ConstantReads, Mix, function
from tinymlir.kernels.swar import Swar
from tinymlir.kernels.swar_shared import SwarShared
from tinymlir.targets import Target


class Groups(Kernel):
    """Block by block of pixels, one group after the other, by a kernel of dense convolutions."""

    by_rows = False
    in_order = True
    kernel: ClassVar[type[Kernel]]

    def __init__(self, conv: Convolution, core: Target, **options: int) -> None:
        super().__init__(conv, core, **options)
        groups = range(self.conv.groups)
        self.parts = [self.kernel(self.conv.group(n), core, **options) for n in groups]
        self.pixels = self.parts[0].pixels

    @classmethod
    def takes(cls, conv: Convolution, core: Target) -> bool:
        """Whether the kernel takes each group."""
        groups = range(conv.groups) if conv.groups > 1 else ()
        return bool(groups) and all(cls.kernel.takes(conv.group(n), core) for n in groups)

    @classmethod
    def variants(cls, conv: Convolution, core: Target) -> list[Kernel]:
        of_one = cls.kernel.variants(conv.group(0), core)
        return [cls(conv, core, **kernel.options) for kernel in of_one]

    def constant_bytes(self) -> int:
        return sum(part.constant_bytes() for part in self.parts)

    def mix(self) -> Mix:
        return function(sum((part.mix() for part in self.parts), Mix()))

    def shared_code(self) -> Mapping[str, Mix]:
        return {key: mix for part in self.parts for key, mix in part.shared_code().items()}

    def constant_reads(self) -> ConstantReads:
        """Those of a group, for each block of its pixels."""
        one = self.parts[0].constant_reads()
        return ConstantReads(self.constant_bytes(), one.round_bytes, one.rounds * len(self.parts))

    def scratch_bytes(self) -> int:
        return max(part.scratch_bytes() for part in self.parts)

    def executed_macs(self, rows: range | None = None, columns: range | None = None) -> int:
        return sum(part.executed_macs(rows, columns) for part in self.parts)

    def prepare(self, layer: Layer, scratch: ir.Value | None) -> None:
        super().prepare(layer, scratch)
        for part in self.parts:
            part.prepare(layer, scratch)

    def row(self, row: Index, columns: Columns) -> None:
        emitter = self.layer.emitter

        def runs(first: int, last: int) -> dict[int, Span]:
            return with_rest(first, last, self.pixels)

        def block(column: Index, count: int) -> None:
            own = Columns(column, emitter.add(column, count), ((0, count),))
            for part in self.parts:
                part.row(row, own)

        columns.in_blocks(emitter, runs, block)


class Im2colGroups(Groups):
    """By functions that all groups have in common."""

    name = "im2col-groups"
    steps_over = True
    kernel = Im2colShared


class SwarGroups(Groups):
    """By two pixels in a word, on cores without SIMD."""

    name = "swar-groups"
    kernel = Swar


class SwarSharedGroups(Groups):
    """Pointwise, by functions that all groups have in common, on cores without SIMD."""

    name = "swar-shared-groups"
    kernel = SwarShared
