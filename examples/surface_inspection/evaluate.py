"""Compare a compiled network with ONNX Runtime: accuracy, agreement, and what it costs.

Takes the folder that ``tinymlir compile`` wrote::

    tinymlir compile surface_qdq.onnx --target cortex-m4 --name surface -o build
    python evaluate.py build
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from generate import CLASSES, as_model_input, generate

HERE = Path(__file__).parent
TEST_SEED = 400
Logits = npt.NDArray[np.float32]


def run_onnx_runtime(model: Path, images: npt.NDArray[np.float32]) -> Logits:
    """Logits of ONNX Runtime, images × classes."""
    options = ort.SessionOptions()
    # Else it runs some operators of the QDQ form in floating point (docs/quantization.md).
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def run_tinymlir(
    network: Path, samples: Path, outputs: Path, *options: str
) -> tuple[Logits, dict[str, Any]]:
    """Logits and report of ``tinymlir run``."""
    command = [sys.executable, "-m", "tinymlir.tools.main", "run", str(network), "--json"]
    files = ["--input", str(samples), "--output", str(outputs)]
    done = subprocess.run([*command, *files, *options], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return np.load(outputs), json.loads(done.stdout)


def evaluate(model: Path, directory: Path, count: int) -> list[tuple[str, str]]:
    """Rows of the table: what is measured, and its value."""
    images, labels = generate(count, TEST_SEED)
    x = as_model_input(images)
    reference = run_onnx_runtime(model, x)
    with tempfile.TemporaryDirectory() as scratch:
        samples, outputs = Path(scratch, "samples.npz"), Path(scratch, "logits.npy")
        np.savez(samples, x=x, y=labels)
        host, _ = run_tinymlir(model, samples, outputs, "--target", "host")
        device, report = run_tinymlir(directory, samples, outputs)

    def accuracy(logits: Logits) -> str:
        correct = int((logits.argmax(axis=1) == labels).sum())
        return f"{correct / count:.2%} ({correct} of {count})"

    def agreement(logits: Logits) -> str:
        return f"{np.mean(logits == reference):.2%} of {reference.size}"

    where = f"{report['target']} on {report['simulator']}"
    return [
        ("accuracy, ONNX Runtime", accuracy(reference)),
        ("accuracy, compiled for this machine", accuracy(host)),
        (f"accuracy, {where}", accuracy(device)),
        ("outputs equal to ONNX Runtime's", agreement(device)),
        ("arena bytes", f"{report['arena_bytes']:,}"),
        ("input and output bytes", f"{report['io_bytes']:,}"),
        ("stack bytes", f"{report['stack_bytes']:,}"),
        ("flash bytes", f"{report['flash_bytes']:,}"),
        ("MACs", f"{report['macs']:,}"),
        ("instructions per inference", f"{report['instructions']:,}"),
        ("instructions per MAC", f"{report['instructions_per_mac']:.2f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a compiled network with ONNX Runtime.")
    parser.add_argument("directory", type=Path, help="what `tinymlir compile` wrote")
    parser.add_argument("--model", type=Path, default=HERE / "surface_qdq.onnx")
    parser.add_argument("--samples", type=int, default=300, help="number of images (default 300)")
    arguments = parser.parse_args()
    if arguments.samples < 1:
        parser.error("--samples must be at least 1")

    rows = evaluate(arguments.model, arguments.directory, arguments.samples)
    width = max(len(label) for label, _ in rows)
    print(f"{arguments.samples} images of {len(CLASSES)} classes: {', '.join(CLASSES)}")
    for label, value in rows:
        print(f"  {label:{width}}  {value}")


if __name__ == "__main__":
    main()
