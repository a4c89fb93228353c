"""Slices, splits, gathers, resizing and other movements against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx_cases import SAMPLES, SEEDS, agree, random_integers
from onnx_models import Agreement, ModelBuilder, Quant

pytest.importorskip("onnxruntime")

X = Quant(0.0471, 3)
Y = Quant(0.0623, -7)


def _compare(
    build: Callable[[ModelBuilder, str], str | list[str]],
    shape: tuple[int, ...],
    agreement: Agreement,
    *,
    seed: int = 1,
    y: Quant = Y,
    opset: int = 13,
) -> int:
    """The operator between a DequantizeLinear and a QuantizeLinear of another scale."""
    b = ModelBuilder()
    results = build(b, b.dequantize(b.input(shape, "int8"), X))
    for result in [results] if isinstance(results, str) else results:
        b.output(b.quantize(result, y), "int8")
    data = random_integers(seed, (SAMPLES, *shape))
    return agreement.add(b.model(opset), [data], integer=True)


def _equal(
    build: Callable[[ModelBuilder, str], str | list[str]], shape: tuple[int, ...], **options: Any
) -> None:
    agreement = Agreement()
    _compare(build, shape, agreement, **options)
    assert agreement.equal == agreement.total > 0


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDING = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def test_resize() -> None:
    drawn = st.tuples(
        st.sampled_from(COORDINATES),
        st.sampled_from(ROUNDING),
        st.tuples(st.integers(1, 7), st.integers(1, 7)),
        st.one_of(
            st.tuples(st.integers(1, 12), st.integers(1, 12)),
            st.tuples(st.floats(1.0, 3.5), st.sampled_from([1.0, 2.0, 3.0])),
        ),
        SEEDS,
    )

    def compare(case: Any, agreement: Agreement) -> int:
        coordinates, rounding, size, wanted, seed = case
        kind = "int64" if isinstance(wanted[0], int) else "float32"
        shape = (1, 3, *size)

        def build(b: ModelBuilder, x: str) -> str:
            target = b.constant([1, 3, *wanted] if kind == "int64" else [1, 1, *wanted], kind)
            inputs = [x, "", "", target] if kind == "int64" else [x, "", target]
            return b.node(
                "Resize",
                inputs,
                mode="nearest",
                coordinate_transformation_mode=coordinates,
                nearest_mode=rounding,
            )

        return _compare(build, shape, agreement, seed=seed)

    agree(drawn, compare, examples=25, least=1)


def test_slices() -> None:
    def bounds(size: int) -> st.SearchStrategy[tuple[int, int, int]]:
        def fits(bound: tuple[int, int, int]) -> bool:
            return len(range(size)[slice(*bound)]) > 0

        ends = st.integers(-size - 2, size + 2)
        return st.tuples(ends, ends, st.sampled_from([1, 2, -1, -3])).filter(fits)

    drawn = st.tuples(bounds(5), bounds(7), SEEDS)

    def compare(case: Any, agreement: Agreement) -> int:
        *limits, seed = case

        def build(b: ModelBuilder, x: str) -> str:
            starts, ends, steps = (
                b.constant(column, "int64") for column in zip(*limits, strict=True)
            )
            return b.node("Slice", [x, starts, ends, b.constant([1, -1], "int64"), steps])

        return _compare(build, (1, 5, 4, 7), agreement, seed=seed)

    agree(drawn, compare, examples=15, least=1)


@pytest.mark.parametrize("opset", [13, 18])
def test_splits(opset: int) -> None:
    def build(b: ModelBuilder, x: str) -> list[str]:
        first = b.node("Split", [x, b.constant([1, 4, 2], "int64")], outputs=3, axis=1)
        known: dict[str, Any] = {} if opset < 18 else {"num_outputs": 2}
        second = b.node("Split", [x], outputs=2, axis=-1, **known)
        number = [int(name.removeprefix("t")) for name in (first, second)]
        return [f"t{number[0] + i}" for i in range(3)] + [f"t{number[1] + i}" for i in range(2)]

    _equal(build, (1, 7, 3, 4), opset=opset)


@pytest.mark.parametrize(
    "indices", [np.int64(-2), [3, 0, 0, -1], [[0, 1], [4, 2]]], ids=["number", "list", "matrix"]
)
def test_gathers(indices: Any) -> None:
    _equal(lambda b, x: b.node("Gather", [x, b.constant(indices, "int64")], axis=1), (1, 5, 3, 4))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(mode: str) -> None:
    _equal(lambda b, x: b.node("DepthToSpace", [x], blocksize=2, mode=mode), (1, 8, 3, 5))
    _equal(lambda b, x: b.node("SpaceToDepth", [x], blocksize=2), (1, 3, 4, 6))


def test_repetition() -> None:
    _equal(lambda b, x: b.node("Tile", [x, b.constant([1, 2, 1, 3], "int64")]), (1, 2, 3, 4))
    shape = [1, 1, 2, 3, 4]
    _equal(lambda b, x: b.node("Expand", [x, b.constant(shape, "int64")]), (1, 2, 3, 1))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pads(mode: str) -> None:
    """On both sides, and with negative amounts, which crop."""
    for ends in ([0, 0, 1, 2, 0, 1, 2, 0], [0, 0, -1, 2, 0, 0, 2, -1]):
        pads = ends if mode == "constant" else [max(n, 0) for n in ends]

        def build(b: ModelBuilder, x: str, pads: list[int] = pads) -> str:
            return b.node("Pad", [x, b.constant(pads, "int64")], mode=mode)

        _equal(build, (1, 3, 4, 5), opset=19)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceSum", "ReduceMean"])
@pytest.mark.parametrize("axes", [[2, 3], [1], [-1, 1]], ids=str)
def test_reductions(op: str, axes: list[int]) -> None:
    y = Quant(0.3119, -7) if op == "ReduceSum" else Y

    def build(b: ModelBuilder, x: str) -> list[str]:
        operands = [x, b.constant(axes, "int64")]
        return [b.node(op, operands, keepdims=keep) for keep in (0, 1)]

    _equal(build, (1, 3, 4, 5), y=y, opset=18)


def test_a_movement_takes_the_scale_of_what_follows() -> None:
    """Without a QuantizeLinear between, the layer before it has the final scale."""

    def build(b: ModelBuilder, x: str) -> str:
        w = b.constant(np.random.default_rng(3).integers(-64, 64, (4, 3, 1, 1)).astype(np.int8))
        y = b.node("Conv", [x, b.dequantize(w, Quant(0.0113))])
        return b.node("DepthToSpace", [b.node("Relu", [y])], blocksize=2)

    _equal(build, (1, 3, 4, 4))
