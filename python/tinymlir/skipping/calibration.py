"""Statistics of a network's layers, from running it on this machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import func, ir
from tinymlir.host import compile_for_host
from tinymlir.kernels.convolution import Convolution
from tinymlir.linalg_info import behind_views
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.pipeline import run_pipeline
from tinymlir.progress import progress
from tinymlir.skipping.annotations import skippable
from tinymlir.skipping.statistics import Accumulation, Statistics

#: Samples that run at a time, all their layers' results in memory.
_BATCH = 64


def calibrate(module: ir.Module, samples: Sequence[npt.NDArray[np.int8]]) -> dict[str, Statistics]:
    """Statistics by layer symbol, of the layers that `skippable` finds.

    Args:
        module: outlined layers; left as it is. Its context must be active.
        samples: one array per input, (N, *shape), in the object's layout.

    Raises:
        TinymlirError: arrays of another shape or type than the inputs'.
    """
    main = find_main(module.operation)
    calls = [o.operation for o in main.body.blocks[0].operations if o.operation.name == "func.call"]
    layers = {layer.name.value: (layer, conv) for layer, conv in skippable(module.operation)}
    found: dict[str, tuple[ir.Value, Accumulation]] = {}
    for call in calls:
        symbol = call.attributes["callee"].value
        if symbol in layers:
            layer, conv = layers[symbol]
            given = call.operands[list(layer.arguments).index(conv.source)]
            zero_point = _zero_point(module, main, conv, behind_views(given))
            found[symbol] = behind_views(given), Accumulation(conv, zero_point)

    tapped = ir.Module.parse(str(module))
    run_pipeline(tapped, "builtin.module(tiny-tap-layers)")
    host = compile_for_host(tapped)
    starts = range(0, len(samples[0]), _BATCH)
    results = len(main.type.results)
    for start in progress(starts, len(starts), "calibrating"):
        batch = [array[start : start + _BATCH] for array in samples]
        taps = host(*batch)[results:]
        for origin, accumulation in found.values():
            if isinstance(origin, ir.BlockArgument):
                accumulation.add(batch[origin.arg_number])
            else:
                accumulation.add(taps[calls.index(origin.owner.operation)])
    return {symbol: accumulation.finish() for symbol, (_, accumulation) in found.items()}


def _zero_point(module: ir.Module, main: func.FuncOp, conv: Convolution, origin: ir.Value) -> int:
    """What stands for zero in a layer's input: padding has it; else what the frontend said."""
    if any(len(conv.interior(axis)) < conv.out_hw[axis] for axis in (0, 1)):
        return conv.pad_value
    described: ir.Attribute | None = None
    if isinstance(origin, ir.BlockArgument):
        attributes = main.operation.attributes
        if "arg_attrs" in attributes:
            described = attributes["arg_attrs"][origin.arg_number]
    else:
        symbol = origin.owner.operation.attributes["callee"].value
        for child in module.body.operations:
            attributes = child.operation.attributes
            if attributes["sym_name"].value == symbol and "tiny.tensor" in attributes:
                described = attributes["tiny.tensor"]
    known = {named.name: named.attr for named in described or ()}
    return known["tiny.zero_point"].value if "tiny.zero_point" in known else 0
