"""Rebuilds a TOSA function in the canonical form, i8 tensor by i8 tensor.

Each 8-bit tensor of the function becomes the result of a layer. What lies between
two of them (accumulators, wider intermediates) is read as part of the layer that
it ends in. Where no rule reads it, the operations are kept as they are, for
upstream's lowering to linalg.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from tinymlir.bindings import func, ir
from tinymlir.errors import PassFailure, reported
from tinymlir.frontends.canonical.builder import Builder
from tinymlir.frontends.canonical.folding import fold_clamps
from tinymlir.frontends.canonical.layout import Layout
from tinymlir.frontends.canonical.tensors import Activation, row_major
from tinymlir.numerics import IntArray

from . import borders
from .constants import constant, is_byte, is_unsigned

#: Gives the layer for an 8-bit result, or None where it is none that the rule knows.
Rule = Callable[["Converter", ir.Operation], "Activation | None"]


class Converter:
    """One function's conversion; rules ask it for their operands.

    Values are those of the old function; activations, of the new one.
    """

    def __init__(self, function: func.FuncOp, rules: dict[str, Rule]) -> None:
        self.function, self.rules = function, rules
        self.builder = Builder(function.operation.context)
        self.unsigned: set[ir.Value] = set()
        self._activations: dict[ir.Value, Activation] = {}
        self._kept: dict[ir.Value, ir.Value] = {}
        self._values: set[ir.Value] = set()

    def run(self) -> None:
        """Put the new function in the place of the old one."""
        old = self.function
        block = old.body.blocks[0]
        arguments = list(block.arguments)
        permutations = [borders.input_permutation(a) for a in arguments]
        types = [
            self.builder.tensor_type([a.type.shape[d] for d in permutation], self.builder.i8)
            for a, permutation in zip(arguments, permutations, strict=True)
        ]
        with ir.InsertionPoint(old), old.location:
            new = func.FuncOp(old.name.value, (types, []))
            entry = new.add_entry_block([a.location for a in arguments])
        for argument, value, permutation in zip(
            arguments, entry.arguments, permutations, strict=True
        ):
            layout = Layout.of(argument.type.shape, permutation)
            self._activations[argument] = Activation(value, layout)
            if borders.is_read_unsigned(argument):
                self.unsigned.add(argument)
        operations = [op.operation for op in block.operations]
        self._values = {*arguments, *(result for op in operations for result in op.results)}
        needed = _needed(operations)
        with ir.InsertionPoint(entry), old.location:
            for op in operations:
                # These wait for their reader, which may do without.
                if op in needed and op.name not in ("tosa.pad", "tosa.slice"):
                    for result in filter(_is_layer, op.results):
                        self.activation(result)
            results, attributes = self._results(operations[-1])
            func.ReturnOp(results)
        fold_clamps(entry)
        facts = borders.argument_attributes(old, permutations, self.unsigned)
        borders.finish(old, new, facts, attributes)
        old.operation.erase()

    def activation(self, value: ir.Value) -> Activation:
        """The 8-bit tensor ``value``; unsigned ones are lowered by 128."""
        if value not in self._activations:
            self._activations[value] = self._make(value)
        return self._activations[value]

    def signed(self, op: ir.Operation, value: ir.Value) -> Activation:
        """The same, for an operation that reads int8."""
        activation = self.activation(value)
        if value in self.unsigned:
            raise PassFailure(op.location, f"'{op.name}' op reads an unsigned tensor as signed")
        return activation

    def _make(self, value: ir.Value) -> Activation:
        array = constant(value)
        if array is not None:
            return self.constant(value, array)
        op = value.owner.operation
        rule = self.rules.get(op.name)
        with op.location, blame(op):
            made = rule(self, op) if rule is not None else None
            if made is None:
                self._clone(op)
                made = Activation(self._kept[value], Layout.of(value.type.shape))
        return made

    def constant(self, value: ir.Value, array: IntArray) -> Activation:
        """The 8-bit tensor ``value``, whose elements are known."""
        if is_unsigned(value):
            self.unsigned.add(value)
        lowered = array - (128 if value in self.unsigned else 0)
        return Activation(self.builder.constant(lowered.astype(np.int8)), Layout.of(array.shape))

    def _results(self, last: ir.Operation) -> tuple[list[ir.Value], list[ir.Attribute]]:
        results, attributes = [], []
        for index, value in enumerate(last.operands):
            if not is_byte(value):
                results.append(self._keep(value))
                attributes.append(borders.result_attributes(self.function, index, None, False))
                continue
            activation = self.activation(value)
            permutation = borders.result_permutation(activation.layout)
            if permutation is None:
                activation = row_major(self.builder, f"result{index}", activation)
                permutation = list(range(activation.layout.rank))
            shape = activation.layout.shape
            results.append(self.builder.reshape(activation.value, [shape[d] for d in permutation]))
            unsigned = value in self.unsigned
            attributes.append(
                borders.result_attributes(self.function, index, permutation, unsigned)
            )
        return results, attributes

    def _keep(self, value: ir.Value) -> ir.Value:
        """``value``, of any type, in the new function and in its own shape."""
        if value not in self._kept:
            if _is_layer(value):
                activation = row_major(self.builder, "operand", self.activation(value))
                self._kept[value] = self.builder.reshape(activation.value, value.type.shape)
            else:
                self._clone(value.owner.operation)
        return self._kept[value]

    def _clone(self, op: ir.Operation) -> None:
        """Keep an operation as it is."""
        operands = [value for value in _values_read(op) if value in self._values]
        for value in operands:
            if value in self.unsigned:
                raise PassFailure(op.location, f"'{op.name}' op reads an unsigned tensor as signed")
            self._keep(value)
        clone = op.clone().operation
        for value in operands:
            _replace_within(clone, value, self._kept[value])
        for old, new in zip(op.results, clone.results, strict=True):
            self._kept[old] = new


def _is_layer(value: ir.Value) -> bool:
    """Whether ``value`` is an 8-bit tensor that is computed, or an argument."""
    return is_byte(value) and constant(value) is None


def _values_read(op: ir.Operation) -> list[ir.Value]:
    """Operands of ``op`` and of the operations inside it."""
    values: list[ir.Value] = []

    def collect(nested: ir.Operation) -> ir.WalkResult:
        values.extend(value for value in nested.operands if value not in values)
        return ir.WalkResult.ADVANCE

    op.walk(collect)
    return values


def _replace_within(op: ir.Operation, old: ir.Value, new: ir.Value) -> None:
    def replace(nested: ir.Operation) -> ir.WalkResult:
        nested.replace_uses_of_with(old, new)
        return ir.WalkResult.ADVANCE

    op.walk(replace)


def _needed(operations: list[ir.Operation]) -> set[ir.Operation]:
    """The operations that the last one depends on, and itself."""
    needed = {operations[-1]}
    values: set[ir.Value] = set()
    for op in reversed(operations):
        if op in needed or any(result in values for result in op.results):
            needed.add(op)
            values.update(_values_read(op))
    return needed


def blame(op: ir.Operation) -> AbstractContextManager[None]:
    """Errors of the layer builders become errors about ``op``."""
    return reported(lambda text: PassFailure(op.location, f"'{op.name}' op: {text}"))
