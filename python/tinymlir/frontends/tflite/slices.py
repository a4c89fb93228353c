"""What SLICE and STRIDED_SLICE select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Selection:
    """The indices selected in every dimension, and the shape under which the result goes.

    The shape has further dimensions of size one, and lacks those that a single index
    has used up.
    """

    ranges: tuple[range, ...]
    shape: tuple[int, ...]


def strided_slices(
    shape: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    options: dict[str, Any],
) -> Selection:
    """STRIDED_SLICE.

    Args:
        options: the masks, as `options.OPTIONS` names them.

    Raises:
        ValueError: the specification does not fit the shape.
    """
    if not len(begin) == len(end) == len(strides):
        raise ValueError("begin, end and strides differ in length")
    picked: list[range] = []
    result: list[int] = []
    for position in range(len(begin)):

        def given(mask: str, position: int = position) -> bool:
            return bool(options[mask] >> position & 1)

        if given("EllipsisMask"):
            # As many whole dimensions as the entries after it leave.
            later = range(position + 1, len(begin))
            entries = sum(not options["NewAxisMask"] >> p & 1 for p in later)
            if len(picked) >= len(shape) - entries:
                raise ValueError("an ellipsis stands for no dimension")
            for size in shape[len(picked) : len(shape) - entries]:
                picked.append(range(size))
                result.append(size)
            continue
        if given("NewAxisMask"):
            result.append(1)
            continue
        if len(picked) == len(shape):
            raise ValueError("begin has more entries than there are dimensions")
        size, stride = shape[len(picked)], strides[position]
        if stride == 0:
            raise ValueError("a stride is zero")
        if given("ShrinkAxisMask"):
            index = 0 if given("BeginMask") else begin[position]
            index = index + size if index < 0 else index
            if not 0 <= index < size:
                raise ValueError(f"index {begin[position]} is outside of a dimension of {size}")
            picked.append(range(index, index + 1))
            continue
        first = None if given("BeginMask") else begin[position]
        last = None if given("EndMask") else end[position]
        if last is not None and options["Offset"]:
            last += slice(first, None, stride).indices(size)[0]
        picked.append(range(*slice(first, last, stride).indices(size)))
        result.append(len(picked[-1]))
    for size in shape[len(picked) :]:
        picked.append(range(size))
        result.append(size)
    if 0 in result:
        raise ValueError("the result is empty")
    return Selection(tuple(picked), tuple(result))


def simple_slices(shape: Sequence[int], begin: Sequence[int], size: Sequence[int]) -> Selection:
    """SLICE: a size of -1 takes all that is left.

    Raises:
        ValueError: the specification does not fit the shape.
    """
    if not len(shape) == len(begin) == len(size):
        raise ValueError("begin and size do not fit the number of dimensions")
    sizes = [n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True)]
    for n, b, s in zip(shape, begin, sizes, strict=True):
        if b < 0 or s < 1 or b + s > n:
            raise ValueError(f"{s} elements from {b} do not fit a dimension of {n}")
    ranges = tuple(range(b, b + s) for b, s in zip(begin, sizes, strict=True))
    return Selection(ranges, tuple(sizes))
