"""Samples and labels as users keep them: ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinymlir.arrays import ObjectArray, to_object
from tinymlir.errors import TinymlirError
from tinymlir.network import TensorInfo

#: Files may unpack to so much: a few bytes of them can stand for any number.
MAX_BYTES = 4 << 30
#: What arrays are called that are meant as labels; without ``y``, they would go unnoticed.
_LABELS = frozenset({"Y", "label", "labels", "target", "targets"})
#: Share of values beyond the range of an input from which on they are of another range.
_BEYOND = 0.25
#: Steps of an input that samples of its range span at least.
_LEAST_STEPS = 4

Array = npt.NDArray[np.generic]
Labels = npt.NDArray[np.integer]


def load_samples(
    path: Path, inputs: Sequence[TensorInfo], limit: int | None
) -> tuple[list[ObjectArray], Labels | None]:
    """Read samples for a network and, where the file has them, labels.

    Args:
        path: as for `read_samples`.
        limit: take only so many samples.

    Returns:
        one array per input, (N, *shape), in the object's layout; labels or None.

    Raises:
        TinymlirError: there is no such file, or its arrays do not fit the network.
    """
    arrays, labels = read_samples(path, [info.name for info in inputs])
    count = take(path, len(arrays[0]), limit)
    converted = for_object(path, arrays, inputs)
    return [array[:count] for array in converted], None if labels is None else labels[:count]


def take(path: Path, available: int, limit: int | None) -> int:
    """How many samples to take of those in a file; TinymlirError where there are not enough."""
    if limit is not None and limit > available:
        raise TinymlirError(
            f"has {available} samples, fewer than --samples {limit}", file=str(path)
        )
    return available if limit is None else limit


def for_object(
    path: Path, arrays: Sequence[Array], inputs: Sequence[TensorInfo]
) -> list[ObjectArray]:
    """`to_object` of each input; errors name the file."""
    try:
        return [to_object(array, info) for array, info in zip(arrays, inputs, strict=True)]
    except TinymlirError as error:
        error.file = str(path)
        raise


def check_range(path: Path, arrays: Sequence[Array], inputs: Sequence[TensorInfo]) -> None:
    """Raise a TinymlirError where samples are not of the range that the network was quantised for.

    Args:
        path: where they come from.
        arrays: as the model has them, one for each input. Those of integers are what they are.
    """
    for array, info in zip(arrays, inputs, strict=True):
        if not np.issubdtype(array.dtype, np.floating):
            continue
        low, high = (info.scale * (limit - info.zero_point) for limit in (-128, 127))
        real = array.astype(np.float32)
        least, most = float(real.min()), float(real.max())
        beyond = float(((real < low - info.scale) | (real > high + info.scale)).mean())
        narrow = 0 < most - least < _LEAST_STEPS * info.scale
        if beyond > _BEYOND or narrow or not np.isfinite([least, most]).all():
            cut = f", {beyond:.0%} of the values beyond" if beyond else ""
            raise TinymlirError(
                f"is from {least:g} to {most:g}{cut}; the model takes {low:g} to {high:g}",
                file=str(path),
                node=info.name,
                hint="prepare samples as those that the model was quantised with",
            )


def read_samples(path: Path, names: Sequence[str]) -> tuple[list[Array], Labels | None]:
    """Read samples and, where the file has them, labels.

    Args:
        path: ``.npy`` with the only input, or ``.npz`` with ``x`` for the only input or one array
            per input by name, and perhaps labels ``y``, (N,).
        names: of the inputs.

    Returns:
        one array per input, samples first, as the file has it; labels or None.

    Raises:
        TinymlirError: there is no such file, or its arrays are not that.
    """
    arrays = _load_arrays(path)
    only = arrays.get("x") if len(names) == 1 else None
    chosen = [array for name in names if (array := arrays.get(name, only)) is not None]
    if len(chosen) != len(names):
        expected = "'x'" if len(names) == 1 else ", ".join(f"'{name}'" for name in names)
        has = f"the arrays {', '.join(map(repr, arrays))}" if arrays else "no arrays"
        raise TinymlirError(
            f"has {has}; expects {expected}",
            file=str(path),
        )
    labels = arrays.get("y")
    misnamed = _LABELS.intersection(arrays).difference(names)
    if labels is None and misnamed:
        raise TinymlirError(
            f"has no labels 'y', but an array '{min(misnamed)}'",
            file=str(path),
            hint="name it 'y', or leave it out",
        )
    _check_lengths(path, chosen, labels)
    return chosen, None if labels is None else labels.astype(np.int64)


def _load_arrays(path: Path) -> dict[str, Array]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MAX_BYTES:
                raise TinymlirError(
                    f"unpacks to {size} bytes, more than {MAX_BYTES}",
                    file=str(path),
                    hint="give fewer samples",
                )
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            # What is no array of an archive is given as bytes.
            return {name: _array(loaded[name]) for name in loaded.files}
    except FileNotFoundError:
        raise TinymlirError("there is no such file", file=str(path)) from None
    except TinymlirError:
        raise
    except Exception as error:  # of damaged headers NumPy raises whatever it comes upon
        # An operating system's error says what is wrong; the others speak of pickles.
        reason = getattr(error, "strerror", None)
        if reason is not None:
            raise TinymlirError(reason, file=str(path)) from None
        raise TinymlirError(
            "is not a .npy or .npz file of plain arrays, or is damaged",
            file=str(path),
            hint="write it by numpy.savez, of arrays of numbers",
        ) from None


def _array(member: object) -> Array:
    if not isinstance(member, np.ndarray):
        raise ValueError("is no array")
    return member


def _check_lengths(path: Path, samples: Sequence[Array], labels: Array | None) -> None:
    if any(array.ndim == 0 for array in samples):
        raise TinymlirError("has a single number where samples are expected", file=str(path))
    count = len(samples[0])
    if any(len(array) != count for array in samples):
        lengths = ", ".join(str(len(array)) for array in samples)
        raise TinymlirError(f"has arrays of different lengths: {lengths}", file=str(path))
    if count == 0:
        raise TinymlirError("has no samples", file=str(path))
    fits = labels is None or (labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer))
    if labels is not None and not fits:
        raise TinymlirError(
            f"has labels 'y' of shape {labels.shape} and type {labels.dtype}; "
            f"expects one integer for each of {count} samples",
            file=str(path),
            hint="give the number of each sample's class, from 0 on",
        )
