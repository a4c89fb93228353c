"""Layers that only move bytes, against NumPy: by bytes, words and vectors."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Network, Value, lower_for_host, tensor

from tinymlir.host import HostModel
from tinymlir.targets import get_target


def _slice(network: Network, x: Value, start: tuple[int, ...], size: tuple[int, ...]) -> Value:
    name = network.op(
        f"tensor.extract_slice {x.name}{list(start)}{list(size)}{[1] * len(size)}"
        f" {network.layer('slice')} : {x.type} to {tensor(size)}"
    )
    box = (slice(None), *(slice(at, at + n) for at, n in zip(start, size, strict=True)))
    return Value(name, x.array[box])


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0", "cortex-m55", "rv32imc_zve32x"])
def test_copies(target: str) -> None:
    network = Network(4)
    x, y = network.input(1, 4, 5, 18), network.input(1, 4, 5, 7)
    results = [
        network.concat([x, y], 3),
        network.concat([x, x], 1),
        network.pad(x, (1, 0, 2, 3), -7, layer=True),
        network.pad(y, (2, 0, 1, 0), 9, layer=True),
        _slice(network, x, (0, 1, 2, 0), (1, 2, 3, 18)),
        _slice(network, x, (0, 1, 0, 3), (1, 3, 5, 14)),
    ]
    model = HostModel(lower_for_host(network.text(*results), get_target(target)))
    for found, value in zip(model(*(v.array for v in network.inputs)), results, strict=True):
        assert np.array_equal(found, value.array)
