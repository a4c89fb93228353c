"""TFLite models compiled, beside LiteRT's reference kernels."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tflite_models import TfliteModel

from tinymlir.arrays import from_object, to_object
from tinymlir.host import HostModel, compile_for_host

Array = npt.NDArray[Any]
Rng = np.random.Generator
Shape = tuple[int, ...]

#: The draws are the same in every run.
SETTINGS = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
RNGS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)


def compiled(model: TfliteModel | bytes) -> HostModel:
    data = model.build() if isinstance(model, TfliteModel) else model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(data)
        return compile_for_host(path)


def run(host: HostModel, inputs: list[Array]) -> list[Array]:
    """One sample, in the model's own layout and types; results likewise."""
    given = [
        to_object(array.reshape(1, *_sample(info.model_shape)), info)
        for array, info in zip(inputs, host.inputs, strict=True)
    ]
    results = host(*given)
    return [
        from_object(result, info).reshape(info.model_shape)
        for result, info in zip(results, host.outputs, strict=True)
    ]


def _sample(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if shape and shape[0] == 1 else shape


def reference(model: TfliteModel | bytes, inputs: list[Array]) -> list[Array]:
    """What LiteRT's reference kernels give."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    data = model.build() if isinstance(model, TfliteModel) else model
    session = interpreter.Interpreter(
        model_content=data,
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
    )
    session.allocate_tensors()
    for info, array in zip(session.get_input_details(), inputs, strict=True):
        session.set_tensor(info["index"], array)
    session.invoke()
    return [session.get_tensor(info["index"]) for info in session.get_output_details()]


def assert_equal(model: TfliteModel, inputs: list[Array]) -> HostModel:
    """The compiled model gives the reference's bytes."""
    data = model.build()
    wanted = reference(data, inputs)
    host = compiled(data)
    for got, want in zip(run(host, inputs), wanted, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.reshape(want.shape), want)
    return host


def random_int8(rng: Rng, shape: Shape) -> npt.NDArray[np.int8]:
    """Over the whole range, or over a part of it as activations mostly are."""
    whole = rng.integers(-128, 128, shape)
    if rng.integers(2):
        whole = whole // 8 + int(rng.integers(-110, 111))
    return np.clip(whole, -128, 127).astype(np.int8)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def scale(rng: Rng, low: float = -6.0, high: float = -1.0) -> float:
    return float(np.float32(np.exp(rng.uniform(low, high))))


def zero_point(rng: Rng) -> int:
    return [-128, 0, int(rng.integers(-128, 128))][int(rng.integers(3))]


def one_output(
    model: TfliteModel, name: str, operands: list[int], result: Shape, *options: Any, **fields: Any
) -> None:
    """An operator on the first operand, whose quantisation the result has as well."""
    quantization = model.quantization(operands[0])
    y = model.activation(result, *quantization)
    model.op(name, operands, [y], *options, **fields)
    model.inputs, model.outputs = [operands[0]], [y]


def ramp(shape: Shape) -> npt.NDArray[np.int8]:
    """Every element another, as far as int8 goes."""
    return (np.arange(math.prod(shape)) % 251 - 125).astype(np.int8).reshape(shape)


def placed(
    name: str, shape: Shape, result: Shape, constants: list[Any], *options: Any, **fields: Any
) -> HostModel:
    """An operator that only moves elements."""
    model = TfliteModel()
    x = model.activation(shape, 0.1, 5)
    operands = [model.constant(np.array(c, np.int32)) for c in constants]
    one_output(model, name, [x, *operands], result, *options, **fields)
    return assert_equal(model, [ramp(shape)])
