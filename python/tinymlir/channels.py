"""Channels inside a network of layer functions: where each of them is, and how to take some.

A channel that one layer makes and others read is in many places: rows of weights, biases and
multipliers of the one, columns of weights of the others, and tensors and layers in between that
compute channel by channel, as depthwise convolutions and pooling do. `find_channels` follows it
by the indexing maps of linalg ops; whatever it does not know keeps channels as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinymlir.bindings import arith, func, ir
from tinymlir.linalg_info import constant_array, indexing_maps, is_linalg, macs_of, yielded

Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Place:
    """Where channels are in a tensor: index i along ``dim`` is of channel i // inner modulo all."""

    dim: int
    inner: int = 1

    def channels(self, size: int, count: int) -> Numbers:
        """The channel of each of ``size`` indices, of ``count``."""
        return np.arange(size) // self.inner % count

    def indices(self, size: int, count: int, kept: Numbers) -> Numbers:
        """The indices of channels, in the order of ``kept``."""
        return np.arange(size).reshape(-1, count, self.inner)[:, kept].reshape(-1)


Ties = list[tuple[ir.Value, Place]]


@dataclass
class Channels:
    """All places of the channels of a tensor.

    Attributes:
        count: how many there are.
        values: tensors that have them.
        constants: operands that do, by a result of the op and the operand's number.
        readers: of these, the weights of products that sum over channels.
    """

    count: int
    values: dict[ir.Value, Place] = field(default_factory=dict)
    constants: dict[tuple[ir.Value, int], Place] = field(default_factory=dict)
    readers: set[tuple[ir.Value, int]] = field(default_factory=set)

    def unread(self) -> npt.NDArray[np.bool_]:
        """Channels that all readers multiply by zero, (count,); none where nobody sums them."""
        dead = np.full(self.count, bool(self.readers))
        for result, number in self.readers:
            place = self.constants[result, number]
            weights = constant_array(result.owner.operation.operands[number])
            assert weights is not None
            rest = tuple(d for d in range(weights.ndim) if d != place.dim)
            used = (weights != 0).any(axis=rest)
            dead[place.channels(len(used), self.count)[used]] = False
        return dead

    def take(self, kept: Numbers) -> list[func.FuncOp]:
        """Leave the channels ``kept``, in that order; returns the layers that changed."""
        for (result, number), place in self.constants.items():
            op = result.owner.operation
            old = op.operands[number]
            array = constant_array(old)
            assert array is not None
            indices = place.indices(array.shape[place.dim], self.count, kept)
            taken = np.ascontiguousarray(array.take(indices, axis=place.dim))
            kind = ir.RankedTensorType.get(taken.shape, old.type.element_type)
            with ir.InsertionPoint(op), op.location:
                attribute = ir.DenseElementsAttr.get(taken, type=kind)
                op.operands[number] = arith.constant(kind, attribute)
            if not any(True for _ in old.uses):
                old.owner.operation.erase()
        layers: dict[str, func.FuncOp] = {}
        for value, place in self.values.items():
            shape = list(value.type.shape)
            shape[place.dim] = shape[place.dim] // self.count * len(kept)
            value.set_type(ir.RankedTensorType.get(shape, value.type.element_type))
            if not isinstance(value, ir.BlockArgument):
                _describe_shape(value.owner.operation)
            function = _function_of(value)
            if function.name.value != "main":
                layers[function.name.value] = function
        for function in layers.values():
            _describe_function(function)
        return list(layers.values())


def find_channels(module: ir.Operation, layer: func.FuncOp) -> Channels | None:
    """The places of the channels, last dimension, of what ``layer`` gives.

    None where they do not stay inside the network, or go through ops that mix them otherwise
    than by a product with constants.

    Args:
        module: outlined layers.
    """
    return _Search(module).run(yielded(layer.body.blocks[0]))


class _Search:
    def __init__(self, module: ir.Operation) -> None:
        functions = [
            f for f in module.regions[0].blocks[0].operations if isinstance(f, func.FuncOp)
        ]
        self.functions = {f.name.value: f for f in functions}
        self.calls: dict[str, list[ir.Operation]] = {}
        main = self.functions.get("main")
        for child in main.body.blocks[0].operations if main else ():
            if child.operation.name == "func.call":
                symbol = child.operation.attributes["callee"].value
                self.calls.setdefault(symbol, []).append(child.operation)

    def run(self, value: ir.Value) -> Channels | None:
        last = len(value.type.shape) - 1
        self.found = Channels(value.type.shape[last])
        pending: Ties = [(value, Place(last))]
        while pending:
            value, place = pending.pop()
            if value in self.found.values:
                if self.found.values[value] != place:
                    return None
                continue
            self.found.values[value] = place
            ties = self._ties(value, place)
            if ties is None:
                return None
            pending += ties
        return self.found

    def _ties(self, value: ir.Value, place: Place) -> Ties | None:
        """What has the same channels because it makes or uses ``value``."""
        ties: Ties = []
        if isinstance(value, ir.BlockArgument):
            call = self._call(_function_of(value))
            if call is None:
                return None
            ties.append((call.operands[value.arg_number], place))
        users = [use.owner.operation for use in value.uses]
        makers = [] if isinstance(value, ir.BlockArgument) else [value.owner.operation]
        for op in (*makers, *users):
            found = self._across(op, value, place)
            if found is None:
                return None
            ties += found
        return ties

    def _call(self, function: func.FuncOp) -> ir.Operation | None:
        """The one call of a layer."""
        calls = self.calls.get(function.name.value, [])
        return calls[0] if len(calls) == 1 else None

    def _across(self, op: ir.Operation, value: ir.Value, place: Place) -> Ties | None:
        """What an op ties to an operand or a result of it."""
        if op.name == "tensor.empty":
            return []
        if is_linalg(op):
            return self._across_linalg(op, value, place)
        if op.name == "tensor.pad":
            sides = [op.attributes[name][place.dim] for name in ("static_low", "static_high")]
            return None if any(sides) else [(op.operands[0], place), (op.results[0], place)]
        if op.name in ("tensor.collapse_shape", "tensor.expand_shape"):
            return _across_view(op, value, place, self.found.count)
        if op.name == "func.call":
            function = self.functions[op.attributes["callee"].value]
            if self._call(function) is None:
                return None
            if value in list(op.results):
                return [(yielded(function.body.blocks[0]), place)]
            places = [n for n, operand in enumerate(op.operands) if operand == value]
            return [(function.arguments[n], place) for n in places]
        if op.name == "func.return":
            call = self._call(_function_of(value))
            return None if call is None else [(call.results[0], place)]
        return None

    def _across_linalg(self, op: ir.Operation, value: ir.Value, place: Place) -> Ties | None:
        maps = indexing_maps(op)
        sites = list(zip(op.operands, maps, strict=True))
        sites += [(result, maps[-1]) for result in op.results]
        own = {str(m.results[place.dim]) for v, m in sites if v == value}
        body = [nested.operation.name for nested in op.regions[0].blocks[0].operations]
        if len(own) != 1 or "linalg.index" in body:
            return None
        (loop,) = own
        ties: Ties = []
        for number, (other, affine_map) in enumerate(sites):
            dims = [d for d, e in enumerate(affine_map.results) if str(e) == loop]
            mixed = [e for e in affine_map.results if re.search(rf"\b{loop}\b", str(e))]
            if not re.fullmatch(r"d\d+", loop) or len(dims) != len(mixed) or len(dims) > 1:
                return None
            if not dims:
                continue
            there = Place(dims[0], place.inner)
            if constant_array(other) is None:
                ties.append((other, there))
            else:
                self.found.constants[op.results[0], number] = there
        summed = all(str(e) != loop for e in maps[-1].results)
        if summed:
            weights = (op.results[0], 1)
            if not macs_of(op) or weights not in self.found.constants:
                return None
            self.found.readers.add(weights)
        return ties


def _across_view(op: ir.Operation, value: ir.Value, place: Place, count: int) -> Ties | None:
    """Through a reshape that leaves all channels in one dimension."""
    groups = [[int(d) for d in group] for group in op.attributes["reassociation"]]
    source, result = op.operands[0], op.results[0]
    few, many = (result, source) if op.name == "tensor.collapse_shape" else (source, result)
    shape = many.type.shape
    inner = [int(np.prod(shape[d + 1 : group[-1] + 1])) for group in groups for d in group]
    if value == many:
        (number,) = (n for n, group in enumerate(groups) if place.dim in group)
        return [(few, Place(number, place.inner * inner[place.dim]))]
    for d in groups[place.dim]:
        own, rest = divmod(place.inner, inner[d])
        if not rest and own and shape[d] % (count * own) == 0:
            return [(many, Place(d, own))]
    return None


def _function_of(value: ir.Value) -> func.FuncOp:
    block = value.owner if isinstance(value, ir.BlockArgument) else value.owner.operation.block
    function = block.owner.opview
    assert isinstance(function, func.FuncOp)
    return function


def _describe_shape(op: ir.Operation) -> None:
    """Attributes that repeat the shape of a result."""
    if "static_output_shape" in op.attributes:
        shape = op.results[0].type.shape
        op.attributes["static_output_shape"] = ir.DenseI64ArrayAttr.get(shape)


def _describe_function(layer: func.FuncOp) -> None:
    """The type of a layer and its MACs, after those of its ops."""
    block = layer.body.blocks[0]
    kind = ir.FunctionType.get(
        [a.type for a in layer.arguments], [yielded(block).type], context=layer.operation.context
    )
    attributes = layer.operation.attributes
    attributes["function_type"] = ir.TypeAttr.get(kind)
    macs = sum(macs_of(nested.operation) for nested in block.operations)
    attributes["tiny.macs"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), macs)
