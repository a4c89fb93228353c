"""Compiles MLIR text and compares it with upstream's lowering of the same text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from upstream import Upstream

from tinymlir.arrays import from_object, sample_shape, to_object
from tinymlir.host import HostModel, compile_for_host


def compiled(text: str, folder: Path) -> HostModel:
    file = folder / "model.mlir"
    file.write_text(text)
    return compile_for_host(file)


def agrees(text: str, folder: Path, samples: int = 3) -> list[str]:
    """Assert that every output byte equals upstream's; the layers' kinds.

    Inputs are drawn at random over the whole range of their types.
    """
    model, reference = compiled(text, folder), Upstream(text)
    for seed in range(samples):
        arrays = reference.random(seed)
        stored = [
            to_object(a.view(info.model_type).reshape(1, *sample_shape(info)), info)
            for a, info in zip(arrays, model.inputs, strict=True)
        ]
        got = model(*stored)
        for wanted, result, info in zip(reference(*arrays), got, model.outputs, strict=True):
            given = from_object(result, info)[0].view(np.int8)
            np.testing.assert_array_equal(given.reshape(wanted.shape), wanted)
    return [layer.op for layer in model.compilation.layers]
