"""Samples in three parts: to fit to, to confirm on and to report on."""

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
#: Samples that are fitted to, at most, of those to choose on, and their share of fewer, where no
#: file has others for it.
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

    def take(self, which: slice | npt.NDArray[np.intp]) -> Part:
        labels = None if self.labels is None else self.labels[which]
        return Part([array[which] for array in self.inputs], labels)


@dataclass(frozen=True)
class Data:
    """What candidates are fitted to, what promises are shown on, what is reported on.

    ``sha256`` is of the files.
    """

    fitting: Part
    confirming: Part
    reporting: Part
    sha256: str

    def part(self, name: PartName) -> Part:
        known = {
            "fitting": self.fitting,
            "confirming": self.confirming,
            "reporting": self.reporting,
        }
        return known[name]


@dataclass(frozen=True)
class Files:
    """Where samples are, and labels ``y`` perhaps.

    Without ``test``, a part of ``data`` is reported on; without ``fit``, a part of what is left is
    fitted to.
    """

    data: Path
    test: Path | None = None
    fit: Path | None = None


def load_data(files: Files, inputs: Sequence[TensorInfo], classes: int, seed: int) -> Data:
    """Read and divide samples; parts of one file are drawn by ``seed``.

    Args:
        classes: elements of the network's output.

    Raises:
        TinymlirError: a file does not fit the network, labels are out of range or there are
            too few samples.
    """
    whole, digest = _read(files.data, inputs, classes), hashlib.sha256(files.data.read_bytes())
    others = {}
    for use in ("test", "fit"):
        file = getattr(files, use)
        if file is not None:
            others[use] = _read(file, inputs, classes)
            digest.update(use.encode() + file.read_bytes())
    reported = 0.0 if "test" in others else 1 - _CHOOSING
    fitted = 0.0 if "fit" in others else (1 - reported) * _FITTING_SHARE
    shares = [share for share in (reported, fitted, 1 - reported - fitted) if share]
    _check_count(whole, files.data, ceil(LEAST_SAMPLES / min(shares)))
    drawn = whole.take(np.random.default_rng(seed).permutation(len(whole)))
    chosen = round((1 - reported) * len(whole))
    cut = min(_FITTING, round(fitted * len(whole)))
    for use, part in others.items():
        file = getattr(files, use)
        _check_count(part, file, LEAST_SAMPLES)
        if (part.labels is None) != (whole.labels is None):
            raise TinymlirError(
                "has no labels 'y', the other file has",
                file=str(file if part.labels is None else files.data),
                hint="give labels for all, or for none",
            )
    return Data(
        others.get("fit", drawn.take(slice(cut))),
        drawn.take(slice(cut, chosen)),
        others.get("test", drawn.take(slice(chosen, None))),
        digest.hexdigest(),
    )


def require_knowledge(part: Part, scores: npt.NDArray[np.int8], file: Path) -> None:
    """Raise a TinymlirError where the exact network is right by chance: it has nothing to lose.

    Args:
        scores: what it makes of ``part``, (N, classes).
        file: where that is from.
    """
    if part.labels is None:
        return
    right, chance = float((scores.argmax(-1) == part.labels).mean()), 1 / scores.shape[-1]
    if right <= chance:
        raise TinymlirError(
            f"the exact network is right on {right:.1%} of the samples, and by chance on "
            f"{chance:.1%}: there is no accuracy to lose",
            file=str(file),
            hint="number classes as the network's scores, and prepare samples as for its training",
        )


def _check_count(part: Part, file: Path, least: int) -> None:
    if len(part) < least:
        raise TinymlirError(
            f"has {len(part)} samples", file=str(file), hint=f"give at least {least}"
        )


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
