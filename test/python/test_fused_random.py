"""Random networks, fused at random: what the simulator computes, counts and touches."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, lower

from tinymlir.artifact import report
from tinymlir.codegen import generate
from tinymlir.fusion.setting import DEFAULT_SCHEMES, InputMode
from tinymlir.pipelines import Fusion
from tinymlir.simulators import simulate
from tinymlir.targets import get_target

MODES: tuple[InputMode, ...] = ("external", "in-arena", "streamed")
#: What the network may use of the stack.
STACK_BYTES = 1024


@st.composite
def windows(draw: st.DrawFn, height: int, width: int) -> Window:
    """One that gives at least a pixel."""
    size = draw(st.sampled_from([k for k in (1, 3, 5) if k <= min(height, width)]))
    stride = draw(st.sampled_from([1, 1, 2]))
    edge = draw(st.integers(0, size // 2))
    return Window((size, size), (stride, stride), pad=(edge, edge, edge, edge))


@st.composite
def networks(draw: st.DrawFn) -> tuple[Network, Value]:
    """Convolutions of all kinds, sums with what came before, joined channels, pooling, and dense
    layers in the end.
    """
    network = Network(draw(st.integers(0, 99)))
    dims = st.integers(5, 14)
    x = network.input(1, draw(dims), draw(dims), draw(st.integers(1, 4)))
    for _ in range(draw(st.integers(2, 5))):
        _, height, width, depth = x.shape
        kind = draw(st.sampled_from(["conv", "conv", "point", "depthwise", "residual", "pool"]))
        if kind == "pool" and min(height, width) > 1:
            x = network.pool(x, Window((2, 2), (2, 2)), "max")
        elif kind == "residual":
            inner = network.conv(x, depth, Window((1, 1)))
            x = draw(st.sampled_from([network.add(inner, x), network.concat([x, inner], 3)]))
        elif kind == "depthwise":
            window = draw(windows(height, width))
            x = network.conv(x, depth, window, groups=depth, pad_value=draw(st.integers(-9, 9)))
        else:
            window = Window() if kind == "point" else draw(windows(height, width))
            x = network.conv(x, draw(st.integers(1, 13)), window, pad_value=-4)
    _, height, width, depth = x.shape
    end = draw(st.sampled_from(["image", "pooled", "dense"]))
    if end == "pooled":
        x = network.pool(x, Window((height, width)), "max")
    elif end == "dense":
        flat = network.reshape(x, [1, height * width * depth])
        x = network.dense(network.dense(flat, draw(st.integers(1, 9))), 3)
    return network, x


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    networks(),
    st.sampled_from(["cortex-m4", "cortex-m0", "rv32imc"]),
    st.sampled_from(MODES),
    st.sampled_from([1.0, 1.3, 9.0]),
    st.booleans(),
)
def test_a_fused_network_is_the_network(
    drawn: tuple[Network, Value], core: str, mode: InputMode, overhead: float, lean: bool
) -> None:
    network, result = drawn
    schemes = (*DEFAULT_SCHEMES, "lean") if lean else DEFAULT_SCHEMES
    fusion = Fusion(max_overhead=overhead, input=mode, schemes=schemes)
    target = get_target(core)
    compilation = lower(network.text(result), target, fusion=fusion)
    code = generate(compilation.module, target)
    summary = report(compilation, code, {})
    sample = [value.array[0] for value in network.inputs]
    run = simulate(summary, code.object, sample)
    assert (np.asarray(run.outputs[0]).ravel() == result.array[0].ravel()).all()
    assert summary["overhead"] <= overhead
    assert run.stack_bytes < STACK_BYTES
