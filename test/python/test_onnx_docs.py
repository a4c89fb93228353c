"""docs/operators.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinymlir.frontends.documentation import updated


def test_operator_tables_are_generated(root: Path) -> None:
    page = (root / "docs" / "operators.md").read_text()
    assert updated(page) == page, (
        "run: python -m tinymlir.frontends.documentation docs/operators.md"
    )


def test_a_page_without_its_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="onnx"):
        updated("nothing here")
