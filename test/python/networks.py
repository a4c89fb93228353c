"""Networks in canonical form (docs/design.md) as MLIR text, beside what they must compute.

Every method of `Network` adds a layer and returns a `Value`, which holds the layer's
result for some samples, computed by plain NumPy in 64-bit integers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinymlir import compiler, numerics
from tinymlir.bindings import ir
from tinymlir.compiler import Compilation, lower_module
from tinymlir.dialects import register
from tinymlir.host import HostModel
from tinymlir.pipelines import (
    BALANCED,
    Fusion,
    to_arena,
)
from tinymlir.targets import Target, get_target

Array = npt.NDArray[Any]
SAMPLES = 3


@dataclass(frozen=True)
class Value:
    """A tensor of the network: its name, and one array per sample."""

    name: str
    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    @property
    def type(self) -> str:
        return tensor(self.shape)


@dataclass(frozen=True)
class Window:
    """Kernel, stride and dilation, each (rows, columns); pad is (top, left, bottom, right)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output(self, height: int, width: int) -> tuple[int, int]:
        padded = (height + self.pad[0] + self.pad[2], width + self.pad[1] + self.pad[3])
        rows, columns = (
            (size - (k - 1) * d - 1) // s + 1
            for size, k, s, d in zip(padded, self.kernel, self.stride, self.dilation, strict=True)
        )
        return rows, columns

    def taps(self, row: int, column: int) -> list[range]:
        """Input rows, and input columns, under the window of an output position."""
        return [
            range(start, start + k * d, d)
            for start, k, d in zip(
                (row * self.stride[0] - self.pad[0], column * self.stride[1] - self.pad[1]),
                self.kernel,
                self.dilation,
                strict=True,
            )
        ]

    def attributes(self) -> str:
        return ", ".join(
            f"{name} = dense<[{pair[0]}, {pair[1]}]> : tensor<2xi64>"
            for name, pair in (("strides", self.stride), ("dilations", self.dilation))
        )

    def patches(self, array: Array) -> list[tuple[tuple[int, int], Array]]:
        """For each tap, the (samples, rows, columns, channels) it sees of a padded array."""
        rows, columns = dataclasses.replace(self, pad=(0, 0, 0, 0)).output(*array.shape[2:4])
        found = []
        for kh, kw in itertools.product(*map(range, self.kernel)):
            top, left = kh * self.dilation[0], kw * self.dilation[1]
            bottom = top + (rows - 1) * self.stride[0] + 1
            right = left + (columns - 1) * self.stride[1] + 1
            patch = array[:, 0, top : bottom : self.stride[0], left : right : self.stride[1]]
            found.append(((kh, kw), patch))
        return found


def tensor(shape: Sequence[int], element: str = "i8") -> str:
    return f"tensor<{'x'.join(map(str, shape))}x{element}>"


def identity(rank: int) -> str:
    dims = ", ".join(f"d{i}" for i in range(rank))
    return f"affine_map<({dims}) -> ({dims})>"


def projection(rank: int, kept: Sequence[int]) -> str:
    dims = ", ".join(f"d{i}" for i in range(rank))
    return f"affine_map<({dims}) -> ({', '.join(f'd{i}' for i in kept)})>"


class Network:
    """A network under construction; ``seed`` decides weights, scales and samples."""

    def __init__(self, seed: int = 0, least_weight: int = -128) -> None:
        self.random = np.random.default_rng(seed)
        self.least_weight = least_weight
        self.inputs: list[Value] = []
        self.lines: list[str] = []
        self._count = itertools.count()
        self._layers = itertools.count()

    def input(self, *shape: int) -> Value:
        array = self.random.integers(-128, 128, (SAMPLES, *shape)).astype(np.int8)
        value = Value(f"%x{len(self.inputs)}", array)
        self.inputs.append(value)
        return value

    def op(self, text: str) -> str:
        """Add ``%name = text``."""
        name = f"%v{next(self._count)}"
        self.lines.append(f"{name} = {text}")
        return name

    def constant(self, array: Array, element: str) -> str:
        return self.op(f"arith.constant dense<{array.tolist()}> : {tensor(array.shape, element)}")

    def scalar(self, value: int, element: str = "i32") -> str:
        return self.op(f"arith.constant {value} : {element}")

    def empty(self, shape: Sequence[int], element: str) -> str:
        return self.op(f"tensor.empty() : {tensor(shape, element)}")

    def fill(self, shape: Sequence[int], value: int, element: str) -> str:
        kind = tensor(shape, element)
        scalar, init = self.scalar(value, element), self.empty(shape, element)
        return self.op(f"linalg.fill ins({scalar} : {element}) outs({init} : {kind}) -> {kind}")

    def layer(self, op: str) -> str:
        return f'{{tiny.layer = "{op}_{next(self._layers)}", tiny.op = "{op}"}}'

    def generic(
        self,
        op: str,
        inputs: Sequence[tuple[str, str, str]],
        shape: Sequence[int],
        body: str,
        element: str = "i8",
        init: str | None = None,
        reduced: int = 0,
    ) -> str:
        """A linalg.generic that yields ``%r``; its scalars are ``%a0``, ``%a1``, ..., ``%o``.

        Args:
            op: layer's name, or nothing for a part of a layer.
            inputs: value, type and map of each.
            reduced: how many dimensions after those of ``shape`` are summed over.
        """
        rank = len(shape) + reduced
        kind = tensor(shape, element)
        maps = [m for _, _, m in inputs] + [projection(rank, range(len(shape)))]
        kinds = ['"parallel"'] * len(shape) + ['"reduction"'] * reduced
        scalars = [f"%a{i}: {t.split('x')[-1].rstrip('>')}" for i, (_, t, _) in enumerate(inputs)]
        init = init or self.empty(shape, element)
        return self.op(
            f"linalg.generic {{indexing_maps = [{', '.join(maps)}],"
            f" iterator_types = [{', '.join(kinds)}]}}"
            f" ins({', '.join(v for v, _, _ in inputs)} : {', '.join(t for _, t, _ in inputs)})"
            f" outs({init} : {kind}) {'attrs = ' + self.layer(op) if op else ''} {{\n"
            f"^bb0({', '.join([*scalars, f'%o: {element}'])}):\n"
            f"{body}\nlinalg.yield %r : {element}\n}} -> {kind}"
        )

    def pad(
        self, x: Value, pad: tuple[int, int, int, int], value: int, layer: bool = False
    ) -> Value:
        top, left, bottom, right = pad
        widths = [(0, 0), (0, 0), (top, bottom), (left, right), (0, 0)]
        array = np.pad(x.array, widths, constant_values=value)
        scalar = self.scalar(value, "i8")
        name = self.op(
            f"tensor.pad {x.name} low[0, {top}, {left}, 0] high[0, {bottom}, {right}, 0] {{\n"
            "^bb0(%i: index, %j: index, %k: index, %l: index):\n"
            f"tensor.yield {scalar} : i8\n}} {self.layer('pad') if layer else ''}"
            f" : {x.type} to {tensor(array.shape[1:])}"
        )
        return Value(name, array)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """A view: through one dimension."""
        size = int(np.prod(shape))
        groups = [f"[[{', '.join(map(str, range(len(s))))}]]" for s in (x.shape, shape)]
        name = x.name
        if len(x.shape) > 1:
            name = self.op(
                f"tensor.collapse_shape {name} {groups[0]} : {x.type} into {tensor([size])}"
            )
        if len(shape) > 1:
            name = self.op(
                f"tensor.expand_shape {name} {groups[1]} output_shape {list(shape)}"
                f" : {tensor([size])} into {tensor(shape)}"
            )
        return Value(name, x.array.reshape(-1, *shape))

    def scales(self, count: int, spread: int) -> Array:
        """What sums below ``spread`` are multiplied by, in so many channels."""
        return self.random.uniform(60, 300, count) / spread

    def requantize(
        self, op: str, acc: str, array: Array, per_channel: bool = False, rounding: str = "float32"
    ) -> Value:
        """``acc`` (i32) to i8 at a scale that spreads the results."""
        shape = array.shape[1:]
        rank = len(shape)
        spread = np.abs(array.astype(np.int64)).max() + 1
        count = shape[-1] if per_channel else 1
        scales = self.scales(count, int(spread)).astype(np.float32)
        pairs = [numerics.quantize_multiplier(float(scale)) for scale in scales]
        zero_point = int(self.random.integers(-40, 40))
        low, high = sorted(int(v) for v in self.random.choice([-128, -100, -5, 100, 127], 2, False))
        inputs = [(acc, tensor(shape, "i32"), identity(rank))]
        if per_channel:
            for which in (0, 1):
                name = self.constant(np.array([p[which] for p in pairs]), "i32")
                inputs.append((name, tensor([count], "i32"), projection(rank, [rank - 1])))
            multiplier, shift = "%a1", "%a2"
        else:
            multiplier, shift = (self.scalar(v) for v in pairs[0])
        body = (
            f'%r = "tiny.requantize"(%a0, {multiplier}, {shift}) {{zero_point = {zero_point} : i32,'
            f' min = {low} : i32, max = {high} : i32, rounding = "{rounding}"}}'
            " : (i32, i32, i32) -> i8"
        )
        m, s = (np.array([p[which] for p in pairs]) for which in (0, 1))
        expected = numerics.requantize(array, m, s, zero_point, low, high, rounding)
        return Value(self.generic(op, inputs, shape, body), expected)

    def _bias(self, shape: Sequence[int], bias: Array) -> str:
        """``bias``, of the last dimensions of ``shape``, repeated along the others."""
        kind = tensor(shape, "i32")
        init = self.empty(shape, "i32")
        values = self.constant(bias, "i32")
        dimensions = list(range(len(shape) - bias.ndim))
        return self.op(
            f"linalg.broadcast ins({values} : {tensor(bias.shape, 'i32')}) outs({init} : {kind})"
            f" dimensions = {dimensions}"
        )

    def _biases(self, *shape: int) -> Array:
        return self.random.integers(-3000, 3000, shape)

    def _weights(self, *shape: int) -> Array:
        return self.random.integers(self.least_weight, 128, shape).astype(np.int8)

    def conv(
        self,
        x: Value,
        channels: int,
        window: Window,
        groups: int = 1,
        pad_value: int = 0,
        per_channel: bool = True,
        rounding: str = "float32",
    ) -> Value:
        """A convolution: plain, depthwise (groups = channels of ``x``) or grouped."""
        padded = self.pad(x, window.pad, pad_value) if any(window.pad) else x
        depth = x.shape[3]
        inside, outside = depth // groups, channels // groups
        weights = self._weights(groups, outside, *window.kernel, inside)
        bias = self._biases(groups, outside)
        size = window.output(*x.shape[1:3])
        source, source_type = padded.name, padded.type
        if groups == 1:
            name, arranged, folded = "conv_2d_nhwc_fhwc", weights[0], bias[0]
        elif groups == depth == channels:
            name, folded = "depthwise_conv_2d_nhwc_hwc", bias[:, 0]
            arranged = weights[:, 0, :, :, 0].transpose(1, 2, 0)
        elif groups == depth:
            name, folded = "depthwise_conv_2d_nhwc_hwcm", bias
            arranged = weights[..., 0].transpose(2, 3, 0, 1)
        else:
            name, arranged, folded = "conv_2d_nhwgc_gfhwc", weights, bias
            shape = (*padded.shape[:3], groups, inside)
            source_type = tensor(shape)
            source = self.op(
                f"tensor.expand_shape {padded.name} [[0], [1], [2], [3, 4]]"
                f" output_shape {list(shape)} : {padded.type} into {source_type}"
            )
        shape = (1, *size, *folded.shape)
        kind, filters = tensor(shape, "i32"), self.constant(arranged, "i8")
        init = self._bias(shape, folded)
        acc = self.op(
            f"linalg.{name} {{{window.attributes()}}}"
            f" ins({source}, {filters} : {source_type}, {tensor(arranged.shape)})"
            f" outs({init} : {kind}) -> {kind}"
        )
        if len(shape) == 5:
            flat = (1, *size, channels)
            acc = self.op(
                f"tensor.collapse_shape {acc} [[0], [1], [2], [3, 4]]"
                f" : {kind} into {tensor(flat, 'i32')}"
            )
        array = np.zeros((SAMPLES, *size, groups, outside), np.int64) + bias
        for (kh, kw), patch in window.patches(padded.array.astype(np.int64)):
            grouped = patch.reshape(*patch.shape[:3], groups, inside)
            array += np.einsum("nhwgi,goi->nhwgo", grouped, weights[:, :, kh, kw].astype(np.int64))
        op = "depthwise_conv2d" if groups == depth > 1 else "conv2d"
        array = array.reshape(SAMPLES, 1, *size, channels)
        return self.requantize(op, acc, array, per_channel, rounding)

    def dense(self, x: Value, channels: int, per_channel: bool = True) -> Value:
        rows, depth = x.shape
        weights = self._weights(depth, channels)
        bias = self._biases(channels)
        kind = tensor((rows, channels), "i32")
        filters, init = self.constant(weights, "i8"), self._bias((rows, channels), bias)
        acc = self.op(
            f"linalg.matmul ins({x.name}, {filters} : {x.type}, {tensor(weights.shape)})"
            f" outs({init} : {kind}) -> {kind}"
        )
        array = x.array.astype(np.int64) @ weights.astype(np.int64) + bias
        return self.requantize("fully_connected", acc, array, per_channel)

    def pool(self, x: Value, window: Window, kind: str) -> Value:
        """``max`` or ``sum``: padding never wins, and counts as nothing."""
        neutral = -128 if kind == "max" else 0
        padded = self.pad(x, window.pad, neutral) if any(window.pad) else x
        shape = (1, *window.output(*x.shape[1:3]), x.shape[3])
        element = "i8" if kind == "max" else "i32"
        init = self.fill(shape, neutral, element)
        kernel = self.empty(window.kernel, "i8")
        patches = np.stack([p for _, p in window.patches(padded.array.astype(np.int64))])
        attributes = window.attributes()
        result = tensor(shape, element)
        if kind == "max":
            layer = self.layer("max_pool2d")[1:-1]
            attributes = f"{attributes}, {layer}"
        acc = self.op(
            f"linalg.pooling_nhwc_{kind} {{{attributes}}}"
            f" ins({padded.name}, {kernel} : {padded.type}, {tensor(window.kernel)})"
            f" outs({init} : {result}) -> {result}"
        )
        if kind == "max":
            return Value(acc, patches.max(axis=0).astype(np.int8).reshape(SAMPLES, *shape))
        return self.requantize("average_pool2d", acc, patches.sum(axis=0).reshape(SAMPLES, *shape))

    def add(self, x: Value, y: Value) -> Value:
        """``x + y``; ``y`` may lack leading dimensions of ``x``."""
        rank = len(x.shape)
        inputs = [
            (x.name, x.type, identity(rank)),
            (y.name, y.type, projection(rank, range(rank - len(y.shape), rank))),
        ]
        body = """%wide0 = arith.extsi %a0 : i8 to i32
            %wide1 = arith.extsi %a1 : i8 to i32
            %half = arith.constant 1 : i32
            %sum = arith.addi %wide0, %wide1 : i32
            %shifted = arith.shrsi %sum, %half : i32
            %r = arith.trunci %shifted : i32 to i8"""
        y_array = y.array.reshape(SAMPLES, *[1] * (rank - len(y.shape)), *y.shape)
        array = (x.array.astype(np.int64) + y_array) >> 1
        return Value(self.generic("add", inputs, x.shape, body), array.astype(np.int8))

    def negate(self, x: Value) -> Value:
        """``-1 - x``, so that a value of another layer lies in the arena."""
        ones = "%ones = arith.constant -1 : i8\n%r = arith.xori %a0, %ones : i8"
        inputs = [(x.name, x.type, identity(len(x.shape)))]
        return Value(self.generic("negate", inputs, x.shape, ones), ~x.array)

    def lookup(self, x: Value) -> Value:
        """``table[x + 128]``, of a random table."""
        table = self.random.integers(-128, 128, 256).astype(np.int8)
        entries = self.op(f"arith.constant dense<{table.tolist()}> : {tensor((256,))}")
        body = f"""%low = arith.constant -128 : i32
            %wide = arith.extsi %a0 : i8 to i32
            %place = arith.subi %wide, %low : i32
            %index = arith.index_cast %place : i32 to index
            %r = tensor.extract {entries}[%index] : {tensor((256,))}"""
        inputs = [(x.name, x.type, identity(len(x.shape)))]
        array = table[x.array.astype(np.int64) + 128]
        return Value(self.generic("lookup", inputs, x.shape, body), array)

    def softmax(self, x: Value) -> Value:
        """Of rows, by a table of 256 exponentials and an integer division."""
        rows = x.shape[0]
        table = np.rint(2**15 * np.exp(np.arange(-255, 1) / 40)).astype(np.int64)
        row, whole = projection(2, [0]), projection(2, [0, 1])
        maximum = self.generic(
            "",
            [(x.name, x.type, whole)],
            [rows],
            "%r = arith.maxsi %a0, %o : i8",
            init=self.fill([rows], -128, "i8"),
            reduced=1,
        )
        exponential = f"""%wide = arith.extsi %a0 : i8 to i32
            %top = arith.extsi %a1 : i8 to i32
            %below = arith.subi %wide, %top : i32
            %offset = arith.constant 255 : i32
            %shifted = arith.addi %below, %offset : i32
            %at = arith.index_cast %shifted : i32 to index
            %e = tensor.extract {self.constant(table, "i32")}[%at] : tensor<256xi32>"""
        inputs = [(x.name, x.type, whole), (maximum, tensor([rows]), row)]
        total = self.generic(
            "",
            inputs,
            [rows],
            f"{exponential}\n%r = arith.addi %o, %e : i32",
            "i32",
            init=self.fill([rows], 0, "i32"),
            reduced=1,
        )
        quotient = f"""{exponential}
            %steps = arith.constant 255 : i32
            %scaled = arith.muli %e, %steps : i32
            %q = arith.divui %scaled, %a2 : i32
            %zero = arith.constant 128 : i32
            %moved = arith.subi %q, %zero : i32
            %r = arith.trunci %moved : i32 to i8"""
        inputs.append((total, tensor([rows], "i32"), row))
        e = table[x.array.astype(int) - x.array.max(axis=2, keepdims=True) + 255]
        array = e * 255 // e.sum(axis=2, keepdims=True) - 128
        return Value(self.generic("softmax", inputs, x.shape, quotient), array.astype(np.int8))

    def float_sum(self, x: Value) -> Value:
        """Of each row as in float32, in order; bits of the sum are mixed into every element."""
        rows, unit = x.shape[0], np.float32(2.0**-27)
        reals = np.arange(-128, 128).astype(np.float32) * np.float32(0.127)
        table = (reals / unit).astype(np.int64)
        dequantize = f"""%wide = arith.extsi %a0 : i8 to i32
            %offset = arith.constant 128 : i32
            %shifted = arith.addi %wide, %offset : i32
            %at = arith.index_cast %shifted : i32 to index
            %r = tensor.extract {self.constant(table, "i64")}[%at] : tensor<256xi64>"""
        whole, row = identity(2), projection(2, [0])
        terms = self.generic("", [(x.name, x.type, whole)], x.shape, dequantize, "i64")
        zero = self.op("arith.constant 0 : i64")
        sums = tensor([rows], "i64")
        init = self.op(
            f"linalg.fill ins({zero} : i64) outs({self.empty([rows], 'i64')} : {sums}) -> {sums}"
        )
        operands = [(terms, tensor(x.shape, "i64"), whole)]
        addition = '%r = "tiny.add_float32"(%o, %a0) : (i64, i64) -> i64'
        total = self.generic("", operands, [rows], addition, "i64", init, reduced=1)
        mix = """%low = arith.trunci %a1 : i64 to i8
            %r = arith.xori %a0, %low : i8"""
        inputs = [(x.name, x.type, whole), (total, sums, row)]
        running = np.zeros((SAMPLES, rows), np.float32)
        for column in np.moveaxis(reals[x.array.astype(int) + 128], 2, 0):
            running = running + column
        low = (running / unit).astype(np.int64).astype(np.int8)
        return Value(self.generic("float_sum", inputs, x.shape, mix), x.array ^ low[:, :, None])

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        array = np.concatenate([p.array for p in parts], axis + 1)
        name = self.op(
            f"tensor.concat dim({axis}) {', '.join(p.name for p in parts)}"
            f" {self.layer('concat')} : ({', '.join(p.type for p in parts)})"
            f" -> {tensor(array.shape[1:])}"
        )
        return Value(name, array)

    def text(self, *outputs: Value) -> str:
        arguments = ", ".join(f"{v.name}: {v.type}" for v in self.inputs)
        types = ", ".join(v.type for v in outputs)
        body = "\n".join(self.lines)
        names = ", ".join(v.name for v in outputs)
        return f"func.func @main({arguments}) -> ({types}) {{\n{body}\nreturn {names} : {types}\n}}"


def everything() -> tuple[Network, Value]:
    """A network of all kinds of layers, and its result."""
    network = Network(11)
    x = network.input(1, 9, 7, 4)
    y = network.lookup(network.conv(x, 9, Window((3, 3), pad=(1, 1, 1, 1)), pad_value=-7))
    y = network.conv(y, 9, Window((3, 3), (2, 2), pad=(0, 1, 1, 0)), groups=9, pad_value=3)
    y = network.add(y, network.negate(y))
    z = network.pool(y, Window((2, 2), pad=(0, 0, 1, 1)), "max")
    z = network.pad(z, (0, 1, 0, 0), 5, layer=True)
    y = network.concat(
        [y, network.conv(y, 6, Window((2, 1), dilation=(2, 1), pad=(1, 0, 1, 0)), 3)], 3
    )
    y = network.pool(y, Window((2, 2), (1, 2)), "sum")
    flat = network.reshape(y, [y.array[0].size // 15, 15])
    y = network.softmax(network.float_sum(network.dense(flat, 12)))
    return network, network.concat(
        [network.reshape(y, [y.array[0].size]), network.reshape(z, [z.array[0].size])], 0
    )


HOST = get_target("host")
#: Cores whose kernels are compared: without and with SMLAD, one of few registers that has
#: neither long products nor divisions, and one with vectors.
CORES = [HOST, *map(get_target, ("cortex-m0", "cortex-m4", "cortex-m55"))]


def pinned(text: str, kernel: str) -> str:
    """The network whose convolutions and dense layers are all computed by ``kernel``."""
    layers = 'tiny.layer = "(conv2d|depthwise_conv2d|fully_connected)_'
    return re.sub(layers, rf'tiny.kernel = "{kernel}", \g<0>', text)


def lower(
    text: str, target: Target, name: str = "network", fusion: Fusion | None = None
) -> Compilation:
    """Compile MLIR text down to the LLVM dialect."""
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        return lower_module(ir.Module.parse(text), target, name, fusion=fusion)


def lower_for_host(text: str, core: Target, *choices: str) -> Compilation:
    """The kernels of ``core``, in the arithmetic that it has, compiled for this machine.

    ``choices`` are passes that say which kernels, before the others are selected.
    """
    arithmetic = [e for e in HOST.extensions if core.has(e)]
    with choosing(core, *choices):
        host = dataclasses.replace(HOST, extensions=tuple(arithmetic), vector_bits=core.vector_bits)
        return lower(text, host)


@contextlib.contextmanager
def choosing(core: Target, *choices: str) -> Iterator[None]:
    """Compile for ``core`` down to the arena, with more passes before kernels are selected."""
    passes = list(to_arena(core, BALANCED, None))
    selection = next(i for i, p in enumerate(passes) if p.startswith("tiny-select-kernels"))
    with pytest.MonkeyPatch.context() as patch:
        chosen = (*passes[:selection], *choices, *passes[selection:])
        patch.setattr(compiler, "to_arena", lambda *_: chosen)
        yield


def check(network: Network, *outputs: Value, cores: Sequence[Target] = CORES) -> HostModel:
    """That the network gives its outputs however it is scheduled; the first core's model."""
    text = network.text(*outputs)
    models = [HostModel(lower_for_host(text, core)) for core in cores]
    for core, model in zip(cores, models, strict=True):
        results = model(*(v.array for v in network.inputs))
        for result, value in zip(results, outputs, strict=True):
            same = result == value.array
            assert same.all(), (core.name, np.argwhere(~same)[:3], text)
    return models[0]
