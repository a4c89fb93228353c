"""Samples that passes run the network on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinymlir import samples
from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.network import read_interface

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
        given, _ = samples.read_samples(Path(path), [info.name for info in inputs])
        samples.check_range(Path(path), given, inputs)
        first = samples.take(Path(path), len(given[0]), count)
        return [a[:first] for a in samples.for_object(Path(path), given, inputs)]
    except TinymlirError as error:
        raise PassFailure(module.location, str(error)) from error
