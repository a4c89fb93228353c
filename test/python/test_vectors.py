"""Kernels of vectors, against NumPy: on this machine, and on QEMU with registers of two lengths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, check, everything, identity, lower, tensor
from simulated import needs_qemu
from test_kernels import pair, seeds, windows

from tinymlir import artifact, numerics
from tinymlir.codegen import generate
from tinymlir.dialects.tiny import ROUNDING_MODES
from tinymlir.host import HostModel
from tinymlir.kernels.columns import Columns
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.vector_convolution import VectorConvolution
from tinymlir.kernels.vector_depthwise import VectorDepthwise
from tinymlir.kernels.vector_kernel import VectorKernel
from tinymlir.simulators.image import build_image
from tinymlir.simulators.qemu import Qemu
from tinymlir.targets import get_target

ZVE32X = get_target("rv32imc_zve32x")
VECTOR, DEPTHWISE = VectorConvolution.name, VectorDepthwise.name

quick = settings(max_examples=10, deadline=None, derandomize=True)
tiny = st.integers(1, 7)
#: From what pays to more than two vectors' worth.
lanes = st.integers(4, 70)


def by_vectors(network: Network, *outputs: Value) -> HostModel:
    return check(network, *outputs, cores=[ZVE32X])


@quick
@given(st.data(), tiny, tiny, st.integers(1, 9), lanes, st.sampled_from([1, 2]), seeds)
def test_convolution(
    data: st.DataObject, height: int, width: int, depth: int, channels: int, groups: int, seed: int
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth * groups))
    window = data.draw(windows(height, width))
    y = network.conv(x, channels * groups, window, groups, pad_value=seed % 256 - 128)
    layer = by_vectors(network, network.negate(y)).compilation.layers[1]
    assert layer.macs == layer.executed_macs


@quick
@given(st.data(), tiny, tiny, lanes, seeds)
def test_depthwise_convolution(
    data: st.DataObject, height: int, width: int, depth: int, seed: int
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth))
    window = data.draw(windows(height, width))
    y = network.conv(x, depth, window, depth, pad_value=seed % 256 - 128)
    layer = by_vectors(network, network.negate(y)).compilation.layers[1]
    assert layer.macs == layer.executed_macs


@quick
@given(st.integers(1, 5), st.integers(1, 70), lanes, st.booleans(), seeds)
def test_dense(rows: int, depth: int, channels: int, per_channel: bool, seed: int) -> None:
    network = Network(seed)
    x = network.negate(network.input(rows, depth))
    by_vectors(network, network.negate(network.dense(x, channels, per_channel)))


@quick
@given(st.data(), pair(tiny, tiny), lanes, st.sampled_from(["max", "sum"]), seeds)
def test_pooling_and_addition(
    data: st.DataObject, size: tuple[int, int], depth: int, kind: str, seed: int
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, *size, depth))
    y = network.pool(x, data.draw(windows(*size)), kind)
    by_vectors(network, network.add(y, network.negate(y)))


@pytest.mark.parametrize("groups", [1, 24])
def test_rows_too_wide_for_one_strip(groups: int) -> None:
    network = Network(groups)
    x = network.negate(network.input(1, 2, 150, 24))
    window = Window((3, 3), (1, 1), pad=(1, 1, 1, 2))
    by_vectors(network, network.negate(network.conv(x, 24, window, groups, pad_value=9)))


@pytest.mark.parametrize("groups", [1, 12])
def test_segments_of_rows(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fused stage: columns from and to are known at run time only."""

    def by_segments(kernel: VectorKernel) -> None:
        emitter, (rows, columns) = kernel.layer.emitter, kernel.conv.out_hw

        spans = tuple((first, min(first + 4, columns)) for first in range(0, columns, 4))

        def segment(row: Index, first: Index) -> None:
            last = emitter.minimum(emitter.add(first, 4), columns)
            kernel.row(row, Columns(first, last, spans))

        emitter.loop(0, rows, 1, lambda row: emitter.loop(0, columns, 4, lambda c: segment(row, c)))

    monkeypatch.setattr(VectorKernel, "whole", by_segments)
    network = Network(groups)
    x = network.negate(network.input(1, 5, 11, 12))
    window = Window((3, 3), (1, 2) if groups == 1 else (2, 1), pad=(1, 2, 1, 1))
    y = network.conv(x, 12, window, groups, pad_value=9)
    by_vectors(network, network.negate(network.conv(y, 36, Window((1, 1)))))


def one_by_one(network: Network, x: Value, channels: int) -> tuple[str, np.ndarray]:
    """The accumulators of a 1×1 convolution that starts from 7."""
    shape = (*x.shape[:3], channels)
    kind = tensor(shape, "i32")
    weights = network.random.integers(-128, 128, (channels, 1, 1, x.shape[3]))
    acc = network.op(
        "linalg.conv_2d_nhwc_fhwc"
        f" ins({x.name}, {network.constant(weights, 'i8')} : {x.type}, {tensor(weights.shape)})"
        f" outs({network.fill(shape, 7, 'i32')} : {kind}) -> {kind}"
    )
    return acc, np.einsum("nbhwi,oi->nbhwo", x.array.astype(int), weights[:, 0, 0]) + 7


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("rounding", ROUNDING_MODES)
def test_roundings(rounding: str, per_channel: bool) -> None:
    network = Network(1)
    acc, array = one_by_one(network, network.negate(network.input(1, 9, 9, 3)), 35)
    by_vectors(network, network.requantize("conv2d", acc, array, per_channel, rounding))


def test_ties_of_float32() -> None:
    """A scale that makes many: each of them sends a block of pixels the long way."""
    network = Network(2)
    acc, array = one_by_one(network, network.negate(network.input(1, 9, 9, 3)), 35)
    m, s = numerics.quantize_multiplier(2.0**-8)
    body = (
        f'%r = "tiny.requantize"(%a0, {network.scalar(m)}, {network.scalar(s)})'
        ' {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"}'
        " : (i32, i32, i32) -> i8"
    )
    inputs = [(acc, tensor(array.shape[1:], "i32"), identity(4))]
    name = network.generic("conv2d", inputs, array.shape[1:], body)
    expected = numerics.requantize(array, m, s, 3, rounding="float32")
    assert (array % 256 == 128).mean() > 1 / 400
    model = by_vectors(network, Value(name, expected))
    assert "_exact" in model.compilation.stages["memref"]


def test_a_layer_that_lanes_cannot_finish() -> None:
    """It looks its results up in a table, one by one."""
    network = Network(3)
    acc, array = one_by_one(network, network.negate(network.input(1, 3, 4, 3)), 6)
    table = network.random.integers(-128, 128, 256).astype(np.int8)
    body = f"""%eight = arith.constant 8 : i32
      %mask = arith.constant 255 : i32
      %t = arith.shrsi %a0, %eight : i32
      %byte = arith.andi %t, %mask : i32
      %at = arith.index_cast %byte : i32 to index
      %r = tensor.extract {network.constant(table, "i8")}[%at] : tensor<256xi8>"""
    inputs = [(acc, tensor(array.shape[1:], "i32"), identity(4))]
    name = network.generic("conv2d", inputs, array.shape[1:], body)
    model = by_vectors(network, Value(name, table[(array >> 8) & 255]))
    assert f'tiny.kernel = "{VECTOR}"' in model.compilation.stages["memref"]


@needs_qemu
@pytest.mark.parametrize("bits", [128, 256])
def test_the_same_bytes_on_registers_of_any_length(bits: int) -> None:
    network, x = everything()
    y = network.input(1, 6, 5, 37)
    y = network.conv(y, 37, Window((3, 3), pad=(1, 1, 1, 1)), groups=37, pad_value=-3)
    y = network.conv(y, 43, Window((1, 1)))
    y = network.add(y, network.conv(y, 43, Window((3, 2), pad=(1, 0, 1, 1)), pad_value=5))
    compilation = lower(network.text(x, y), ZVE32X, "net")
    layers = compilation.stages["memref"]
    assert f'"{VECTOR}"' in layers and f'"{DEPTHWISE}"' in layers
    code = generate(compilation.module, ZVE32X)
    image = build_image(artifact.report(compilation, code, {}), code.object)
    assert ZVE32X.qemu_cpu is not None
    core = dataclasses.replace(ZVE32X, qemu_cpu=ZVE32X.qemu_cpu.replace("128", str(bits)))
    qemu = Qemu(dataclasses.replace(image, target=core))
    flat = [value.array.reshape(len(value.array), -1) for value in network.inputs]
    for result, value in zip(qemu.run(flat), (x, y), strict=True):
        np.testing.assert_array_equal(result, value.array.reshape(len(result), -1))


def test_a_division_that_a_condition_guards() -> None:
    """Lanes that do not meet the condition must not divide by zero."""
    network = Network(4)
    x, y = network.input(1, 5, 16), network.input(1, 5, 16)
    y.array[0, 0, 0, :8] = 0
    body = """%zero = arith.constant 0 : i8
      %some = arith.cmpi sgt, %a1, %zero : i8
      %r = scf.if %some -> (i8) {
        %d = arith.remsi %a0, %a1 : i8
        scf.yield %d : i8
      } else {
        scf.yield %a1 : i8
      }"""
    inputs = [(v.name, v.type, identity(3)) for v in (x, y)]
    name = network.generic("remainder", inputs, [1, 5, 16], body)
    divisor = np.where(y.array > 0, y.array, 1)
    by_vectors(network, Value(name, np.where(y.array > 0, np.fmod(x.array, divisor), y.array)))
