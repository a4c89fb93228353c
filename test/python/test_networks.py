"""Real networks on their data, where the folder beside the checkout has them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from simulated import needs_qemu

from tinymlir import artifact
from tinymlir.arrays import from_object, to_object
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.host import HostModel, compile_for_host
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

SHARED = Path(__file__).parents[3] / "shared"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared beside the checkout")


@dataclass(frozen=True)
class Network:
    """A trained network with labelled samples in the model's own layout."""

    file: str
    data: str
    macs: int
    #: for some targets: most bytes of arena, and most instructions per MAC
    limits: dict[str, tuple[int, float]]

    @property
    def model(self) -> Path:
        return SHARED / "models" / self.file

    def samples(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.integer]]:
        data = np.load(SHARED / "data" / self.data)
        if "x_test" in data:
            x, y = (data["x_test"].astype(np.int16) - 128).astype(np.int8), data["y_test"]
        else:
            x, y = data["x"], data["y"]
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y.reshape(-1)


NETWORKS = {
    "resnet8": Network(
        "resnet8_cifar10_int8.onnx",
        "cifar10_exact.npz",
        12_501_632,
        {
            "cortex-m4": (34_000, 1.7),
            "cortex-m55": (34_000, 0.17),
            "rv32imc_zve32x": (35_500, 0.16),
        },
    ),
    "dscnn": Network(
        "dscnn_kws_int8.onnx",
        "kws01.npz",
        2_656_768,
        {
            "cortex-m4": (10_400, 2.5),
            "cortex-m55": (10_400, 0.28),
            "rv32imc_zve32x": (10_800, 0.16),
        },
    ),
}


@functools.cache
def _on_this_machine(model: Path) -> HostModel:
    return compile_for_host(model)


def _onnx_runtime(network: Network, x: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(network.model))
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))])


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_accuracy_are_onnx_runtimes(name: str) -> None:
    network = NETWORKS[name]
    x, labels = network.samples()
    model = _on_this_machine(network.model)
    ours = from_object(model(to_object(x, model.inputs[0]))[0], model.outputs[0])
    reference = _onnx_runtime(network, x)
    difference = np.abs(ours.astype(int) - reference)
    assert (difference == 0).mean() >= 0.999
    assert difference.max() <= 1
    correct = [(outputs.argmax(axis=1) == labels).sum() for outputs in (ours, reference)]
    assert abs(correct[0] - correct[1]) <= 3


@pytest.mark.parametrize(
    "target",
    [
        "cortex-m4",
        *(pytest.param(t, marks=needs_qemu) for t in ("cortex-m55", "rv32imc_zve32x")),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_simulated_core_computes_the_same_within_its_means(name: str, target: str) -> None:
    network = NETWORKS[name]
    x = network.samples()[0][:2]
    host = _on_this_machine(network.model)
    given = to_object(x, host.inputs[0])
    compilation = compile_model(network.model, get_target(target))
    code = generate(compilation.module, compilation.target)
    report = artifact.report(compilation, code, {})
    run = simulate(report, code.object, [given])
    assert (run.outputs[0].reshape(2, -1) == host(given)[0].reshape(2, -1)).all()
    assert report["macs"] == network.macs
    arena_bytes, instructions_per_mac = network.limits[target]
    assert report["arena_bytes"] <= arena_bytes
    assert run.counts.total.instructions <= instructions_per_mac * network.macs
