"""The tiny dialect from Python: loading, building, verifying, and the code in its page."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tinymlir import dialects
from tinymlir.bindings import ir, irdl
from tinymlir.dialects import tiny
from tinymlir.passes import REGISTRY

DOCS = Path(__file__).resolve().parents[2] / "docs"
FUNCTION = """
func.func @{name}(%acc: i32, %m: i32, %s: i32) -> i8 {{
  %q = "tiny.requantize"(%acc, %m, %s) {{zero_point = {zero_point} : i32, min = -128 : i32,
         max = 127 : i32, rounding = "{rounding}"}} : (i32, i32, i32) -> i8
  return %q : i8
}}
"""


def function(name: str = "f", zero_point: int = 0, rounding: str = "double") -> str:
    return FUNCTION.format(name=name, zero_point=zero_point, rounding=rounding)


def test_register_twice_and_in_two_contexts() -> None:
    contexts = [ir.Context(), ir.Context()]
    for context in (*contexts, *contexts):
        dialects.register(context)
    modules = [ir.Module.parse(function(), context=context) for context in contexts]
    for module in modules:
        op = module.body.operations[0].regions[0].blocks[0].operations[0]
        assert isinstance(op, tiny.RequantizeOp)
        assert op.rounding.value == "double"
    for context in contexts:
        with pytest.raises(ir.MLIRError, match="zero_point must be in"):
            ir.Module.parse(function(zero_point=128), context=context)


def test_a_context_without_the_dialect_does_not_know_it() -> None:
    dialects.register(ir.Context())
    with pytest.raises(ir.MLIRError, match="unregistered dialect"):
        ir.Module.parse(function(), context=ir.Context())


def test_register_turns_threads_off() -> None:
    """With threads, verifying many functions would wait for Python's lock for ever."""
    context = ir.Context()
    context.enable_multithreading(True)
    dialects.register(context)
    assert context.get_num_threads() == 1
    source = "".join(function(f"f{index}") for index in range(16))
    assert ir.Module.parse(source, context=context).operation.verify()


@pytest.mark.parametrize("rounding", tiny.ROUNDING_MODES)
def test_every_rounding_mode_is_accepted(rounding: str) -> None:
    context = ir.Context()
    dialects.register(context)
    assert rounding in str(ir.Module.parse(function(rounding=rounding), context=context))


def test_irdl_defines_the_dialect_in_a_context_that_never_saw_python() -> None:
    context = ir.Context()
    with context, ir.Location.unknown():
        irdl.load_dialects(ir.Module.parse(dialects.irdl_text()))
        assert ir.Module.parse(function()).operation.verify()
        with pytest.raises(ir.MLIRError, match="does not satisfy the constraint"):
            ir.Module.parse(function(rounding="to_zero"))


def test_the_code_in_the_dialect_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / "dialect.md").read_text(), re.M | re.S)
    assert len(blocks) == 3
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    try:
        names = runpy.run_path(str(program))
        assert names["LimitOps"] is REGISTRY["example-limit-ops"]
    finally:
        REGISTRY.pop("example-limit-ops", None)
