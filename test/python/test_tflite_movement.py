"""TFLite operators that regroup, place, select and blend elements, against LiteRT's reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tflite_models import TfliteModel
from tflite_reference import (
    RNGS,
    SETTINGS,
    SHAPES,
    Rng,
    Shape,
    assert_equal,
    one_output,
    pairs,
    placed,
    ramp,
    random_int8,
)

pytest.importorskip("ai_edge_litert")


@SETTINGS
@given(rng=RNGS, shape=SHAPES)
def test_transpose(rng: Rng, shape: Shape) -> None:
    order = rng.permutation(len(shape)).tolist()
    placed("TRANSPOSE", shape, tuple(shape[d] for d in order), [order])


@SETTINGS
@given(rng=RNGS, shape=SHAPES, negative=st.booleans())
def test_views(rng: Rng, shape: Shape, negative: bool) -> None:
    """Dimensions of size one come and go, and the rest is cut in another way: no layer."""
    at, rank = int(rng.integers(len(shape) + 1)), len(shape)
    factors = sorted(rng.choice([1, 1, 2, 3], 3).tolist())
    count = math.prod(shape) * math.prod(factors)
    wide = (*shape[:-1], shape[-1] * math.prod(factors))
    cut = (*factors, count // math.prod(factors))
    expanded = (*wide[:at], 1, *wide[at:])
    model = TfliteModel()
    x, e, s, r, y = (model.activation(n, 0.1, 5) for n in (wide, expanded, wide, cut, cut))
    axis = model.constant(np.array(at - rank - 1 if negative else at, np.int32))
    model.op("EXPAND_DIMS", [x, axis], [e])
    place = at - rank - 1 if negative else at
    model.op("SQUEEZE", [e], [s], "SqueezeOptions", SqueezeDims=[place])
    given_cut = [-1 if negative and d == 3 else n for d, n in enumerate(cut)]
    shape_of = model.constant(np.array(given_cut, np.int32))
    model.op("RESHAPE", [s, shape_of], [r], "ReshapeOptions", NewShape=given_cut)
    model.op("RELU", [r], [y])
    model.inputs, model.outputs = [x], [y]
    host = assert_equal(model, [ramp(wide)])
    assert [layer.op for layer in host.compilation.layers] == ["clamp"]


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_slice(shape: Shape, data: st.DataObject) -> None:
    begin = [data.draw(st.integers(0, n - 1)) for n in shape]
    size = [data.draw(st.integers(1, n - b)) for n, b in zip(shape, begin, strict=True)]
    rest = [data.draw(st.booleans()) for _ in shape]
    result = [n - b if r else s for n, b, s, r in zip(shape, begin, size, rest, strict=True)]
    given_size = [-1 if r else s for s, r in zip(size, rest, strict=True)]
    placed("SLICE", shape, tuple(result), [begin, given_size])


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_strided_slice(shape: Shape, data: st.DataObject) -> None:
    rank = len(shape)
    masks = {name: data.draw(st.integers(0, 2**rank - 1)) for name in ("BeginMask", "EndMask")}
    shrink = data.draw(st.integers(0, 2**rank - 1))
    begin, end, stride, ranges = [], [], [], []
    for d, n in enumerate(shape):
        step = 1 if shrink >> d & 1 else data.draw(st.sampled_from([1, 2, 3, -1, -2]))
        first = data.draw(st.integers(0, n - 1))
        last = data.draw(st.integers(first + 1, n) if step > 0 else st.integers(-n - 1, -n + first))
        negative = data.draw(st.booleans())
        begin.append(first - n if negative else first)
        end.append(last)
        stride.append(step)
        known = slice(
            None if masks["BeginMask"] >> d & 1 else begin[-1],
            None if masks["EndMask"] >> d & 1 else last,
            step,
        )
        if shrink >> d & 1:
            first = known.indices(n)[0]
            ranges.append(range(first, first + 1))
        else:
            ranges.append(range(*known.indices(n)))
    result = [len(r) for d, r in enumerate(ranges) if not shrink >> d & 1]
    if 0 in result:
        return
    placed(
        "STRIDED_SLICE",
        shape,
        tuple(result),
        [begin, end, stride],
        "StridedSliceOptions",
        ShrinkAxisMask=shrink,
        **masks,
    )


@pytest.mark.parametrize(
    ("begin", "end", "result", "options"),
    [
        ([0, 1], [0, 3], (2, 3, 2), {"EllipsisMask": 1}),
        ([1, 0, 1], [2, 0, 3], (3, 2), {"EllipsisMask": 2, "ShrinkAxisMask": 1}),
        ([0, 0, 0, 1], [1, 0, 0, 3], (1, 3, 1, 2), {"EllipsisMask": 2, "NewAxisMask": 4}),
        ([0, 1, -2], [2, 1, 1], (2, 1, 1), {"Offset": True}),
        ([-1, -2, 1], [1, 2, 3], (1, 2, 3), {"Offset": True}),
    ],
)
def test_strided_slice_with_an_ellipsis_or_offsets(
    begin: list[int], end: list[int], result: Shape, options: dict[str, int]
) -> None:
    ones = [1] * len(begin)
    constants = [begin, end, ones]
    placed("STRIDED_SLICE", (2, 3, 4), result, constants, "StridedSliceOptions", **options)


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_pad(shape: Shape, data: st.DataObject) -> None:
    shape = shape[:4]
    amounts = [[data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))] for _ in shape]
    result = tuple(n + sum(a) for n, a in zip(shape, amounts, strict=True))
    placed("PAD", shape, result, [amounts])


def test_padv2_with_another_value() -> None:
    model = TfliteModel()
    x = model.activation((1, 2, 2, 1), 0.1, 5)
    amounts = model.constant(np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32))
    value = model.constant(np.array([-77], np.int8), 0.1, zero_point=5)
    one_output(model, "PADV2", [x, amounts, value], (1, 3, 4, 1))
    assert_equal(model, [ramp((1, 2, 2, 1))])


@SETTINGS
@given(
    size=pairs(1, 6),
    result=pairs(1, 13),
    variant=st.sampled_from([{}, {"AlignCorners": True}, {"HalfPixelCenters": True}]),
)
def test_resize_nearest_neighbor(
    size: tuple[int, int], result: tuple[int, int], variant: dict[str, bool]
) -> None:
    shape = (1, *size, 3)
    options = "ResizeNearestNeighborOptions"
    placed("RESIZE_NEAREST_NEIGHBOR", shape, (1, *result, 3), [list(result)], options, **variant)


@SETTINGS
@given(rng=RNGS, shape=SHAPES, parts=st.integers(1, 3))
def test_concatenation(rng: Rng, shape: Shape, parts: int) -> None:
    model, axis = TfliteModel(), int(rng.integers(len(shape)))
    operands, inputs, length = [], [], 0
    for part in range(parts):
        size = list(shape)
        size[axis] = int(rng.integers(1, 4))
        length += size[axis]
        values = random_int8(rng, tuple(size))
        if part == 1:
            operands.append(model.constant(values, 0.25, zero_point=-3))
        else:
            operands.append(model.activation(size, 0.25, -3))
            model.inputs.append(operands[-1])
            inputs.append(values)
    whole = list(shape)
    whole[axis] = length
    y = model.activation(whole, 0.25, -3)
    negative = axis - len(shape) if rng.integers(2) else axis
    model.op("CONCATENATION", operands, [y], "ConcatenationOptions", Axis=negative)
    model.outputs = [y]
    assert_equal(model, inputs)


@SETTINGS
@given(rng=RNGS, shape=SHAPES.filter(lambda s: len(s) < 5))
def test_split_and_unpack_and_pack(rng: Rng, shape: Shape) -> None:
    """Split in two, both halves unpacked, and everything packed in another order."""
    model, axis = TfliteModel(), int(rng.integers(len(shape)))
    whole = list(shape)
    whole[axis] *= 2
    x = model.activation(whole, 0.1, 5)
    halves = [model.activation(shape, 0.1, 5) for _ in range(2)]
    place = model.constant(np.array(axis, np.int32))
    model.op("SPLIT", [place, x], halves, "SplitOptions", NumSplits=2)
    left = [n for d, n in enumerate(shape) if d != axis]
    pieces = []
    for half in halves:
        made = [model.activation(left, 0.1, 5) for _ in range(shape[axis])]
        model.op("UNPACK", [half], made, "UnpackOptions", Num=shape[axis], Axis=axis)
        pieces += made
    order = rng.permutation(len(pieces)).tolist()
    at = int(rng.integers(len(left) + 1))
    packed = model.activation([*left[:at], len(order), *left[at:]], 0.1, 5)
    operands = [pieces[i] for i in order]
    model.op("PACK", operands, [packed], "PackOptions", ValuesCount=len(order), Axis=at)
    model.inputs, model.outputs = [x], [packed]
    assert_equal(model, [ramp(tuple(whole))])


def test_split_v() -> None:
    model = TfliteModel()
    x = model.activation((1, 7, 2), 0.1, 5)
    made = [model.activation((1, n, 2), 0.1, 5) for n in (2, 4, 1)]
    sizes = model.constant(np.array([2, -1, 1], np.int32))
    axis = model.constant(np.array(1, np.int32))
    model.op("SPLIT_V", [x, sizes, axis], made, "SplitVOptions", NumSplits=3)
    model.inputs, model.outputs = [x], made
    assert_equal(model, [ramp((1, 7, 2))])


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_reverse(shape: Shape, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    placed("REVERSE_V2", shape, shape, [[axis]])


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_tile(shape: Shape, data: st.DataObject) -> None:
    times = [data.draw(st.integers(1, 3)) for _ in shape]
    placed("TILE", shape, tuple(n * t for n, t in zip(shape, times, strict=True)), [times])


@SETTINGS
@given(shape=SHAPES, data=st.data())
def test_broadcast_to(shape: Shape, data: st.DataObject) -> None:
    old = [n if data.draw(st.booleans()) else 1 for n in shape]
    old = old[data.draw(st.integers(0, len(old) - 1)) :]
    placed("BROADCAST_TO", tuple(old), shape, [list(shape)])


@SETTINGS
@given(rng=RNGS, shape=SHAPES, rank=st.integers(0, 2))
def test_gather(rng: Rng, shape: Shape, rank: int) -> None:
    axis = int(rng.integers(len(shape)))
    taken = rng.integers(0, shape[axis], [int(n) for n in rng.integers(1, 4, rank)])
    result = (*shape[:axis], *taken.shape, *shape[axis + 1 :])
    placed("GATHER", shape, result, [taken.tolist()], "GatherOptions", Axis=axis)


@SETTINGS
@given(shape=SHAPES, mode=st.integers(0, 1), data=st.data())
def test_mirror_pad(shape: Shape, mode: int, data: st.DataObject) -> None:
    most = [n - 1 if mode == 0 else n for n in shape]
    amounts = [[data.draw(st.integers(0, m)) for _ in range(2)] for m in most]
    result = tuple(n + sum(a) for n, a in zip(shape, amounts, strict=True))
    placed("MIRROR_PAD", shape, result, [amounts], "MirrorPadOptions", Mode=mode)


@pytest.mark.parametrize("name", ["DEPTH_TO_SPACE", "SPACE_TO_DEPTH"])
@pytest.mark.parametrize("block", [2, 3])
def test_depth_and_space(name: str, block: int) -> None:
    wide, deep = (1, 2 * block, 4 * block, 3), (1, 2, 4, 3 * block * block)
    shapes = (deep, wide) if name == "DEPTH_TO_SPACE" else (wide, deep)
    options = f"{name.title().replace('_', '')}Options"
    placed(name, *shapes, [], options, BlockSize=block)


@SETTINGS
@given(
    rng=RNGS,
    size=pairs(1, 6),
    result=pairs(1, 13),
    variant=st.sampled_from([{}, {"AlignCorners": True}, {"HalfPixelCenters": True}]),
)
def test_resize_bilinear(
    rng: Rng, size: tuple[int, int], result: tuple[int, int], variant: dict[str, bool]
) -> None:
    model, shape = TfliteModel(), (1, *size, 3)
    x = model.activation(shape, 0.1, 5)
    wanted = model.constant(np.array(result, np.int32))
    options = "ResizeBilinearOptions"
    one_output(model, "RESIZE_BILINEAR", [x, wanted], (1, *result, 3), options, **variant)
    assert_equal(model, [random_int8(rng, shape)])
