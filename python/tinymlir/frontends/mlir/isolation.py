"""The import of MLIR files in a process of its own.

MLIR's parsers end the process on some damaged files, bytecode above all. A second process is the
only guard against that; it starts with the first file and serves all others until it dies.

As a program: requests and replies are lines of JSON, on stdin and stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError

#: A hundred times what the largest network that fits a microcontroller takes.
IMPORT_SECONDS = 300
#: Damaged bytecode asks for any amount.
IMPORT_BYTES = 4 << 30


def import_mlir(path: Path, context: ir.Context) -> ir.Module:
    """The canonical form (docs/design.md) of the network in an MLIR file, text or bytecode.

    Raises:
        TinymlirError: naming the file, the line and the operation that cannot be taken.
    """
    reply = _worker(str(path))
    if "error" in reply:
        message = reply["error"].pop("message")
        raise TinymlirError(message, **reply["error"])
    if "traceback" in reply:
        raise RuntimeError(reply["traceback"])
    register(context)
    return ir.Module.parse(reply["module"], context)


class _Worker:
    """The other process, started where there is none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __call__(self, path: str) -> dict[str, Any]:
        """The reply about a file; where the process dies of it, an error that says so."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                process = self._process = _start()
            assert process.stdin is not None and process.stdout is not None
            timer = threading.Timer(IMPORT_SECONDS, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps(path) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            finally:
                timed_out = not timer.is_alive()
                timer.cancel()
            if line.endswith("\n"):
                return json.loads(line)
            process.kill()
            process.wait()
            reason = (
                f"takes more than {IMPORT_SECONDS} s" if timed_out else "makes MLIR itself fail"
            )
            hint = "see what mlir-opt says of it, and export it again"
            return {"error": {"message": reason, "file": path, "hint": hint}}


_worker = _Worker()


def _start() -> subprocess.Popen[str]:
    # It must find the same package, however this process did.
    package = str(Path(__file__).resolve().parents[3])
    search = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        # Not -m, which would import from the working directory first.
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": search},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # What native code says as it dies is no message for users.
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )


def _reply(path: Path) -> dict[str, Any]:
    from tinymlir.frontends.mlir.importer import canonical_form

    try:
        module = canonical_form(path)
        return {"module": module.operation.get_asm(enable_debug_info=True)}
    except TinymlirError as error:
        facts = ("message", "file", "node", "hint")
        return {"error": {name: getattr(error, name) for name in facts}}
    except Exception:
        return {"traceback": traceback.format_exc()}


def _serve() -> None:
    with contextlib.suppress(ImportError):  # Windows knows no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (IMPORT_BYTES, IMPORT_BYTES))
    # Whatever else is printed must not get between the replies.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        print(json.dumps(_reply(Path(json.loads(line)))), file=replies, flush=True)


if __name__ == "__main__":
    _serve()
