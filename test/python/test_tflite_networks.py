"""Real TFLite networks equal LiteRT's reference kernels on every output byte.

They come from the folder beside the checkout, where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinymlir import artifact
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.host import compile_for_host
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

SHARED = Path(__file__).parents[3] / "shared"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared beside the checkout")

#: Of a network's data; the same networks as ONNX run all of it.
SAMPLES = 300
#: The data of a network, or the number of random inputs.
NETWORKS: dict[str, str | int] = {
    "resnet8_cifar10_int8": "cifar10_exact.npz",
    "dscnn_kws_int8": "kws01.npz",
    "mcunet_vww5_int8": 25,
}


def path_of(name: str) -> Path:
    return SHARED / "models" / f"{name}.tflite"


def samples(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    source = NETWORKS[name]
    if isinstance(source, int):
        rng = np.random.default_rng(7)
        noise = rng.integers(-128, 128, (source, *shape[1:]))
        # Half of them dim, so that not all units are saturated.
        noise[::2] = noise[::2] // 8 + rng.integers(-110, 111, (len(noise[::2]), 1, 1, 1))
        return np.clip(noise, -128, 127).astype(np.int8)
    data = np.load(SHARED / "data" / source)
    if "x_test" in data:
        return (data["x_test"][:SAMPLES].astype(np.int16) - 128).astype(np.int8)
    return data["x"][:SAMPLES]


def litert(name: str, x: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    interpreter: Any = pytest.importorskip("ai_edge_litert.interpreter")
    session = interpreter.Interpreter(
        str(path_of(name)),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
    )
    session.allocate_tensors()
    given, result = (
        d[0]["index"] for d in (session.get_input_details(), session.get_output_details())
    )
    outputs = []
    for sample in x:
        session.set_tensor(given, sample[None])
        session.invoke()
        outputs.append(session.get_tensor(result))
    return np.concatenate(outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_output_equals_the_reference(name: str) -> None:
    host = compile_for_host(path_of(name))
    x = samples(name, host.inputs[0].shape)
    wanted = litert(name, x)
    np.testing.assert_array_equal(host(x)[0].reshape(wanted.shape), wanted)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *(("dscnn_kws_int8", t) for t in ("cortex-m0", "cortex-m4", "cortex-m55", "rv32imc")),
        ("resnet8_cifar10_int8", "cortex-m33"),
        # The whole sweep is benchmarks/equality.py.
    ],
)
def test_simulated_cores_give_the_same_bytes(name: str, target: str) -> None:
    compilation = compile_model(path_of(name), get_target(target))
    code = generate(compilation.module, compilation.target)
    report = artifact.report(compilation, code, {})
    x = samples(name, compilation.inputs[0].shape)[:3]
    result = simulate(report, code.object, [x]).outputs[0]
    wanted = litert(name, x)
    np.testing.assert_array_equal(result.reshape(wanted.shape), wanted)
