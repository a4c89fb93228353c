"""``tiny-drop-channels``: channels that nobody reads, or that are constant, are not computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tinymlir import numerics
from tinymlir.bindings import ir
from tinymlir.channels import find_channels
from tinymlir.kernels.convolution import Convolution, replace_constants
from tinymlir.kernels.requantization import read_requantization
from tinymlir.linalg_info import behind_views
from tinymlir.skipping.annotations import forget, skippable

from ._pass import Pass, register_pass
from .tiny_outline_layers import find_main

#: Kernels take channels by words of so many.
_WORD = 4

#: The constant that a channel is, by number.
_Constants = dict[int, int]


@register_pass
@dataclass(frozen=True)
class DropChannels(Pass):
    """Delete channels that are constant or that nobody reads, from all layers that they run through

    A channel whose weights are all zero is constant. Where its readers have no padding, or padding
    of the same value, what they make of it goes into their biases, and their weights for it
    become zero. A channel inside the network that all products multiply by zero is deleted: from
    the layer that makes it, those that it passes channel by channel, and those that read it.
    Of a multiple of four channels, which kernels read as words, a multiple of four stays.

    Before::

        func.func @main(%x: tensor<1x1xi8>) -> tensor<1x1xi8> {
          %h = call @layer0(%x) : (tensor<1x1xi8>) -> tensor<1x2xi8>
          %y = call @layer1(%h) : (tensor<1x2xi8>) -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }
        func.func private @layer0(%x: tensor<1x1xi8>) -> tensor<1x2xi8>
            attributes {tiny.layer = "maker", tiny.macs = 2 : i64, tiny.op = "fully_connected"} {
          %w = arith.constant dense<[[3, 0]]> : tensor<1x2xi8>
          %b = arith.constant dense<[1, 8]> : tensor<2xi32>
          %m = arith.constant 1073741824 : i32
          %s = arith.constant 31 : i32
          %e = tensor.empty() : tensor<1x2xi32>
          %i = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e : tensor<1x2xi32>) dimensions = [0]
          %a = linalg.matmul ins(%x, %w : tensor<1x1xi8>, tensor<1x2xi8>)
                             outs(%i : tensor<1x2xi32>) -> tensor<1x2xi32>
          %f = tensor.empty() : tensor<1x2xi8>
          %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>,
                 affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
                 ins(%a : tensor<1x2xi32>) outs(%f : tensor<1x2xi8>) {
          ^bb0(%acc: i32, %unused: i8):
            %r = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32,
                   max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<1x2xi8>
          return %y : tensor<1x2xi8>
        }
        func.func private @layer1(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "reader", tiny.macs = 2 : i64, tiny.op = "fully_connected"} {
          %w = arith.constant dense<[[7], [5]]> : tensor<2x1xi8>
          %b = arith.constant dense<[1]> : tensor<1xi32>
          %m = arith.constant 1073741824 : i32
          %s = arith.constant 31 : i32
          %e = tensor.empty() : tensor<1x1xi32>
          %i = linalg.broadcast ins(%b : tensor<1xi32>) outs(%e : tensor<1x1xi32>) dimensions = [0]
          %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x1xi8>)
                             outs(%i : tensor<1x1xi32>) -> tensor<1x1xi32>
          %f = tensor.empty() : tensor<1x1xi8>
          %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>,
                 affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
                 ins(%a : tensor<1x1xi32>) outs(%f : tensor<1x1xi8>) {
          ^bb0(%acc: i32, %unused: i8):
            %r = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32,
                   max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
            linalg.yield %r : i8
          } -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }

    After, since channel 1 is the constant 8 / 2::

        func.func @main(%x: tensor<1x1xi8>) -> tensor<1x1xi8> {
          %h = call @layer0(%x) : (tensor<1x1xi8>) -> tensor<1x1xi8>
          %y = call @layer1(%h) : (tensor<1x1xi8>) -> tensor<1x1xi8>
          return %y : tensor<1x1xi8>
        }
        func.func private @layer0(%x: tensor<1x1xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "maker", tiny.macs = 1 : i64, tiny.op = "fully_connected"} {
          ...
          %w = arith.constant dense<3> : tensor<1x1xi8>
          ...
        }
        func.func private @layer1(%x: tensor<1x1xi8>) -> tensor<1x1xi8>
            attributes {tiny.layer = "reader", tiny.macs = 1 : i64, tiny.op = "fully_connected"} {
          ...
          %b = arith.constant dense<21> : tensor<1xi32>
          ...
          %w = arith.constant dense<7> : tensor<1x1xi8>
          ...
        }
    """

    name: ClassVar[str] = "tiny-drop-channels"

    def run(self, op: ir.Operation) -> None:
        _fold_constants(op)
        # Readers first: what these no longer read, those before need not make.
        for layer, _ in reversed(list(skippable(op))):
            channels = find_channels(op, layer)
            if channels is None:
                continue
            dead = channels.unread()
            kept = np.flatnonzero(~dead)
            word = _WORD if channels.count % _WORD == 0 else 1
            spare = np.flatnonzero(dead)[: max(-len(kept) % word, 0 if len(kept) else word)]
            if len(kept) + len(spare) < channels.count:
                for changed in channels.take(np.sort(np.concatenate([kept, spare]))):
                    forget(changed)


def _fold_constants(module: ir.Operation) -> None:
    """Move what layers make of constant channels into their biases."""
    layers = {layer.name.value: (layer, conv) for layer, conv in skippable(module)}
    known: dict[ir.Value, _Constants] = {}
    for child in find_main(module).body.blocks[0].operations:
        call = child.operation
        symbol = call.attributes["callee"].value if call.name == "func.call" else None
        if symbol not in layers:
            continue
        layer, conv = layers[symbol]
        given = call.operands[list(layer.arguments).index(conv.source)]
        folded = _fold(conv, _spread(given, conv.groups * conv.in_per_group, known))
        if folded is not conv:
            replace_constants(conv, folded.weights, folded.bias)
            forget(layer)
        known[call.results[0]] = _constant_channels(folded)


def _spread(value: ir.Value, size: int, known: dict[ir.Value, _Constants]) -> _Constants:
    """Constants by their place among ``size`` channels as which ``value`` is read: its own, or
    those of all pixels. It may be a view of what is known.
    """
    value = behind_views(value)
    channels = value.type.shape[-1]
    if size % channels:
        return {}
    return {
        first + channel: constant
        for channel, constant in known.get(value, {}).items()
        for first in range(0, size, channels)
    }


def _fold(conv: Convolution, constants: _Constants) -> Convolution:
    """``conv`` without the input channels that are constant, where padding is the same."""
    padded = any(len(conv.interior(axis)) < conv.out_hw[axis] for axis in (0, 1))
    weights = conv.weights.copy()
    bias = conv.bias.reshape(conv.groups, -1).astype(np.int64)
    for channel, constant in constants.items():
        if padded and constant != conv.pad_value:
            continue
        group, place = divmod(channel, conv.in_per_group)
        bias[group] += constant * weights[group, ..., place].astype(np.int64).sum((1, 2))
        weights[group, ..., place] = 0
    if (weights == conv.weights).all():
        return conv
    # Sums wrap around as those of the layer would.
    return replace(conv, weights=weights, bias=bias.reshape(-1).astype(np.int32))


def _constant_channels(conv: Convolution) -> _Constants:
    """What a layer gives in channels whose weights are all zero, where it only requantises them."""
    zero = np.flatnonzero(~conv.weights.reshape(len(conv.bias), -1).any(1))
    scaled = read_requantization(conv.root.owner.operation)
    if not len(zero) or scaled is None or scaled.op.name != "tiny.requantize":
        return {}
    source = behind_views(scaled.accumulators)
    if source != conv.result or any(c.size not in (1, len(conv.bias)) for c in scaled.constants):
        return {}
    multiplier, shift = (constant.reshape(-1) for constant in scaled.constants)
    values: npt.NDArray[np.int8] = numerics.requantize(
        conv.bias,
        multiplier,
        shift,
        scaled.attribute("zero_point"),
        scaled.attribute("min"),
        scaled.attribute("max"),
        scaled.op.attributes["rounding"].value,
    )
    return {int(channel): int(values[channel]) for channel in zero}
