"""Pairs of QuantizeLinear and DequantizeLinear that follow one another directly.

Exporters leave them where two observers meet. ONNX Runtime replaces two such pairs of
different scales by one, over the reals that both can represent, when it loads a
network; so that the results are its results, and for the sake of the layer that is
saved, the same is done here.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .graph import Graph, Node
from .values import Array


def merge_pairs(graph: Graph) -> None:
    """Merge what stands in ``graph`` as quantise, dequantise, quantise, dequantise."""
    at = 0
    while at < len(graph.nodes):
        # What is left of two pairs comes later in the list, and may meet a third.
        if not _merge(graph, graph.nodes[at]):
            at += 1


def _merge(graph: Graph, dequantize: Node) -> bool:
    """Merge the pairs around ``dequantize``; tells whether there were two."""
    if dequantize.op != "DequantizeLinear":
        return False
    before = graph.producer(dequantize.input(0))
    after = _only_reader(graph, dequantize)
    if before is None or after is None or (before.op, after.op) != ("QuantizeLinear",) * 2:
        return False
    if _only_reader(graph, before) is not dequantize:
        return False
    last = _only_reader(graph, after)
    if last is None or last.op != "DequantizeLinear":
        return False
    pairs = [_parameters(graph, node) for node in (dequantize, after)]
    known = [pair for pair in pairs if pair is not None]
    if len(known) != 2 or known[0][1].dtype != known[1][1].dtype or known[0] == known[1]:
        return False
    common = _common(known)
    if common is None:
        return False
    names = [f"{after.name}:{what}" for what in ("scale", "zero_point")]
    graph.constants.update(zip(names, common, strict=True))
    replaced = {
        id(dequantize): [],
        id(after): [],
        id(before): [dataclasses.replace(before, inputs=(before.input(0), *names))],
        id(last): [dataclasses.replace(last, inputs=(before.outputs[0], *names))],
    }
    graph.nodes = [new for node in graph.nodes for new in replaced.get(id(node), [node])]
    return True


def _only_reader(graph: Graph, node: Node) -> Node | None:
    readers = list(graph.consumers(node.outputs[0]))
    return readers[0] if len(readers) == 1 and node.outputs[0] not in graph.outputs else None


def _parameters(graph: Graph, node: Node) -> tuple[Array, Array] | None:
    """Scale and zero point, where they are one constant number each."""
    scale, zero_point = (graph.known(node.input(i)) for i in (1, 2))
    if scale is None or zero_point is None or (scale.size, zero_point.size) != (1, 1):
        return None
    if scale.dtype != np.float32 or zero_point.dtype not in (np.int8, np.uint8):
        return None
    return scale.reshape(()), zero_point.reshape(())


def _common(pairs: list[tuple[Array, Array]]) -> tuple[Array, Array] | None:
    """Scale and zero point for the reals that both pairs represent, in float32."""
    limits = np.iinfo(pairs[0][1].dtype)
    span = np.float32(limits.max - limits.min)
    low = max(np.float32(limits.min - int(z)) * s for s, z in pairs)
    high = min(np.float32(limits.max - int(z)) * s for s, z in pairs)
    scale = np.asarray((high - low) / span, np.float32)
    if not scale > 0:
        return None
    point = np.round(np.float32(limits.min) - low / scale)
    return scale, np.asarray(np.clip(point, limits.min, limits.max), pairs[0][1].dtype)
