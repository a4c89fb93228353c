"""Installed from a wheel or editable, it is the same package, links and data included."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

LINKS = ("dialects", "passes", "tools")


def must(*command: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Environment:
    """A virtual environment that sees this one's packages, all but tinymlir itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        must(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def install(self, *what: str | Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.folder / "bin" / "python"]
        offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
        must(*pip, "install", *offline, *what, cwd=self.folder)

    def run(self, command: str, *arguments: str | Path) -> str:
        return must(self.folder / "bin" / command, *arguments, cwd=self.folder)

    def folder_of(self, module: str) -> Path:
        code = f"import {module} as m; print(list(m.__path__)[0])"
        return Path(self.run("python", "-c", code).strip())


@pytest.fixture(scope="module")
def sources(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, so that nothing is written into the checkout."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy / name)
    for name in ("python", *LINKS):
        shutil.copytree(
            root / name,
            copy / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    """Built by way of a source distribution, as a release is."""
    must(sys.executable, "-m", "build", "--no-isolation", "-o", "dist", ".", cwd=sources)
    (path,) = sources.glob("dist/*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("wheel") / "venv")
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def editable(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("editable") / "venv")
    environment.install("--editable", sources)
    return environment


def test_wheel_holds_every_file_of_the_package(sources: Path, wheel: Path) -> None:
    package = sources / "python" / "tinymlir"
    files = {
        f"tinymlir/{path.relative_to(package)}"
        for folder in (package, *(package / link for link in LINKS))
        for path in folder.rglob("*")
        if path.is_file()
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == files
    assert {f"tinymlir/{link}/__init__.py" for link in LINKS} <= packed


@pytest.mark.parametrize("kind", ["installed", "editable"])
def test_imports_and_tools(request: pytest.FixtureRequest, sources: Path, kind: str) -> None:
    environment: Environment = request.getfixturevalue(kind)
    expected = environment.folder if kind == "installed" else sources
    for module in ("tinymlir", *(f"tinymlir.{link}" for link in LINKS)):
        assert expected in environment.folder_of(module).parents
    passes = environment.run("tinymlir-opt", "--list-passes")
    assert "tiny-plan-arena" in passes
    assert "cortex-m4" in environment.run("tinymlir", "targets")
    cmake = Path(environment.run("python", "-m", "tinymlir.cmake").strip())
    assert (cmake / "tinymlir-config.cmake").is_file()


def test_editable_sees_a_new_pass_at_once(sources: Path, editable: Environment) -> None:
    (sources / "passes" / "added_later.py").write_text("VALUE = 42\n")
    code = "from tinymlir.passes import added_later; print(added_later.VALUE)"
    assert editable.run("python", "-c", code) == "42\n"


def test_wheel_compiles_and_runs_the_example(
    installed: Environment, example: Path, tmp_path: Path
) -> None:
    samples = tmp_path / "samples.npz"
    installed.run("python", example / "generate.py", "--count", "2", "-o", samples)
    model = example / "surface_qdq.onnx"
    installed.run("tinymlir", "compile", model, "-o", tmp_path / "out", "--name", "surface")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"surface.o", "surface.h", "surface.json"}
    printed = installed.run("tinymlir", "run", tmp_path / "out", "--input", samples)
    assert "instructions" in printed
