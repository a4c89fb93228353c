"""``tinymlir run`` and ``tinymlir profile``, as a user calls them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import simulated
from simulated import ON_UNICORN, SIMULATED, needs_qemu

from tinymlir.targets import get_target
from tinymlir.tools.main import main

Run = Callable[..., CompletedProcess[str]]

# Output class 0 holds the sum of the sample, class 1 a constant 4, the others zero.
CLASSIFIER = """
__attribute__((noinline)) void net_layer0(const signed char *x, volatile signed char *a) {
  int sum = 0; for (int i = 0; i < 16; ++i) sum += x[i]; a[0] = sum;
}
__attribute__((noinline)) void net_layer1(volatile signed char *a, volatile signed char *y) {
  y[0] = a[0]; y[1] = 4; y[2] = 0; y[3] = 0;
}
int net_invoke(const signed char *x, signed char *y, signed char *a) {
  net_layer0(x, a); net_layer1(a, y); return 0;
}"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``compile`` would leave: a network of two layers for Cortex-M4."""
    folder = tmp_path_factory.mktemp("compiled")
    facts = simulated.report("cortex-m4", outputs=(("y", 4),), layers=2)
    (folder / "net.json").write_text(json.dumps(facts))
    (folder / "net.o").write_bytes(simulated.object_code("cortex-m4", CLASSIFIER))
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five samples, of which the classifier gets four right."""
    path = tmp_path_factory.mktemp("samples") / "samples.npz"
    x = np.zeros((5, 16), np.int8)
    x[:, 3] = [1, 9, 2, 3, 7]
    np.savez(path, x=x, y=np.array([1, 0, 1, 1, 1]))
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status, out, err = call(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    result: dict[str, Any] = json.loads(out)
    return result


def test_run_reports_accuracy_and_costs(
    directory: Path, samples: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "new" / "y.npy"
    result = call_json(capsys, "run", directory, "--input", samples, "--output", output)
    assert (result["correct"], result["samples"], result["accuracy"]) == (4, 5, 0.8)
    assert (result["target"], result["simulator"]) == ("cortex-m4", "unicorn")
    assert result["instructions_per_mac"] == result["instructions"] / 1000
    assert result["instructions"] < result["cycles"] < 1000
    assert 0 < result["stack_bytes"] < 100
    assert result["flash_bytes"] == 120
    values = np.load(output)
    assert values.dtype == np.int8
    assert values.tolist() == [[s, 4, 0, 0] for s in (1, 9, 2, 3, 7)]
    assert [path.name for path in output.parent.iterdir()] == ["y.npy"]


def test_run_prints_a_table(
    directory: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = call(capsys, "run", directory, "--input", samples, "--samples", 2)
    assert status == 0
    assert out.startswith("net on cortex-m4 (unicorn), 2 samples\n")
    assert "100.00% (2 of 2)" in out
    for row in ("instructions/inference", "instructions/MAC", "stack bytes", "flash bytes"):
        assert row in out


@pytest.mark.parametrize("options", [[], ["--input"]], ids=["random", "input"])
@pytest.mark.parametrize("simulator", simulated.BOTH)
def test_profile_adds_up_to_what_run_counts(
    directory: Path,
    samples: Path,
    options: list[str],
    simulator: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = ["--simulator", simulator]
    run = call_json(capsys, "run", directory, "--input", samples, *chosen)
    files = [*options, samples] if options else []
    profile = call_json(capsys, "profile", directory, *files, *chosen)
    for measure in ("instructions", "cycles"):
        parts = [layer[measure] for layer in profile["layers"]] + [profile["entry"][measure]]
        assert all(parts)
        assert sum(parts) == profile[measure] == run[measure]
    assert profile["stack_bytes"] == run["stack_bytes"]
    given = json.loads((directory / "net.json").read_text())
    assert set(given) <= set(profile)
    assert profile["layers"][1]["name"] == "conv1"


def test_profile_prints_a_row_per_layer(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = call(capsys, "profile", directory)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "net on cortex-m4 (unicorn)"
    names = [line.split()[0] for line in lines[3:7]]
    assert names == ["conv0", "conv1", "net_invoke", "total"]
    assert lines[6].split()[-1] == "120"


def test_several_inputs_go_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = """
    int net_invoke(const signed char *a, const signed char *b, signed char *y, signed char *z,
                   void *arena) { y[0] = a[0] - b[0]; z[0] = b[0]; return 0; }"""
    inputs, outputs = (("a", 1), ("b", 1)), (("y", 1), ("z", 1))
    facts = simulated.report("cortex-m0", inputs, outputs, layers=0)
    (tmp_path / "net.json").write_text(json.dumps(facts))
    (tmp_path / "net.o").write_bytes(simulated.object_code("cortex-m0", source))
    a, b = np.array([[5], [6]], np.int8), np.array([[1], [9]], np.int8)
    np.savez(tmp_path / "ab.npz", b=b, a=a)
    both = ["run", tmp_path, "--input", tmp_path / "ab.npz", "--output"]
    call_json(capsys, *both, tmp_path / "yz.npz")
    with np.load(tmp_path / "yz.npz") as saved:
        assert saved["y"].tolist() == [[4], [-3]]
        assert saved["z"].tolist() == [[1], [9]]
    assert call(capsys, *both, tmp_path / "y.npy")[::2] == (
        1,
        f"tinymlir: error: {tmp_path / 'y.npy'}: cannot hold 2 outputs; use a .npz file\n",
    )
    np.savez(tmp_path / "ab.npz", x=a, b=b)
    status, _, err = call(capsys, *both, tmp_path / "yz.npz")
    assert (status, "has the arrays 'x', 'b'; expects 'a', 'b'" in err) == (1, True)
    np.savez(tmp_path / "ab.npz", a=a, b=b[:1])
    status, _, err = call(capsys, *both, tmp_path / "yz.npz")
    assert (status, "different lengths: 2, 1" in err) == (1, True)


def save(path: Path, **arrays: object) -> Path:
    named = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(path, **named)  # type: ignore[arg-type]
    return path


GOOD = np.zeros((3, 16), np.int8)
NO_ARRAYS = (
    "is not a .npy or .npz file of plain arrays, or is damaged; write it by numpy.savez,"
    " of arrays of numbers"
)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GOOD}, "has the arrays 'images'; expects 'x'"),
        ({"x": GOOD.astype(np.uint8)}, "node 'x': is of type uint8; the model takes int8; convert"),
        ({"x": GOOD / 7}, "is of type float64; the model takes int8; quantise it: round(x / "),
        ({"x": GOOD[:, :8]}, "of shape (3, 8); the model takes (N, 16), samples first"),
        ({"x": GOOD[:0]}, "has no samples"),
        ({"x": GOOD, "y": np.zeros(2, int)}, "labels 'y' of shape (2,)"),
        ({"x": GOOD, "y": np.zeros(3)}, "type float64; expects one integer for each of 3"),
        ({"x": np.array([{}])}, NO_ARRAYS),
        ({"x": GOOD, "labels": np.zeros(3, int)}, "has no labels 'y', but an array 'labels'"),
    ],
)
@pytest.mark.parametrize("tool", ["run", "profile"])
def test_samples_that_do_not_fit(
    directory: Path,
    tool: str,
    arrays: dict[str, object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save(tmp_path / "bad.npz", **arrays)
    status, out, err = call(capsys, tool, directory, "--input", path)
    assert (status, out) == (1, "")
    assert err.startswith(f"tinymlir: error: {path}: ")
    assert message in err
    assert err.count("\n") == 1


def test_files_that_are_no_samples(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, cut, member = (tmp_path / name for name in ("text.npy", "cut.npz", "member.npz"))
    text.write_text("not numbers")
    with zipfile.ZipFile(member, "w") as archive:
        archive.writestr("x", "not an array")
    cut.write_bytes(save(tmp_path / "good.npz", x=GOOD).read_bytes()[:100])
    for path in (text, cut, member):
        status, _, err = call(capsys, "run", directory, "--input", path)
        assert (status, err) == (
            1,
            f"tinymlir: error: {path}: {NO_ARRAYS}\n",
        )
    for path, reason in ((tmp_path / "none.npz", "no such file"), (tmp_path, "directory")):
        status, _, err = call(capsys, "run", directory, "--input", path)
        assert (status, reason in err, err.count("\n")) == (1, True, 1)


def test_samples_that_unpack_to_too_much(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few bytes of a file can stand for any number of zeros, or claim to."""
    monkeypatch.setattr("tinymlir.samples.MAX_BYTES", 1 << 20)
    bomb, claim = tmp_path / "bomb.npz", tmp_path / "claim.npy"
    np.savez_compressed(bomb, x=np.zeros(1 << 20, np.int8))
    with claim.open("wb") as stream:
        header = {"descr": "|i1", "fortran_order": False, "shape": (1 << 45,)}
        np.lib.format.write_array_header_1_0(stream, header)
    for path, message in (
        (bomb, "unpacks to 1048704 bytes, more than 1048576; give fewer samples"),
        (claim, NO_ARRAYS),
    ):
        error = f"tinymlir: error: {path}: {message}\n"
        assert call(capsys, "run", directory, "--input", path) == (1, "", error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "cortex-m7"], "is compiled for cortex-m4, not for cortex-m7; compile again"),
        (["--target", "cortex-m5"], "unknown target 'cortex-m5'; did you mean 'cortex-m"),
        (["--target", "host"], "is a directory; the host runs a model"),
        (["--target", "host", "--simulator", "qemu"], "runs in process, not on a simulator"),
        (["--samples", "6"], "has 5 samples, fewer than --samples 6"),
        (["--output", "y.txt"], "is neither .npy nor .npz"),
    ],
)
def test_options_that_do_not_fit(
    directory: Path,
    samples: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, err = call(capsys, "run", directory, "--input", samples, *options)
    assert (status, out) == (1, "")
    assert err.startswith("tinymlir: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_a_number_of_samples_is_positive(
    directory: Path, samples: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["run", str(directory), "--input", str(samples), f"--samples={text}"])
    assert raised.value.code == 2
    assert "is not a positive number" in capsys.readouterr().err


def test_networks_that_are_none(
    tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent.onnx"
    facts = simulated.report("host")
    (tmp_path / "empty").mkdir()
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "net.json").write_text(json.dumps(facts))
    (tmp_path / "host" / "net.o").write_bytes(b"")
    facts = simulated.report("rv32imc_xcv")
    (tmp_path / "xcv").mkdir()
    (tmp_path / "xcv" / "net.json").write_text(json.dumps(facts))
    (tmp_path / "xcv" / "net.o").write_bytes(b"")
    for network, message in (
        (tmp_path / "xcv", "'rv32imc_xcv' is not simulated; benchmarks/rtl.py runs it on the RTL"),
        (absent, str(absent)),
        (tmp_path / "empty", "NAME.json"),
        (tmp_path / "host", "compiled for the host"),
    ):
        status, out, err = call(capsys, "run", network, "--input", samples)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert message in err
    for target in ("host", "rv32imc_xcv"):
        status, _, err = call(capsys, "profile", samples, "--target", target)
        assert (status, f"'{target}' is not simulated" in err) == (1, True)


def test_an_output_that_cannot_be_written(
    directory: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "y.npy").mkdir()
    output = ["--output", tmp_path / "y.npy"]
    status, _, err = call(capsys, "run", directory, "--input", samples, *output)
    assert (status, "cannot be written" in err, err.count("\n")) == (1, True, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["y.npy"]


@pytest.fixture(scope="module")
def real_samples(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random images for the example network: twelve, in its own layout and type."""
    images = np.random.default_rng(1).integers(0, 256, (12, 1, 64, 64)).astype(np.float32)
    return save(tmp_path_factory.mktemp("real") / "images.npz", x=images)


@pytest.fixture(scope="module")
def on_host(example: Path, real_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("host") / "y.npy"
    model = str(example / "surface_qdq.onnx")
    files = ["--input", str(real_samples), "--output", str(output)]
    assert main(["run", model, "--target", "host", *files]) == 0
    return np.load(output)


@pytest.mark.parametrize("target", SIMULATED)
def test_a_real_network_gives_the_same_everywhere(
    example: Path,
    target: str,
    real_samples: Path,
    on_host: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Host, Unicorn and QEMU: the same outputs; the simulators: the same counts and stack."""
    assert (
        main(
            ["compile", str(example / "surface_qdq.onnx"), "-o", str(tmp_path), "--target", target]
        )
        == 0
    )
    capsys.readouterr()
    simulators = [
        name
        for name, there in (("unicorn", target in ON_UNICORN), ("qemu", simulated.HAVE_QEMU))
        if there
    ]
    results = []
    for simulator in simulators:
        output = tmp_path / f"{simulator}.npy"
        files = ["--input", real_samples, "--output", output]
        results.append(call_json(capsys, "run", tmp_path, *files, "--simulator", simulator))
        assert np.array_equal(np.load(output), on_host)
    measures = ("instructions", "cycles", "stack_bytes")
    for other in results[1:]:
        assert [other[key] for key in measures] == [results[0][key] for key in measures]
    if results:
        assert results[0]["correct"] is None
        assert results[0]["instructions"] > results[0]["macs"] / _most_macs(target)


def _most_macs(target: str) -> int:
    """Multiply-accumulates of one instruction, at most."""
    core = get_target(target)
    if core.vector_bits:
        # Eight registers of words together.
        return 8 * core.vector_bits // 32
    if core.has("mve"):
        return 16
    # SMLAD does two, and so does a multiplication of words that hold two numbers each.
    return 4 if core.has("xcvsimd") else 2


@needs_qemu
def test_a_model_is_compiled_on_the_way(
    example: Path, real_samples: Path, on_host: Any, tmp_path: Path, tinymlir: Run
) -> None:
    output = tmp_path / "y.npy"
    model = example / "surface_qdq.onnx"
    files = ["--input", real_samples, "--output", output, "--samples", 3]
    done = tinymlir("run", model, "--target", "cortex-m55", *files)
    assert (done.returncode, done.stderr) == (0, "")
    assert "on cortex-m55 (qemu), 3 samples" in done.stdout
    assert np.array_equal(np.load(output), on_host[:3])
