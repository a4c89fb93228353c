"""Samples in two parts: one to choose on, one to report on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.network import TensorInfo
from tinymlir.samples import check_range, for_object, read_samples

#: Samples of each part, at least.
LEAST_SAMPLES = 50
#: Samples that are fitted to, at most, of those to choose on, and their share of fewer.
_FITTING, _FITTING_SHARE = 1000, 0.4
PartName = Literal["fitting", "confirming", "reporting"]
#: Share of one file that is chosen on; the rest is reported on.
_CHOOSING = 0.7


@dataclass(frozen=True)
class Part:
    """Samples in the object's layout, one array per input, and labels where there are any."""

    inputs: list[npt.NDArray[np.int8]]
    labels: npt.NDArray[np.integer] | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def first(self, count: int) -> Part:
        return self.take(slice(count))

    def take(self, which: slice | npt.NDArray[np.intp]) -> Part:
        labels = None if self.labels is None else self.labels[which]
        return Part([array[which] for array in self.inputs], labels)


@dataclass(frozen=True)
class Data:
    """What is chosen on, what is reported on, and a hash of the files.

    Of what is chosen on, candidates are fitted to one part and promises shown on the other.
    """

    choosing: Part
    reporting: Part
    sha256: str

    def part(self, name: PartName) -> Part:
        known = {
            "fitting": self.fitting,
            "confirming": self.confirming,
            "reporting": self.reporting,
        }
        return known[name]

    @property
    def fitting(self) -> Part:
        return self.choosing.take(slice(self._fitted))

    @property
    def confirming(self) -> Part:
        return self.choosing.take(slice(self._fitted, None))

    @property
    def _fitted(self) -> int:
        return min(_FITTING, round(_FITTING_SHARE * len(self.choosing)))


def load_data(
    data: Path, test: Path | None, inputs: Sequence[TensorInfo], classes: int, seed: int
) -> Data:
    """Read and divide samples.

    Args:
        data: file of samples, and of labels ``y`` perhaps.
        test: file to report on; without, a part of ``data`` drawn by ``seed``.
        classes: elements of the network's output.

    Raises:
        TinymlirError: a file does not fit the network, labels are out of range or there are
            too few samples.
    """
    whole = _read(data, inputs, classes)
    digest = hashlib.sha256(data.read_bytes())
    order = np.random.default_rng(seed).permutation(len(whole))
    if test is None:
        cut = round(_CHOOSING * len(whole))
        choosing, reporting = whole.take(order[:cut]), whole.take(order[cut:])
    else:
        choosing, reporting = whole.take(order), _read(test, inputs, classes)
        digest.update(test.read_bytes())
    for part, file, least in (
        (choosing, data, round(LEAST_SAMPLES / _FITTING_SHARE)),
        (reporting, test or data, LEAST_SAMPLES),
    ):
        if len(part) < least:
            need = least if test else ceil(LEAST_SAMPLES / _FITTING_SHARE / _CHOOSING)
            raise TinymlirError(
                f"has {len(whole) if file == data else len(part)} samples",
                file=str(file),
                hint=f"give at least {need}",
            )
    if (choosing.labels is None) != (reporting.labels is None):
        raise TinymlirError(
            "has no labels 'y', the other file has",
            file=str(data if choosing.labels is None else test),
            hint="give labels for both, or for neither",
        )
    return Data(choosing, reporting, digest.hexdigest())


def _read(path: Path, inputs: Sequence[TensorInfo], classes: int) -> Part:
    given, labels = read_samples(path, [info.name for info in inputs])
    arrays = for_object(path, given, inputs)
    check_range(path, given, inputs)
    if labels is not None and (labels.min() < 0 or labels.max() >= classes):
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise TinymlirError(
            f"has the label {wrong}; the network has {classes} classes, 0 to {classes - 1}",
            file=str(path),
            hint="number classes as the network's scores",
        )
    return Part(arrays, labels)
