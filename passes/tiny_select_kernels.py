"""``tiny-select-kernels``: which kernel computes each convolution."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from tinymlir.bindings import func, ir
from tinymlir.kernels.catalogue import candidates, find_kernel
from tinymlir.kernels.convolution import layer_convolution
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.price import NO_WAIT, Price
from tinymlir.kernels.selection import Aim, choose
from tinymlir.linalg_info import constant_array
from tinymlir.simulators.flash import parse_flash
from tinymlir.targets import Target, get_target

from ._pass import Pass, PassFailure, register_pass
from .tiny_link_levels import contents

#: Bytes of flash that code and constants beside the weights should have at most.
BESIDE_WEIGHTS = 35_000
#: What a layer without a price, and the entry point, have of code, about; and how much more all
#: others may turn out to have than by their prices, before anything is measured.
_UNPRICED_CODE, _MORE_CODE = 300, 1500

_PIN = "tiny.kernel"

#: Layers that are the same, and the kernels that can compute them.
Candidates: TypeAlias = tuple[list[func.FuncOp], list[Kernel]]


@register_pass
@dataclass(frozen=True)
class SelectKernels(Pass):
    """Choose the kernel that computes each convolution

    Every kernel that can compute a layer is priced with the cost table of the target;
    ``tiny.kernel`` names the one chosen, with its options, and ``tiny.price`` says what it is
    expected to take. A ``tiny.kernel`` that is there already is obeyed. ``optimize`` says what
    counts; ``balanced`` is speed, within the bytes of the weights and 35 kB if that costs little.
    Then ``tiny.flash_budget`` on ``@main`` is the bytes that a network of one level should have.
    ``max-flash`` is how many bytes of code and constants all layers with a price may have
    together; where even the smallest have more, these are chosen. With ``flash-timing``, cycles
    include the waits for code and constants, of which straight-line code has most.

    In a module of modules, a level of one network in each, flash is that of all levels together,
    and what counts is the sum of their cycles. A layer that is the same in several levels is there
    once, so these have the same kernel.

    Before::

        func.func private @dense(%x: tensor<1x2xi8>) -> tensor<1x2xi8>
            attributes {tiny.layer = "dense", tiny.macs = 4 : i64, tiny.op = "matmul"} {
          %w = arith.constant dense<1> : tensor<2x2xi8>
          %zero = arith.constant 0 : i32
          %e = tensor.empty() : tensor<1x2xi32>
          %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
          %acc = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x2xi8>)
                               outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
          %e8 = tensor.empty() : tensor<1x2xi8>
          %y = linalg.generic {
              indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
              iterator_types = ["parallel", "parallel"]}
              ins(%acc : tensor<1x2xi32>) outs(%e8 : tensor<1x2xi8>) {
          ^bb0(%a: i32, %o: i8):
            %q = arith.trunci %a : i32 to i8
            linalg.yield %q : i8
          } -> tensor<1x2xi8>
          return %y : tensor<1x2xi8>
        }

    After::

        func.func private @dense(%x: tensor<1x2xi8>) -> tensor<1x2xi8>
            attributes {tiny.kernel = "dense", tiny.layer = "dense", tiny.macs = 4 : i64,
                        tiny.op = "matmul", tiny.price = ... {
          ...
        }
    """

    name: ClassVar[str] = "tiny-select-kernels"
    #: the core that kernels are made for and priced on
    target: str = "cortex-m4"
    optimize: Aim = "balanced"
    max_flash: int | None = None
    #: wait states and lines of the flash (docs/cycle-models.md); none without
    flash_timing: str | None = None
    #: bytes of the network beyond the prices of its layers, where they are known; else estimated
    beyond_prices: int | None = None

    def run(self, op: ir.Operation) -> None:
        found = layer_candidates(op, get_target(self.target))
        budget, rest = self._budget(op, found)
        choices = self._choose(found, budget - rest)
        callers = Counter(name for choice in choices for name in choice.price.shared)
        for choice in choices:
            for layer in choice.layers:
                attributes = layer.operation.attributes
                attributes[_PIN] = ir.StringAttr.get(choice.kernels[choice.best].label)
                attributes["tiny.price"] = _attribute(choice.price, callers)
        if self.optimize == "balanced" and self.max_flash is None:
            sizes = {name: size for c in choices for name, size in c.price.shared.items()}
            priced = sum(choice.price.flash_bytes for choice in choices)
            priced -= sum((count - 1) * sizes[name] for name, count in callers.items())
            _note_budget(op, budget, budget - rest - priced)

    def _budget(self, module: ir.Operation, found: list[Candidates]) -> tuple[int, int]:
        """Bytes of flash that all levels should have at most, and those of it without a price."""
        weights = sum(int(kernels[0].conv.weights.size) for _, kernels in found)
        levels = _levels(module)
        # What has no price is no convolution, and the same in all levels.
        rest = _unpriced(levels[0]) if self.beyond_prices is None else self.beyond_prices
        return weights + BESIDE_WEIGHTS * len(levels), rest

    def choose(self, module: ir.Operation) -> list[Choice]:
        """Each layer's kernels, their prices, and which is best.

        Raises:
            PassFailure: a layer has a ``tiny.kernel`` that cannot compute it.
        """
        found = layer_candidates(module, get_target(self.target))
        budget, rest = self._budget(module, found)
        return self._choose(found, budget - rest)

    def _choose(self, found: list[Candidates], room: int) -> list[Choice]:
        """What is best of these, with ``room`` for it in flash."""
        flash = NO_WAIT if self.flash_timing is None else parse_flash(self.flash_timing)
        prices = [[kernel.price(flash) for kernel in kernels] for _, kernels in found]
        together = [
            [replace(price, cycles=price.cycles * len(layers)) for price in known]
            for (layers, _), known in zip(found, prices, strict=True)
        ]
        chosen = choose(together, self.optimize, self.max_flash, room)
        return [
            Choice(layers, kernels, known, best)
            for (layers, kernels), known, best in zip(found, prices, chosen, strict=True)
        ]


@dataclass(frozen=True)
class Choice:
    """The kernels that can compute a layer, what each costs, and the number of the best.

    ``layers`` is the layer in each level that has it: one where there are no levels.
    """

    layers: list[func.FuncOp]
    kernels: list[Kernel]
    prices: list[Price]
    best: int

    @property
    def price(self) -> Price:
        """Of the best."""
        return self.prices[self.best]


def _levels(module: ir.Operation) -> list[ir.Operation]:
    """The modules in a module of modules, or else the module."""
    children = [child.operation for child in module.regions[0].blocks[0].operations]
    return [child for child in children if child.name == "builtin.module"] or [module]


def _note_budget(module: ir.Operation, budget: int, spare: int) -> None:
    """``tiny.flash_budget`` on ``@main``, where the choice keeps to it, and what it spares."""
    mains = [f for f in _functions(module) if f.name.value == "main"]
    if mains and spare >= 0:
        attributes = mains[0].operation.attributes
        attributes["tiny.flash_budget"] = _integer(budget)
        attributes["tiny.flash_spare"] = _integer(spare)


def _unpriced(module: ir.Operation) -> int:
    """Bytes of code and constants beside the layers that are convolutions, about."""
    others = [layer for layer in _layers(module) if layer_convolution(layer) is None]
    arrays = [
        constant_array(op.operation.results[0])
        for layer in others
        for block in layer.body.blocks
        for op in block.operations
        if op.operation.name == "arith.constant"
    ]
    constants = sum(array.nbytes for array in arrays if array is not None)
    return int(constants) + _UNPRICED_CODE * (1 + len(others)) + _MORE_CODE


def _layers(module: ir.Operation) -> list[func.FuncOp]:
    return [child for child in _functions(module) if "tiny.layer" in child.operation.attributes]


def spare_flash(module: ir.Operation) -> int:
    """The bytes that the choice of kernels has left of its budget."""
    for function in _functions(module):
        if "tiny.flash_spare" in function.operation.attributes:
            return int(function.operation.attributes["tiny.flash_spare"].value)
    return 0


def _functions(module: ir.Operation) -> list[func.FuncOp]:
    return [c for c in module.regions[0].blocks[0].operations if isinstance(c, func.FuncOp)]


def layer_candidates(module: ir.Operation, core: Target) -> list[Candidates]:
    """The layers that are convolutions, in all levels that have them, each with its kernels.

    Raises:
        PassFailure: a layer has a ``tiny.kernel`` that cannot compute it.
    """
    same = defaultdict(list)
    for level in _levels(module):
        for layer in _layers(level):
            same[_specification(layer)].append(layer)
    found = [(layers, _able(layers, core)) for layers in same.values()]
    return [(layers, kernels) for layers, kernels in found if kernels]


def _specification(layer: func.FuncOp) -> object:
    """What is equal for layers that are the same but for their names and kernels."""
    attributes = layer.operation.attributes
    pin = attributes.get(_PIN)
    if pin is not None:
        del attributes[_PIN]
    found = contents(layer.operation)
    if pin is not None:
        attributes[_PIN] = pin
    return found


def _able(layers: Sequence[func.FuncOp], core: Target) -> list[Kernel]:
    """The kernels to choose from for layers that are the same; none where they are no convolution.

    Where some have a ``tiny.kernel``, those are all.
    """
    convolution = layer_convolution(layers[0])
    pinned = [layer for layer in layers if _PIN in layer.operation.attributes]
    pins = {layer.operation.attributes[_PIN].value: layer.location for layer in pinned}
    if convolution is None:
        for pin, location in pins.items():
            raise PassFailure(location, f"is no convolution for kernel '{pin}' to compute")
        return []
    able = candidates(convolution, core)
    return [find_kernel(able, pin, location) for pin, location in pins.items()] or able


def _attribute(price: Price, callers: Counter[str]) -> ir.Attribute:
    """A price, with the layer's share of what it has in common with others."""
    facts = price.figures()
    others = (size - -(-size // callers[name]) for name, size in price.shared.items())
    facts["flash_bytes"] -= sum(others)
    return ir.DictAttr.get({key: _integer(value) for key, value in facts.items()})


def _integer(value: int) -> ir.Attribute:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
