"""Samples that passes run the network on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.network import read_interface
from tinymlir.samples import load_samples

from ._pass import PassFailure
from .tiny_outline_layers import find_main


def read_samples(
    module: ir.Operation, path: str, count: int | None = None
) -> list[npt.NDArray[np.int8]]:
    """One array per input, in the object's layout: the first ``count`` samples of a file.

    Raises:
        PassFailure: the file does not fit the network.
    """
    inputs, _ = read_interface(find_main(module))
    try:
        samples, _ = load_samples(Path(path), inputs, count)
    except TinymlirError as error:
        raise PassFailure(module.location, str(error)) from error
    return samples
