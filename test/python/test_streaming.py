"""Networks whose input arrives row by row, or lies in the arena: the same outputs, as planned."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from networks import Network, Value, Window
from test_fused_stages import blocks, fused

from tinymlir.compiler import compile_model, facts
from tinymlir.fusion.setting import InputMode
from tinymlir.host import HostModel
from tinymlir.pipelines import Fusion
from tinymlir.targets import get_target
from tinymlir.tools.main import main

SAME = (1, 1, 1, 1)
Make = Callable[[int], tuple[Network, Value]]


def segmentation(seed: int) -> tuple[Network, Value]:
    """The result is an image: its first rows are made long before the last ones arrive."""
    network = Network(seed)
    x = network.input(1, 11, 9, 2)
    y = network.conv(x, 4, Window((3, 3), pad=SAME), pad_value=-3)
    return network, network.conv(y, 3, Window((3, 3), pad=SAME), pad_value=4)


def classifier(seed: int) -> tuple[Network, Value]:
    """What follows the average over all rows is no image."""
    network = Network(seed)
    x = network.input(1, 12, 10, 3)
    y = network.conv(x, 8, Window((3, 3), (2, 2), pad=(0, 0, 1, 1)), pad_value=-3)
    y = network.conv(y, 8, Window((3, 3), pad=SAME), groups=8, pad_value=2)
    y = network.pool(y, Window((6, 5)), "max")
    return network, network.conv(y, 5, Window())


class Stream:
    """The entry points of a network compiled for this machine."""

    def __init__(self, model: HostModel) -> None:
        def function(name: str, *types: type) -> ctypes._CFunctionType:
            address = model._engine.get_function_address(f"{model.compilation.name}_{name}")
            return ctypes.CFUNCTYPE(ctypes.c_int, *types)(address)

        pointer = ctypes.c_void_p
        self._begin = function("begin", pointer)
        self._push = function("push_rows", pointer, pointer, ctypes.c_int)
        self._finish = function("finish", pointer, pointer)
        self._arena = np.full(model.compilation.arena_bytes, 0x5A, np.int8)
        (self._info,) = model.outputs

    def begin(self) -> None:
        assert self._begin(self._arena.ctypes.data) == 0

    def push(self, rows: np.ndarray) -> int:
        given = rows.copy()
        missing = self._push(self._arena.ctypes.data, given.ctypes.data, len(given))
        # They need not be kept.
        given[:] = 0x33
        return int(missing)

    def finish(self) -> tuple[int, np.ndarray]:
        output = np.full(self._info.shape, 77, np.int8)
        return self._finish(self._arena.ctypes.data, output.ctypes.data), output


@pytest.mark.parametrize("core", ["cortex-m4", "rv32imc"])
@pytest.mark.parametrize("make", [blocks, segmentation, classifier])
def test_rows_arrive_in_odd_chunks(make: Make, core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, result = make(6)
    text, image = network.text(result), network.inputs[0].array[0, 0]
    compilation = fused(text, get_target(core), Fusion(input="streamed"), monkeypatch)
    assert facts(compilation)["overhead"] == 1
    model = HostModel(compilation)
    assert (model(network.inputs[0].array)[0] == result.array).all()
    stream, height = Stream(model), len(image)
    for chunks in ([1] * height, [2, 0, 3, height - 6, 5], [height - 1, 5]):
        stream.begin()
        row = 0
        for count in chunks:
            missing, untouched = stream.finish()
            assert (missing, (untouched == 77).all()) == (height - row, True)
            taken = image[row : row + count]
            beyond = np.full((count - len(taken), *image.shape[1:]), 9, np.int8)
            row += len(taken)
            assert stream.push(np.concatenate([taken, beyond])) == height - row
        missing, output = stream.finish()
        assert missing == 0
        assert (output == result.array[0]).all()


@pytest.mark.parametrize("mode", ["in-arena", "streamed"])
@pytest.mark.parametrize("make", [blocks, segmentation, classifier])
def test_simulated_in_the_memory_that_is_planned(
    make: Make, mode: InputMode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, result = make(7)
    model, out = tmp_path / "net.mlir", str(tmp_path / "out")
    model.write_text(network.text(result))
    options = ["--input-mode", mode]
    assert main(["plan", str(model), *options, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["chosen"]
    assert main(["compile", str(model), "-o", out, *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["arena_bytes"], report["ram_bytes"]) == (
        planned["arena_bytes"],
        planned["ram_bytes"],
    )
    assert report["input_mode"] == mode
    np.savez(tmp_path / "data.npz", x=network.inputs[0].array[:, 0])
    command = [
        "run",
        out,
        "--input",
        str(tmp_path / "data.npz"),
        "--output",
        str(tmp_path / "y.npz"),
    ]
    assert main(command) == 0
    (given,) = np.load(tmp_path / "y.npz").values()
    assert (given == result.array[:, 0]).all()


def test_an_input_in_the_arena_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """All there is together is less than the arena and the input beside it."""
    network, result = blocks(8)
    core, arrays = get_target("cortex-m4"), [value.array for value in network.inputs]
    modes: tuple[InputMode, ...] = ("external", "in-arena")
    ram = []
    for mode in modes:
        fusion = Fusion(max_overhead=1.0, input=mode)
        compilation = fused(network.text(result), core, fusion, monkeypatch)
        ram.append(compilation.ram_bytes)
        (given,) = HostModel(compilation)(*arrays)
        assert (given == result.array).all()
    assert ram[1] < ram[0]


@pytest.mark.parametrize("mode", ["external", "in-arena", "streamed"])
def test_float_inputs_arrive_in_rows(mode: InputMode, example: Path) -> None:
    """A row is quantised when it is there; the frame is nowhere, as float32 or as bytes."""
    model = example / "surface_qdq.onnx"
    image = np.random.default_rng(0).normal(100, 60, (2, 64, 64, 1)).astype(np.float32)
    fusion = Fusion(input=mode, max_overhead=1.0)
    fused, alone = (
        compile_model(model, get_target("host"), float_io=True, fusion=each)
        for each in (fusion, None)
    )
    assert (HostModel(fused)(image)[0] == HostModel(alone)(image)[0]).all()
    if mode == "streamed":
        assert fused.arena_bytes < image[0].nbytes
