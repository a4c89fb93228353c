"""What a network costs on its target, with layers at any levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tinymlir import artifact
from tinymlir.bindings import ir
from tinymlir.codegen import Code
from tinymlir.compiler import Compilation, check_budget, lower_module
from tinymlir.exploration.levels import FRACTIONS, SkippableLayer
from tinymlir.fitting import flash_bytes, generate_within
from tinymlir.kernels.catalogue import candidates
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.selection import Aim
from tinymlir.kernels.unpacked import Unpacked
from tinymlir.pipelines import Selection
from tinymlir.simulators import simulate
from tinymlir.skipping.annotations import skippable
from tinymlir.targets import Target

Doubles = npt.NDArray[np.float64]
#: What latency is counted in: exact instructions, or the cycles that a model gives them.
Latency: TypeAlias = Literal["instructions", "cycles"]

#: Latency that a byte of flash is worth at least: straight-line code for a dense layer, whose
#: weights are used once, saves hardly any.
WORTH = 0.5
#: Factor between two exchange rates of latency for flash, and the highest rate.
_RATE, _HIGHEST = 1.25, 1e9


@dataclass(frozen=True)
class Option:
    """A layer at a level, computed by a kernel, as prices tell."""

    level: int
    kernel: str
    latency: float
    flash_bytes: float


@dataclass(frozen=True)
class Measured:
    """A network compiled for the target and run on its simulator: the report of ``profile``."""

    report: dict[str, Any]
    object: bytes

    @property
    def flash_bytes(self) -> int:
        return int(self.report["flash_bytes"])


@dataclass(frozen=True)
class Choice:
    """An option for each layer, by symbol, and what the network then costs."""

    options: dict[str, Option]
    latency: float
    flash_bytes: float

    @property
    def kernels(self) -> dict[str, str]:
        return {symbol: option.kernel for symbol, option in self.options.items()}


def leaves_out_zeros(conv: Convolution, target: Target) -> bool:
    """Whether some kernel for ``conv`` is faster where weights are zero."""
    return any(kernel.name == Unpacked.name for kernel in candidates(conv, target))


def _options(level: int, conv: Convolution, target: Target, latency: Latency) -> list[Option]:
    """By every kernel that can take ``conv``."""
    return [
        Option(level, kernel.label, getattr(price, latency), price.flash_bytes)
        for kernel in candidates(conv, target)
        for price in [kernel.price()]
    ]


class Prices:
    """Latency and flash of each layer at each level, by every kernel that can take it.

    Those of layers that are explored are the kernels' own prices; the rest of the network is
    measured once.
    """

    def __init__(
        self,
        build: Callable[[Mapping[str, int]], ir.Module],
        unfitted: Callable[[Mapping[str, int]], ir.Module],
        name: str,
        target: Target,
        layers: Sequence[SkippableLayer],
        latency: Latency,
        max_flash: int | None,
        beside: int = 0,
    ) -> None:
        """
        Args:
            build: the outlined network with layers at levels.
            unfitted: the same, with weights as they were where they are not zero.
            name: C prefix.
            latency: what it is counted in.
            max_flash: bytes of flash that there are; as many as wanted where None.
            beside: networks that go beside the exact one into this flash (`_share_flash`).

        Raises:
            TinymlirError: no network takes so little flash, or the exact one, which others go
                beside, takes more.
        """
        self._build, self._unfitted, self._name, self._target, self.layers = (
            build,
            unfitted,
            name,
            target,
            layers,
        )
        self.latency, self.max_flash, self._room = latency, max_flash, max_flash
        self.exact = self._simulate(build({}), Selection())
        self.options = {
            (layer.symbol, level): _options(level, layer.narrowed(level), target, latency)
            for layer in layers
            for level in range(len(FRACTIONS))
        }
        self._built: dict[frozenset[tuple[str, int]], list[list[Option]]] = {}
        explored = {f"{name}_{layer.symbol}" for layer in layers}
        inside = [la for la in self.exact.report["layers"] if la["symbol"] in explored]
        self._latency = self.exact.report[latency] - sum(la[latency] for la in inside)
        self._flash = self.exact.flash_bytes - sum(
            la["code_bytes"] + la["constant_bytes"] for la in inside
        )
        if beside and max_flash is not None:
            self._share_flash(max_flash, beside)
        least = self._flash + sum(
            min(o.flash_bytes for n in range(len(FRACTIONS)) for o in self.options[la.symbol, n])
            for la in layers
        )
        check_budget("flash", "--max-flash", round(least), max_flash)

    def _share_flash(self, max_flash: int, beside: int) -> None:
        """Give each network beside the exact one, at its smallest, an equal part of what is left.

        There, layers as they are take nothing more: they are those of the exact network.
        """
        smallest = Selection("size", max_flash)
        _, code = self._compile(self._build({}), smallest)
        least = flash_bytes(code)
        self._flash, self.max_flash = 0, (max_flash - least) // beside
        self._room = least + self.max_flash
        for layer in self.layers:
            options = self.options[layer.symbol, 0]
            there = min(options, key=lambda option: option.flash_bytes)
            self.options[layer.symbol, 0] = [
                replace(option, flash_bytes=0) if option is there else option for option in options
            ]

    def build(self, levels: Mapping[str, int], kernels: Mapping[str, str]) -> ir.Module:
        """The outlined module with layers at ``levels``, marked with their ``kernels``."""
        module = self._build(levels)
        for function, conv in skippable(module.operation):
            kernel = kernels.get(function.name.value)
            # Weights that were fitted to zero may have made a layer narrower than it was priced.
            if kernel in [able.label for able in candidates(conv, self._target)]:
                function.operation.attributes["tiny.kernel"] = ir.StringAttr.get(kernel)
        return module

    def measure(self, levels: Mapping[str, int], kernels: Mapping[str, str]) -> Measured:
        """Compile with layers at ``levels``, computed by ``kernels``, and simulate one sample.

        Layers that are not named get the kernels that ``compile`` chooses.

        Raises:
            TinymlirError: the code takes more flash than there is.
        """
        aim: Aim = "balanced" if self.max_flash is None else "speed"
        return self._simulate(self.build(levels, kernels), Selection(aim, self._room))

    def _compile(self, module: ir.Module, selection: Selection) -> tuple[Compilation, Code]:
        text = str(module)
        return generate_within(
            lambda chosen: lower_module(
                ir.Module.parse(text), self._target, self._name, selection=chosen
            ),
            selection,
        )

    def _simulate(self, module: ir.Module, selection: Selection) -> Measured:
        compilation, code = self._compile(module, selection)
        report = artifact.report(compilation, code, {})
        blank = [np.zeros((1, *info.shape), info.type) for info in compilation.inputs]
        done = simulate(report, code.object, blank)
        for layer, counts in zip(report["layers"], done.counts.layers, strict=True):
            layer |= {"instructions": counts.instructions, "cycles": counts.cycles}
        total = done.counts.total
        report |= {"instructions": total.instructions, "cycles": total.cycles}
        return Measured({**report, "stack_bytes": done.stack_bytes}, code.object)

    def choose(self, levels: Mapping[str, int]) -> Choice:
        """The fastest kernels in the flash that there is."""
        key = frozenset((symbol, level) for symbol, level in levels.items() if level)
        if key not in self._built:
            # What is found there lives as long as the module.
            module = self._unfitted(levels)
            built = {layer.name.value: conv for layer, conv in skippable(module.operation)}
            self._built[key] = [self._of_built(la, levels, built[la.symbol]) for la in self.layers]
        known = self._built[key]
        return self.cheapest(known, [np.zeros(len(options)) for options in known], 1.0)

    def _of_built(
        self, layer: SkippableLayer, levels: Mapping[str, int], conv: Convolution
    ) -> list[Option]:
        """Options of a layer as it is in the network with all layers at ``levels``."""
        level = levels.get(layer.symbol, 0)
        if not level and conv.weights.shape == layer.conv.weights.shape:
            return self.options[layer.symbol, 0]
        return _options(level, conv, self._target, self.latency)

    def cheapest(
        self, options: Sequence[Sequence[Option]], errors: Sequence[Doubles], rate: float
    ) -> Choice:
        """The options of least error + ``rate`` · (latency + exchange · flash).

        Flash that saves next to nothing is not taken (`WORTH`); the exchange of latency
        for a byte goes up until the network fits (a Lagrange multiplier). Where nothing
        fits, the smallest options are chosen.

        Args:
            options: those of each layer.
            errors: of each of these options.
        """
        latency, flash = (
            [np.array([getattr(o, what) for o in own], float) for own in options]
            for what in ("latency", "flash_bytes")
        )
        exchange = WORTH
        while True:
            chosen = [
                own[int(np.argmin(error + rate * (i + exchange * f)))]
                for own, error, i, f in zip(options, errors, latency, flash, strict=True)
            ]
            size = self._flash + sum(option.flash_bytes for option in chosen)
            if self.max_flash is None or size <= self.max_flash or exchange > _HIGHEST:
                break
            exchange *= _RATE
        return Choice(
            {la.symbol: option for la, option in zip(self.layers, chosen, strict=True)},
            self._latency + sum(option.latency for option in chosen),
            size,
        )
