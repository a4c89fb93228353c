"""What the outside must know of a network: its inputs and outputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from tinymlir.bindings import func, ir


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the network.

    ``shape`` and ``type`` (``int8`` or ``float32``; ``int32`` of sums) are those of the object's
    tensor (NHWC); ``model_shape`` and ``model_type`` are the model's own.
    ``numpy.transpose(model_array, permutation)`` has the object's layout. ``rounding``
    is what ties do where the model quantises a float32 input
    (`numerics.quantize_float32`). ``arena_offset`` is where an input in the arena begins.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    model_type: str
    model_shape: tuple[int, ...]
    permutation: tuple[int, ...]
    type: str = "int8"
    rounding: str = "nearest_even"
    arena_offset: int | None = None

    @property
    def bytes(self) -> int:
        return prod(self.shape) * np.dtype(self.type).itemsize

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "bytes": self.bytes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TensorInfo:
        return cls(
            name=data["name"],
            shape=tuple(data["shape"]),
            scale=data["scale"],
            zero_point=data["zero_point"],
            model_type=data["model_type"],
            model_shape=tuple(data["model_shape"]),
            permutation=tuple(data["permutation"]),
            type=data["type"],
            rounding=data["rounding"],
            arena_offset=data.get("arena_offset"),
        )


def _read(kind: ir.Type, attributes: ir.DictAttr | None, default_name: str) -> TensorInfo:
    known = {} if attributes is None else {named.name: named.attr for named in attributes}
    shape, element = tuple(kind.shape), kind.element_type

    def get(key: str, default: Any) -> Any:
        attribute = known.get(f"tiny.{key}")
        return default if attribute is None else attribute.value

    def array(key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        attribute = known.get(f"tiny.{key}")
        return default if attribute is None else tuple(attribute)

    return TensorInfo(
        name=get("name", default_name),
        shape=shape,
        scale=get("scale", 1.0),
        zero_point=get("zero_point", 0),
        model_type=get("model_type", "int8"),
        model_shape=array("model_shape", shape),
        permutation=array("permutation", tuple(range(len(shape)))),
        type="float32" if isinstance(element, ir.F32Type) else f"int{element.width}",
        rounding=get("rounding", "nearest_even"),
    )


def read_interface(main: func.FuncOp) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of ``@main`` in canonical form (docs/design.md)."""
    attributes = main.operation.attributes

    def each(types: list[ir.Type], key: str, word: str) -> tuple[TensorInfo, ...]:
        given = list(attributes[key]) if key in attributes else [None] * len(types)
        return tuple(
            _read(kind, info, f"{word}{i}" if len(types) > 1 else word)
            for i, (kind, info) in enumerate(zip(types, given, strict=True))
        )

    return (
        each(list(main.type.inputs), "arg_attrs", "input"),
        each(list(main.type.results), "res_attrs", "output"),
    )
