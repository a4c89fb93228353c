"""The machines that we generate code for, as data.

Costs are cycles per instruction class in zero-wait-state memory, from each
core's technical reference manual; they price schedules and give ``profile``
its modelled cycles. ``None`` means the core lacks the instruction.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, replace
from typing import Any

from tinymlir.errors import TinymlirError


@dataclass(frozen=True)
class Costs:
    """Cycles per instruction class (docs/cycle-models.md has the sources).

    ``load`` is a single load by itself, ``load_after_load`` a load or store
    right after a load that it does not depend on. ``load_use_stall`` is added
    when the next instruction reads what was loaded, ``address_stall`` when a
    load's address was computed by the instruction before it. A load or store of
    n registers takes ``load`` + (n - 1) · ``load_multiple_extra``; a store whose
    address is the sum of two registers takes ``indexed_store``.
    ``branch_taken`` includes the pipeline refill; ``jump`` is an unconditional
    branch or a return. ``misaligned_target`` is added where control goes to a
    32-bit instruction that crosses words, ``jump_register_stall`` where the
    instruction before computed where to jump. ``dual_mac`` is an instruction of two products,
    or of four. ``issue`` is how many instructions begin in a cycle, at most one product among
    them.
    """

    alu: int = 1
    mul: int = 1
    mul_long: int | None = 1
    mac: int | None = 1
    dual_mac: int | None = None
    divide: int | None = None
    load: int = 2
    load_after_load: int | None = None
    load_use_stall: int = 0
    address_stall: int = 0
    store: int = 1
    indexed_store: int = 1
    load_multiple_extra: int = 1
    branch_taken: int = 2
    branch_not_taken: int = 1
    jump: int = 2
    call: int = 2
    misaligned_target: int = 0
    jump_register_stall: int = 0
    issue: int = 1


@dataclass(frozen=True)
class MemoryMap:
    """Where the simulated machine has its memories: (first address, bytes) of each.

    ``vectors`` is where the core looks for its vector table, if not at the start of flash.
    """

    flash: tuple[int, int]
    ram: tuple[int, int]
    vectors: int | None = None


@dataclass(frozen=True)
class Target:
    """One core: how LLVM names it, what it can do, what that costs.

    ``extensions`` holds the ISA facts that passes ask for: ``mul-long`` (a
    32 by 32 to 64 bit multiply), ``divide``, ``unaligned`` (word loads at any
    address), ``ldrd`` (two registers loaded by one instruction), ``dsp`` (SMLAD
    and friends), ``mve`` (Helium: vectors of integers), ``mve-float``
    (and of float32), ``zve32x`` (RISC-V vectors of integers), ``xcvsimd`` and ``xcvalu``
    (CORE-V's products of four bytes, and its clamps).
    """

    name: str
    triple: str
    cpu: str
    features: str
    abi: str
    extensions: tuple[str, ...]
    costs: Costs
    notes: str
    unicorn: str | None = None
    qemu: str | None = None
    memory: MemoryMap | None = None
    pointer_bits: int = 32
    #: general registers that a hot loop can fill before the allocator spills
    registers: int = 14
    #: 32-bit lanes of a vector register, where LLVM can fill them from neighbouring channels
    lanes: int = 1
    #: bits that a vector register has at least (VLEN); 0 where there are none
    vector_bits: int = 0
    #: properties of QEMU's core, where its machine's own is not enough
    qemu_cpu: str | None = None
    zig_target: str | None = None
    zig_cpu: str | None = None

    @property
    def has_vectors(self) -> bool:
        """Whether kernels may use vectors, of any kind."""
        return self.vector_bits > 0 or self.has("mve")

    @property
    def simulated(self) -> bool:
        """Whether a simulator runs its instructions."""
        return (self.unicorn or self.qemu) is not None

    def has(self, extension: str) -> bool:
        return extension in self.extensions

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _thumb(name: str, arch: str, zig_cpu: str, **kwargs: Any) -> Target:
    return Target(
        name=name,
        triple=f"{arch}-none-eabi",
        cpu=name,
        abi="aapcs",
        zig_target="thumb-freestanding-eabi",
        zig_cpu=zig_cpu,
        **kwargs,
    )


_MIB = 1 << 20
_MPS2 = MemoryMap(flash=(0x0000_0000, 4 * _MIB), ram=(0x2000_0000, 4 * _MIB))
# The secure aliases, as these machines start in secure state.
_MPS2_SECURE = MemoryMap(flash=(0x1000_0000, 4 * _MIB), ram=(0x3800_0000, 4 * _MIB))
_MPS3_SECURE = MemoryMap(
    flash=(0x1100_0000, 2 * _MIB), ram=(0x3100_0000, 4 * _MIB), vectors=0x1000_0000
)
_RISCV_VIRT = MemoryMap(flash=(0x8000_0000, 16 * _MIB), ram=(0x8100_0000, 16 * _MIB))

# CV32E40P user manual, "Pipeline details": loads 1 (2 when used at once), mulh 5,
# taken branch 3, jump 2.
_CV32E40P = Costs(
    mul_long=5,
    mac=None,
    divide=35,
    load=1,
    load_use_stall=1,
    branch_taken=3,
    misaligned_target=1,
    jump_register_stall=2,
)

_ARMV7M = ("mul-long", "divide", "unaligned", "ldrd")

TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        _thumb(
            "cortex-m0",
            "thumbv6m",
            "cortex_m0",
            features="",
            extensions=(),
            # Cortex-M0 TRM (DDI 0432C), table 3-1; single-cycle multiplier option.
            costs=Costs(
                mul_long=None,
                mac=None,
                load=2,
                store=2,
                indexed_store=2,
                branch_taken=3,
                jump=3,
                call=4,
            ),
            notes="Thumb-1: no long multiply, no divide, aligned loads only",
            # Eight low ones; moves from the high ones are cheaper than spills.
            registers=10,
            unicorn="cortex-m0",
            qemu="mps2-an385",
            memory=_MPS2,
        ),
        _thumb(
            "cortex-m0plus",
            "thumbv6m",
            "cortex_m0plus",
            features="",
            extensions=(),
            # Cortex-M0+ TRM (DDI 0484C), table 3-1; single-cycle multiplier option. Two pipeline
            # stages, so less is lost where control goes elsewhere.
            costs=Costs(
                mul_long=None,
                mac=None,
                load=2,
                store=2,
                indexed_store=2,
                branch_taken=2,
                jump=2,
                call=3,
            ),
            notes="as cortex-m0, with a shorter pipeline",
            registers=10,
            unicorn="cortex-m0",
            qemu="mps2-an385",
            memory=_MPS2,
        ),
        _thumb(
            "cortex-m3",
            "thumbv7m",
            "cortex_m3",
            features="",
            extensions=_ARMV7M,
            # Cortex-M3 TRM (DDI 0337I), table 3-1; UMULL/SMLAL take 3 to 7 cycles.
            costs=Costs(
                mul_long=5,
                mac=2,
                divide=7,
                load_after_load=1,
                address_stall=1,
                indexed_store=2,
                branch_taken=3,
                jump=3,
                call=3,
                misaligned_target=1,
            ),
            notes="MLA, no DSP extension",
            unicorn="cortex-m3",
            qemu="mps2-an385",
            memory=_MPS2,
        ),
        _thumb(
            "cortex-m4",
            "thumbv7em",
            "cortex_m4",
            features="+dsp",
            extensions=(*_ARMV7M, "dsp"),
            # Cortex-M4 TRM (DDI 0439B), tables 3-1 and 3-2.
            costs=Costs(
                dual_mac=1,
                divide=7,
                load_after_load=1,
                address_stall=1,
                indexed_store=2,
                branch_taken=3,
                jump=3,
                call=3,
                misaligned_target=1,
            ),
            notes="SMLAD: two 16-bit MACs in a cycle",
            unicorn="cortex-m4",
            qemu="mps2-an386",
            memory=_MPS2,
        ),
        _thumb(
            "cortex-m7",
            "thumbv7em",
            "cortex_m7",
            features="+dsp",
            extensions=(*_ARMV7M, "dsp"),
            costs=Costs(
                dual_mac=1,
                divide=8,
                load=1,
                load_multiple_extra=0,
                branch_taken=1,
                jump=1,
                call=1,
                issue=2,
            ),
            notes="dual issue, branch predictor",
            unicorn="cortex-m7",
            qemu="mps2-an500",
            memory=_MPS2,
        ),
        _thumb(
            "cortex-m33",
            "thumbv8m.main",
            "cortex_m33",
            features="+dsp",
            extensions=(*_ARMV7M, "dsp"),
            costs=Costs(
                dual_mac=1,
                divide=6,
                load=1,
                load_use_stall=1,
                branch_taken=2,
                misaligned_target=1,
            ),
            notes="SMLAD, some dual issue",
            unicorn="cortex-m33",
            qemu="mps2-an505",
            memory=_MPS2_SECURE,
        ),
        _thumb(
            "cortex-m55",
            "thumbv8.1m.main",
            "cortex_m55",
            features="+dsp,+mve.fp",
            extensions=(*_ARMV7M, "dsp", "mve", "mve-float"),
            costs=Costs(
                dual_mac=1,
                divide=6,
                load=1,
                load_use_stall=1,
                branch_taken=2,
            ),
            notes="Helium (MVE) of integers and float32; simulated by QEMU only",
            unicorn=None,
            qemu="mps3-an547",
            memory=_MPS3_SECURE,
        ),
        Target(
            name="rv32imc",
            triple="riscv32-unknown-elf",
            cpu="generic-rv32",
            features="+m,+c",
            abi="ilp32",
            extensions=("mul-long", "divide"),
            costs=_CV32E40P,
            notes="mul/mulh; costs of a CV32E40P",
            registers=23,
            unicorn="riscv32",
            qemu="virt",
            memory=_RISCV_VIRT,
            zig_target="riscv32-freestanding-none",
            zig_cpu="generic_rv32+m+c",
        ),
        Target(
            name="rv32imc_zve32x",
            triple="riscv32-unknown-elf",
            cpu="generic-rv32",
            features="+m,+c,+zve32x,+zvl128b",
            abi="ilp32",
            extensions=("mul-long", "divide", "zve32x"),
            costs=_CV32E40P,
            notes="vectors of integers, VLEN 128 or more (Zvl128b); simulated by QEMU only",
            registers=23,
            vector_bits=128,
            qemu="virt",
            qemu_cpu="rv32,v=true,vlen=128,elen=32",
            memory=_RISCV_VIRT,
            zig_target="riscv32-freestanding-none",
            zig_cpu="generic_rv32+m+c",
        ),
        Target(
            name="rv32imc_xcv",
            triple="riscv32-unknown-elf",
            cpu="generic-rv32",
            features="+m,+c,+unaligned-scalar-mem,+xcvalu,+xcvbitmanip,+xcvmac,+xcvmem,+xcvsimd",
            abi="ilp32",
            extensions=("mul-long", "divide", "unaligned", "xcvsimd", "xcvalu"),
            costs=replace(_CV32E40P, dual_mac=1),
            notes="CV32E40P with COREV_PULP: products of four bytes; simulated by its RTL only",
            registers=23,
            memory=_RISCV_VIRT,
            zig_target="riscv32-freestanding-none",
            zig_cpu="generic_rv32+m+c",
        ),
        Target(
            name="host",
            triple="",
            cpu="",
            features="",
            abi="",
            extensions=("mul-long", "divide", "unaligned"),
            costs=Costs(),
            notes="this machine, in process: what accuracy is evaluated on",
            pointer_bits=64,
            lanes=8,
        ),
    )
}


def require_simulator(target: Target, **where: str) -> None:
    """Raise a TinymlirError, at the ``file`` or ``node`` given, where no simulator runs it."""
    if not target.simulated:
        hint = "benchmarks/rtl.py runs it on the RTL of its core" if target.memory else None
        raise TinymlirError(f"target '{target.name}' is not simulated", hint=hint, **where)


def get_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        TinymlirError: with the nearest name, where there is none of that name.
    """
    if name in TARGETS:
        return TARGETS[name]
    near = difflib.get_close_matches(name, TARGETS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(TARGETS)}"
    raise TinymlirError(f"unknown target '{name}'", hint=hint)
