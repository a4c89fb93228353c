"""The compiler: a model in, code and what is known about it out."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinymlir import __version__, bindings
from tinymlir.bindings import func, ir
from tinymlir.codegen import versions as codegen_versions
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.frontends import import_model
from tinymlir.fusion.setting import InputMode
from tinymlir.kernels.price import Price
from tinymlir.network import TensorInfo, read_interface
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.passes.tiny_select_kernels import SelectKernels
from tinymlir.pipeline import run_pipeline
from tinymlir.pipelines import (
    BALANCED,
    FLOAT_IO,
    Fusion,
    Selection,
    on_module,
    to_arena,
    to_layers,
    to_llvm,
)
from tinymlir.targets import Target


@dataclass(frozen=True)
class Layer:
    """A layer of the network, as compiled.

    ``made_macs`` are ``macs`` with what is made more than once counted as often.
    ``kernel`` and ``price`` are None where no kernel computes it but code by element.
    """

    name: str
    op: str
    symbol: str
    macs: int
    executed_macs: int
    made_macs: int
    constant_bytes: int
    arena_bytes: int
    kernel: str | None
    price: Price | None


@dataclass(frozen=True)
class Level:
    """One of several levels of a network in one object (`tinymlir.levels`).

    ``code`` and ``constants`` are what it needs, its layers included: symbols, and bytes of
    constants by symbol.
    """

    symbol: str
    layers: tuple[Layer, ...]
    arena_bytes: int
    arena_lower_bound: int
    code: frozenset[str]
    constants: Mapping[str, int]


@dataclass
class Compilation:
    """A network in the LLVM dialect and the facts that passes found.

    ``input_mode`` is where its input is; ``cuts`` names layers that can be in no stage, where there
    was a plan for stages; ``stages`` holds the printed IR by level where it was
    asked for. ``flash_budget`` are the bytes of code and constants that the choice of kernels keeps
    to by their prices, where it does. With several ``levels``, ``layers`` are those of the exact
    one, and ``gated`` is whether there is ``NAME_invoke_gated``.
    """

    name: str
    target: Target
    module: ir.Module
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[Layer, ...]
    arena_bytes: int
    arena_lower_bound: int
    model_sha256: str
    input_mode: InputMode = "external"
    cuts: tuple[str, ...] = ()
    stages: dict[str, str] = field(default_factory=dict)
    flash_budget: int | None = None
    levels: tuple[Level, ...] = ()
    gated: bool = False

    @property
    def io_bytes(self) -> int:
        """Inputs and outputs that the caller holds."""
        inputs = self.inputs if self.input_mode == "external" else ()
        return sum(t.bytes for t in (*inputs, *self.outputs))

    @property
    def ram_bytes(self) -> int:
        return self.arena_bytes + self.io_bytes


def compile_model(
    model: str | Path,
    target: Target,
    name: str | None = None,
    *,
    float_io: bool = False,
    selection: Selection = BALANCED,
    fusion: Fusion | None = None,
    kernels: Mapping[str, str] | None = None,
) -> Compilation:
    """Compile a model file down to the LLVM dialect for ``target``.

    Args:
        model: path of an ONNX, TFLite or MLIR file.
        target: what to compile for.
        name: C prefix; the file's stem, made an identifier, where not given.
        float_io: whether float32 inputs and outputs of the model stay that.
        selection: how kernels are chosen.
        fusion: what running layers together may cost; None: layer by layer.
        kernels: the kernel of each layer that shall have that one, by the layer's name.

    Raises:
        TinymlirError: the model cannot be compiled; names file and node.
    """
    path = Path(model)
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = import_model(path, context)
        if float_io:
            _require_float_io(module, str(path))
        pin_kernels(module, kernels or {}, str(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        symbol = name or identifier(path.stem)
        return lower_module(
            module,
            target,
            symbol,
            digest,
            float_io=float_io,
            selection=selection,
            fusion=fusion,
        )


def pin_kernels(module: ir.Module, kernels: Mapping[str, str], file: str) -> None:
    """Write the kernel of each layer that ``kernels`` names into a module in canonical form.

    Layers may be functions already.

    Raises:
        TinymlirError: there is no such layer.
    """
    inline = find_main(module.operation).body.blocks[0].operations
    layers = {
        op.operation.attributes["tiny.layer"].value: op.operation
        for op in (*inline, *module.body.operations)
        if "tiny.layer" in op.operation.attributes
    }
    for name, kernel in kernels.items():
        if name not in layers:
            near = difflib.get_close_matches(name, layers, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "its layers are those in the report"
            raise TinymlirError(f"has no layer '{name}' to give a kernel", file=file, hint=hint)
        layers[name].attributes["tiny.kernel"] = ir.StringAttr.get(kernel)


@dataclass(frozen=True)
class Candidates:
    """The kernels that can compute a layer, by what ``tiny.kernel`` calls them; the chosen one."""

    prices: dict[str, Price]
    scratch_bytes: dict[str, int]
    chosen: str


def kernel_candidates(
    model: str | Path, target: Target, selection: Selection = BALANCED
) -> dict[str, Candidates]:
    """The kernels that can compute each convolution of a model; the layers in order, by name.

    Raises:
        TinymlirError: the model cannot be compiled; names file and node.
    """
    context = ir.Context()
    register(context)
    select = SelectKernels(
        target.name, selection.optimize, selection.max_flash, selection.flash_timing
    )
    with context, ir.Location.unknown():
        module = import_model(Path(model), context)
        run_pipeline(module, on_module(to_layers(target)))
        return {
            choice.layers[0].operation.attributes["tiny.layer"].value: Candidates(
                {k.label: price for k, price in zip(choice.kernels, choice.prices, strict=True)},
                {kernel.label: kernel.scratch_bytes() for kernel in choice.kernels},
                choice.kernels[choice.best].label,
            )
            for choice in select.choose(module.operation)
        }


def _require_float_io(module: ir.Module, file: str) -> None:
    """Raise a TinymlirError where nothing of the model's interface is float32."""
    inputs, outputs = read_interface(find_main(module.operation))
    if all(info.model_type != "float32" for info in (*inputs, *outputs)):
        raise TinymlirError(
            "the model itself takes and gives integers",
            file=file,
            hint="leave --float-io out, or quantise the model with float32 inputs and outputs",
        )


def identifier(text: str) -> str:
    """``text`` as a C identifier."""
    name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in text)
    return name if name and not name[0].isdigit() else f"n{name}"


def lower_module(
    module: ir.Module,
    target: Target,
    name: str,
    model_sha256: str = "",
    *,
    float_io: bool = False,
    selection: Selection = BALANCED,
    fusion: Fusion | None = None,
) -> Compilation:
    """Run `pipeline` on a module in canonical form, in place, and note what it found.

    The module's context must be active.
    """
    stages = {"linalg": str(module)}
    if float_io:
        run_pipeline(module, on_module(FLOAT_IO))
    inputs, outputs = read_interface(find_main(module.operation))
    run_pipeline(module, on_module(to_arena(target, selection, fusion)))
    stages["memref"] = str(module)
    main = find_main(module.operation)
    facts = main.operation.attributes
    if "tiny.input_offsets" in facts:
        inputs = tuple(
            replace(info, arena_offset=offset)
            for info, offset in zip(inputs, facts["tiny.input_offsets"], strict=True)
        )
    compilation = Compilation(
        name=name,
        target=target,
        module=module,
        inputs=inputs,
        outputs=outputs,
        layers=tuple(read_layers(module, main, name)),
        arena_bytes=facts["tiny.arena_bytes"].value,
        arena_lower_bound=facts["tiny.arena_lower_bound"].value,
        model_sha256=model_sha256,
        input_mode=facts["tiny.input"].value if "tiny.input" in facts else "external",
        cuts=tuple(cut.value for cut in facts.get("tiny.cuts", [])),
        stages=stages,
        flash_budget=facts["tiny.flash_budget"].value if "tiny.flash_budget" in facts else None,
    )
    run_pipeline(module, on_module(to_llvm(target, name)))
    stages["llvm"] = str(module)
    return compilation


def read_layers(module: ir.Module, main: func.FuncOp, name: str) -> list[Layer]:
    functions = {
        f.name.value: f.operation.attributes
        for f in module.body.operations
        if isinstance(f, func.FuncOp)
    }
    live = list(main.operation.attributes["tiny.live_bytes"])
    layers = []
    calls = [c for c in main.body.blocks[0].operations if c.operation.name == "func.call"]
    for call, live_bytes in zip(calls, live, strict=True):
        symbol = call.operation.attributes["callee"].value
        # A stage runs several layers, each a row at a time.
        stage = functions[symbol].get("tiny.stage")
        for part in [symbol] if stage is None else [ref.value for ref in stage]:
            facts = functions[part]
            layers.append(
                Layer(
                    name=facts["tiny.layer"].value,
                    op=facts["tiny.op"].value,
                    symbol=f"{name}_{part}",
                    macs=facts["tiny.macs"].value,
                    executed_macs=facts["tiny.executed_macs"].value,
                    made_macs=facts["tiny.macs" if stage is None else "tiny.made_macs"].value,
                    constant_bytes=facts["tiny.constant_bytes"].value,
                    arena_bytes=live_bytes,
                    kernel=facts["tiny.kernel"].value if "tiny.kernel" in facts else None,
                    price=_read_price(facts["tiny.price"]) if "tiny.price" in facts else None,
                )
            )
    return layers


def _read_price(attribute: ir.DictAttr) -> Price:
    return Price(**{named.name: named.attr.value for named in attribute})


def versions() -> dict[str, str]:
    """Everything that the bytes of an object depend on, besides model and options."""
    return {"tinymlir": __version__, "bindings": bindings.version(), **codegen_versions()}


def check_budget(what: str, option: str, needed: int, budget: int | None) -> None:
    """Raise a TinymlirError that says the least where ``needed`` exceeds ``budget``."""
    if budget is not None and needed > budget:
        raise TinymlirError(
            f"the network needs {needed} bytes of {what}, more than {option} allows ({budget})",
            hint=f"the least that this version reaches is {option} {needed}",
        )


def facts(compilation: Compilation) -> dict[str, Any]:
    """The part of the JSON report that does not depend on code generation."""
    macs = sum(layer.macs for layer in compilation.layers)
    executed = sum(layer.executed_macs for layer in compilation.layers)
    return {
        "name": compilation.name,
        "target": compilation.target.name,
        "versions": versions(),
        "input_sha256": compilation.model_sha256,
        "inputs": [t.to_json() for t in compilation.inputs],
        "outputs": [t.to_json() for t in compilation.outputs],
        "macs": macs,
        "executed_macs": executed,
        "overhead": sum(layer.made_macs for layer in compilation.layers) / macs if macs else 1.0,
        "input_mode": compilation.input_mode,
        "cuts": list(compilation.cuts),
        "arena_bytes": compilation.arena_bytes,
        "arena_alignment": 4,
        "arena_lower_bound": compilation.arena_lower_bound,
        "io_bytes": compilation.io_bytes,
        "ram_bytes": compilation.ram_bytes,
    }
