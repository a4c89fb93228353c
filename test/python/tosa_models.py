"""Small int8 TOSA modules, built operation by operation as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Multipliers = Sequence[int]


def tensor_type(shape: Sequence[int], element: str) -> str:
    return f"tensor<{''.join(f'{n}x' for n in shape)}{element}>"


@dataclass(frozen=True)
class Value:
    """An SSA value: its name, shape and element type."""

    name: str
    shape: tuple[int, ...]
    element: str

    @property
    def type(self) -> str:
        return tensor_type(self.shape, self.element)


def _integers(values: Sequence[int], bits: int = 64) -> str:
    return f"array<i{bits}: {', '.join(map(str, values))}>"


def scale_of(real: float) -> tuple[int, int]:
    """A real scale as multiplier and shift."""
    significand, exponent = np.frexp(real)
    multiplier = round(float(significand) * 2**31)
    return (multiplier, 31 - int(exponent)) if multiplier < 2**31 else (2**30, 30 - int(exponent))


@dataclass
class TosaModel:
    """A function under construction."""

    inputs: list[Value] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _count: int = 0

    def input(self, shape: Sequence[int], element: str = "i8") -> Value:
        value = Value(f"%arg{len(self.inputs)}", tuple(shape), element)
        self.inputs.append(value)
        return value

    def _new(self, shape: Sequence[int], element: str) -> Value:
        self._count += 1
        return Value(f"%{self._count}", tuple(shape), element)

    def constant(self, array: Array | int, element: str, shape: Sequence[int] = (1,)) -> Value:
        """``array``, or one number in each place of ``shape``."""
        whole = np.asarray(array)
        value = self._new(whole.shape or shape, element)
        self._lines.append(
            f'{value.name} = "tosa.const"() {{values = dense<{whole.tolist()}> : {value.type}}}'
            f" : () -> {value.type}"
        )
        return value

    def shape(self, numbers: Sequence[int]) -> str:
        self._count += 1
        name = f"%{self._count}"
        self._lines.append(
            f"{name} = tosa.const_shape {{values = dense<{list(numbers)}>"
            f" : tensor<{len(numbers)}xindex>}} : () -> !tosa.shape<{len(numbers)}>"
        )
        return name

    def op(
        self,
        name: str,
        operands: Sequence[Value | tuple[str, int]],
        shape: Sequence[int],
        element: str = "i8",
        **attributes: str,
    ) -> Value:
        """Any operation; a shape operand is its name and length."""
        result = self._new(shape, element)
        names = ", ".join(o.name if isinstance(o, Value) else o[0] for o in operands)
        types = ", ".join(
            o.type if isinstance(o, Value) else f"!tosa.shape<{o[1]}>" for o in operands
        )
        given = ", ".join(f"{key} = {value}" for key, value in attributes.items())
        given = f" {{{given}}}" if given else ""
        self._lines.append(
            f"{result.name} = tosa.{name} {names}{given} : ({types}) -> {result.type}"
        )
        return result

    def conv2d(
        self,
        x: Value,
        weights: Array,
        bias: Array,
        zero: int = 0,
        weight_zero: int = 0,
        *,
        pad: Sequence[int] = (0, 0, 0, 0),
        stride: Sequence[int] = (1, 1),
        dilation: Sequence[int] = (1, 1),
        depthwise: bool = False,
    ) -> Value:
        """Weights are OHWI, or HWCM where it is depthwise; ``pad`` is top, bottom, left, right."""
        kernel = weights.shape[:2] if depthwise else weights.shape[1:3]
        outputs = weights.shape[2] * weights.shape[3] if depthwise else weights.shape[0]
        size = [
            (n + pad[2 * i] + pad[2 * i + 1] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i, n in enumerate(x.shape[1:3])
        ]
        operands = [
            x,
            self.constant(weights, "i8"),
            self.constant(bias, "i32"),
            self.constant(zero, "i8"),
            self.constant(weight_zero, "i8"),
        ]
        return self.op(
            "depthwise_conv2d" if depthwise else "conv2d",
            operands,
            (x.shape[0], *size, outputs),
            "i32",
            acc_type="i32",
            pad=_integers(pad),
            stride=_integers(stride),
            dilation=_integers(dilation),
        )

    def matmul(self, x: Value, w: Value, zero: int = 0, weight_zero: int = 0) -> Value:
        """N×H×C by N×C×W."""
        operands = [x, w, self.constant(zero, "i8"), self.constant(weight_zero, "i8")]
        return self.op("matmul", operands, (*x.shape[:2], w.shape[2]), "i32")

    def rescale(
        self,
        x: Value,
        scales: Sequence[tuple[int, int]],
        input_zero: int = 0,
        output_zero: int = 0,
        element: str = "i8",
        rounding: str = "SINGLE_ROUND",
        *,
        input_unsigned: bool = False,
        output_unsigned: bool = False,
    ) -> Value:
        """``scales`` are multipliers and shifts: one pair, or one for each channel."""
        multipliers, shifts = zip(*scales, strict=True)
        operands = [
            x,
            self.constant(np.array(multipliers), "i32"),
            self.constant(np.array(shifts), "i8"),
            self.constant(input_zero, x.element),
            self.constant(output_zero, element),
        ]
        return self.op(
            "rescale",
            operands,
            x.shape,
            element,
            scale32="true",
            rounding_mode=rounding,
            per_channel=str(len(scales) > 1).lower(),
            input_unsigned=str(input_unsigned).lower(),
            output_unsigned=str(output_unsigned).lower(),
        )

    def clamp(self, x: Value, low: int, high: int) -> Value:
        return self.op("clamp", [x], x.shape, min_val=f"{low} : i8", max_val=f"{high} : i8")

    def max_pool2d(
        self, x: Value, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]
    ) -> Value:
        return self._pool("max_pool2d", [x], kernel, stride, pad)

    def avg_pool2d(
        self,
        x: Value,
        kernel: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int] = (0, 0, 0, 0),
        zeros: tuple[int, int] = (0, 0),
    ) -> Value:
        operands = [x, self.constant(zeros[0], "i8"), self.constant(zeros[1], "i8")]
        return self._pool("avg_pool2d", operands, kernel, stride, pad, acc_type="i32")

    def _pool(
        self,
        name: str,
        operands: Sequence[Value],
        kernel: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int],
        **attributes: str,
    ) -> Value:
        shape = operands[0].shape
        size = [
            (n + pad[2 * i] + pad[2 * i + 1] - kernel[i]) // stride[i] + 1
            for i, n in enumerate(shape[1:3])
        ]
        return self.op(
            name,
            operands,
            (shape[0], *size, shape[3]),
            kernel=_integers(kernel),
            stride=_integers(stride),
            pad=_integers(pad),
            **attributes,
        )

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return self.op("reshape", [x, (self.shape(shape), len(shape))], shape, x.element)

    def transpose(self, x: Value, perms: Sequence[int]) -> Value:
        shape = [x.shape[p] for p in perms]
        return self.op("transpose", [x], shape, x.element, perms=_integers(perms, 32))

    def pad(self, x: Value, padding: Sequence[int], fill: int) -> Value:
        """``padding`` holds the elements before and after each dimension."""
        shape = [n + padding[2 * i] + padding[2 * i + 1] for i, n in enumerate(x.shape)]
        amounts = (self.shape(padding), len(padding))
        return self.op("pad", [x, amounts, self.constant(fill, "i8")], shape)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self.op("concat", parts, shape, axis=f"{axis} : i32")

    def table(self, x: Value, entries: Array) -> Value:
        return self.op("table", [x, self.constant(entries, "i8")], x.shape)

    def binary(self, name: str, a: Value, b: Value, element: str = "i32") -> Value:
        """``add``, ``sub``, ``mul``, ``maximum`` or ``minimum``, broadcasting."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        operands = [a, b, *([self.constant(0, "i8")] if name == "mul" else [])]
        return self.op(name, operands, shape, element)

    def reduce(self, name: str, x: Value, axis: int) -> Value:
        shape = [1 if d == axis else n for d, n in enumerate(x.shape)]
        return self.op(f"reduce_{name}", [x], shape, x.element, axis=f"{axis} : i32")

    def text(self, *results: Value, name: str = "main") -> str:
        """The module that gives ``results``."""
        arguments = ", ".join(f"{value.name}: {value.type}" for value in self.inputs)
        types = ", ".join(value.type for value in results)
        last = f"return {', '.join(value.name for value in results)} : {types}"
        body = "\n  ".join([*self._lines, last])
        return f"func.func @{name}({arguments}) -> ({types}) {{\n  {body}\n}}\n"
