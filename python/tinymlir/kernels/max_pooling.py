"""Max-pooling four channels at a time: words of bytes, compared lane by lane."""

from __future__ import annotations

import itertools

from tinymlir.bindings import ir
from tinymlir.dialects import tiny
from tinymlir.kernels.emitter import Index
from tinymlir.kernels.evaluator import Evaluator
from tinymlir.kernels.words import load_word, store_word
from tinymlir.linalg_info import constant_scalar, dense_ints
from tinymlir.targets import Target

#: Channels of a word.
_LANES = 4
#: Words computed between two branches.
_UNROLL = 4
#: Taps of a window, all without a loop between them.
_MOST_TAPS = 16


def takes(root: ir.Value, core: Target) -> bool:
    """Whether ``root`` is a max-pooling of a layer's input: no padding, whole words of channels."""
    op = root.owner.operation
    compares_bytes = core.has("dsp") or core.has("xcvsimd")
    if not compares_bytes or op.name != "linalg.pooling_nhwc_max":
        return False
    source, window, init = op.operands
    least = init.owner.operation if not isinstance(init, ir.BlockArgument) else None
    return (
        isinstance(source, ir.BlockArgument)
        and str(root.type.element_type) == "i8"
        and root.type.shape[0] == 1
        and root.type.shape[3] % _LANES == 0
        and window.type.shape[0] * window.type.shape[1] <= _MOST_TAPS
        and least is not None
        and least.name == "linalg.fill"
        and constant_scalar(least.operands[0]) == -128
    )


def emit(evaluator: Evaluator, root: ir.Value, source: ir.Value, target: ir.Value) -> None:
    """Fill the flat buffer ``target`` with ``root``, whose operand lies flat in ``source``."""
    emitter, op = evaluator.emitter, root.owner.operation
    _, height, width, channels = root.type.shape
    columns = op.operands[0].type.shape[2]
    strides, dilations = (
        dense_ints(op.attributes[name]) if name in op.attributes else [1, 1]
        for name in ("strides", "dilations")
    )
    taps = [
        (kh * dilations[0] * columns + kw * dilations[1]) * channels
        for kh, kw in itertools.product(*map(range, op.operands[1].type.shape))
    ]

    def pixel(row: Index, column: Index) -> None:
        first = emitter.linear(
            [emitter.mul(row, strides[0]), emitter.mul(column, strides[1]), 0],
            [0, columns, channels],
        )
        start = emitter.linear([row, column, 0], [height, width, channels])

        def word(channel: Index) -> None:
            def load(tap: int) -> ir.Value:
                at = emitter.add(emitter.add(first, channel), tap)
                return load_word(emitter, source, [emitter.add(at, i) for i in range(_LANES)])

            most = load(taps[0])
            for tap in taps[1:]:
                most = tiny.MaxBytesOp(most, load(tap)).res
            at = emitter.add(start, channel)
            store_word(emitter, most, target, [emitter.add(at, i) for i in range(_LANES)])

        emitter.loop(0, channels, _LANES, word, unroll=_UNROLL)

    def row_of_pixels(row: Index) -> None:
        emitter.loop(0, width, 1, lambda column: pixel(row, column))

    emitter.loop(0, height, 1, row_of_pixels)
