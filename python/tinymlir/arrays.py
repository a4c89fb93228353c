"""Between the model's own arrays and the arrays of the object.

Users hold arrays in the model's layout and type, samples first; the object takes int8 in NHWC,
or float32 where it was compiled to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.errors import TinymlirError
from tinymlir.network import TensorInfo

Int8Array = npt.NDArray[np.int8]
#: Of the type that `TensorInfo.type` names.
ObjectArray = npt.NDArray[Any]
_TYPES = {"int8": np.int8, "uint8": np.uint8}


def sample_shape(info: TensorInfo) -> tuple[int, ...]:
    """Shape of one sample in the model's layout: the model's shape without a batch of 1."""
    shape = info.model_shape
    return shape[1:] if shape and shape[0] == 1 else shape


def to_object(array: npt.NDArray[np.generic], info: TensorInfo) -> ObjectArray:
    """The object's view of model arrays.

    Unsigned values are lowered by 128; float32 is quantised as the model itself does
    (`numerics.quantize_float32`), unless the object takes it as it is.

    Args:
        array: (N, *sample_shape(info)), of the model's type (any float where that is float32).

    Returns:
        (N, *info.shape)

    Raises:
        TinymlirError: another shape or type, or a value that is no number.
    """
    if info.model_type == "float32" and np.issubdtype(array.dtype, np.floating):
        real = array.astype(np.float32)
        values: npt.NDArray[np.generic] = real if info.type == "float32" else _quantise(real, info)
    elif array.dtype == _TYPES.get(info.model_type):
        values = _flip_sign(array) if info.model_type == "uint8" else array
    else:
        raise TinymlirError(
            f"is of type {array.dtype}; the model takes {info.model_type}",
            node=info.name,
            hint=_conversion(array, info),
        )
    if array.ndim == 0 or array.shape[1:] != sample_shape(info):
        expected = ", ".join(["N", *map(str, sample_shape(info))])
        transposed = sorted(array.shape[1:]) == sorted(sample_shape(info))
        raise TinymlirError(
            f"is of shape {array.shape}; the model takes ({expected}), samples first",
            node=info.name,
            hint="transpose its axes" if transposed else None,
        )
    shaped = values.reshape(-1, *info.model_shape)
    axes = [0, *(axis + 1 for axis in info.permutation)]
    return np.ascontiguousarray(np.transpose(shaped, axes), info.type).reshape(-1, *info.shape)


def from_object(array: ObjectArray, info: TensorInfo) -> npt.NDArray[np.generic]:
    """The model's view of what the object gave: the inverse of ``to_object``.

    Args:
        array: (N, *info.shape)

    Returns:
        (N, *sample_shape(info)), of the model's type.
    """
    permuted = [info.model_shape[axis] for axis in info.permutation]
    values = array.reshape(-1, *permuted)
    axes = [0, *(int(axis) + 1 for axis in np.argsort(info.permutation))]
    values = np.transpose(values, axes).reshape(-1, *sample_shape(info))
    if info.model_type == "uint8":
        return _flip_sign(values)
    if info.model_type == "float32" and info.type == "int8":
        # In float32, as DequantizeLinear does.
        return (values.astype(np.float32) - np.float32(info.zero_point)) * np.float32(info.scale)
    return np.ascontiguousarray(values)


def _conversion(array: npt.NDArray[np.generic], info: TensorInfo) -> str:
    """What to do about arrays of another type."""
    if info.model_type not in _TYPES or not np.issubdtype(array.dtype, np.floating):
        return f"convert it to {info.model_type}"
    zero_point = info.zero_point + (128 if info.model_type == "uint8" else 0)
    return f"quantise it: round(x / {info.scale:g}) + {zero_point}, as {info.model_type}"


def _quantise(array: npt.NDArray[np.float32], info: TensorInfo) -> Int8Array:
    if np.isnan(array).any():
        raise TinymlirError("has values that are not a number", node=info.name)
    return numerics.quantize_float32(array, np.float32(info.scale), info.zero_point, info.rounding)


def _flip_sign(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """uint8 to the int8 that is 128 less, or back: the same bits but the highest."""
    other = np.uint8 if array.dtype == np.int8 else np.int8
    flipped: npt.NDArray[np.generic] = np.ascontiguousarray(array).view(np.uint8) ^ np.uint8(0x80)
    return flipped.view(other)
