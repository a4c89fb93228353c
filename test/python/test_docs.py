"""What the documentation shows must exist: commands with their options, files, links, code."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tinymlir.tools.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/*/README.md")],
)
Tinymlir = Callable[..., "subprocess.CompletedProcess[str]"]
FOLDERS = "benchmarks|dialects|docs|examples|passes|python|test|tools"


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, without the indentation that lists give them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.S | re.M)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


def commands(page: Path) -> Iterator[list[str]]:
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_are_understood(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for name, *arguments in commands(page):
        if name == "tinymlir" and arguments != ["--version"]:
            build_parser().parse_args(arguments)
        elif name == "tinymlir-opt":
            known = must("-m", "tinymlir.tools.opt", "--help") + must(
                "-m", "tinymlir.tools.opt", "--list-passes"
            )
            if any(word.startswith("--load-pass-plugin") for word in arguments):
                continue  # the passes of a file that the page shows
            for flag in re.findall(r"^--?[\w-]+", "\n".join(arguments), re.M):
                assert re.search(rf"(^|\s){flag.lstrip('-')}\b|{flag}\b", known), flag
        elif name == "make":
            assert set(arguments) <= targets, arguments
        elif name == "python" and arguments[0].endswith(".py"):
            path = ROOT / arguments[0]
            script = path.read_text()
            for module in re.findall(r"^(?:from|import) (\w+)", script, re.M):
                beside = path.parent / f"{module}.py"
                script += beside.read_text() if beside.exists() else ""
            for flag in [word for word in arguments if word.startswith("-")]:
                assert f'"{flag}"' in script, flag


@functools.cache
def must(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link
    for path in re.findall(rf"(?<![\w/.])(?:{FOLDERS})/[\w./-]*\w", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", ["getting-started.md", "comparing.md"])
def test_python_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a folder that has the examples."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in blocks(ROOT / "docs" / name, "python"):
        exec(compile(block, name, "exec"), {"__name__": "example"})


def test_a_network_quantised_as_documented_compiles(
    tinymlir: Tinymlir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's commands that quantise, run here and compare."""
    monkeypatch.chdir(tmp_path)
    write_float_network(tmp_path / "float.onnx")
    images = np.random.default_rng(0).random((24, 1, 8, 8), np.float32)
    for name in ("calibration.npz", "test.npz"):
        np.savez(name, x=images)
    ran = []
    for name, command, *arguments in commands(ROOT / "docs/bring-your-own-network.md"):
        if command in ("quantize", "compare") or "host" in arguments:
            done = tinymlir(command, *arguments)
            assert name == "tinymlir" and done.returncode == 0, done.stderr
            ran.append(command)
    assert ran == ["quantize", "run", "compare"]


def test_a_comparison_shows_what_is_documented(
    tinymlir: Tinymlir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs/comparing.md"
    test_python_examples_run(page.name, tmp_path, monkeypatch)
    *_, (_, *compare) = listed = list(commands(page))
    (script,) = [arguments for name, *arguments in listed if name == "python"]
    must(*script)
    shown = tinymlir(*compare)
    assert shown.returncode == 1, shown.stderr
    printed = iter(line.rstrip() for line in shown.stdout.splitlines())
    (documented,) = blocks(page, "text")
    for line in documented.splitlines():
        # What is left out may be anything; what is there comes in this order.
        assert line == "..." or any(line == got for got in printed), line


def write_float_network(path: Path) -> None:
    """Convolution, global average pool and dense layer: what an exporter would give."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v"], ["logits"], "dense"),
    ]
    weights = {"w": (4, 1, 3, 3), "b": (4,), "v": (4, 3)}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
