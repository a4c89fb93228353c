"""``tiny-fit-requantize``: reference roundings as the one line that equals them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymlir import numerics
from tinymlir.bindings import func, ir
from tinymlir.dialects import tiny
from tinymlir.kernels.convolution import find_convolution, replace_constants
from tinymlir.kernels.late_steps import ALIKE, OTHER, STEPS, read_step_over
from tinymlir.kernels.requantization import read_requantization
from tinymlir.late_lines import NEVER, fit_late_line
from tinymlir.linalg_info import indexing_maps
from tinymlir.line_fit import Line, common_shift, fit_line, split_offsets
from tinymlir.numerics import IntArray

from ._float32 import ENOUGH_BITS, FAST_SHIFT
from ._late import step_over
from ._pass import Pass, register_pass
from ._tables import replace_by_tables

_WORD = 1 << 32
#: A shift that finds so few results near a tie that another place more would save nothing.
_RARE_TIES = FAST_SHIFT + 7
#: The greatest shift that finds so many that scaling accumulators up costs less.
_OFTEN_TIES = FAST_SHIFT + 4
#: Channels for each late accumulator. To step over one costs a block of four channels what its line
#: saves, about; and most channels have none.
_CHANNELS_PER_LATE = 5
_I32_RANGE = (np.array([numerics.I32_MIN]), np.array([numerics.I32_MAX]))


@register_pass
@dataclass(frozen=True)
class FitRequantize(Pass):
    """Replace tiny.requantize by tiny.rescale where that gives the same result everywhere

    A reference rounds its own way: twice, or as a float32 product. Over the accumulators
    that a layer can reach, that is a staircase, and mostly one line (a multiplier and an
    offset) has the very same steps. The fit is exact: a line is taken only if it is right on
    both sides of every step of every channel. The biases of a convolution are moved so that the
    offset is of whole words, mostly: then it needs no 64 bits. With ``late``, a line may be too low
    at a few accumulators, which are taken for the next ones first (tiny.step_over); requantisations
    that may be the same code, but have none, are marked ``tiny.steps``. Other layers keep their
    rounding; ``float32`` gets one shift for all channels, which makes it cheaper, and the places by
    which accumulators may be scaled up (``tiny.headroom``), which makes ties rarer; ``double`` is
    marked ``tiny.shrinks`` where all shifts exceed 31. Layers of one shape get one
    shift where that can be, so that they may be one function (tiny-merge-functions); and so do
    pointwise and 3x3 depthwise layers of any shape.

    Before::

        func.func private @layer0(%acc: tensor<4xi32>) -> tensor<4xi8>
            attributes {tiny.layer = "q"} {
          %m = arith.constant 1717986918 : i32
          %s = arith.constant 40 : i32
          %e = tensor.empty() : tensor<4xi8>
          %q = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>,
                 affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
                 ins(%acc : tensor<4xi32>) outs(%e : tensor<4xi8>) {
          ^bb0(%a: i32, %unused: i8):
            %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = 0 : i32,
                   max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<4xi8>
          return %q : tensor<4xi8>
        }

    After::

        func.func private @layer0(%acc: tensor<4xi32>) -> tensor<4xi8>
            attributes {tiny.layer = "q"} {
          ...
          %e = tensor.empty() : tensor<4xi8>
          %m = arith.constant 1717986919 : i32
          %offset = arith.constant 128 : i32
          %q = linalg.generic ... ins(%acc : tensor<4xi32>) outs(%e : tensor<4xi8>) {
          ^bb0(%a: i32, %unused: i8):
            %r = "tiny.rescale"(%a, %m, %offset) {max = 127 : i32, min = 0 : i32,
                   shift = 40 : i32} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<4xi8>
          return %q : tensor<4xi8>
        }
    """

    name: ClassVar[str] = "tiny-fit-requantize"
    #: whether lanes of 32 bits will compute it: then only offsets of whole words are lines
    lanes: bool = False
    #: whether lines may be late at a few accumulators, which are stepped over
    late: bool = False

    def run(self, op: ir.Operation) -> None:
        alike: dict[object, list[_Requantization]] = defaultdict(list)
        for child in op.regions[0].blocks[0].operations:
            if isinstance(child, func.FuncOp) and "tiny.layer" in child.operation.attributes:
                for found in _requantizations(child):
                    alike[found.shape()].append(found)
        families: dict[object, list[_Requantization]] = defaultdict(list)
        for group in alike.values():
            families[group[0].family()] += group
        families.pop(None, None)
        lines: list[ir.Operation] = []
        for shape, group in alike.items():
            shifts = [_least_shift(families.get(group[0].family(), [])), _least_shift(group)]
            made: list[ir.Operation] = []
            for found in group:
                with ir.InsertionPoint(found.generic), found.generic.location:
                    line = found.improve(
                        [shift for shift in shifts if shift is not None], self.lanes, self.late
                    )
                made += [] if line is None or shape is None else [line]
            _mark_steps(made, ALIKE)
            lines += made
        _mark_steps(lines, OTHER)


def _mark_steps(lines: list[ir.Operation], which: str) -> None:
    """Say of ``lines`` that some step over late accumulators, where they do not themselves."""
    late = [line for line in lines if read_step_over(line.operands[0].owner) is not None]
    for line in lines if late else []:
        if line not in late and STEPS not in line.attributes:
            line.attributes[STEPS] = ir.StringAttr.get(which)


def _least_shift(group: list[_Requantization]) -> int | None:
    """The shift that all of them can have, if there is one."""
    shifts = [shift for shift in (common_shift(found.scales()) for found in group) if shift]
    return min(shifts, default=None)


def _requantizations(layer: func.FuncOp) -> list[_Requantization]:
    children = [child.operation for child in layer.body.blocks[0].operations]
    found = [_read(child) for child in children if child.name == "linalg.generic"]
    return [requantization for requantization in found if requantization is not None]


@dataclass(frozen=True)
class _Requantization:
    """A linalg.generic whose body is one tiny.requantize of its first operand.

    ``multipliers`` and ``shifts`` have one element, or one for each channel; then
    ``channels`` is the map of the operands that hold them.
    """

    generic: ir.Operation
    requantize: ir.Operation
    multipliers: np.ndarray
    shifts: np.ndarray
    channels: ir.AffineMap | None

    def shape(self) -> object:
        """What layers have in common that may be the same code; None for no convolution."""
        conv = find_convolution(self.generic.results[0])
        if conv is None:
            return None
        return conv.weights.shape, conv.in_hw, conv.out_hw, conv.stride, conv.dilation, conv.pad

    def family(self) -> object:
        """What layers have in common that may be one function whatever their size; None for others.

        These are pointwise convolutions, and 3x3 depthwise ones.
        """
        conv = find_convolution(self.generic.results[0])
        if conv is None:
            return None
        if conv.kernel == (1, 1) and conv.groups == 1:
            return conv.kernel
        depthwise = conv.in_per_group == conv.out_per_group == 1 and conv.kernel == (3, 3)
        return conv.kernel if depthwise and conv.stride == (1, 1) else None

    def improve(self, shifts: list[int], lanes: bool, late: bool) -> ir.Operation | None:
        """Replace the op by a cheaper one that is equal, if there is one; returns what is a line.

        With the first of the ``shifts``, which layers have in common, that it can have, rather
        than with its own. ``lanes`` and ``late`` are the pass's.
        """
        mode = self.requantize.attributes["rounding"].value
        if mode == "nearest_up" and self.multipliers.size == 1:
            return None
        low, high = self._accumulators()
        own = common_shift(self.scales())
        tried = dict.fromkeys(own if own is None else min(own, shift) for shift in [*shifts, 99])
        lines = (self._line(mode, low, high, shift) for shift in tried)
        line = next((line for line in lines if line is not None), None)
        steps: IntArray | None = None
        if line is None and late and own is not None and self._may_be_late():
            fits = (self._late_line(mode, low, high, shift) for shift in tried if shift is not None)
            line, steps = next((fit for fit in fits if fit is not None), (None, None))
        split = None if line is None else self._whole_words(line, low, high)
        if line is not None and (split is not None or not lanes):
            offsets = line.offsets if split is None else split[1]
            if steps is not None and self.channels is not None:
                if split is not None:
                    steps = np.where(steps == NEVER, NEVER, steps + split[0])
                steps = steps.astype(np.int32)
                shape = self.multipliers.shape
                step_over(self.generic, self.channels, steps.reshape(-1, *shape))
            multipliers = line.multipliers.astype(np.int32)
            return self._replace([multipliers, offsets], self._rescale(line.shift))
        if mode == "double" and self.shifts.min() > 31:
            self.requantize.attributes["tiny.shrinks"] = ir.UnitAttr.get()
        elif mode == "float32":
            shift = shifts[-1] if shifts else None
            # Each place of the shift halves the share of what seems near a tie.
            # Others' may be more than it can have where it can have none.
            common = own if own is None or shift is None or shift < _RARE_TIES else shift
            # Below, accumulators are scaled up, which takes multipliers of 31 bits each.
            if common is None or common < FAST_SHIFT:
                return None
            table = np.ldexp(self.scales(), common)
            if (table == np.rint(table)).all():
                places = self._headroom(low, high, common)
                if places > 0:
                    kind = ir.IntegerType.get_signless(32)
                    self.requantize.attributes["tiny.headroom"] = ir.IntegerAttr.get(kind, places)
                tables = [table.astype(np.int32), np.full(len(table), common, np.int32)]
                self._replace(tables, self._requantize)
        return None

    def _headroom(self, low: IntArray, high: IntArray, shift: int) -> int:
        """Places by which to scale accumulators up, so that few results seem near a tie.

        Only those of depthwise convolutions: others wait in registers, many at a time, which leave
        none for the greater offset.
        """
        conv = find_convolution(self.generic.results[0])
        if conv is None or conv.groups == 1 or shift > _OFTEN_TIES:
            return 0
        most = max(int(np.abs(low).max()), int(np.abs(high).max()))
        return min(31 - most.bit_length(), 32 + ENOUGH_BITS - shift)

    def scales(self) -> np.ndarray:
        m, s = (a.reshape(-1) for a in (self.multipliers, self.shifts))
        return np.ldexp(m.astype(np.float64), -s)

    def _accumulators(self) -> tuple[IntArray, IntArray]:
        """Least and greatest accumulator, for each channel or for all."""
        low, high = _accumulators(self.generic)
        if len(low) != self.multipliers.size:
            return low.min(keepdims=True), high.max(keepdims=True)
        return low, high

    def _limits(self) -> tuple[int, int]:
        least, most = (self.requantize.attributes[name].value for name in ("min", "max"))
        return least, most

    def _line(
        self, mode: str, low: IntArray, high: IntArray, shift: int | None = None
    ) -> Line | None:
        """The line with the reference's steps over the accumulators ``low..high``."""
        results = self.requantize.attributes["zero_point"].value, *self._limits()
        return fit_line(self.scales(), self._reference(mode), low, high, results, shift)

    def _reference(self, mode: str) -> Callable[[IntArray], IntArray]:
        """From accumulators, channels x any, to results."""
        zero_point, limits = self.requantize.attributes["zero_point"].value, self._limits()
        m, s = (a.reshape(-1, 1).astype(np.int64) for a in (self.multipliers, self.shifts))
        return lambda acc: np.clip(numerics.scaled(acc, m, s, mode) + zero_point, *limits)

    def _may_be_late(self) -> bool:
        """Whether accumulators are those of a convolution, and channels have lines of their own."""
        maps = indexing_maps(self.generic)
        conv = find_convolution(self.generic.results[0])
        return conv is not None and self.multipliers.size > 1 and maps[0] == maps[-1]

    def _late_line(
        self, mode: str, low: IntArray, high: IntArray, shift: int
    ) -> tuple[Line, IntArray] | None:
        """A line that is late at a few accumulators, and these; None if they are not few."""
        most = self.multipliers.size // _CHANNELS_PER_LATE
        if not most:
            return None
        reference, limits = self._reference(mode), self._limits()
        return fit_late_line(self.scales(), reference, low, high, limits, shift, most)

    def _whole_words(
        self, line: Line, low: IntArray, high: IntArray
    ) -> tuple[IntArray, IntArray] | None:
        """Offsets in whole words, i32, the rest of them in the biases of the convolution.

        And by how much these have moved. None, and nothing changed, where that is no convolution
        or has no such biases.
        """
        if not (line.offsets % _WORD).any():
            return np.zeros_like(line.offsets), (line.offsets // _WORD).astype(np.int32)
        split = split_offsets(line, low, high, self._limits())
        if split is None or not _move_biases(self.generic, split[0]):
            return None
        return split[0], split[1].astype(np.int32)

    def _rescale(self, places: int) -> Callable[..., ir.Value]:
        shift = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), places)
        least, most = (self.requantize.attributes[name] for name in ("min", "max"))

        def make(acc: ir.Value, multiplier: ir.Value, offset: ir.Value) -> ir.Value:
            return tiny.RescaleOp(acc, multiplier, offset, shift=shift, min=least, max=most).res

        return make

    def _requantize(self, acc: ir.Value, multiplier: ir.Value, shift: ir.Value) -> ir.Value:
        attributes = self.requantize.attributes
        same = {name: attributes[name] for name in ("zero_point", "min", "max", "rounding")}
        made = tiny.RequantizeOp(acc, multiplier, shift, **same)
        if "tiny.headroom" in attributes:
            made.operation.attributes["tiny.headroom"] = attributes["tiny.headroom"]
        return made.res

    def _replace(self, tables: list[np.ndarray], make: Callable[..., ir.Value]) -> ir.Operation:
        """Put a generic in the op's place that applies ``make`` to accumulator and ``tables``."""
        shape = self.multipliers.shape
        shaped = [table.reshape(shape) for table in tables]
        return replace_by_tables(self.generic, self.channels, shaped, make)


def _read(generic: ir.Operation) -> _Requantization | None:
    """What ``generic`` requantises; None where its body does more than that."""
    found = read_requantization(generic)
    if found is None or found.op.name != "tiny.requantize":
        return None
    try:
        multipliers, shifts = np.broadcast_arrays(*found.constants)
    except ValueError:
        return None
    return _Requantization(generic, found.op, multipliers, shifts, found.channels)


def _accumulators(generic: ir.Operation) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest accumulator, for each channel of a convolution; else of an i32."""
    convolution = find_convolution(generic.results[0])
    if convolution is None:
        return _I32_RANGE
    outputs = len(convolution.bias)
    return numerics.accumulator_range(convolution.weights.reshape(outputs, -1), convolution.bias)


def _move_biases(generic: ir.Operation, more: IntArray) -> bool:
    """Add ``more`` to the biases of what ``generic`` requantises; whether that has any."""
    convolution = find_convolution(generic.results[0], by_rows=True)
    if convolution is None:
        return False
    biases = (convolution.bias + more).astype(np.int32)
    replace_constants(convolution, convolution.weights, biases)
    return True
