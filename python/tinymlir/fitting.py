"""Code within a budget of flash: kernels are priced beforehand, and measured once they are code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tinymlir.artifact import measure
from tinymlir.codegen import Code, generate
from tinymlir.compiler import Compilation, Layer, check_budget
from tinymlir.pipelines import Selection

#: Compilations before the smallest kernels are taken; and those that a budget is worth, which may
#: be missed.
_ATTEMPTS, _ROUNDS = 4, 2


def generate_within(
    lower: Callable[[Selection], Compilation], selection: Selection
) -> tuple[Compilation, Code]:
    """The network that ``selection`` gives, of at most its ``max_flash`` once it is code.

    Prices are near the truth, and leave out what is no convolution. So code that is too large
    tells how much less its kernels must be priced at, next time. Without ``max_flash``, kernels
    are chosen again where they keep to the budget by their prices, but not as code.

    Raises:
        TinymlirError: the smallest kernels take more; says how much.
    """
    max_flash = selection.max_flash
    if max_flash is None:
        return _within_budget(lower, selection)
    beside = 0
    for _ in range(0 if selection.optimize == "size" else _ATTEMPTS):
        compilation = lower(replace(selection, max_flash=max(max_flash - beside, 0)))
        code = generate(compilation.module, compilation.target)
        flash = flash_bytes(code)
        if flash <= max_flash:
            return compilation, code
        beside = max(flash - _priced(compilation), beside + flash - max_flash)
    compilation = lower(replace(selection, optimize="size", max_flash=None))
    code = generate(compilation.module, compilation.target)
    check_budget("flash", "--max-flash", flash_bytes(code), max_flash)
    return compilation, code


def _within_budget(
    lower: Callable[[Selection], Compilation], selection: Selection
) -> tuple[Compilation, Code]:
    compilation = lower(selection)
    code = generate(compilation.module, compilation.target)
    for _ in range(_ROUNDS):
        budget, flash = compilation.flash_budget, flash_bytes(code)
        if budget is None or flash <= budget:
            break
        smaller = lower(replace(selection, beyond_prices=flash - _priced(compilation)))
        if smaller.flash_budget is None:
            # To keep to it would cost too much speed.
            break
        compilation, code = smaller, generate(smaller.module, smaller.target)
    return compilation, code


def _priced(compilation: Compilation) -> int:
    """Bytes of all layers that have a price, by these."""
    return sum(layer.price.flash_bytes for layer in _layers(compilation) if layer.price)


def _layers(compilation: Compilation) -> Iterable[Layer]:
    """Every layer that has code of its own."""
    parts = compilation.levels or (compilation,)
    return {layer.symbol: layer for part in parts for layer in part.layers}.values()


def flash_bytes(code: Code) -> int:
    """Of an object, code and constants."""
    sizes = measure(code.object)
    return sizes.code + sizes.constants
