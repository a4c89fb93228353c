"""``tiny-share-kernels``: layers that are the same in two levels of a network get one kernel."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir

from ._pass import Pass, register_pass
from .tiny_link_levels import contents

_CHOICE = ("tiny.kernel", "tiny.price")


@register_pass
@dataclass(frozen=True)
class ShareKernels(Pass):
    """Give layers that are the same in several levels the same kernel, so that they can be one

    Kernels are chosen with a view to the whole network, so the same layer may have another one
    in each level; all of them would be code. The one of the fewest cycles, by their prices,
    costs no more flash than they do together.

    Before::

        module {
          module {
            func.func private @layer0(%x: tensor<2xi8>) -> tensor<2xi8>
                attributes {tiny.kernel = "direct", tiny.layer = "dense",
                            tiny.price = {cycles = 9 : i64}} {
              return %x : tensor<2xi8>
            }
          }
          module {
            func.func private @layer0(%x: tensor<2xi8>) -> tensor<2xi8>
                attributes {tiny.kernel = "swar", tiny.layer = "dense",
                            tiny.price = {cycles = 5 : i64}} {
              return %x : tensor<2xi8>
            }
          }
        }

    After::

        module {
          module {
            func.func private @layer0(%x: tensor<2xi8>) -> tensor<2xi8>
                attributes {tiny.kernel = "swar", tiny.layer = "dense",
                            tiny.price = {cycles = 5 : i64}} {
              return %x : tensor<2xi8>
            }
          }
          module {
            func.func private @layer0(%x: tensor<2xi8>) -> tensor<2xi8>
                attributes {tiny.kernel = "swar", tiny.layer = "dense",
                            tiny.price = {cycles = 5 : i64}} {
              return %x : tensor<2xi8>
            }
          }
        }
    """

    name: ClassVar[str] = "tiny-share-kernels"

    def run(self, op: ir.Operation) -> None:
        same = defaultdict(list)
        for level in op.regions[0].blocks[0].operations:
            for child in level.operation.regions[0].blocks[0].operations:
                layer = child.operation
                if all(name in layer.attributes for name in _CHOICE):
                    choice = _take_choice(layer)
                    same[contents(layer)].append((layer, choice))
        for layers in same.values():
            best = min((choice for _, choice in layers), key=_cycles)
            for layer, _ in layers:
                for name, attribute in zip(_CHOICE, best, strict=True):
                    layer.attributes[name] = attribute


def _take_choice(layer: ir.Operation) -> tuple[ir.Attribute, ...]:
    """The kernel and its price, which ``layer`` no longer has then."""
    choice = tuple(layer.attributes[name] for name in _CHOICE)
    for name in _CHOICE:
        del layer.attributes[name]
    return choice


def _cycles(choice: tuple[ir.Attribute, ...]) -> int:
    return int(choice[1]["cycles"].value)
