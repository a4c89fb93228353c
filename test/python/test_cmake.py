"""Firmware projects get a network as a library target: configured, built and run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")

Configure = Callable[..., Path]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def must(*command: str | Path) -> str:
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def model(example: Path, tmp_path: Path) -> Path:
    """A copy of the example's network, that a test may change."""
    return Path(shutil.copy(example / "surface_qdq.onnx", tmp_path / "surface.onnx"))


@pytest.fixture
def configure(root: Path, tmp_path: Path, model: Path) -> Configure:
    """Configures the firmware project with a toolchain and returns its build folder."""

    def configure(toolchain: str, *options: str, project: str = "test/cmake") -> Path:
        build = tmp_path / "build"
        must(
            *("cmake", "-S", root / project, "-B", build),
            *(f"-DMODEL={model}", f"-DZIG={zig_program()}"),
            f"-DCMAKE_TOOLCHAIN_FILE={root / 'test' / 'cmake' / toolchain}",
            *options,
        )
        return build

    return configure


def zig_program() -> Path:
    import ziglang

    return Path(next(iter(ziglang.__path__)), "zig")


def in_subdirectory(root: Path) -> str:
    return f"-DTINYMLIR_SOURCE={root}"


def expected_class(model: Path) -> int:
    """What ONNX Runtime says of the image that main.c makes."""
    ort = pytest.importorskip("onnxruntime")
    i = np.arange(64 * 64)
    image = ((i * 37 + (i >> 6) * 11) % 256).astype(np.float32).reshape(1, 1, 64, 64)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return int(np.argmax(session.run(None, {"image": image})[0]))


@pytest.mark.parametrize(
    ("toolchain", "options"),
    [
        ("zig.cmake", ["-DABI=eabi"]),
        ("zig.cmake", ["-DABI=eabihf"]),
        pytest.param(
            "gcc.cmake",
            [],
            marks=pytest.mark.skipif(
                shutil.which("arm-none-eabi-gcc") is None, reason="Arm's GCC is not installed"
            ),
        ),
    ],
    ids=["lld-soft-float", "lld-hard-float", "gnu-ld-hard-float"],
)
def test_firmware_links_and_classifies(
    configure: Configure, root: Path, model: Path, toolchain: str, options: list[str]
) -> None:
    classifies(configure(toolchain, *options, in_subdirectory(root)), model)


def test_a_camera_hands_over_rows(configure: Configure, root: Path, model: Path) -> None:
    """The example firmware, whose frame is never in memory."""
    options = ["-DABI=eabi", in_subdirectory(root)]
    build = configure("zig.cmake", *options, project="examples/streaming_camera")
    classifies(build, model)
    report = json.loads((build / "surface.tinymlir" / "surface.json").read_text())
    assert report["input_mode"] == "streamed"
    assert report["ram_bytes"] == report["arena_bytes"] + report["outputs"][0]["bytes"]


def classifies(build: Path, model: Path) -> None:
    must("cmake", "--build", build)
    firmware = build / "firmware"
    assert firmware.read_bytes()[:4] == b"\x7fELF"
    if shutil.which("qemu-system-arm") is None:
        return
    board = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-semihosting", "-kernel"]
    assert run(*board, firmware).returncode == expected_class(model)


def test_found_as_a_package(configure: Configure) -> None:
    folder = must(sys.executable, "-m", "tinymlir.cmake").strip()
    build = configure("zig.cmake", "-DABI=eabi", f"-Dtinymlir_DIR={folder}")
    must("cmake", "--build", build, "--target", "surface")
    written = {path.name for path in (build / "surface.tinymlir").iterdir()}
    assert written == {"surface.o", "surface.h", "surface.json"}


def test_found_after_cmake_install(configure: Configure, root: Path, tmp_path: Path) -> None:
    must("cmake", "-S", root, "-B", tmp_path / "tinymlir")
    must("cmake", "--install", tmp_path / "tinymlir", "--prefix", tmp_path / "prefix")
    command = Path(sys.executable).with_name("tinymlir")
    build = configure(
        "zig.cmake",
        "-DABI=eabi",
        f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}",
        f"-DTINYMLIR_EXECUTABLE={command}",
    )
    assert f"{tmp_path / 'prefix'}" in (build / "CMakeCache.txt").read_text()


def test_rebuilt_when_the_model_changes(configure: Configure, root: Path, model: Path) -> None:
    build = configure("zig.cmake", "-DABI=eabi", in_subdirectory(root))
    must("cmake", "--build", build)
    header = build / "surface.tinymlir" / "surface.h"
    first = header.read_text()
    assert "Compiling" not in must("cmake", "--build", build)
    shutil.copy(root / "examples" / "surface_inspection" / "surface_qoperator.onnx", model)
    assert "Compiling" in must("cmake", "--build", build)
    assert header.read_text() != first


def test_a_refused_model_stops_the_build(configure: Configure, root: Path, model: Path) -> None:
    model.write_bytes(b"not a model")
    build = configure("zig.cmake", "-DABI=eabi", in_subdirectory(root))
    done = run("cmake", "--build", build)
    assert done.returncode != 0
    assert "tinymlir: error: " in done.stdout + done.stderr
    assert not (build / "firmware").exists()


def test_a_budget_that_cannot_be_met_stops_the_build(configure: Configure, root: Path) -> None:
    build = configure("zig.cmake", "-DABI=eabi", "-DBUDGET=1K", in_subdirectory(root))
    done = run("cmake", "--build", build)
    assert done.returncode != 0
    assert "--max-ram" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("tinymlir_add_model(m TARGET cortex-m4)", "MODEL is missing"),
        ("tinymlir_add_model(m MODEL CMakeLists.txt)", "TARGET is missing"),
        ("tinymlir_add_model(m MODEL none.onnx TARGET cortex-m4)", "no such file"),
        ("tinymlir_add_model(m MODEL CMakeLists.txt TARGET x SPEED 3)", "unknown argument"),
        ("tinymlir_add_model(m MODEL CMakeLists.txt TARGET x DATA none.npz)", "none.npz"),
    ],
)
def test_wrong_calls_stop_the_configuration(
    root: Path, tmp_path: Path, call: str, message: str
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.20)\nproject(wrong LANGUAGES NONE)\n"
        f'add_subdirectory("{root}" tinymlir)\n{call}\n'
    )
    done = run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    assert done.returncode != 0
    assert message in done.stderr


def test_levels_are_passed_on(root: Path, tmp_path: Path) -> None:
    """The build waits for the samples, and compiles what the project asks for."""
    (tmp_path / "net.onnx").touch()
    (tmp_path / "data.npz").touch()
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.20)\nproject(levels LANGUAGES C)\n"
        f'add_subdirectory("{root}" tinymlir)\n'
        "tinymlir_add_model(net MODEL net.onnx TARGET cortex-m4 DATA data.npz LEVELS exact 1% 5%)"
    )
    build = tmp_path / "build"
    must(
        *("cmake", "-S", tmp_path, "-B", build, "-G", "Unix Makefiles", "-DABI=eabi"),
        *(f"-DZIG={zig_program()}", f"-DTINYMLIR_EXECUTABLE={sys.executable}"),
        f"-DCMAKE_TOOLCHAIN_FILE={root / 'test' / 'cmake' / 'zig.cmake'}",
    )
    planned = must("cmake", "--build", build, "--target", "net", "--", "-n")
    assert f"--levels exact,1%,5% --data {tmp_path / 'data.npz'}" in planned.replace('"', "")


def test_check_tinymlir_runs_the_tests(root: Path, tmp_path: Path) -> None:
    must("cmake", "-S", root, "-B", tmp_path, "-G", "Unix Makefiles")
    assert "make test" in must(
        "cmake", "--build", tmp_path, "--target", "check-tinymlir", "--", "-n"
    )
