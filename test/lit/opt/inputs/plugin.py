"""Passes that only these tests know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.passes import Pass, PassFailure, register_pass


@register_pass
@dataclass(frozen=True)
class MarkFunctions(Pass):
    """Write a string attribute on each function.

    The rest of the docstring is for readers.
    """

    name: ClassVar[str] = "test-mark"
    anchor: ClassVar[str] = "func.func"

    label: str = "seen"
    counts: tuple[int, ...] = ()
    how: Literal["set", "append"] = "set"
    scale: float = 1.0
    limit: int | None = None
    loud: bool = False

    def run(self, op: ir.Operation) -> None:
        text = self.label + "".join(f",{count}" for count in self.counts)
        if self.loud:
            text = text.upper()
        if self.how == "append" and "mark" in op.attributes:
            text = f"{op.attributes['mark'].value}+{text}"
        op.attributes["mark"] = ir.StringAttr.get(text)


@register_pass
@dataclass(frozen=True)
class CountOperations(Pass):
    """Write the number of top-level operations on the module."""

    name: ClassVar[str] = "test-count"

    key: str

    def run(self, op: ir.Operation) -> None:
        count = len(op.regions[0].blocks[0].operations)
        i32 = ir.IntegerType.get_signless(32)
        op.attributes[f"tiny.{self.key}"] = ir.IntegerAttr.get(i32, count)


@register_pass
@dataclass(frozen=True)
class NameAnything(Pass):
    """Write the name of any operation on it."""

    name: ClassVar[str] = "test-name"
    anchor: ClassVar[str] = "any"

    def run(self, op: ir.Operation) -> None:
        op.attributes["tiny.named"] = ir.StringAttr.get(op.name)


@register_pass
@dataclass(frozen=True)
class Misbehave(Pass):
    """Fail in one of several ways at each arith.muli."""

    name: ClassVar[str] = "test-misbehave"
    anchor: ClassVar[str] = "func.func"

    how: Literal["fail", "invalid", "budget"] = "fail"

    def run(self, op: ir.Operation) -> None:
        for inner in op.regions[0].blocks[0].operations:
            if inner.operation.name != "arith.muli":
                continue
            if self.how == "fail":
                raise PassFailure(inner.location, "no products here")
            if self.how == "budget":
                raise TinymlirError("the budget cannot be met", hint="the least is 12 bytes")
            op.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([], []))
