"""Pooling of blocks of channels, against NumPy: by words and by bytes."""

from __future__ import annotations

import numpy as np
import pytest
from networks import SAMPLES, Network, Window, lower_for_host
from onnx_models import ModelBuilder, Quant

from tinymlir.bindings import ir
from tinymlir.frontends.onnx import import_onnx
from tinymlir.host import HostModel
from tinymlir.targets import get_target


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "cortex-m0"])
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((6, 8, 4), Window((2, 2), (2, 2))),
        ((7, 7, 8), Window((3, 3), (2, 2))),
        ((7, 5, 21), Window((3, 2), (1, 3))),
        ((9, 9, 14), Window((3, 3), (2, 1), dilation=(2, 3))),
        ((6, 7, 20), Window((3, 3), (2, 2), pad=(1, 1, 1, 1))),
        ((5, 6, 5), Window((4, 4), pad=(3, 0, 1, 2), dilation=(2, 1))),
        # Windows wholly beside the image, and none without padding.
        ((2, 4, 5), Window((2, 3), pad=(3, 0, 2, 0))),
        ((2, 3, 4), Window((3, 3), pad=(1, 1, 1, 1))),
        # More taps than halfwords hold the sum of.
        ((19, 18, 9), Window((19, 17))),
        ((2, 300, 4), Window((1, 290))),
    ],
)
def test_pooling(shape: tuple[int, int, int], window: Window, target: str) -> None:
    network = Network(3)
    x = network.negate(network.input(1, *shape))
    results = [network.negate(network.pool(x, window, kind)) for kind in ("max", "sum")]
    model = HostModel(lower_for_host(network.text(*results), get_target(target)))
    for found, value in zip(model(*(v.array for v in network.inputs)), results, strict=True):
        assert np.array_equal(found, value.array)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0", "rv32imc_zve32x"])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 2]])
def test_means_of_float32_sums(pads: list[int], target: str) -> None:
    """Many are ties, and 21 channels are words, vectors and what is left over."""
    scale, zero_point, (rows, columns) = np.float32(0.0231), -30, (8, 10)
    b, quant = ModelBuilder(), Quant(float(scale), zero_point)
    x = b.dequantize(b.input([1, 21, rows, columns], "int8"), quant)
    y = b.node("AveragePool", [x], kernel_shape=[2, 3], strides=[2, 1], pads=pads)
    b.output(b.quantize(y, quant), "int8")
    module = import_onnx(b.model(), file="pool.onnx", context=ir.Context())
    model = HostModel(lower_for_host(str(module), get_target(target)))
    rng = np.random.default_rng(5)
    data = rng.integers(-128, 128, (SAMPLES, 1, rows, columns, 21)).astype(np.int8)
    padding = ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0))
    real = np.pad((data.astype(np.float32) - np.float32(zero_point)) * scale, padding)
    there = np.pad(np.ones(data.shape, np.float32), padding)
    heights, widths = (real.shape[2] - 2) // 2 + 1, real.shape[3] - 2
    total, count = (np.zeros((SAMPLES, 1, heights, widths, 21), np.float32) for _ in range(2))
    for row in range(2):
        for column in range(3):
            window = np.s_[:, :, row : row + 2 * heights - 1 : 2, column : column + widths]
            total, count = total + real[window], count + there[window]
    steps = total / count / scale + np.float32(zero_point)
    assert np.array_equal(model(data)[0], np.clip(np.rint(steps), -128, 127))
