"""Look for models and pipelines that crash, hang or exhaust the memory of the compiler.

    python benchmarks/fuzz.py                             all subjects, a minute each
    python benchmarks/fuzz.py onnx tflite --minutes 30
    python benchmarks/fuzz.py onnx --corpus corpus --findings findings --json

The property is that of test/python/test_fuzz.py: a result, or one TinymlirError of one line. Where
`atheris` is installed (`pip install atheris`), coverage guides the search; else mutation is at
random. What is found goes to `--findings`, and belongs into test/python/findings once it is
fixed. The exit status is 1 where something was found.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "test" / "python"))

ALL = ("tflite", "onnx", "mlir", "mlirbc", "pipeline")
#: Limits for one input.
SECONDS, BYTES = 60, 8 << 30


def fuzz(name: str, seconds: float, corpus: Path, findings: Path) -> dict[str, Any]:
    """Search in processes of their own, a new one after each finding."""
    found: set[str] = set()
    runs, deadline = 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        count = Path(folder) / "runs"
        while (left := deadline - time.monotonic()) > 0:
            count.write_text("0")
            command = [sys.executable, __file__, name, "--worker", folder]
            command += ["--minutes", str(left / 60), "--corpus", str(corpus)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            runs += int(count.read_text() or 0)
            if done.returncode == 0:
                break
            inputs = list(Path(folder).glob("input.*"))
            if not inputs:
                raise RuntimeError(done.stderr)
            data = inputs[0].read_bytes()
            findings.mkdir(parents=True, exist_ok=True)
            place = findings / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}{inputs[0].suffix}"
            place.write_bytes(data)
            place.with_suffix(".log").write_text(done.stderr)
            found.add(str(place))
    return {"subject": name, "runs": runs, "found": sorted(found)}


def work(name: str, seconds: float, corpus: Path, folder: Path) -> None:
    """The search itself; a finding ends the process, its input in ``folder``."""
    with contextlib.suppress(ImportError):  # Windows knows no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    if importlib.util.find_spec("atheris"):
        _guided(name, seconds, corpus, folder)
    else:
        _random(name, seconds, folder)


def _guided(name: str, seconds: float, corpus: Path, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["tinymlir"], enable_loader_override=False):
        from fuzz_subjects import SUBJECTS
    subject, runs = SUBJECTS[name], 0
    inputs = corpus / name
    inputs.mkdir(parents=True, exist_ok=True)
    for data in subject.seeds():
        (inputs / hashlib.sha1(data).hexdigest()).write_bytes(data)

    def consume(data: bytes) -> None:
        nonlocal runs
        runs += 1
        subject.outcome(data, folder)
        (folder / "runs").write_text(str(runs))

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        return subject.mutant(data, Random(seed))[:size]

    options = [f"-max_total_time={max(1, int(seconds))}", f"-timeout={SECONDS}", "-rss_limit_mb=0"]
    options += ["-max_len=1000000", "-len_control=0", f"-artifact_prefix={folder}/artifact-"]
    atheris.Setup([sys.argv[0], *options, str(inputs)], consume, custom_mutator=mutate)
    atheris.Fuzz()


def _random(name: str, seconds: float, folder: Path) -> None:
    from fuzz_subjects import SUBJECTS

    subject, random = SUBJECTS[name], Random(os.getpid())
    seeds, deadline, runs = subject.seeds(), time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        subject.outcome(subject.mutant(random.choice(seeds), random), folder)
        faulthandler.cancel_dump_traceback_later()
        runs += 1
        (folder / "runs").write_text(str(runs))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(ALL)}")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each (default: 1)")
    parser.add_argument(
        "--corpus", type=Path, default=Path("build/fuzz/corpus"), help="inputs that reach new code"
    )
    parser.add_argument(
        "--findings", type=Path, default=Path("build/fuzz/findings"), help="where inputs go"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in set(args.subjects) - set(ALL):
        parser.error(f"'{name}' is none of {', '.join(ALL)}")
    if args.worker:
        work(args.subjects[0], args.minutes * 60, args.corpus, args.worker)
        return 0
    from tinymlir.progress import progress
    from tinymlir.tools.table import render_table

    subjects = args.subjects or ALL
    results = [
        fuzz(name, args.minutes * 60, args.corpus, args.findings)
        for name in progress(subjects, len(subjects), "fuzzing")
    ]
    if args.json:
        json.dump(results, sys.stdout, indent=2)
        print()
    else:
        rows = [[r["subject"], r["runs"], " ".join(r["found"]) or None] for r in results]
        print(render_table(["subject", "inputs", "found"], rows))
    return int(any(result["found"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
