"""Code within a budget of flash: kernels are priced beforehand, and measured once they are code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tinymlir.artifact import measure
from tinymlir.codegen import Code, generate
from tinymlir.compiler import Compilation, Layer, check_budget
from tinymlir.pipelines import (
    Selection,
)

#: Compilations before the smallest kernels are taken.
_ATTEMPTS = 4


def generate_within(
    lower: Callable[[Selection], Compilation], selection: Selection
) -> tuple[Compilation, Code]:
    """The network that ``selection`` gives, of at most its ``max_flash`` once it is code.

    Prices are near the truth, and leave out what is no convolution. So code that is too large
    tells how much less its kernels must be priced at, next time.

    Raises:
        TinymlirError: the smallest kernels take more; says how much.
    """
    max_flash = selection.max_flash
    if max_flash is None:
        compilation = lower(selection)
        return compilation, generate(compilation.module, compilation.target)
    beside = 0
    for _ in range(0 if selection.optimize == "size" else _ATTEMPTS):
        compilation = lower(replace(selection, max_flash=max(max_flash - beside, 0)))
        code = generate(compilation.module, compilation.target)
        flash = flash_bytes(code)
        if flash <= max_flash:
            return compilation, code
        priced = sum(layer.price.flash_bytes for layer in _layers(compilation) if layer.price)
        beside = max(flash - priced, beside + flash - max_flash)
    compilation = lower(replace(selection, optimize="size", max_flash=None))
    code = generate(compilation.module, compilation.target)
    check_budget("flash", "--max-flash", flash_bytes(code), max_flash)
    return compilation, code


def _layers(compilation: Compilation) -> Iterable[Layer]:
    """Every layer that has code of its own."""
    parts = compilation.levels or (compilation,)
    return {layer.symbol: layer for part in parts for layer in part.layers}.values()


def flash_bytes(code: Code) -> int:
    """Of an object, code and constants."""
    sizes = measure(code.object)
    return sizes.code + sizes.constants
