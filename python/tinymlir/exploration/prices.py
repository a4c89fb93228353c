"""What a network costs on its target, with layers at any levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymlir import artifact
from tinymlir.bindings import ir
from tinymlir.codegen import generate
from tinymlir.compiler import lower_module
from tinymlir.exploration.levels import FRACTIONS, SkippableLayer, at_levels
from tinymlir.kernels.catalogue import candidates
from tinymlir.kernels.compact import Compact
from tinymlir.kernels.convolution import Convolution
from tinymlir.kernels.unpacked import Unpacked
from tinymlir.progress import progress
from tinymlir.simulators import simulate
from tinymlir.skipping.annotations import skippable
from tinymlir.targets import Target

#: Kernels whose cost depends on how many weights are zero: those of the fewest instructions,
#: and those of the least flash.
_FAST, _SMALL = (Unpacked.name,), (Compact.name,)
#: Instructions that a byte of flash is worth at least: straight-line code for a dense layer, whose
#: weights are used once, saves hardly any.
_WORTH = 0.5
#: Levels at which those are measured; in between and beyond, costs are lines.
_MEASURED = (2, 6, 11)


@dataclass(frozen=True)
class Price:
    """A layer computed by a kernel (none: the one that the compiler prefers)."""

    kernel: str | None
    instructions: float
    flash_bytes: float


@dataclass(frozen=True)
class Measured:
    """A network compiled for the target and run on its simulator: the report of ``profile``."""

    report: dict[str, Any]
    object: bytes

    @property
    def instructions(self) -> int:
        return int(self.report["instructions"])

    @property
    def flash_bytes(self) -> int:
        return int(self.report["flash_bytes"])


def leaves_out_zeros(conv: Convolution, target: Target) -> bool:
    """Whether some kernel for ``conv`` is faster where weights are zero."""
    return any(kernel.name in _FAST for kernel in candidates(conv, target))


class Prices:
    """Instructions and flash of each layer at each level, by every kernel that can take it.

    Measured: whole networks at a few levels are compiled and simulated.
    """

    def __init__(
        self, text: str, name: str, target: Target, layers: Sequence[SkippableLayer], small: bool
    ) -> None:
        """
        Args:
            text: outlined module.
            name: C prefix.
            small: whether flash counts, so that kernels that save it have prices as well.
        """
        self._kernels = (*_FAST, *(_SMALL if small else ()))
        self._text, self._name, self._target, self._layers = text, name, target, layers
        self.exact = self.measure({}, {})
        self._table = self._measure_layers()
        explored = {layer.symbol for layer in layers}
        rest = [la for la in self.exact.report["layers"] if self._symbol(la) not in explored]
        self._instructions = self.exact.instructions - sum(
            la["instructions"] for la in self.exact.report["layers"] if self._symbol(la) in explored
        )
        self._flash = self.exact.flash_bytes - sum(
            _flash(la) for la in self.exact.report["layers"] if la not in rest
        )

    def build(self, levels: Mapping[str, int], kernels: Mapping[str, str | None]) -> ir.Module:
        """The outlined module with layers at ``levels``, marked with their ``kernels``."""
        module = at_levels(self._text, self._layers, levels)
        for function, _ in skippable(module.operation):
            kernel = kernels.get(function.name.value)
            if kernel is not None:
                function.operation.attributes["tiny.kernel"] = ir.StringAttr.get(kernel)
        return module

    def measure(self, levels: Mapping[str, int], kernels: Mapping[str, str | None]) -> Measured:
        """Compile with layers at ``levels``, computed by ``kernels``, and simulate one sample."""
        compilation = lower_module(self.build(levels, kernels), self._target, self._name)
        code = generate(compilation.module, self._target)
        report = artifact.report(compilation, code, {})
        blank = [np.zeros((1, *info.shape), info.type) for info in compilation.inputs]
        done = simulate(report, code.object, blank)
        for layer, counts in zip(report["layers"], done.counts.layers, strict=True):
            layer |= {"instructions": counts.instructions, "cycles": counts.cycles}
        total = done.counts.total
        report |= {"instructions": total.instructions, "cycles": total.cycles}
        return Measured({**report, "stack_bytes": done.stack_bytes}, code.object)

    def choose(
        self, levels: Mapping[str, int], max_flash: int | None = None
    ) -> tuple[float, float, dict[str, str | None]]:
        """The kernels that take the fewest instructions within a budget of flash.

        Flash that saves next to nothing is not taken (`_WORTH`).

        Returns:
            instructions and flash bytes of the network, as far as prices tell, and the kernel
            of each layer. Flash may exceed the budget, where nothing smaller exists.
        """
        options = {
            la.symbol: self._table[la.symbol, levels.get(la.symbol, 0)] for la in self._layers
        }

        def cheapest(exchange: float) -> dict[str, Price]:
            return {
                s: min(o, key=lambda p: (p.instructions + exchange * p.flash_bytes, p.flash_bytes))
                for s, o in options.items()
            }

        def total(chosen: Mapping[str, Price]) -> tuple[float, float]:
            return (
                self._instructions + sum(p.instructions for p in chosen.values()),
                self._flash + sum(p.flash_bytes for p in chosen.values()),
            )

        # Instructions that a byte of flash is worth, up until the choice fits (Lagrange).
        exchange = _WORTH
        chosen = cheapest(exchange)
        while max_flash is not None and total(chosen)[1] > max_flash and exchange < 1e9:
            exchange *= 1.25
            chosen = cheapest(exchange)
        return (*total(chosen), {symbol: price.kernel for symbol, price in chosen.items()})

    def _symbol(self, layer: Mapping[str, Any]) -> str:
        return str(layer["symbol"]).removeprefix(f"{self._name}_")

    def _measure_layers(self) -> dict[tuple[str, int], list[Price]]:
        plain = self._by_symbol(self.exact)
        table = {
            (layer.symbol, level): [plain[layer.symbol]]
            for layer in self._layers
            for level in range(len(FRACTIONS))
        }
        for kernel, points in progress(self._runs(), len(self._kernels), "pricing"):
            for layer in self._layers:
                known = {
                    layer.skipped_macs(level): prices[layer.symbol]
                    for level, prices in points.items()
                    if layer.symbol in prices
                }
                for level in range(len(FRACTIONS)) if known else ():
                    macs = layer.skipped_macs(level)
                    table[layer.symbol, level].append(
                        Price(
                            kernel,
                            _line(macs, {m: p.instructions for m, p in known.items()}),
                            _line(macs, {m: p.flash_bytes for m, p in known.items()}),
                        )
                    )
        return table

    def _runs(self) -> Iterator[tuple[str, dict[int, dict[str, Price]]]]:
        """Each kernel that leaves out zeros: its prices by level and layer."""
        for kernel in self._kernels:
            able = {
                layer.symbol: kernel
                for layer in self._layers
                if any(k.name == kernel for k in candidates(layer.conv, self._target))
            }
            points = {}
            for level in _MEASURED if able else ():
                measured = self._by_symbol(self.measure(dict.fromkeys(able, level), dict(able)))
                points[level] = {
                    symbol: Price(kernel, price.instructions, price.flash_bytes)
                    for symbol, price in measured.items()
                    if symbol in able
                }
            yield kernel, points

    def _by_symbol(self, measured: Measured) -> dict[str, Price]:
        return {
            self._symbol(layer): Price(None, layer["instructions"], _flash(layer))
            for layer in measured.report["layers"]
        }


def _flash(layer: Mapping[str, Any]) -> int:
    return int(layer["code_bytes"] + layer["constant_bytes"])


def _line(where: float, points: Mapping[int, float]) -> float:
    """The value at ``where`` on the lines through ``points``, the outer ones continued."""
    xs = sorted(points)
    if len(xs) == 1:
        return points[xs[0]]
    i = int(np.clip(np.searchsorted(xs, where) - 1, 0, len(xs) - 2))
    slope = (points[xs[i + 1]] - points[xs[i]]) / (xs[i + 1] - xs[i])
    return max(0.0, points[xs[i]] + slope * (where - xs[i]))
