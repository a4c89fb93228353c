"""Every pass is documented by an example and has its lit tests."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

from tinymlir.passes import REGISTRY, Pass
from tinymlir.pipeline import option_specs

PASSES = sorted(name for name in REGISTRY if name.startswith("tiny-"))


def source(cls: type[Pass]) -> str:
    return Path(str(sys.modules[cls.__module__].__file__)).read_text()


@pytest.mark.parametrize("name", PASSES)
def test_example_is_tested(name: str, root: Path) -> None:
    documentation = inspect.getdoc(REGISTRY[name]) or ""
    assert "\nBefore" in documentation and "\nAfter" in documentation
    test = (root / f"test/lit/passes/doc/{name}.test").read_text()
    assert f"doc_example.py {name} >" in test


@pytest.mark.parametrize("name", PASSES)
def test_has_lit_tests(name: str, root: Path) -> None:
    tests = root / "test/lit/passes"
    assert f"--{name}" in (tests / f"{name}.mlir").read_text()
    if "PassFailure(" in source(REGISTRY[name]):
        assert f"--{name}" in (tests / f"{name}_invalid.mlir").read_text()
    for option in option_specs(REGISTRY[name]):
        texts = [path.read_text() for path in tests.glob(f"{name}*.mlir")]
        used = re.compile(rf"--{name}=([^|]* )?{option.key}=")
        assert any(used.search(text) for text in texts), option.key
