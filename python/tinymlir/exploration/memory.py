"""What a search has measured already, so that one that was stopped goes on."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import tinymlir
from tinymlir.compiler import versions
from tinymlir.files import write_all

FILE = "evaluations.json"


class Memory:
    """Numbers by key, in a file of a directory, as long as what they depend on is the same."""

    def __init__(self, directory: Path | None, depends_on: Sequence[object]) -> None:
        """
        Args:
            directory: where the file is; None for nowhere.
            depends_on: besides the code: what JSON can say.
        """
        self._directory = directory
        parts = [*depends_on, versions(), _sources()]
        self._fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        self._known: dict[str, list[float]] = {}
        if directory is not None:
            self._load(directory)

    def _load(self, directory: Path) -> None:
        try:
            kept = json.loads((directory / FILE).read_text())
        except (OSError, ValueError):
            return
        if isinstance(kept, dict) and kept.get("fingerprint") == self._fingerprint:
            self._known.update(kept.get("measured", {}))

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> list[float]:
        return self._known[key]

    def add(self, key: str, *measured: float) -> None:
        self._known[key] = list(measured)
        if self._directory is not None:
            kept = {"fingerprint": self._fingerprint, "measured": self._known}
            write_all(self._directory, {FILE: json.dumps(kept).encode()})


@functools.cache
def _sources() -> str:
    """A hash of this package: between two releases, versions say nothing of it."""
    root = Path(tinymlir.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
