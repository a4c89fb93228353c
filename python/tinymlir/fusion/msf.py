"""The fusion graph of msf-CNN, in its own accounting: what its search finds, to compare with.

Huang et al., "msf-CNN: Patch-based Multi-Stage Fusion with Convolutional Neural Networks for
TinyML" (NeurIPS 2025): networks are chains, a fused block computes one output pixel at a time,
keeps columns (H-cache) and computes rows again. Neither the network's input and output nor
requantisation count; additions are not there at all, and networks end before global pooling.
"""

from __future__ import annotations

from collections.abc import Iterator

from tinymlir.fusion.edges import Edges
from tinymlir.fusion.graph import Graph, Layer, Tensor


def edges(graph: Graph) -> Iterator[list[Edges]]:
    """All blocks that end at each layer in turn, for `tinymlir.fusion.search.front`.

    Nothing where the network is no chain of layers with one input, additions left out.
    """
    layers = _chain(graph)
    for last in range(len(layers)):
        found = []
        for first in range(last + 1):
            cost = _cost(graph, layers, first, last)
            if cost is not None:
                size, macs = cost
                found.append(Edges.one(first, last, int(first < last), size=size, macs=macs))
        yield found


def _chain(graph: Graph) -> list[Layer]:
    """The layers up to global pooling, without sums; none where they are no chain."""
    layers: list[Layer] = []
    newest = graph.inputs[0]
    #: tensors that stand for the newest one
    same = {newest}
    for layer in graph.layers:
        sources = {read.tensor for read in layer.reads}
        if layer.elementwise and len(sources) > 1 and same & sources:
            same.add(layer.output)
            continue
        if graph.tensors[layer.output].rows == 1 < graph.tensors[newest].rows:
            return layers
        if len(sources) != 1 or not same & sources or layer.reads[0].rows.repeat > 1:
            return []
        layers.append(layer)
        newest = layer.output
        same = {newest}
    return layers


def _cost(graph: Graph, layers: list[Layer], first: int, last: int) -> tuple[int, int] | None:
    """Bytes and MACs of a block; None where the tile is larger than the block's input.

    Input, output, and for each layer k·t·channels, with k its kernel and t the rows of its input
    under the lowest tile, padding that lies there included (as the authors' code counts); MACs of
    the rows of every tile, computed again where tiles overlap, and of all columns.
    """
    block = layers[first : last + 1]
    source, output = _input(graph, block[0]), graph.tensors[block[-1].output]
    size = (source.bytes if first else 0) + (output.bytes if last + 1 < len(layers) else 0)
    if first == last:
        return size, block[0].macs
    macs, tile, stride = 0, 1, 1
    for layer in reversed(block):
        window, made = layer.reads[0].rows, graph.tensors[layer.output]
        rows = tile
        tile, stride = (tile - 1) * window.stride + window.extent, stride * window.stride
        tiles = (_input(graph, layer).rows + 2 * window.pad - tile) // stride + 1
        macs += tiles * rows * made.columns * (layer.macs // (made.rows * made.columns))
    if tile > min(source.rows, source.columns):
        return None
    place = (source.rows - tile) // stride * stride
    for layer in block:
        window, taken = layer.reads[0].rows, _input(graph, layer)
        size += window.extent * tile * taken.channels
        place //= window.stride
        borders = (place == 0) + (place + tile >= taken.rows)
        tile = (tile + borders * window.pad - window.extent) // window.stride + 1
    return size, macs


def _input(graph: Graph, layer: Layer) -> Tensor:
    return graph.tensors[layer.reads[0].tensor]
