"""Objects: what is in them, and what must not be."""

from __future__ import annotations

import functools
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from networks import Network, Window, everything, lower

from tinymlir import artifact, codegen
from tinymlir.bindings import ir, llvm, memref
from tinymlir.codegen import Code, generate
from tinymlir.compiler import Compilation
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.targets import TARGETS, get_target

EMBEDDED = [target.name for target in TARGETS.values() if target.triple]
#: section flags of ELF
WRITE, ALLOC, EXECUTE = 1, 2, 4
SYMBOLS, NOBITS, LOCAL, GLOBAL, FUNCTION = 2, 8, 0, 1, 2


@dataclass(frozen=True)
class Section:
    name: str
    kind: int
    flags: int
    size: int
    data: bytes


@dataclass(frozen=True)
class Symbol:
    name: str
    value: int
    size: int
    binding: int
    kind: int
    section: int


class Object:
    """A relocatable ELF32 object, read without the code under test."""

    def __init__(self, data: bytes) -> None:
        assert data[:7] == b"\x7fELF\x01\x01\x01" and struct.unpack_from("<H", data, 16) == (1,)
        (table,) = struct.unpack_from("<I", data, 32)
        size, count, names = struct.unpack_from("<HHH", data, 46)
        headers = [struct.unpack_from("<10I", data, table + i * size) for i in range(count)]

        def text(at: int) -> str:
            return data[at : data.index(b"\0", at)].decode()

        self.sections = [
            Section(
                text(headers[names][4] + h[0]),
                h[1],
                h[2],
                h[5],
                b"" if h[1] == NOBITS else data[h[4] : h[4] + h[5]],
            )
            for h in headers
        ]
        self.symbols = []
        for header, section in zip(headers, self.sections, strict=True):
            if section.kind != SYMBOLS:
                continue
            strings = headers[header[6]][4]
            for name, value, length, info, _, index in struct.iter_unpack("<IIIBBH", section.data):
                symbol = Symbol(text(strings + name), value, length, info >> 4, info & 15, index)
                self.symbols.append(symbol)


@functools.cache
def compiled(target: str) -> tuple[Compilation, Code]:
    network, result = everything()
    compilation = lower(network.text(result), get_target(target), "net")
    return compilation, generate(compilation.module, get_target(target))


def constants(compilation: Compilation) -> Iterator[np.ndarray]:
    """The constant globals that passes made."""
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        for op in ir.Module.parse(compilation.stages["memref"]).body.operations:
            if isinstance(op, memref.GlobalOp):
                value = op.initial_value
                width = ir.IntegerType(value.type.element_type).width
                yield np.array(value).astype(f"<i{width // 8}").reshape(value.type.shape)


@pytest.mark.parametrize("target", EMBEDDED)
class TestObject:
    def test_needs_nothing(self, target: str) -> None:
        """No symbol of a library, however little the core can do."""
        undefined = [
            s.name for s in Object(compiled(target)[1].object).symbols[1:] if not s.section
        ]
        assert undefined == []

    def test_writes_nothing_of_its_own(self, target: str) -> None:
        for section in Object(compiled(target)[1].object).sections:
            assert not (section.flags & WRITE and section.size), section.name
            assert not (section.flags & WRITE and section.flags & EXECUTE)

    def test_shows_one_function(self, target: str) -> None:
        """The layers are there by name, but to nobody else."""
        compilation, code = compiled(target)
        named = {s.name: s for s in Object(code.object).symbols}
        assert [s.name for s in named.values() if s.binding == GLOBAL] == ["net_invoke"]
        assert named["net_invoke"].kind == FUNCTION
        # On vectors a lookup is a layer of its own.
        assert len(compilation.layers) == (15 if compilation.target.has_vectors else 14)
        for layer in compilation.layers:
            symbol = named[layer.symbol]
            assert (symbol.binding, symbol.kind) == (LOCAL, FUNCTION) and symbol.size > 0

    def test_holds_each_constant_once(self, target: str) -> None:
        compilation, code = compiled(target)
        read_only = [s.data for s in Object(code.object).sections if s.name.startswith(".rodata")]
        large = [c.tobytes() for c in constants(compilation) if c.nbytes >= 24]
        assert len(large) >= 8
        for data in large:
            assert sum(section.count(data) for section in read_only) == 1
        total = sum(c.nbytes for c in constants(compilation))
        # Padding to words, no more.
        assert total <= sum(map(len, read_only)) <= total + 4 * len(list(constants(compilation)))

    def test_is_measured_as_it_is(self, target: str) -> None:
        compilation, code = compiled(target)
        report = artifact.report(compilation, code, {})
        sections = Object(code.object).sections
        text = sum(s.size for s in sections if s.flags & EXECUTE)
        read_only = sum(
            s.size for s in sections if s.flags == ALLOC or s.name.startswith(".rodata")
        )
        assert (report["code_bytes"], report["constant_bytes"]) == (text, read_only)
        layers = report["layers"]
        functions = [s for s in Object(code.object).symbols if s.kind == FUNCTION]
        # All but the entry and the routines that layers share is of some layer.
        shared = [s for s in functions if "_layer" not in s.name]
        names = {s.name for s in shared if not s.name.startswith("net_round_near_tie_x")}
        assert names <= {"net_invoke", "net_divide", "net_round_near_tie"}
        of_layers = sum(s.size for s in functions) - sum(s.size for s in shared)
        assert sum(layer["code_bytes"] for layer in layers) == of_layers <= text
        assert sum(layer["constant_bytes"] for layer in layers) <= read_only


@pytest.mark.parametrize("target", ["cortex-m55", "rv32imc"])
def test_is_the_same_again(target: str) -> None:
    again = compiled.__wrapped__(target)[1]
    assert again.object == compiled(target)[1].object
    assert again.assembly == compiled(target)[1].assembly


def test_equal_weights_are_one_constant() -> None:
    """A layer used twice costs flash once, where weights are stored by themselves."""
    network = Network(3)
    state = network.random.bit_generator.state
    x = network.input(1, 4, 4, 8)
    network.random.bit_generator.state = state
    y = network.conv(x, 8, Window((3, 3), pad=(1, 1, 1, 1)))
    network.random.bit_generator.state = state
    z = network.conv(y, 8, Window((3, 3), pad=(1, 1, 1, 1)))
    compilation = lower(network.text(z), get_target("host"), "net")
    first, second = compilation.layers
    assert first.constant_bytes > 3 * 3 * 8 * 8 > second.constant_bytes
    sizes = [c.nbytes for c in constants(compilation)]
    assert sizes.count(3 * 3 * 8 * 8) == 1


def test_bytes_depend_on_no_process() -> None:
    """Neither on the seed of Python's hashes nor on what ran before."""
    script = (
        "import hashlib; from test_codegen import compiled;"
        "print(hashlib.sha256(compiled('cortex-m4')[1].object).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_an_object_that_needs_a_library_is_refused() -> None:
    network = Network()
    x = network.input(4)
    body = """%one = arith.constant 1 : i8
      %odd = arith.ori %a0, %one : i8
      %r = arith.divsi %a0, %odd : i8"""
    name = network.generic("quotient", [(x.name, x.type, "affine_map<(d0) -> (d0)>")], [4], body)
    text = network.text(type(x)(name, x.array))
    compilation = lower(text, get_target("cortex-m0"), "net")
    code = generate(compilation.module, compilation.target)
    with pytest.raises(TinymlirError, match=r"needs '__\w*div\w*' of a library"):
        artifact.report(compilation, code, {})


def test_an_object_with_writable_data_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "state.c"
    source.write_text("int state = 1; int f(void) { return state++; }")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabi"]
    subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "state.o")], check=True)
    with pytest.raises(TinymlirError, match=r"writable data in \.data"):
        artifact.measure((tmp_path / "state.o").read_bytes())


def test_ir_that_llvm_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    compilation, _ = compiled("cortex-m4")
    monkeypatch.setattr(llvm, "translate_module_to_llvmir", lambda _: "define void @f( {")
    with pytest.raises(
        TinymlirError, match=r"rejects the generated IR: .*docs/dependencies\.md"
    ) as error:
        codegen.optimize(compilation.module, compilation.target)
    assert "\n" not in str(error.value)


def test_ir_that_no_pass_converted() -> None:
    context = ir.Context()
    with context, ir.Location.unknown():
        module = ir.Module.parse("func.func private @f()")
        with pytest.raises(TinymlirError, match=r"'func.func' at .* has no conversion to LLVM"):
            generate(module, get_target("cortex-m4"))
