"""LLVM dialect to object code, in process, through llvmlite."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm_binding

from tinymlir.bindings import ir, llvm
from tinymlir.build_attributes import fit_any_float_abi
from tinymlir.errors import TinymlirError
from tinymlir.stand_ins import replace_in_assembly, replace_in_object
from tinymlir.targets import Target

_OPTIMIZATION = 2
#: Kernels are written in the order in which they should run, with no more values alive than
#: there are registers. Reordering instructions, or sums, or sinking instructions into a branch,
#: spills. A 64-bit constant that is hoisted hides that only the high word of a product is wanted.
#: LLVM 22 builds its while-loops (WLS, Cortex-M55) wrongly without that sinking.
_OPTIONS = (
    "-enable-misched=false",
    "-disable-machine-sink",
    "-disable-constant-hoisting",
    "-allow-arm-wlsloops=false",
    "-riscv-enable-machine-combiner=false",
    "-pre-RA-sched=source",
)


@dataclass(frozen=True)
class Code:
    """What LLVM made of a module: IR text after optimization, and the ELF object."""

    llvm_ir: str
    object: bytes
    target: Target

    @functools.cached_property
    def assembly(self) -> str:
        """The object's instructions, as text."""
        module = llvm_binding.parse_assembly(self.llvm_ir, llvm_binding.create_context())
        return replace_in_assembly(str(target_machine(self.target).emit_assembly(module)))


def versions() -> dict[str, str]:
    """Versions of the code generator, for reports."""
    number = ".".join(str(part) for part in llvm_binding.llvm_version_info)
    return {"llvmlite": llvmlite.__version__, "llvm": number}


@functools.cache
def _initialize() -> None:
    llvm_binding.initialize_all_targets()
    llvm_binding.initialize_all_asmprinters()
    for option in _OPTIONS:
        llvm_binding.set_option("tinymlir", option)


def target_machine(target: Target) -> llvm_binding.TargetMachine:
    """LLVM's code generator for ``target``; the host's for a target without a triple."""
    _initialize()
    if not target.triple:
        features = llvm_binding.get_host_cpu_features().flatten()
        return llvm_binding.Target.from_default_triple().create_target_machine(
            cpu=llvm_binding.get_host_cpu_name(),
            features=features,
            opt=_OPTIMIZATION,
            reloc="pic",
            jit=True,
        )
    return llvm_binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=_OPTIMIZATION,
        reloc="static",
        codemodel="small",
        abiname=target.abi,
    )


def _require_llvm(module: ir.Module) -> None:
    """What is not converted would crash the translation."""

    left: list[ir.Operation] = []

    def check(op: ir.Operation) -> ir.WalkResult:
        if not op.name.startswith(("llvm.", "builtin.module")):
            left.append(op)
        return ir.WalkResult.ADVANCE

    # What is raised within a walk arrives as another exception.
    module.operation.walk(check)
    if left:
        raise TinymlirError(f"'{left[0].name}' at {left[0].location} has no conversion to LLVM")


def _is_of_interface(diagnostic: ir.Diagnostic) -> bool:
    """Whether it is nothing to report: a warning that LLVM drops what arguments say of tensors."""
    return "'tiny." in diagnostic.message and diagnostic.severity == ir.DiagnosticSeverity.WARNING


def optimize(
    module: ir.Module, target: Target
) -> tuple[llvm_binding.ModuleRef, llvm_binding.TargetMachine]:
    """The optimized LLVM module of an LLVM-dialect module."""
    machine = target_machine(target)
    _require_llvm(module)
    with module.context.attach_diagnostic_handler(_is_of_interface):
        text = llvm.translate_module_to_llvmir(module.operation)
    try:
        parsed = llvm_binding.parse_assembly(text, llvm_binding.create_context())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise TinymlirError(
            f"LLVM {versions()['llvm']} rejects the generated IR: {reason}",
            hint="use versions of the bindings and of llvmlite that docs/dependencies.md names",
        ) from error
    parsed.triple = machine.triple
    parsed.data_layout = str(machine.target_data)
    parsed.verify()
    # Unrolling is decided by the kernels: LLVM's would multiply the code of every layer.
    tuning = llvm_binding.create_pipeline_tuning_options(speed_level=_OPTIMIZATION)
    tuning.loop_unrolling = False
    tuning.loop_vectorization = False
    tuning.slp_vectorization = target.lanes > 1
    builder = llvm_binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(parsed, builder)
    return parsed, machine


def generate(module: ir.Module, target: Target) -> Code:
    """Compile an LLVM-dialect module for a microcontroller."""
    optimized, machine = optimize(module, target)
    # Code generation changes the module: first the text.
    text = str(optimized)
    code = replace_in_object(fit_any_float_abi(machine.emit_object(optimized)))
    return Code(text, code, target)
