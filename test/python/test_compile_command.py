"""The ``tinymlir compile`` and ``tinymlir targets`` commands, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm_binding
import numpy as np
import onnx
import pytest
from onnx_models import ModelBuilder, Quant

from tinymlir.targets import TARGETS
from tinymlir.tools import main as command
from tinymlir.tools.opt import main as opt

#: Keys of the report (docs/design.md), in no order.
REPORT = {
    *("name", "target", "options", "versions", "input_sha256", "inputs", "outputs", "macs"),
    *("executed_macs", "overhead", "arena_bytes", "arena_alignment", "arena_lower_bound"),
    *("io_bytes", "ram_bytes", "code_bytes", "constant_bytes", "flash_bytes", "stack_bytes"),
    *("input_mode", "cuts", "layers"),
}
TENSOR = {
    *("name", "shape", "bytes", "scale", "zero_point", "model_type", "model_shape"),
    *("permutation", "type", "rounding", "arena_offset"),
}
LAYER = {
    *("name", "op", "symbol", "macs", "executed_macs", "arena_bytes", "code_bytes"),
    *("constant_bytes", "kernel", "price"),
}
Result = tuple[int, str, str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions and a dense layer, in QDQ form, uint8 in."""
    rng = np.random.default_rng(0)
    b = ModelBuilder()
    x, act = Quant(0.05, 128, "uint8"), Quant(0.1, -3)
    value = b.dequantize(b.input((1, 3, 8, 6), "uint8", "image"), x)
    for outputs, inputs in ((5, 3), (4, 5)):
        weights = rng.integers(-127, 128, (outputs, inputs, 3, 3)).astype(np.int8)
        kernel = b.dequantize(b.constant(weights), Quant(0.01, 0))
        value = b.node("Conv", [value, kernel], pads=[1, 1, 1, 1])
        value = b.dequantize(b.quantize(b.node("Relu", [value]), act), act)
    value = b.node("Flatten", [value])
    weights = rng.integers(-127, 128, (4 * 8 * 6, 7)).astype(np.int8)
    kernel = b.dequantize(b.constant(weights), Quant(0.01, 0))
    value = b.node("Gemm", [value, kernel])
    b.output(b.dequantize(b.quantize(value, Quant(0.5, 1)), Quant(0.5, 1)))
    path = tmp_path_factory.mktemp("model") / "tiny net-1.onnx"
    onnx.save(b.model(), path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs ``tinymlir ARGUMENTS...``; exit status, standard output and error."""

    def call(*arguments: object) -> Result:
        try:
            status = command.main([str(argument) for argument in arguments])
        except SystemExit as usage:
            status = int(usage.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def assert_refused(result: Result, *words: str) -> None:
    """One line that says these things, and nothing else."""
    status, out, err = result
    assert (status, out) == (1, "")
    assert err.startswith("tinymlir: error: ") and err.count("\n") == 1 and err.endswith("\n")
    for word in words:
        assert word in err


def test_files(run: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    """Named after the model, as a C identifier; what was there besides stays."""
    (tmp_path / "mine.txt").write_text("mine")
    status, out, err = run("compile", model, "-o", tmp_path)
    assert (status, err) == (0, "")
    files = contents(tmp_path)
    assert sorted(files) == ["mine.txt", "tiny_net_1.h", "tiny_net_1.json", "tiny_net_1.o"]
    assert files["tiny_net_1.o"].startswith(b"\x7fELF")
    report = json.loads(files["tiny_net_1.json"])
    for fact in ("macs", "arena_bytes", "ram_bytes", "flash_bytes"):
        assert str(report[fact]) in out
    for layer in report["layers"]:
        assert layer["name"] in out and f"{layer['macs']:,}" in out
    assert f"wrote {tmp_path / 'tiny_net_1.o'}" in out


def check_report(report: dict[str, Any]) -> None:
    assert set(report) == REPORT
    for info in (*report["inputs"], *report["outputs"]):
        assert set(info) == TENSOR
    assert all(set(layer) == LAYER for layer in report["layers"])
    assert report["ram_bytes"] == report["arena_bytes"] + report["io_bytes"]
    assert report["flash_bytes"] == report["code_bytes"] + report["constant_bytes"]
    assert report["arena_lower_bound"] <= report["arena_bytes"]
    assert report["stack_bytes"] is None
    for fact in ("macs", "executed_macs"):
        assert report[fact] == sum(layer[fact] for layer in report["layers"])
    symbols = [layer["symbol"] for layer in report["layers"]]
    assert symbols == [f"{report['name']}_layer{i}" for i in range(len(symbols))]


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc_zve32x", "host"])
def test_report(run: Callable[..., Result], model: Path, tmp_path: Path, target: str) -> None:
    arguments = ("compile", model, "-o", tmp_path, "--target", target, "--name", "net", "--json")
    status, out, err = run(*arguments, "--max-ram", "1M", "--max-flash", "64K")
    assert (status, err) == (0, "")
    text = (tmp_path / "net.json").read_text()
    assert out == text
    report = json.loads(text)
    check_report(report)
    # Where it was made is nobody's business, and would change the bytes.
    for file in (text, (tmp_path / "net.h").read_text()):
        assert str(model.parent) not in file and str(tmp_path) not in file
    assert (report["name"], report["target"]) == ("net", target)
    options = {"max_ram": 1 << 20, "max_flash": 65536, "float_io": False, "emit": ["obj"]}
    options |= {"optimize": "speed", "max_accuracy_drop": None}
    options |= {"max_overhead": None, "plan": None, "input_mode": None, "schemes": None}
    options |= {"levels": None, "agreement": None, "flash_timing": None}
    assert report["options"] == options
    assert report["macs"] == 8 * 6 * 9 * (3 * 5 + 5 * 4) + 4 * 8 * 6 * 7
    given, made = report["inputs"][0], report["outputs"][0]
    assert (given["name"], given["model_type"], given["shape"]) == ("image", "uint8", [1, 8, 6, 3])
    assert (given["model_shape"], given["permutation"]) == ([1, 3, 8, 6], [0, 2, 3, 1])
    assert (given["bytes"], given["zero_point"], round(given["scale"], 7)) == (144, 0, 0.05)
    assert (made["model_type"], made["zero_point"], made["bytes"]) == ("float32", 1, 7)
    if target != "host":
        assert all(layer["code_bytes"] > 0 for layer in report["layers"])


@pytest.mark.parametrize("language", ["c", "c++"])
def test_header(run: Callable[..., Result], model: Path, tmp_path: Path, language: str) -> None:
    """Is C and C++ by itself and twice, and declares what the macros describe."""
    assert run("compile", model, "-o", tmp_path, "--name", "net")[0] == 0
    report = json.loads((tmp_path / "net.json").read_text())
    source = tmp_path / f"use.{language}"
    source.write_text(f"""
#include "net.h"
#include "net.h"
static int8_t input[NET_INPUT_BYTES], output[NET_OUTPUT_BYTES];
static int32_t arena[NET_ARENA_BYTES / NET_ARENA_ALIGNMENT + 1];
static const int shape[] = NET_INPUT_SHAPE;
typedef char input_is[NET_INPUT_BYTES == {report["inputs"][0]["bytes"]} ? 1 : -1];
typedef char arena_is[NET_ARENA_BYTES == {report["arena_bytes"]} ? 1 : -1];
float use(void);
float use(void) {{
  input_is a = {{0}}; arena_is b = {{0}};
  return (float)net_invoke(input, output, arena) * NET_OUTPUT_SCALE + (float)shape[0]
      - NET_INPUT_SCALE * (float)(output[0] - NET_OUTPUT_ZERO_POINT) + (float)(a[0] + b[0]);
}}
""")
    standard = {"c": "-std=c99", "c++": "-std=c++98"}[language]
    compiler = [sys.executable, "-m", "ziglang", "cc", "-x", language, standard]
    flags = ["-target", "thumb-freestanding-eabi", "-Wall", "-Wextra", "-Werror", "-Wpedantic"]
    made = str(tmp_path / "use.o")
    subprocess.run([*compiler, *flags, "-c", str(source), "-o", made], check=True)


def test_same_command_same_bytes(model: Path, tmp_path: Path) -> None:
    """In processes whose hashes and directories differ."""
    made = []
    for seed in ("1", "2"):
        directory = tmp_path / seed
        directory.mkdir()
        subprocess.run(
            [
                *(sys.executable, "-m", "tinymlir.tools.main", "compile", str(model)),
                *("-o", "out", "--emit", "obj,mlir,llvm,asm", "--target", "cortex-m33"),
            ],
            cwd=directory,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        made.append(contents(directory / "out"))
    assert made[0] == made[1]


def test_emit(run: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    arguments = ("compile", model, "--name", "net", "--target", "rv32imc")
    for kinds, files in {
        "obj": {"net.o"},
        "asm": {"net.s"},
        "llvm": {"net.ll"},
        "mlir": {"net.linalg.mlir", "net.memref.mlir", "net.llvm.mlir"},
        "asm,obj": {"net.o", "net.s"},
    }.items():
        assert run(*arguments, "-o", tmp_path / kinds, "--emit", kinds)[0] == 0
        assert set(contents(tmp_path / kinds)) == {"net.h", "net.json", *files}
    assert "net_invoke:" in (tmp_path / "asm" / "net.s").read_text()
    parsed = llvm_binding.parse_assembly(
        (tmp_path / "llvm" / "net.ll").read_text(), llvm_binding.create_context()
    )
    assert parsed.get_function("net_invoke").linkage.name == "external"
    for path in (tmp_path / "mlir").glob("*.mlir"):
        assert opt([str(path), "-o", os.devnull]) == 0


@pytest.mark.parametrize(("target", "options"), [("cortex-m0", []), ("cortex-m4", ["--float-io"])])
def test_print_pipeline(
    run: Callable[..., Result], model: Path, tmp_path: Path, target: str, options: list[str]
) -> None:
    """What is shown is what runs: tinymlir-opt makes the same IR of the first stage."""
    arguments = ("compile", model, "--name", "net", "--target", target, *options)
    status, pipeline, err = run(*arguments, "--print-pipeline")
    assert (status, err, pipeline.count("\n")) == (0, "", 1)
    assert run(*arguments, "-o", tmp_path, "--emit", "mlir")[0] == 0
    made = tmp_path / "made.mlir"
    first = tmp_path / "net.linalg.mlir"
    assert opt([str(first), f"--pass-pipeline={pipeline.strip()}", "-o", str(made)]) == 0
    assert made.read_text().strip() == (tmp_path / "net.llvm.mlir").read_text().strip()


def test_kernels_are_listed(run: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    """One of each layer is chosen: the one that compile takes, for memory that waits or not."""
    cycles = []
    for options in ([], ["--flash-timing", "5:8:4:1"]):
        arguments = ("compile", model, "--name", "net", "--json", *options)
        status, listed, err = run(*arguments, "--list-kernels")
        assert (status, err) == (0, "")
        chosen = {row["layer"]: row for row in json.loads(listed) if row["chosen"]}
        assert len(chosen) < len(json.loads(listed))
        layers = json.loads(run(*arguments, "-o", tmp_path)[1])["layers"]
        taken = {layer["name"]: layer for layer in layers if layer["kernel"]}
        assert {name: row["kernel"] for name, row in chosen.items()} == {
            name: layer["kernel"] for name, layer in taken.items()
        }
        cycles.append(sum(layer["price"]["cycles"] for layer in taken.values()))
    assert cycles[0] < cycles[1]
    status, listed, _ = run("compile", model, "--list-kernels")
    assert status == 0 and sum(line.endswith(" *") for line in listed.splitlines()) == len(taken)
    refused = run("compile", model, "-o", tmp_path, "--flash-timing", "fast")
    assert_refused(refused, "--flash-timing", "'fast'")


def test_flash_budget(run: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    """The least that is named is enough, and no byte less is; nothing is written then."""
    arguments = ("compile", model, "-o", tmp_path, "--optimize", "size")
    _, out, _ = run(*arguments, "--json")
    option, least = "--max-flash", json.loads(out)["flash_bytes"]
    before = contents(tmp_path)
    assert_refused(
        run(*arguments, option, least - 1), option, f"({least - 1})", f"{option} {least}"
    )
    assert_refused(run(*arguments, option, "0"), f"needs {least} bytes", f"{option} {least}")
    assert contents(tmp_path) == before
    assert run(*arguments, option, least)[0] == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cortex-m5", "did you mean 'cortex-m"), ("host ", "'host'"), ("pdp11", "known: cortex-m0, ")],
)
def test_unknown_target(
    run: Callable[..., Result], model: Path, tmp_path: Path, name: str, hint: str
) -> None:
    assert_refused(run("compile", model, "-o", tmp_path / "new", "--target", name), name, hint)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "better"),
    [("my net", "my_net"), ("2net", "n2net"), ("größe", "gr__e"), ("a/b", "a_b")],
)
def test_name_that_c_does_not_take(
    run: Callable[..., Result], model: Path, tmp_path: Path, name: str, better: str
) -> None:
    result = run("compile", model, "-o", tmp_path / "new", "--name", name)
    assert_refused(result, f"'{name}' is not a C identifier", f"try '{better}'")
    assert not (tmp_path / "new").exists()


def test_directory_that_cannot_be(run: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    """Under a file, or a file itself: as root, too."""
    file = tmp_path / "file"
    file.write_text("kept")
    for directory in (file, file / "sub", file / "sub" / "deeper"):
        assert_refused(run("compile", model, "-o", directory), str(directory), "cannot be written")
    assert contents(tmp_path) == {"file": b"kept"}


def test_a_file_that_cannot_be_replaced(
    run: Callable[..., Result], model: Path, tmp_path: Path
) -> None:
    """What was compiled before stays as it was, all of it, and nothing is left over."""
    arguments = ("compile", model, "-o", tmp_path, "--name", "net")
    assert run(*arguments, "--target", "cortex-m0")[0] == 0
    (tmp_path / "net.h").unlink()
    (tmp_path / "net.h").mkdir()
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert_refused(run(*arguments, "--target", "cortex-m7"), "net.h", "is a directory")
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.h", "net.json", "net.o"]


def test_an_interrupt_is_no_traceback(
    run: Callable[..., Result], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C leaves what was there, and nothing else."""
    (tmp_path / "net.h").write_text("kept")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    status, out, err = run("compile", model, "-o", tmp_path, "--name", "net")
    assert (status, out, err) == (130, "", "\ntinymlir: interrupted\n")
    assert contents(tmp_path) == {"net.h": b"kept"}


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "directory"])
def test_no_model(run: Callable[..., Result], model: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.onnx"
    if kind == "directory":
        path.mkdir()
    elif kind != "missing":
        data = {
            "empty": b"",
            "text": b"once upon a time\n" * 9,
            "truncated": model.read_bytes()[:-99],
        }
        path.write_bytes(data[kind])
    assert_refused(run("compile", path, "-o", tmp_path / "new"), str(path))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["compile"], "MODEL"),
        (["compil"], "compil"),
        (["compile", "m.onnx", "--max-ram", "64kB"], "'64kB' is not a size"),
        (["compile", "m.onnx", "--max-ram=-1"], "'-1' is not a size"),
        (["compile", "m.onnx", "--max-flash", "K"], "'K' is not a size"),
        (["compile", "m.onnx", "--emit", "obj,elf"], "'elf' is none of obj, mlir, llvm, asm"),
        (["compile", "m.onnx", "--no-such"], "--no-such"),
    ],
)
def test_wrong_usage(run: Callable[..., Result], arguments: list[str], words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err and "Traceback" not in err


def test_no_output_directory(run: Callable[..., Result], model: Path) -> None:
    assert_refused(run("compile", model), "no output directory", "-o DIR")


@pytest.mark.parametrize("subcommand", [[], ["compile"], ["targets"], ["run"], ["profile"]])
def test_help_shows_examples(run: Callable[..., Result], subcommand: list[str]) -> None:
    status, out, err = run(*subcommand, "--help")
    assert (status, err) == (0, "")
    examples = out.split("examples:\n")[1].splitlines()
    assert examples and all(
        line.startswith(" ".join(["  tinymlir", *subcommand])) for line in examples
    )


def test_targets(run: Callable[..., Result]) -> None:
    status, out, err = run("targets")
    assert (status, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()[2:]]
    assert names == list(TARGETS)
    assert set(names) >= {
        *("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"),
        *("cortex-m55", "rv32imc", "host"),
    }
    status, out, err = run("targets", "--json")
    assert (status, err) == (0, "")
    listed = {target["name"]: target for target in json.loads(out)}
    assert list(listed) == names
    m4 = listed["cortex-m4"]
    assert (m4["triple"], m4["cpu"]) == ("thumbv7em-none-eabi", "cortex-m4")
    assert "dsp" in m4["extensions"] and m4["costs"]["dual_mac"] == 1 and m4["notes"]


def test_version(run: Callable[..., Result]) -> None:
    from tinymlir import __version__

    assert run("--version") == (0, f"tinymlir {__version__}\n", "")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    script = f"{sys.executable} -u -m tinymlir.tools.main targets --json | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_as_a_process(tmp_path: Path) -> None:
    """Its exit status and streams; that it compiles, `test_same_command_same_bytes` shows."""
    command = [sys.executable, "-m", "tinymlir.tools.main", "compile", str(tmp_path / "none.onnx")]
    done = subprocess.run([*command, "-o", str(tmp_path)], capture_output=True, text=True)
    assert_refused((done.returncode, done.stdout, done.stderr), "none.onnx")
