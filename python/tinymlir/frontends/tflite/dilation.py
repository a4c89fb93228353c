"""SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND, between which a convolution has gaps in its window."""

from __future__ import annotations

from tinymlir.frontends.canonical import movement

from .movement import placed_result
from .operands import CONVERT_AGAIN, Operands
from .registry import operator
from .schema import Node
from .values import Integer, Phases, Value

_NOTE = "int8, around a convolution, which dilates it"


def _blocks(imp: Operands, node: Node, rank: int) -> tuple[list[int], list[list[int]]]:
    """The steps along each dimension, and two amounts for each of them."""
    block, amounts = imp.integers(node, 1), imp.integers(node, 2)
    paired = len(amounts) == 2 * len(block)
    if min(block, default=0) < 1 or min(amounts, default=0) < 0 or not paired:
        imp.fail(node, f"the block {block} with {amounts} makes no sense", CONVERT_AGAIN)
    if not 1 <= len(block) <= min(rank - 1, 2):
        imp.fail(node, f"{len(block)} of {rank} dimensions are split", CONVERT_AGAIN)
    rest = rank - 1 - len(block)
    pairs = [amounts[i : i + 2] for i in range(0, len(amounts), 2)]
    return [1, *block, *[1] * rest], [[0, 0], *pairs, *[[0, 0]] * rest]


@operator("SPACE_TO_BATCH_ND", note=_NOTE)
def space_to_batch(imp: Operands, node: Node) -> Value:
    x = imp.activation(node)
    steps, amounts = _blocks(imp, node, len(x.shape))
    sizes = [n + sum(pair) for n, pair in zip(x.shape, amounts, strict=True)]
    if x.shape[0] != 1 or any(n % step for n, step in zip(sizes, steps, strict=True)):
        imp.fail(node, f"{list(x.shape)} does not split into {steps}", CONVERT_AGAIN)
    low, high = (tuple(pair[side] for pair in amounts) for side in (0, 1))
    image = Integer(x.activation, placed_result(imp, node, x))
    return Phases(image, tuple(steps), low, high)


@operator("BATCH_TO_SPACE_ND", note=_NOTE)
def batch_to_space(imp: Operands, node: Node) -> Value:
    x = imp.value(node, 0)
    if not isinstance(x, Phases):
        imp.fail(node, "follows no SPACE_TO_BATCH_ND", "convert the network for one sample")
    steps, crops = _blocks(imp, node, len(x.shape))
    image = x.image
    if tuple(steps) != x.steps or any((*x.low, *x.high)):
        imp.fail(node, f"joins {steps}, not the {list(x.steps)} that were split", CONVERT_AGAIN)
    places = [range(low, n - high) for n, (low, high) in zip(image.shape, crops, strict=True)]
    if any(len(taken) < 1 for taken in places):
        imp.fail(node, f"{crops} leaves nothing of {list(image.shape)}", CONVERT_AGAIN)
    activation = image.activation
    if any(any(pair) for pair in crops):
        activation = movement.select(imp.builder, node.name, "slice", activation, places)
    return Integer(activation, placed_result(imp, node, image))
