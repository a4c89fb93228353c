"""``tiny-finalize-functions``: what LLVM must know of our functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir

from ._pass import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class FinalizeFunctions(Pass):
    """Set LLVM attributes on llvm.func: nounwind, no-builtins, and noinline on layers

    ``no-builtins`` keeps LLVM from turning loops into calls of ``memcpy`` and its
    kin, so the object needs no library. Layers stay functions of their own, so
    that instructions and bytes can be attributed to them.

    Before::

        llvm.func internal @net_layer0() { llvm.return }

    After::

        llvm.func internal @net_layer0()
            attributes {passthrough = ["nounwind", "no-builtins", "noinline"]} { llvm.return }
    """

    name: ClassVar[str] = "tiny-finalize-functions"

    def run(self, op: ir.Operation) -> None:
        for child in op.regions[0].blocks[0].operations:
            function = child.operation
            if function.name != "llvm.func":
                continue
            wanted = ["nounwind", "no-builtins"]
            if "internal" in str(function.attributes["linkage"]):
                wanted.append("noinline")
            function.attributes["passthrough"] = ir.ArrayAttr.get(
                [ir.StringAttr.get(name) for name in wanted]
            )
