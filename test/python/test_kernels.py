"""Kernels, against NumPy: every layer alone, with its input and output in the arena."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, Value, Window, check, everything, identity, tensor

from tinymlir.host import HostModel
from tinymlir.kernels.overlap import _window_distance

quick = settings(max_examples=15, deadline=None, derandomize=True)
small = st.integers(1, 9)
pair = st.tuples
seeds = st.integers(0, 1000)


@st.composite
def windows(draw: st.DrawFn, height: int, width: int, most_pad: int = 3) -> Window:
    """A window that fits, wholly in the padding at times."""
    pad = draw(st.tuples(*[st.integers(0, most_pad)] * 4))
    dilation = draw(pair(st.integers(1, 2), st.integers(1, 2)))
    room = (height + pad[0] + pad[2], width + pad[1] + pad[3])
    most = [max(1, min(4, (r - 1) // d + 1)) for r, d in zip(room, dilation, strict=True)]
    kernel = draw(pair(*(st.integers(1, m) for m in most)))
    stride = draw(pair(st.integers(1, 3), st.integers(1, 3)))
    return Window(kernel, stride, dilation, pad)


def alone(network: Network, x: Value, y: Value) -> HostModel:
    """Check the layer from ``x`` to ``y``, between two others."""
    return check(network, network.negate(y))


def tapped(x: Value, window: Window) -> int:
    """How many taps fall on the input, counted one by one."""
    count = 0
    for row, column in np.ndindex(window.output(*x.shape[1:3])):
        for kh, kw in itertools.product(*window.taps(row, column)):
            count += 0 <= kh < x.shape[1] and 0 <= kw < x.shape[2]
    return count


@quick
@given(st.data(), small, small, small, small, st.integers(-128, 127), st.booleans(), seeds)
def test_convolution(
    data: st.DataObject,
    height: int,
    width: int,
    depth: int,
    channels: int,
    pad_value: int,
    per_channel: bool,
    seed: int,
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth))
    window = data.draw(windows(height, width))
    y = network.conv(x, channels, window, 1, pad_value, per_channel)
    model = alone(network, x, y)
    layer = model.compilation.layers[1]
    taps = window.kernel[0] * window.kernel[1]
    assert layer.macs == y.shape[1] * y.shape[2] * taps * depth * channels
    assert layer.executed_macs == tapped(x, window) * depth * channels


def test_windows_wholly_beside_the_image() -> None:
    network = Network(1)
    x = network.negate(network.input(1, 5, 9, 9))
    window = Window((1, 1), (3, 3), pad=(1, 3, 0, 2))
    alone(network, x, network.conv(x, 8, window, 1, 7))


@pytest.mark.parametrize("groups", [1, 8])
def test_convolutions_over_time(groups: int) -> None:
    """One column: pixels of many rows are computed together, also under dilation and padding."""
    network = Network(2)
    x = network.negate(network.input(1, 21, 1, 8))
    window = Window((4, 1), (2, 1), (2, 1), pad=(3, 0, 1, 0))
    alone(network, x, network.conv(x, 8, window, groups, 7))


def test_a_column_of_which_the_window_misses_the_image() -> None:
    network = Network(3)
    x = network.negate(network.input(1, 6, 1, 4))
    alone(network, x, network.conv(x, 5, Window((2, 1), (1, 2), pad=(0, 1, 0, 0)), 1, 7))


@quick
@given(st.data(), small, small, st.integers(2, 9), st.integers(1, 2), st.integers(-128, 127), seeds)
def test_depthwise_convolution(
    data: st.DataObject,
    height: int,
    width: int,
    depth: int,
    multiplier: int,
    pad_value: int,
    seed: int,
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth))
    window = data.draw(windows(height, width))
    y = network.conv(x, depth * multiplier, window, depth, pad_value)
    model = alone(network, x, y)
    layer = model.compilation.layers[1]
    # Kernels of depthwise convolutions multiply padding; `direct` skips it.
    taps = y.shape[1] * y.shape[2] * window.kernel[0] * window.kernel[1]
    executed = tapped(x, window) if layer.kernel == "direct" else taps
    assert layer.executed_macs == executed * depth * multiplier


@quick
@given(
    st.data(),
    small,
    small,
    st.integers(2, 3),
    st.integers(2, 4),
    st.integers(1, 5),
    st.integers(-128, 127),
    seeds,
)
def test_grouped_convolution(
    data: st.DataObject,
    height: int,
    width: int,
    groups: int,
    inside: int,
    outside: int,
    pad_value: int,
    seed: int,
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, height, width, groups * inside))
    window = data.draw(windows(height, width))
    y = network.conv(x, groups * outside, window, groups, pad_value)
    model = alone(network, x, y)
    executed = model.compilation.layers[1].executed_macs
    assert executed == tapped(x, window) * groups * inside * outside


@quick
@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20), st.booleans(), seeds)
def test_dense(rows: int, depth: int, channels: int, per_channel: bool, seed: int) -> None:
    network = Network(seed)
    x = network.negate(network.input(rows, depth))
    y = network.dense(x, channels, per_channel)
    model = alone(network, x, y)
    layer = model.compilation.layers[1]
    assert layer.macs == layer.executed_macs == rows * depth * channels


@quick
@given(st.data(), small, small, small, st.sampled_from(["max", "sum"]), seeds)
def test_pooling(
    data: st.DataObject, height: int, width: int, depth: int, kind: str, seed: int
) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, height, width, depth))
    y = network.pool(x, data.draw(windows(height, width)), kind)
    model = alone(network, x, y)
    assert sum(layer.macs for layer in model.compilation.layers) == 0


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8), seeds)
def test_additions(steps: list[tuple[int, int]], seed: int) -> None:
    """Of any two results so far: in place only where nobody reads the input again."""
    network = Network(seed)
    values = [network.input(1, 3, 5, 2), network.input(1, 3, 5, 2)]
    for first, second in steps:
        x, y = values[first % len(values)], values[second % len(values)]
        values.append(network.add(x, y) if x is not y else network.negate(x))
    check(network, values[-1], values[len(values) // 2 + 1])


@quick
@given(small, small, seeds)
def test_broadcast_addition(columns: int, channels: int, seed: int) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, 2, columns, channels))
    y = network.negate(network.input(channels))
    check(network, network.add(x, y))


@quick
@given(st.integers(1, 4), st.integers(1, 12), st.booleans(), seeds)
def test_softmax(rows: int, classes: int, in_arena: bool, seed: int) -> None:
    """Reductions that every element needs, a table, divisions."""
    network = Network(seed)
    x = network.input(rows, classes)
    y = network.softmax(network.negate(x) if in_arena else x)
    model = check(network, network.negate(y) if in_arena else y)
    if not in_arena and classes > 1:
        # The greatest and the sum of each row have a buffer: they are computed once.
        assert model.compilation.arena_bytes >= rows * (1 + 4)


@quick
@given(st.integers(1, 4), st.integers(1, 20), seeds)
def test_float_sums(rows: int, columns: int, seed: int) -> None:
    """Rounded after every addition, and kept in a buffer."""
    network = Network(seed)
    check(network, network.negate(network.float_sum(network.negate(network.input(rows, columns)))))


def test_all_kinds_of_layers_together() -> None:
    network, result = everything()
    check(network, result)


@quick
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(1, 3), seeds)
def test_concatenation(sizes: list[int], axis: int, seed: int) -> None:
    network = Network(seed)
    parts = []
    for size in sizes:
        shape = [1, 2, 3, 2]
        shape[axis] = size
        parts.append(network.negate(network.input(*shape)))
    check(network, network.negate(network.concat([*parts, parts[0]], axis)))


@quick
@given(st.tuples(*[st.integers(0, 3)] * 4), st.integers(-128, 127), st.booleans(), seeds)
def test_padding(pad: tuple[int, int, int, int], value: int, last: bool, seed: int) -> None:
    network = Network(seed)
    x = network.negate(network.input(1, 3, 2, 3))
    y = network.pad(x, pad, value, layer=True)
    check(network, y if last else network.negate(y))


def test_reshapes_cost_nothing() -> None:
    network = Network()
    x = network.negate(network.input(1, 4, 3, 2))
    y = network.negate(network.reshape(x, [24]))
    z = network.dense(network.reshape(y, [6, 4]), 5)
    model = check(network, network.reshape(z, [1, 5, 6]))
    assert [layer.op for layer in model.compilation.layers] == [
        "negate",
        "negate",
        "fully_connected",
    ]


def test_a_reshape_within_a_layer() -> None:
    """Read element by element, at indices taken apart and put together again."""
    network = Network()
    x = network.input(6, 4)
    padded = network.op(
        "tensor.pad " + x.name + " low[1, 0] high[1, 1] {\n^bb0(%i: index, %j: index):\n"
        f"tensor.yield {network.scalar(9, 'i8')} : i8\n}} : tensor<6x4xi8> to tensor<8x5xi8>"
    )
    flat = network.op(
        f"tensor.collapse_shape {padded} [[0, 1]] : tensor<8x5xi8> into tensor<40xi8>"
    )
    name = network.op(
        f"tensor.expand_shape {flat} [[0, 1, 2]] output_shape [2, 5, 4]"
        " : tensor<40xi8> into tensor<2x5x4xi8>"
    )
    array = np.pad(x.array, [(0, 0), (1, 1), (0, 1)], constant_values=9).reshape(-1, 2, 5, 4)
    check(network, network.negate(Value(name, array)))


def test_a_choice_evaluates_only_what_it_takes() -> None:
    """The index of the branch not taken would lie outside of the table."""
    network = Network()
    x = network.input(40)
    table = np.arange(100, dtype=np.int8)
    constant = network.constant(table, "i8")
    body = f"""%zero = arith.constant 0 : i8
      %top = arith.constant 99 : i8
      %low = arith.cmpi sge, %a0, %zero : i8
      %high = arith.cmpi sle, %a0, %top : i8
      %inside = arith.andi %low, %high : i1
      %r = scf.if %inside -> (i8) {{
        %at = arith.index_cast %a0 : i8 to index
        %entry = tensor.extract {constant}[%at] : tensor<100xi8>
        %even = arith.trunci %entry : i8 to i1
        %inner = scf.if %even -> (i8) {{
          scf.yield %entry : i8
        }} else {{
          scf.yield %top : i8
        }}
        scf.yield %inner : i8
      }} else {{
        scf.yield %zero : i8
      }}"""
    name = network.generic("choice", [(x.name, x.type, identity(1))], [40], body)
    entry = table[np.clip(x.array, 0, 99)]
    inside = (x.array >= 0) & (x.array <= 99)
    check(network, Value(name, np.where(inside, np.where(entry % 2 == 1, entry, 99), 0)))


def test_a_sum_of_indices() -> None:
    network = Network()
    x = network.input(7)
    maps = "affine_map<(d0, d1) -> (d0 + d1 * 2)>"
    name = network.generic(
        "hankel", [(x.name, x.type, maps)], [3, 3], "%r = arith.ori %a0, %a0 : i8"
    )
    at = np.add.outer(np.arange(3), 2 * np.arange(3))
    check(network, network.negate(Value(name, x.array[:, at])))


def test_a_position_as_an_operand() -> None:
    network = Network()
    x = network.negate(network.input(2, 5))
    body = """%j = linalg.index 1 : index
      %n = arith.index_cast %j : index to i8
      %r = arith.xori %a0, %n : i8"""
    name = network.generic("stamp", [(x.name, x.type, identity(2))], [2, 5], body)
    check(network, Value(name, x.array ^ np.arange(5, dtype=np.int8)))


def test_one_result_given_twice() -> None:
    network = Network()
    x = network.input(1, 2, 6)
    y = network.negate(x)
    check(network, y, network.reshape(y, [3, 4]), network.negate(y), y)


def test_an_operand_that_sees_the_same_buffer_elsewhere() -> None:
    """The sum of a matrix and its transpose, which another reshape makes of the same buffer."""
    network = Network()
    x = network.negate(network.input(4, 4))
    folded = network.reshape(network.reshape(x, [16]), [4, 4])
    swapped = "affine_map<(d0, d1) -> (d1, d0)>"
    body = "%r = arith.xori %a0, %a1 : i8"
    inputs = [(x.name, x.type, identity(2)), (folded.name, folded.type, swapped)]
    name = network.generic("both", inputs, [4, 4], body)
    y = Value(name, x.array ^ x.array.transpose(0, 2, 1))
    check(network, network.negate(y))


class TestOtherForms:
    """Layers around a convolution that no kernel takes: they run element by element."""

    def accumulate(self, network: Network, x: Value) -> tuple[str, np.ndarray]:
        """A 1×1 convolution of (1, 3, 3, 3) to as many channels, starting from zero."""
        kind = tensor((1, 3, 3, 3), "i32")
        weights = network.random.integers(-128, 128, (3, 1, 1, 3))
        acc = network.op(
            "linalg.conv_2d_nhwc_fhwc"
            f" ins({x.name}, {network.constant(weights, 'i8')} : {x.type}, tensor<3x1x1x3xi8>)"
            f" outs({network.fill((1, 3, 3, 3), 7, 'i32')} : {kind}) -> {kind}"
        )
        return acc, np.einsum("nbhwi,oi->nbhwo", x.array.astype(int), weights[:, 0, 0]) + 7

    def narrow(self, network: Network, inputs: list[tuple[str, str]], array: np.ndarray) -> None:
        """The layer's result: the exclusive or of bits 8 to 15 of all inputs."""
        shape = array.shape[1:]
        kind = tensor(shape, "i32")
        scalars = " ".join(
            f"%mix{i} = arith.xori %mix{i - 1}, %a{i} : i32\n" for i in range(1, len(inputs))
        )
        body = f"""%zero = arith.constant 0 : i32
          %mix0 = arith.ori %a0, %zero : i32
          {scalars} %eight = arith.constant 8 : i32
          %t = arith.shrsi %mix{len(inputs) - 1}, %eight : i32
          %r = arith.trunci %t : i32 to i8"""
        operands = [(name, kind, index_map) for name, index_map in inputs]
        name = network.generic("other", operands, shape, body)
        check(network, network.negate(Value(name, (array >> 8).astype(np.int8))))

    def test_a_transposed_result(self) -> None:
        network = Network(1)
        x = network.negate(network.input(1, 3, 3, 3))
        acc, array = self.accumulate(network, x)
        swapped = "affine_map<(d0, d1, d2, d3) -> (d0, d2, d1, d3)>"
        self.narrow(network, [(acc, swapped)], array.transpose(0, 1, 3, 2, 4))

    def test_accumulators_read_twice(self) -> None:
        """In place, then transposed."""
        network = Network(2)
        x = network.negate(network.input(1, 3, 3, 3))
        acc, array = self.accumulate(network, x)
        kind = tensor((1, 3, 3, 3), "i32")
        swapped = "affine_map<(d0, d1, d2, d3) -> (d0, d2, d1, d3)>"
        other = network.generic(
            "", [(acc, kind, swapped)], (1, 3, 3, 3), "%r = arith.ori %a0, %a0 : i32", "i32"
        )
        inputs = [(acc, identity(4)), (other, identity(4))]
        self.narrow(network, inputs, array ^ array.transpose(0, 1, 3, 2, 4))

    def test_accumulators_read_by_index(self) -> None:
        network = Network(2)
        x = network.negate(network.input(1, 3, 3, 3))
        acc, array = self.accumulate(network, x)
        kind = tensor((1, 3, 3, 3), "i32")
        body = f"""%b = linalg.index 0 : index
          %h = linalg.index 1 : index
          %w = linalg.index 2 : index
          %c = linalg.index 3 : index
          %e = tensor.extract {acc}[%b, %w, %h, %c] : {kind}
          %r = arith.xori %a0, %e : i32"""
        both = network.generic("", [(acc, kind, identity(4))], (1, 3, 3, 3), body, "i32")
        self.narrow(network, [(both, identity(4))], array ^ array.transpose(0, 1, 3, 2, 4))

    def test_a_result_of_another_shape(self) -> None:
        """Whose other operand must be read where the result has it."""
        network = Network(3)
        x = network.negate(network.input(1, 3, 3, 3))
        acc, array = self.accumulate(network, x)
        flat = network.op(
            f"tensor.collapse_shape {acc} [[0], [1, 2, 3]] : tensor<1x3x3x3xi32>"
            " into tensor<1x27xi32>"
        )
        table = network.random.integers(-30000, 30000, (1, 27))
        inputs = [(flat, identity(2)), (network.constant(table, "i32"), identity(2))]
        self.narrow(network, inputs, array.reshape(-1, 1, 27) ^ table)

    def test_a_bias_of_rows(self) -> None:
        network = Network(4)
        x = network.negate(network.input(1, 3, 3, 3))
        bias = network.random.integers(-30000, 30000, 3)
        kind = tensor((1, 3, 3, 3), "i32")
        weights = network.random.integers(-128, 128, (3, 1, 1, 3))
        init = network.op(
            f"linalg.broadcast ins({network.constant(bias, 'i32')} : tensor<3xi32>)"
            f" outs({network.empty((1, 3, 3, 3), 'i32')} : {kind}) dimensions = [0, 2, 3]"
        )
        acc = network.op(
            "linalg.conv_2d_nhwc_fhwc"
            f" ins({x.name}, {network.constant(weights, 'i8')} : {x.type}, tensor<3x1x1x3xi8>)"
            f" outs({init} : {kind}) -> {kind}"
        )
        array = np.einsum("nbhwi,oi->nbhwo", x.array.astype(int), weights[:, 0, 0])
        self.narrow(network, [(acc, identity(4))], array + bias[None, None, :, None, None])

    @pytest.mark.parametrize("form", ["transposed", "unsigned"])
    def test_products(self, form: str) -> None:
        network = Network(5)
        x = network.negate(network.input(2, 4))
        weights = network.random.integers(-128, 128, (4, 4))
        given, signed = weights, x.array.astype(int)
        attributes = ""
        if form == "transposed":
            given = weights.T
            maps = ("(d0, d2)", "(d1, d2)", "(d0, d1)")
            listed = ", ".join(f"affine_map<(d0, d1, d2) -> {m}>" for m in maps)
            attributes = f"indexing_maps = [{listed}]"
        else:
            attributes = "{cast = #linalg.type_fn<cast_unsigned>}"
            signed, weights = signed & 255, weights & 255
        kind = tensor((2, 4), "i32")
        acc = network.op(
            f"linalg.matmul {attributes}"
            f" ins({x.name}, {network.constant(given, 'i8')} : {x.type}, {tensor(given.shape)})"
            f" outs({network.fill((2, 4), 0, 'i32')} : {kind}) -> {kind}"
        )
        self.narrow(network, [(acc, identity(2))], signed @ weights)


class TestSharedMemory:
    """Layers whose input may lie over their output, as far as they no longer read it."""

    def mix(
        self, network: Network, acc: tuple[str, np.ndarray], other: Value, index_map: str
    ) -> Value:
        """The layer that adds another tensor to accumulators; ``other.array`` as it is read."""
        shape = acc[1].shape[1:]
        body = """%wide = arith.extsi %a1 : i8 to i32
          %four = arith.constant 4 : i32
          %large = arith.shli %wide, %four : i32
          %sum = arith.addi %a0, %large : i32
          %eight = arith.constant 8 : i32
          %t = arith.shrsi %sum, %eight : i32
          %r = arith.trunci %t : i32 to i8"""
        inputs = [
            (acc[0], tensor(shape, "i32"), identity(4)),
            (other.name, tensor(shape), index_map),
        ]
        array = (acc[1] + (other.array.astype(np.int64) << 4)) >> 8
        return Value(network.generic("fused", inputs, shape, body), array.astype(np.int8))

    @pytest.mark.parametrize("swapped", [False, True])
    @pytest.mark.parametrize("same", [False, True])
    def test_accumulators_and_another_input(self, same: bool, swapped: bool) -> None:
        """Of the layer, which is its first one at times, read in place or transposed."""
        network = Network(6)
        x = network.negate(network.input(1, 6, 6, 5))
        other = x if same else network.negate(network.input(1, 6, 6, 5))
        weights = network.random.integers(-128, 128, (5, 1, 1, 5))
        kind = tensor((1, 6, 6, 5), "i32")
        acc = network.op(
            "linalg.conv_2d_nhwc_fhwc"
            f" ins({x.name}, {network.constant(weights, 'i8')} : {x.type}, tensor<5x1x1x5xi8>)"
            f" outs({network.fill((1, 6, 6, 5), 7, 'i32')} : {kind}) -> {kind}"
        )
        array = np.einsum("nbhwi,oi->nbhwo", x.array.astype(np.int64), weights[:, 0, 0]) + 7
        index_map = identity(4)
        if swapped:
            index_map = "affine_map<(d0, d1, d2, d3) -> (d0, d2, d1, d3)>"
            other = Value(other.name, other.array.transpose(0, 1, 3, 2, 4))
        check(network, network.negate(self.mix(network, (acc, array), other, index_map)))

    def test_pooling_of_a_transposed_input(self) -> None:
        network = Network(7)
        x = network.negate(network.input(1, 6, 6, 3))
        swapped = "affine_map<(d0, d1, d2, d3) -> (d0, d2, d1, d3)>"
        widen = "%r = arith.extsi %a0 : i8 to i32"
        wide = network.generic("", [(x.name, x.type, swapped)], x.shape, widen, "i32")
        kernel, init = network.empty((2, 2), "i32"), network.fill((1, 5, 5, 3), 0, "i32")
        acc = network.op(
            f"linalg.pooling_nhwc_sum ins({wide}, {kernel} : {tensor(x.shape, 'i32')},"
            f" tensor<2x2xi32>) outs({init} : tensor<1x5x5x3xi32>) -> tensor<1x5x5x3xi32>"
        )
        patches = Window((2, 2)).patches(x.array.astype(np.int64).transpose(0, 1, 3, 2, 4))
        array = np.sum([patch for _, patch in patches], axis=0)[:, None]
        check(network, network.negate(network.requantize("average_pool2d", acc, array)))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.data(), small, small, st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
    def test_the_distance_is_enough(
        self, data: st.DataObject, height: int, width: int, depth: int, channels: int, pixels: int
    ) -> None:
        """While a block of pixels is computed, its last byte may be written before anything
        that its windows or later ones cover is read; none of it, where they are read first."""
        window = data.draw(windows(height, width))
        rows, columns = window.output(height, width)
        distance = _window_distance(
            (height, width, depth),
            (rows, columns, channels),
            window.stride,
            (window.pad[0], window.pad[1]),
            pixels,
        )
        least = np.full((rows, columns), np.inf)
        for row, column in np.ndindex(rows, columns):
            taps = [
                [k for k in starts if 0 <= k < size]
                for starts, size in zip(window.taps(row, column), (height, width), strict=True)
            ]
            if all(taps):
                least[row, column] = (min(taps[0]) * width + min(taps[1])) * depth
        needed = 0
        for row, column in np.ndindex(rows, columns):
            later = min(least[row, column:].min(), least[row + 1 :].min(initial=np.inf))
            end = (row * columns + min(column + pixels, columns)) * channels
            needed = max(needed, end - later)
        assert distance >= needed
        if not any(window.pad):
            assert distance == needed
