"""What ``run`` and ``profile`` share: the network to simulate, and the samples to feed it."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir import artifact
from tinymlir.arrays import to_object
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.network import TensorInfo
from tinymlir.simulators import SIMULATORS
from tinymlir.targets import get_target

Array = npt.NDArray[np.generic]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that both tools take."""
    parser.add_argument(
        "network",
        metavar="MODEL|DIR",
        help="a quantised network (ONNX, TFLite or MLIR), or what 'compile' wrote",
    )
    parser.add_argument(
        "--target", help="see 'tinymlir targets' (default: what DIR is for; cortex-m4 for a MODEL)"
    )
    parser.add_argument(
        "--simulator", choices=SIMULATORS, help="default: unicorn where it has the core, else qemu"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def load_network(path: Path, target_name: str | None) -> tuple[dict[str, Any], bytes]:
    """Report and object: of a directory as they are there, of a model by compiling it.

    Raises:
        TinymlirError: there is no such thing, it was compiled for another target, or it does not
            compile.
    """
    if path.is_dir():
        report, object_code = artifact.load(path)
        if target_name is not None and get_target(target_name).name != report["target"]:
            raise TinymlirError(
                f"is compiled for {report['target']}, not for {target_name}",
                file=str(path),
                hint=f"compile again with --target {target_name}",
            )
        if report["target"] == "host":
            raise TinymlirError(
                "is compiled for the host, which is not simulated",
                file=str(path),
                hint="run the model itself with --target host",
            )
        return report, object_code
    target = get_target(target_name or "cortex-m4")
    if target.memory is None:
        raise TinymlirError(f"target '{target.name}' is not simulated", node="--target")
    compilation = compile_model(path, target)
    code = generate(compilation.module, target)
    return artifact.report(compilation, code, {}), code.object


def inputs_of(report: dict[str, Any]) -> list[TensorInfo]:
    return [TensorInfo.from_json(tensor) for tensor in report["inputs"]]


def outputs_of(report: dict[str, Any]) -> list[TensorInfo]:
    return [TensorInfo.from_json(tensor) for tensor in report["outputs"]]


def load_samples(
    path: Path, inputs: list[TensorInfo], limit: int | None
) -> tuple[list[npt.NDArray[np.int8]], npt.NDArray[np.integer] | None]:
    """Read samples and, where the file has them, labels.

    Args:
        path: ``.npy`` with the only input, or ``.npz`` with ``x`` for the only input or one array
            per input by name, and perhaps labels ``y``, (N,).
        limit: take only so many samples.

    Returns:
        one array per input, (N, *shape), in the object's layout; labels or None.

    Raises:
        TinymlirError: there is no such file, or its arrays do not fit the network.
    """
    arrays = _load_arrays(path)
    chosen = [_choose(arrays, info.name, len(inputs)) for info in inputs]
    if any(array is None for array in chosen):
        expected = "'x'" if len(inputs) == 1 else ", ".join(f"'{info.name}'" for info in inputs)
        raise TinymlirError(
            f"has the arrays {', '.join(map(repr, arrays)) or 'none'}; expects {expected}",
            file=str(path),
        )
    try:
        converted = [
            to_object(array, info)
            for array, info in zip(chosen, inputs, strict=True)
            if array is not None
        ]
    except TinymlirError as error:
        error.file = str(path)
        raise
    labels = arrays.get("y")
    _check_lengths(path, converted, labels, limit)
    return (
        [array[:limit] for array in converted],
        None if labels is None else labels[:limit].astype(np.int64),
    )


def _load_arrays(path: Path) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise TinymlirError("there is no such file", file=str(path)) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        # An operating system's error says what is wrong; the others speak of pickles.
        reason = getattr(error, "strerror", None) or "is not a .npy or .npz file of plain arrays"
        raise TinymlirError(reason, file=str(path)) from None


def _choose(arrays: dict[str, Array], name: str, inputs: int) -> Array | None:
    only = arrays.get("x") if inputs == 1 else None
    return arrays.get(name, only)


def _check_lengths(
    path: Path, samples: list[npt.NDArray[np.int8]], labels: Array | None, limit: int | None
) -> None:
    count = len(samples[0])
    if any(len(array) != count for array in samples):
        lengths = ", ".join(str(len(array)) for array in samples)
        raise TinymlirError(f"has arrays of different lengths: {lengths}", file=str(path))
    if count == 0:
        raise TinymlirError("has no samples", file=str(path))
    if limit is not None and limit > count:
        raise TinymlirError(f"has {count} samples, fewer than --samples {limit}", file=str(path))
    fits = labels is None or (labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer))
    if labels is not None and not fits:
        raise TinymlirError(
            f"has labels 'y' of shape {labels.shape} and type {labels.dtype}; "
            f"expects one integer for each of {count} samples",
            file=str(path),
        )
