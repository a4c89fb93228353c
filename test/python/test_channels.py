"""Channels that go or change places, in networks whose results NumPy knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from networks import HOST, Array, Network, Value, Window, check, lower

from tinymlir.bindings import ir
from tinymlir.channels import find_channels
from tinymlir.host import HostModel
from tinymlir.pipeline import run_pipeline
from tinymlir.skipping.annotations import skippable

SAME = Window((3, 3), pad=(1, 1, 1, 1))
DEAD = [1, 2, 5, 7, 8]


pytestmark = pytest.mark.usefixtures("context")


class Pruned(Network):
    """A network of which the next weights may be pruned."""

    def pruned(self, change: Callable[[Array], None]) -> Pruned:
        self.change = change
        return self

    def _weights(self, *shape: int) -> Array:
        weights = super()._weights(*shape)
        if hasattr(self, "change"):
            self.change(weights)
            del self.change
        return weights


def no_columns(weights: Array) -> None:
    weights[..., DEAD] = 0


def no_rows(weights: Array) -> None:
    weights[DEAD] = 0


def shapes(network: Network, output: Value) -> list[tuple[int, ...]]:
    """Of the weights of each layer, once channels are dropped."""
    module = ir.Module.parse(network.text(output))
    run_pipeline(module, "builtin.module(tiny-outline-layers,tiny-drop-channels)")
    assert module.operation.verify()
    return [conv.weights.shape for _, conv in skippable(module.operation)]


def test_channels_that_nobody_reads_go_from_all_layers() -> None:
    network = Pruned(2)
    x = network.conv(network.input(1, 8, 6, 3), 12, SAME, pad_value=5)
    x = network.conv(x, 12, SAME, 12, pad_value=-7)
    x = network.pool(x, Window((2, 2), (2, 2)), "max")
    x = network.lookup(x)
    y = network.pruned(no_columns).conv(x, 8, Window(), pad_value=0)
    z = network.dense(network.reshape(y, [1, 96]), 3)
    # Seven are read; of multiples of four there is one left.
    assert shapes(network, z) == [
        (1, 8, 3, 3, 3),
        (8, 1, 3, 3, 1),
        (1, 8, 1, 1, 8),
        (1, 3, 1, 1, 96),
    ]
    check(network, z)


def test_channels_behind_a_flattened_tensor() -> None:
    network = Pruned(3)
    x = network.conv(network.input(1, 4, 3, 2), 8, Window())

    def unread(weights: Array) -> None:
        weights.reshape(12, 8, 5)[:, 4:] = 0

    y = network.pruned(unread).dense(network.reshape(x, [1, 96]), 5)
    assert shapes(network, y) == [(1, 4, 1, 1, 2), (1, 5, 1, 1, 48)]
    check(network, y)


def test_what_goes_takes_those_before_along() -> None:
    network = Pruned(4)
    x = network.conv(network.input(1, 4, 4, 3), 8, Window())

    def only_for_the_last(weights: Array) -> None:
        weights[0, :4, ..., :4] = 0

    def without_the_last(weights: Array) -> None:
        weights[..., 4:] = 0

    x = network.pruned(only_for_the_last).conv(x, 8, Window())
    x = network.pruned(without_the_last).conv(x, 4, Window())
    assert shapes(network, x) == [(1, 4, 1, 1, 3), (1, 4, 1, 1, 4), (1, 4, 1, 1, 4)]
    check(network, x)


@pytest.mark.parametrize("padded", [False, True])
def test_constants_go_into_biases_but_for_other_padding(padded: bool) -> None:
    network = Pruned(5)
    x = network.conv(network.input(1, 5, 5, 4), 12, Window())
    x = network.pruned(no_rows).conv(x, 12, Window((2, 2)), 12)
    # No requantisation gives 111 for these biases.
    y = network.conv(x, 4, SAME if padded else Window((2, 3)), pad_value=111)
    width = 12 if padded else 8
    assert shapes(network, y)[:2] == [(1, width, 1, 1, 4), (width, 1, 2, 2, 1)]
    check(network, y)


def test_constants_of_the_same_padding() -> None:
    network = Pruned(5)
    x = network.conv(network.input(1, 5, 5, 4), 4, Window())

    def one_tap(weights: Array) -> None:
        weights[:] = 0

    x = network.pruned(one_tap).conv(x, 4, Window((2, 2)), 4, per_channel=False)
    value = int(x.array[0].reshape(-1, 4)[0, 2])
    y = network.conv(x, 4, SAME, pad_value=value)
    module = ir.Module.parse(network.text(y))
    run_pipeline(module, "builtin.module(tiny-outline-layers,tiny-drop-channels)")
    left = [conv for _, conv in skippable(module.operation)][-1]
    assert not left.weights[..., 2].any(), "padded with that constant"
    check(network, y)


def test_channels_that_others_need_stay() -> None:
    network = Pruned(6)
    x = network.conv(network.input(1, 4, 4, 3), 12, Window())
    y = network.pruned(no_columns).conv(x, 12, Window())
    z = network.add(x, y)
    assert shapes(network, z) == [(1, 12, 1, 1, 3), (1, 12, 1, 1, 12)]
    output = network.concat([x, y], 3)
    assert shapes(network, output) == [(1, 12, 1, 1, 3), (1, 12, 1, 1, 12)]
    check(network, z, cores=[HOST])


def test_channels_in_another_order() -> None:
    network = Network(7)
    x = network.conv(network.input(1, 8, 6, 3), 12, SAME, pad_value=5)
    x = network.conv(x, 12, SAME, 12, pad_value=-7)
    x = network.pool(x, Window((8, 3), (1, 3)), "sum")
    y = network.dense(network.reshape(x, [1, 24]), 6)
    module = ir.Module.parse(network.text(y))
    run_pipeline(module, "builtin.module(tiny-outline-layers)")
    layer = [layer for layer, _ in skippable(module.operation)][1]
    before = str(module)
    channels = find_channels(module.operation, layer)
    assert channels is not None
    assert not channels.unread().any()
    changed = channels.take(np.random.default_rng(0).permutation(12))
    assert len(changed) == 4
    assert str(module) != before
    result = HostModel(lower(str(module), HOST))(*(v.array for v in network.inputs))[0]
    assert (result == y.array).all()
