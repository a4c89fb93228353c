"""ONNX's own node tests, as quantised networks; the page states how many pass."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")


def test_node_tests(root: Path) -> None:
    """No case gives other results than ONNX Runtime, and the page tells which are taken."""
    from onnx_backend import by_operator, table

    found = by_operator()
    failed = {
        name: outcome.message
        for cases in found.values()
        for name, outcome in cases
        if outcome.verdict == "failed"
    }
    assert not failed
    page = (root / "docs" / "operators.md").read_text()
    assert table(found) in page, "run: python test/python/onnx_backend.py docs/operators.md"
