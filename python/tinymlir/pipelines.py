"""The compiler as pass pipelines: from canonical form to layers, kernels, the arena and LLVM."""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.fusion.setting import DEFAULT_SCHEMES, InputMode, Scheme
from tinymlir.kernels.selection import Aim
from tinymlir.targets import Target


def _flag(target: Target, extension: str) -> str:
    return str(target.has(extension)).lower()


#: Pixels of a layer whose channels are many for the instructions that they take.
_FEW_PIXELS = 100
#: Where ELF has constants.
_SECTION = "{section=.rodata}"


@dataclass(frozen=True)
class Selection:
    """How ``tiny-select-kernels`` chooses: what counts, how much flash there is, and its waits.

    ``beyond_prices`` are the bytes of the network that no price has, where they were measured.
    """

    optimize: Aim = "balanced"
    max_flash: int | None = None
    flash_timing: str | None = None
    beyond_prices: int | None = None

    def __str__(self) -> str:
        room = "" if self.max_flash is None else f" max-flash={self.max_flash}"
        waits = "" if self.flash_timing is None else f" flash-timing={self.flash_timing}"
        beyond = "" if self.beyond_prices is None else f" beyond-prices={self.beyond_prices}"
        return f"optimize={self.optimize}{room}{waits}{beyond}"


BALANCED = Selection()


@dataclass(frozen=True)
class Fusion:
    """What ``tiny-plan-fusion`` may spend, or the plan that it takes (docs/fusion.md).

    Attributes:
        input: where the network's input is.
        max_ram: bytes for arena, input and output.
        max_overhead: multiply-accumulates over those of the network layer by layer.
        plan: path of a plan file.
        schemes: what stages may be.
    """

    max_ram: int | None = None
    max_overhead: float | None = None
    plan: str | None = None
    input: InputMode = "external"
    schemes: tuple[Scheme, ...] = DEFAULT_SCHEMES

    def __str__(self) -> str:
        where = None if self.input == "external" else self.input
        kinds = None if self.schemes == DEFAULT_SCHEMES else ",".join(self.schemes)
        options = {
            "input": where,
            "schemes": kinds,
            "max-ram": self.max_ram,
            "max-overhead": self.max_overhead,
        }
        given = [f" {key}={value}" for key, value in options.items() if value is not None]
        return "".join(given) + (f' plan="{self.plan}"' if self.plan else "")


def to_functions(target: Target) -> tuple[str, ...]:
    """Canonical form to one function per layer, in the model's arithmetic.

    Vectors look up many bytes at once, which a product whose results are lanes cannot.
    """
    outline = "" if target.has_vectors else "{inline-tables=true}"
    return ("tiny-fold-tables", "tiny-dense-to-conv", f"tiny-outline-layers{outline}")


def to_layers(target: Target) -> tuple[str, ...]:
    """Canonical form to one function per layer, each a specification still."""
    functions = (*to_functions(target), "tiny-drop-channels", "tiny-narrow-requantize")
    if target.vector_bits:
        # Arithmetic of 32 bits, before kernels: it is the same in the lanes of vectors.
        lanes = "{lanes=true}"
        fit = (f"tiny-fit-requantize{lanes}", "tiny-fold-biases", f"tiny-lower-requantize{lanes}")
        return (*functions, *fit)
    if target.has("mve"):
        # Helium's kernels fold for themselves.
        return (*functions, "tiny-fit-requantize")
    late = f"tiny-fit-requantize{{late={_flag(target, 'dsp')}}}"
    return (*functions, late, f"tiny-fold-biases{{most-pixels={_FEW_PIXELS}}}")


def select_kernels(target: Target, selection: Selection) -> str:
    """The pass that chooses kernels, for a network or for a module of its levels."""
    return f"tiny-select-kernels{{target={target.name} {selection}}}"


def to_kernels(target: Target, selection: Selection) -> tuple[str, ...]:
    """Canonical form to layers that know their kernels."""
    return (*to_layers(target), select_kernels(target, selection))


def planning_pipeline(target: Target) -> str:
    """From canonical form to what ``tiny-plan-fusion`` looks at, as one pass pipeline."""
    return on_module(to_kernels(target, BALANCED))


def to_arena(target: Target, selection: Selection, fusion: Fusion | None) -> tuple[str, ...]:
    """Canonical form to loops on memrefs in one arena."""
    return (*to_kernels(target, selection), *from_kernels(target, fusion))


def from_kernels(target: Target, fusion: Fusion | None) -> tuple[str, ...]:
    """Layers that know their kernels to loops on memrefs in one arena."""
    plan = () if fusion is None else (f"tiny-plan-fusion{{target={target.name}{fusion}}}",)
    return (
        *plan,
        f"tiny-fuse-stages{{target={target.name}}}",
        f"tiny-lower-patches{{target={target.name}}}",
        f"tiny-lower-layers{{target={target.name}}}",
        "canonicalize",
        "cse",
        "one-shot-bufferize{bufferize-function-boundaries=1"
        " function-boundary-type-conversion=identity-layout-map}",
        "canonicalize",
        "tiny-plan-arena",
    )


def to_llvm(target: Target, symbol: str) -> tuple[str, ...]:
    """Loops on memrefs to the LLVM dialect, with C names that begin with ``symbol``."""
    return (
        "tiny-lower-rings",
        _packed_arithmetic(target),
        _lower_requantize(target),
        "tiny-lower-add-float32",
        *(() if target.has("mul-long") else ("tiny-expand-multiply",)),
        *(() if target.has("divide") else ("tiny-expand-division",)),
        "tiny-merge-functions",
        f"tiny-emit-entry{{symbol={symbol}}}",
        "canonicalize",
        "cse",
        *(("tiny-lower-clamps",) if target.has("xcvalu") else ()),
        *_vectors_to_llvm(target),
        "convert-scf-to-cf",
        "expand-strided-metadata",
        "lower-affine",
        "finalize-memref-to-llvm{index-bitwidth=32}",
        "convert-arith-to-llvm{index-bitwidth=32}",
        "convert-func-to-llvm{use-bare-ptr-memref-call-conv index-bitwidth=32}",
        "convert-cf-to-llvm{index-bitwidth=32}",
        "reconcile-unrealized-casts",
        f"tiny-load-pairs{{ldrd={_flag(target, 'ldrd')}}}",
        *_pinned(target),
        "tiny-finalize-functions",
    )


def _lower_requantize(target: Target) -> str:
    """``tiny-lower-requantize``, with SMMLA where nothing issues while its result is waited for."""
    mac_high = target.has("dsp") and target.costs.issue == 1
    return f"tiny-lower-requantize{{mac-high={str(mac_high).lower()}}}"


def _packed_arithmetic(target: Target) -> str:
    """``tiny-lower-dual-mac`` with the instructions that the core has."""
    options = " ".join(f"{name}={_flag(target, name)}" for name in ("dsp", "mve", "xcvsimd"))
    return f"tiny-lower-dual-mac{{{options}}}"


def _vectors_to_llvm(target: Target) -> tuple[str, ...]:
    conversion = "convert-to-llvm{filter-dialects=vector,ub dynamic=true}"
    if target.has("mve"):
        return "tiny-lower-multiply-high{mve=true}", conversion
    if not target.has("zve32x"):
        return (conversion,)
    return f"tiny-lower-multiply-high{{vector-bits={target.vector_bits}}}", conversion


def _pinned(target: Target) -> tuple[str, ...]:
    """Which vector loads stay: not those that an instruction of Helium widens on the way."""
    if target.has("mve"):
        return ("tiny-pin-loads{least-bits=128}",)
    if not target.vector_bits:
        return ()
    return (f"tiny-pin-loads{_SECTION if target.triple else ''}",)


def on_module(passes: tuple[str, ...]) -> str:
    return f"builtin.module({','.join(passes)})"


#: Float32 inputs and outputs as the model has them, around its int8 layers.
FLOAT_IO = ("tiny-quantize-io",)


def pipeline(
    target: Target,
    symbol: str,
    *,
    float_io: bool = False,
    selection: Selection = BALANCED,
    fusion: Fusion | None = None,
) -> str:
    """The whole compiler as one pass pipeline: canonical form in, LLVM dialect out."""
    borders = FLOAT_IO if float_io else ()
    return on_module((*borders, *to_arena(target, selection, fusion), *to_llvm(target, symbol)))
