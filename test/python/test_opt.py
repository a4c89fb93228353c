"""tinymlir-opt from Python: usage, inputs and outputs, expectations, plugins."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinymlir.passes import REGISTRY
from tinymlir.tools.opt import main

LIT = Path(__file__).resolve().parents[1] / "lit" / "opt"
PLUGIN = LIT / "inputs" / "plugin.py"
FUNCTION = "func.func @f(%a: i32) -> i32 {\n  %x = arith.muli %a, %a : i32\n  return %x : i32\n}\n"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What plugins register is forgotten after each test."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mlir"
    path.write_text(FUNCTION, encoding="utf-8")
    return path


def run_opt(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--canonicalise"], "unknown option or pass '--canonicalise'; did you mean '--canon"),
        (["--test-marc"], "unknown option or pass '--test-marc'; did you mean '--test-mark'?"),
        (["--pass-pipelin=cse"], "did you mean '--pass-pipeline'?"),
        (["--qqqqqq"], "unknown option or pass '--qqqqqq'; see --help"),
        (["other.mlir"], "more than one input file: "),
        (["--cse", "--pass-pipeline=cse"], "--cse: passes as flags do not go with"),
        (["-o", "a", "-o", "b"], "-o FILE is given twice"),
        (["--pass-pipeline"], "--pass-pipeline=TEXT needs a value"),
        (["--mlir-timing=perhaps"], "--mlir-timing takes true or false, not 'perhaps'"),
        (["--mlir-elide-elementsattrs-if-larger=few"], "takes a number, not 'few'"),
        (["--verify-diagnostics=some"], "takes all or only-expected, not 'some'"),
        (["--mlir-print-ir-after=cse,test-marc"], "no pass 'test-marc'; did you mean 'test-mark'?"),
    ],
)
def test_wrong_usage_is_status_2_and_one_line(
    source: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run_opt(source, f"--load-pass-plugin={PLUGIN}", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tinymlir-opt: error: ") and err.count("\n") == 1
    assert message in err


def test_one_dash_two_dashes_and_values_apart(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for arguments in (
        ["--canonicalize", "--mlir-print-op-generic", "--verify-each=1"],
        ["-canonicalize", "-mlir-print-op-generic", "--verify-each"],
        ["--pass-pipeline", "canonicalize", "--mlir-print-op-generic=true", "--no-verify=0"],
        ["--canonicalize={}", "--mlir-print-op-generic", "-o", "-"],
    ):
        assert run_opt(*arguments, source) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith('"builtin.module"() ({')
    assert set(texts) == {texts[0]}


def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], ["-"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(FUNCTION.encode())))
        assert run_opt(*arguments) == 0
        assert "arith.muli" in capsys.readouterr().out


def test_a_failed_run_leaves_the_output_file_as_it_was(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mlir"
    assert run_opt(source, "-o", target) == 0
    good = target.read_text(encoding="utf-8")
    source.write_text("func.func @", encoding="utf-8")
    assert run_opt(source, "-o", target) == 1
    assert target.read_text(encoding="utf-8") == good
    assert sorted(os.listdir(tmp_path)) == ["in.mlir", "out.mlir"]


@pytest.mark.parametrize("target", ["none/out.mlir", "in.mlir/out.mlir", "."])
def test_output_that_cannot_be_written(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    assert run_opt(source, "-o", tmp_path / target) == 1
    err = capsys.readouterr().err
    assert "cannot be written: " in err and err.count("\n") == 1
    assert os.listdir(tmp_path) == ["in.mlir"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_to_a_full_device(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_opt(source, "-o", "/dev/full") == 1
    err = capsys.readouterr().err
    assert err.startswith("tinymlir-opt: error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"ML\xefR\x0d", b"not mlir at all", b"module {", b"\x00garbage"]
)
def test_input_that_is_not_mlir(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "in.mlir"
    path.write_bytes(content)
    assert run_opt(path) == 1
    out, err = capsys.readouterr()
    assert out == "" and "error: " in err and "Traceback" not in err


def test_only_the_name_of_the_input_stands_in_locations(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_opt(source, "--mlir-print-debuginfo") == 0
    out = capsys.readouterr().out
    assert f'loc("{source}":2:8)' in out
    source.write_text(out, encoding="utf-8")
    assert run_opt(source, "--mlir-print-debuginfo") == 0
    assert f'loc("{source}":2:8)' in capsys.readouterr().out


# --verify-diagnostics


def verified(source: Path, text: str, *arguments: str) -> int:
    source.write_text(text, encoding="utf-8")
    for name in [name for name in REGISTRY if name.startswith("test-")]:
        del REGISTRY[name]
    plugin = f"--load-pass-plugin={PLUGIN}"
    return run_opt(source, plugin, "--verify-diagnostics", "-o", os.devnull, *arguments)


@pytest.mark.parametrize("fault", ["fail", "budget", "invalid"])
@pytest.mark.parametrize("expected", ["fail", "budget", "invalid", "nothing"])
def test_an_expectation_holds_for_its_own_fault_only(
    source: Path, capsys: pytest.CaptureFixture[str], fault: str, expected: str
) -> None:
    comments = {
        "fail": "// expected-error@+2 {{no products}}",
        "invalid": "// expected-error@+1 {{entry block must have 0 arguments}}",
        "budget": "// expected-error@unknown {{the least is 12 bytes}}",
        "nothing": "// nothing",
    }
    status = verified(source, f"{comments[expected]}\n{FUNCTION}", f"--test-misbehave=how={fault}")
    assert status == int(fault != expected)
    err = capsys.readouterr().err
    assert ("unexpected error: " in err) == (fault != expected)
    assert ("was not produced" in err) == (expected not in (fault, "nothing"))


def test_one_expectation_is_for_one_diagnostic(source: Path) -> None:
    twice = FUNCTION + FUNCTION.replace("@f", "@g")
    comment = "// expected-error@below {{entry block must have 0 arguments}}\n"
    pipeline = "--pass-pipeline=func.func(test-misbehave{how=invalid})"
    assert verified(source, comment + FUNCTION, pipeline) == 0
    assert verified(source, comment + comment + FUNCTION, pipeline) == 1
    assert verified(source, comment + twice, pipeline) == 0  # the first failure ends the run
    parts = f"{comment}{FUNCTION}// -----\n{comment}{FUNCTION}"
    assert verified(source, parts, pipeline, "--split-input-file") == 0


def test_a_wrong_pipeline_is_no_diagnostic_to_expect(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"// expected-error@unknown {{{{unknown pass}}}}\n{FUNCTION}"
    assert verified(source, text, "--pass-pipeline=canonicalise") == 1
    assert "<pass pipeline>:1:1: error: unknown pass" in capsys.readouterr().err


# Plugins and information


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", "import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("a.py", "def\n", "SyntaxError"),
        ("a.txt", "", "a pass plugin is a Python file"),
        ("a.py", None, "FileNotFoundError"),
    ],
)
def test_a_plugin_that_does_not_load(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str | None,
    message: str,
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert run_opt("--load-pass-plugin", path, "--list-passes") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"tinymlir-opt: error: {path}: ") and message in err


def test_every_pass_is_listed_once_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_opt("--list-passes", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == sorted(REGISTRY)
    assert all(entry["description"] for entry in listed)
    assert run_opt("--list-passes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == sorted(REGISTRY)
    assert all(" - " in line for line in lines)


# As a process


def test_starting_does_not_load_what_only_the_compiler_needs() -> None:
    code = (
        "import sys, tinymlir.tools.opt\n"
        "print(*sorted({'onnx', 'llvmlite', 'onnxruntime', 'unicorn'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_a_reader_that_goes_away_is_no_traceback(source: Path) -> None:
    many = "".join(FUNCTION.replace("@f", f"@f{index}") for index in range(3000))
    source.write_text(many, encoding="utf-8")
    command = [sys.executable, "-m", "tinymlir.tools.opt", str(source)]
    # Unbuffered, Python would not notice.
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == b""
    assert process.returncode == 1


def test_the_plugin_in_the_page_works(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (LIT.parents[2] / "docs" / "tinymlir-opt.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    plugin = tmp_path / "tag.py"
    plugin.write_text(code, encoding="utf-8")
    assert run_opt(source, f"--load-pass-plugin={plugin}", "--tag-functions=tag=mine") == 0
    assert '@f(%arg0: i32) -> i32 attributes {tag = "mine"}' in capsys.readouterr().out
