"""TFLite models compiled, beside LiteRT's reference kernels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from tflite_models import TfliteModel

from tinymlir.arrays import from_object, to_object
from tinymlir.host import HostModel, compile_for_host

Array = npt.NDArray[Any]

#: The draws are the same in every run.
SETTINGS = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


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


def random_int8(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """Over the whole range, or over a part of it as activations mostly are."""
    whole = rng.integers(-128, 128, shape)
    if rng.integers(2):
        whole = whole // 8 + int(rng.integers(-110, 111))
    return np.clip(whole, -128, 127).astype(np.int8)
