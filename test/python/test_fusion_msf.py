"""msf-CNN's search is a restriction of ours: it finds what the authors' own code finds.

Networks are those that `analysis_optimization.py` of github.com/TinyPART/msf-CNN defines; points
are what that code returns on them, in bytes and as the ratio of multiply-accumulates.
"""

from __future__ import annotations

import math

import pytest

from tinymlir.fusion.graph import Graph, Layer, Read, Tensor, Window, chain
from tinymlir.fusion.msf import edges
from tinymlir.fusion.search import front

#: Output channels, expansion, stride and kernel of each inverted bottleneck.
Bottlenecks = list[tuple[int, int, int, int]]
MOBILENET: Bottlenecks = [
    *((5, 1, 1, 3), (8, 6, 2, 3), (8, 6, 1, 3), (11, 6, 2, 3), (11, 6, 1, 3), (11, 6, 1, 3)),
    *((22, 6, 2, 3), (22, 6, 1, 3), (22, 6, 1, 3), (22, 6, 1, 3), (33, 6, 1, 3), (33, 6, 1, 3)),
    *((33, 6, 1, 3), (56, 6, 2, 3), (56, 6, 1, 3), (56, 6, 1, 3), (112, 6, 1, 3)),
]
VWW: Bottlenecks = [
    *((16, 6, 2, 3), (16, 3, 1, 3), (16, 3, 1, 3), (24, 3, 2, 7), (24, 6, 1, 3), (24, 5, 1, 5)),
    *((40, 6, 2, 7), (40, 6, 1, 7), (48, 6, 1, 3), (48, 4, 1, 3), (96, 5, 2, 5), (96, 5, 1, 3)),
    *((96, 4, 1, 3), (160, 3, 1, 7)),
]
IMAGENET: Bottlenecks = [
    *((16, 3, 2, 7), (16, 5, 1, 3), (16, 5, 1, 7), (16, 4, 1, 5), (24, 5, 2, 5), (24, 5, 1, 5)),
    *((24, 5, 1, 5), (40, 5, 2, 3), (40, 6, 1, 7), (40, 4, 1, 5), (48, 5, 1, 5), (48, 5, 1, 7)),
    *((48, 5, 1, 3), (96, 6, 2, 3), (96, 5, 1, 7), (96, 4, 1, 3), (160, 5, 1, 7)),
]
#: Least RAM with at most so many times the multiply-accumulates; least of those within so much RAM.
POINTS = {
    "mobilenet": (
        {1.1: (67905, 1.0974), 1.2: (67905, 1.0974), 1.3: (21288, 1.2976), 1.4: (15340, 1.382)}
        | {1.5: (15340, 1.382), 1.6: (13926, 1.5632), math.inf: (7887, 1.6795)},
        {8000: (7887, 1.6795), 16000: (15340, 1.382), 32000: (25674, 1.2534)}
        | {64000: (63741, 1.2295), 128000: (83065, 1.0188), 256000: (181440, 1.0)},
    ),
    "vww": (
        {1.1: (32792, 1.039), 1.2: (26128, 1.113), 1.3: (17760, 1.296), 1.4: (13376, 1.345)}
        | {1.5: (13376, 1.345), math.inf: (12000, 1.957)},
        {16000: (13376, 1.345), 32000: (26128, 1.113), 64000: (38576, 1.023), 128000: (89600, 1.0)},
    ),
    "imagenet": (
        {1.1: (190096, 1.0412), 1.2: (186736, 1.1944), 1.3: (186032, 1.2509)}
        | {1.4: (156672, 1.3688), 1.5: (94184, 1.4549), 1.6: (73056, 1.5607)}
        | {math.inf: (42643, 2.695)},
        {64000: (62880, 2.019), 128000: (94184, 1.455), 256000: (247808, 1.0)},
    ),
}


class Builder:
    """A chain of square convolutions, padded by half of their kernels."""

    def __init__(self, size: int) -> None:
        self.source = self.last = Tensor(size, size, 3)
        self.layers: list[tuple[Layer, Tensor]] = []

    def conv(self, channels: int, kernel: int, stride: int, depthwise: bool = False) -> None:
        size = (self.last.rows - 1) // stride + 1
        output = Tensor(size, size, channels)
        window = Window(stride, kernel // 2, kernel)
        macs = output.bytes * kernel**2 * (1 if depthwise else self.last.channels)
        name = f"layer{len(self.layers)}"
        self.layers.append((Layer(name, "conv2d", (Read(0, window, window),), 0, macs), output))
        self.last = output

    def bottleneck(self, channels: int, expansion: int, stride: int, kernel: int) -> None:
        inside = self.last.channels * expansion
        self.conv(inside, 1, 1)
        self.conv(inside, kernel, stride, depthwise=True)
        self.conv(channels, 1, 1)

    def graph(self) -> Graph:
        return chain(self.source, self.layers)


def mobilenet() -> Graph:
    builder = Builder(144)
    builder.conv(11, 3, 2)
    for bottleneck in MOBILENET:
        builder.bottleneck(*bottleneck)
    builder.conv(448, 1, 1)
    return builder.graph()


def mcunet(size: int, bottlenecks: Bottlenecks) -> Graph:
    builder = Builder(size)
    builder.conv(16, 3, 2)
    builder.conv(16, 3, 1, depthwise=True)
    builder.conv(8, 1, 1)
    for bottleneck in bottlenecks:
        builder.bottleneck(*bottleneck)
    return builder.graph()


NETWORKS = {
    "mobilenet": (mobilenet(), 194400, 18909490),
    "vww": (mcunet(80, VWW), 96000, 11578496),
    "imagenet": (mcunet(176, IMAGENET), 309760, 81625520),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_finds_what_msf_cnn_finds(name: str) -> None:
    graph, ram, macs = NETWORKS[name]
    least_ram, least_macs = POINTS[name]
    ways = list(edges(graph))
    alone = [edge for found in ways for edge in found if edge.first == edge.last]
    assert (max(int(e.bytes[0]) for e in alone), graph.macs) == (ram, macs)
    found = [(size, work / macs) for size, work in front(ways)]
    best = [(next(p for p in found if p[1] <= limit), p) for limit, p in least_ram.items()]
    best += [([p for p in found if p[0] <= size][-1], p) for size, p in least_macs.items()]
    for (size, factor), expected in best:
        assert size == expected[0]
        assert factor == pytest.approx(expected[1], abs=6e-4)


def test_additions_are_left_out_and_branches_are_not_there() -> None:
    whole, part = Tensor(4, 4, 2), Window(1, 1, 3)
    conv = [Layer(f"conv{i}", "conv2d", (Read(i, part, part),), i + 1, 32) for i in range(2)]
    add = Layer("add", "add", (Read(1), Read(2)), 3)
    after = Layer("after", "conv2d", (Read(3, part, part),), 4, 32)
    residual = Graph((whole,) * 5, (*conv, add, after), (0,), (4,))
    plain = chain(whole, [(layer, whole) for layer in (*conv, after)])
    assert front(edges(residual)) == front(edges(plain))
    branch = Layer("branch", "conv2d", (Read(1, part, part),), 3, 32)
    assert not list(edges(Graph((whole,) * 4, (*conv, branch), (0,), (2, 3))))
