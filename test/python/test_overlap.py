"""Inputs and outputs that share memory: networks whose arena is planned both ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import lower_for_host

from tinymlir import arena
from tinymlir.host import HostModel
from tinymlir.passes import tiny_plan_arena
from tinymlir.targets import get_target

_IDENTITY = "affine_map<(n, h, w, c) -> (n, h, w, c)>"


def _tensor(shape: tuple[int, ...], element: str = "i8") -> str:
    return f"tensor<{'x'.join(map(str, shape))}x{element}>"


class Chain:
    """A network of one layer after another, as MLIR text."""

    def __init__(self, shape: tuple[int, int, int], seed: int) -> None:
        self.shape: tuple[int, ...] = (1, *shape)
        self.lines: list[str] = []
        self.random = np.random.default_rng(seed)
        self.value = "%x"
        self.input = _tensor(self.shape)

    def _fresh(self) -> str:
        return f"%v{len(self.lines)}"

    def _emit(self, text: str) -> str:
        name = self._fresh()
        self.lines.append(f"{name} = {text}")
        return name

    def _requantize(self, acc: str, shape: tuple[int, ...]) -> None:
        empty = self._emit(f"tensor.empty() : {_tensor(shape)}")
        loops = ", ".join(['"parallel"'] * 4)
        self.value = self._emit(
            f"linalg.generic {{indexing_maps = [{_IDENTITY}, {_IDENTITY}],"
            f" iterator_types = [{loops}]}} ins({acc} : {_tensor(shape, 'i32')})"
            f" outs({empty} : {_tensor(shape)}) {{ ^bb0(%a: i32, %o: i8):\n"
            '%q = "tiny.requantize"(%a, %m, %s) {zero_point = 1 : i32, min = -128 : i32,'
            ' max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8\n'
            f"linalg.yield %q : i8 }} -> {_tensor(shape)}"
        )
        self.shape = shape

    def _padded(self, kernel: int, pad: int) -> tuple[str, tuple[int, ...]]:
        _, rows, columns, depth = self.shape
        shape = (1, rows + 2 * pad, columns + 2 * pad, depth)
        if not pad:
            return self.value, shape
        name = self._emit(
            f"tensor.pad {self.value} low[0, {pad}, {pad}, 0] high[0, {pad}, {pad}, 0] {{\n"
            "^bb0(%a: index, %b: index, %c: index, %d: index): tensor.yield %zp : i8 }"
            f" : {_tensor(self.shape)} to {_tensor(shape)}"
        )
        return name, shape

    def window(self, op: str, kernel: int, stride: int, pad: int, channels: int) -> None:
        """A convolution (``conv``), a depthwise one or an average pooling."""
        source, shape = self._padded(kernel, pad)
        depth = shape[3]
        channels = channels if op == "conv" else depth
        size = tuple((n - kernel) // stride + 1 for n in shape[1:3])
        out = (1, *size, channels)
        empty = self._emit(f"tensor.empty() : {_tensor(out, 'i32')}")
        init = self._emit(
            f"linalg.fill ins(%c7 : i32) outs({empty} : {_tensor(out, 'i32')})"
            f" -> {_tensor(out, 'i32')}"
        )
        filters = {
            "conv": (channels, kernel, kernel, depth),
            "depthwise": (kernel, kernel, depth),
            "pool": (kernel, kernel),
        }[op]
        name = {
            "conv": "conv_2d_nhwc_fhwc",
            "depthwise": "depthwise_conv_2d_nhwc_hwc",
            "pool": "pooling_nhwc_sum",
        }[op]
        if op == "pool":
            weights = self._emit(f"tensor.empty() : {_tensor(filters)}")
        else:
            values = self.random.integers(-128, 128, filters).tolist()
            weights = self._emit(f"arith.constant dense<{values}> : {_tensor(filters)}")
        acc = self._emit(
            f"linalg.{name} {{strides = dense<{stride}> : tensor<2xi64>}}"
            f" ins({source}, {weights} : {_tensor(shape)}, {_tensor(filters)})"
            f" outs({init} : {_tensor(out, 'i32')}) -> {_tensor(out, 'i32')}"
        )
        self._requantize(acc, out)

    def text(self) -> str:
        body = "\n".join(self.lines)
        result = _tensor(self.shape)
        return f"""func.func @main(%x: {self.input}) -> {result} {{
          %m = arith.constant 1500000000 : i32
          %s = arith.constant 39 : i32
          %c7 = arith.constant 7 : i32
          %zp = arith.constant -3 : i8
          {body}
          return {self.value} : {result}
        }}"""


def _compile(text: str, core: str = "host") -> HostModel:
    return HostModel(lower_for_host(text, get_target(core)))


layers = st.tuples(
    st.sampled_from(["conv", "depthwise", "pool"]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(1, 9),
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(4, 9), st.integers(4, 9), st.integers(1, 8)),
    steps=st.lists(layers, min_size=3, max_size=5),
    seed=st.integers(0, 99),
)
def test_sharing_memory_changes_no_result(
    shape: tuple[int, int, int], steps: list[tuple[str, int, int, int, int]], seed: int
) -> None:
    chain = Chain(shape, seed)
    for op, kernel, stride, pad, channels in steps:
        pad = min(pad, kernel // 2)
        if min(chain.shape[1:3]) + 2 * pad < kernel:
            continue
        chain.window(op, kernel, stride, pad, channels)
    if not chain.lines:
        return
    x = np.random.default_rng(seed).integers(-128, 128, (4, *shape)).astype(np.int8)

    def apart(buffers: list[arena.Buffer], _: arena.Overlaps) -> arena.Plan:
        return arena.plan(buffers)

    shared = [_compile(chain.text()), _compile(chain.text(), "cortex-m4")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_plan_arena, "plan", apart)
        separate = _compile(chain.text())
    expected = separate(x)[0]
    for model in shared:
        assert (model(x)[0] == expected).all()
    assert shared[0].compilation.arena_bytes <= separate.compilation.arena_bytes


def test_a_chain_of_convolutions_needs_little_more_than_one_map() -> None:
    chain = Chain((16, 16, 8), 0)
    for _ in range(5):
        chain.window("conv", 3, 1, 1, 8)
    model = _compile(chain.text())
    one_map = 16 * 16 * 8
    assert one_map < model.compilation.arena_bytes < 1.4 * one_map
