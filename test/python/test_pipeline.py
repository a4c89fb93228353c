"""Pipelines: their syntax, their options, and how mixed ones run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymlir import dialects
from tinymlir.bindings import ir, passmanager
from tinymlir.errors import TinymlirError
from tinymlir.passes import REGISTRY, Pass, PassFailure, register_pass
from tinymlir.pipeline import (
    PassInfo,
    PassRunError,
    PipelineError,
    add_pass,
    parse_pipeline,
    position_of,
    run_pipeline,
)
from tinymlir.pipeline.names import NATIVE_PASSES
from tinymlir.pipeline.native import is_native
from tinymlir.pipeline.options import format_value, parse_value
from tinymlir.pipeline.parser import Invocation, Nest

SOURCE = """
func.func @f(%a: i32) -> i32 {
  %x = arith.addi %a, %a : i32
  %y = arith.addi %a, %a : i32
  %z = arith.muli %x, %y : i32
  return %z : i32
}
func.func private @unused() {
  return
}
module @inner {
  func.func @g() {
    return
  }
}
"""


@dataclass(frozen=True)
class Mark(Pass):
    """Write a string attribute on a function."""

    name: ClassVar[str] = "test-mark"
    anchor: ClassVar[str] = "func.func"

    label: str = "seen"
    counts: tuple[int, ...] = ()
    how: Literal["set", "append"] = "set"
    scale: float = 1.0
    limit: int | None = None
    loud: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError("limit must not be negative")

    def run(self, op: ir.Operation) -> None:
        before = op.attributes["mark"].value + "+" if "mark" in op.attributes else ""
        op.attributes["mark"] = ir.StringAttr.get(before + self.label)


@dataclass(frozen=True)
class Count(Pass):
    """Write the number of operations on the module."""

    name: ClassVar[str] = "test-count"

    key: str

    def run(self, op: ir.Operation) -> None:
        count = len(op.regions[0].blocks[0].operations)
        i32 = ir.IntegerType.get_signless(32)
        op.attributes[f"tiny.{self.key}"] = ir.IntegerAttr.get(i32, count)


@dataclass(frozen=True)
class Anything(Pass):
    """Write an attribute on any operation."""

    name: ClassVar[str] = "test-any"
    anchor: ClassVar[str] = "any"

    def run(self, op: ir.Operation) -> None:
        op.attributes["tiny.any"] = ir.UnitAttr.get()


@dataclass(frozen=True)
class Misbehave(Pass):
    """Go wrong in one of several ways."""

    name: ClassVar[str] = "test-misbehave"
    anchor: ClassVar[str] = "func.func"

    how: Literal["fail", "invalid", "raise", "budget"] = "fail"

    def run(self, op: ir.Operation) -> None:
        inner = op.regions[0].blocks[0].operations[0]
        if self.how == "fail":
            raise PassFailure(inner.location, "not this one")
        if self.how == "budget":
            raise TinymlirError("the budget cannot be met")
        if self.how == "raise":
            ir.Module.parse("func.func @")
        op.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([], []))


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Mark, Count, Anything, Misbehave):
        monkeypatch.setitem(REGISTRY, cls.name, cls)


@pytest.fixture
def module() -> Iterator[ir.Module]:
    context = ir.Context()
    dialects.register(context)
    with context:
        yield ir.Module.parse(SOURCE)


class Recorder:
    """An instrumentation that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def before_pass(self, info: PassInfo, op: ir.Operation) -> None:
        self.events.append(f"{'/'.join(info.anchors)} {info.name}")

    def after_pass(self, info: PassInfo, op: ir.Operation, failed: bool) -> None:
        self.events.append(f"{'failed' if failed else 'done'} {info.name}")


def marks(module: ir.Module) -> list[str | None]:
    return [
        op.attributes["mark"].value if "mark" in op.attributes else None
        for op in module.body.operations
    ]


# Syntax


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cse", "builtin.module(cse)"),
        (" cse , canonicalize ", "builtin.module(cse,canonicalize)"),
        ("", "builtin.module()"),
        ("builtin.module( )", "builtin.module()"),
        ("func.func(cse)", "builtin.module(func.func(cse))"),
        ("any(cse)", "any(cse)"),
        ("a{x=1},b{}", "builtin.module(a{x=1},b)"),
        ("a{ x={1 2} y='p, q' }", "builtin.module(a{x={1 2} y='p, q'})"),
        ("a{x=f(g,h{i=1})}", "builtin.module(a{x=f(g,h{i=1})})"),
        ("builtin.module(a),b", "builtin.module(builtin.module(a),b)"),
    ],
)
def test_syntax(text: str, canonical: str) -> None:
    assert str(parse_pipeline(text)) == canonical


def test_option_values_lose_their_quotes_or_braces() -> None:
    (element,) = parse_pipeline("""a{p={1 2} q='x y' r="it's" s=f(a b) t u=}""").elements
    assert isinstance(element, Invocation)
    assert [(option.key, option.value) for option in element.options] == [
        ("p", "1 2"),
        ("q", "x y"),
        ("r", "it's"),
        ("s", "f(a b)"),
        ("t", None),
        ("u", ""),
    ]


names = st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{1,4})?", fullmatch=True)
invocations = st.builds(
    lambda name, options: Invocation(name, " ".join(f"{k}={v}" for k, v in options), (), 0),
    names,
    st.lists(st.tuples(names, st.from_regex(r"[a-z0-9,]{0,6}", fullmatch=True)), max_size=3),
)
elements = st.recursive(
    invocations,
    lambda inner: st.builds(
        lambda name, parts: Nest(name, tuple(parts)), names, st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(elements, max_size=4))
def test_what_prints_parses_back(parts: list[Invocation | Nest]) -> None:
    text = str(Nest("builtin.module", tuple(parts)))
    assert str(parse_pipeline(text)) == text


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("builtin.module(cse", 15, "this '(' is never closed"),
        ("cse)", 4, "this ')' closes nothing"),
        ("cse,,cse", 5, "expected the name of a pass"),
        ("cse,", 5, "expected the name of a pass"),
        ("builtin.module(cse,)", 20, "expected the name of a pass"),
        ("builtin.module(cse cse)", 20, "expected ',' or ')', found 'c'"),
        ("cse cse", 5, "expected ',', found 'c'"),
        ("canonicalize{top-down=false", 13, "this '{' is never closed"),
        ("func.func(test-mark{label='a)", 10, "this '(' is never closed"),
        ("func.func(test-mark{label={a)", 10, "this '(' is never closed"),
        ("test-mark{=a}", 11, "expected the name of an option"),
        ("canonicalise", 1, "unknown pass 'canonicalise'; did you mean 'canonicalize'?"),
        ("func.func(cse,test-marc)", 15, "unknown pass 'test-marc'; did you mean 'test-mark'?"),
        ("cse,frobnicate", 5, "unknown pass 'frobnicate'"),
        ("func.func(test-mark{lable=a})", 21, "no option 'lable'; did you mean 'label'?"),
        ("func.func(test-mark{zz=a})", 21, "no option 'zz'; its options: label, counts, how"),
        ("func.func(test-mark{label=a label=b})", 29, "option 'label' is given twice"),
        ("func.func(test-mark{counts=1,x})", 21, "takes list<int>, not '1,x'"),
        ("func.func(test-mark{how=prepend})", 21, "takes set|append, not 'prepend'"),
        ("func.func(test-mark{scale=big})", 21, "takes float, not 'big'"),
        ("func.func(test-mark{limit})", 21, "'limit' of pass 'test-mark' takes int"),
        ("func.func(test-mark{limit=-1})", 11, "limit must not be negative"),
        ("func.func(test-mark{loud=maybe})", 21, "takes bool, not 'maybe'"),
        ("test-count", 1, "pass 'test-count' needs option 'key'"),
        ("test-any{key=a}", 10, "has no option 'key'; it takes none"),
        ("canonicalize{top-dawn=0}", 14, "no option 'top-dawn'; did you mean 'top-down'?"),
        ("canonicalize{top-down=maybe}", 14, "takes true or false, not 'maybe'"),
        ("canonicalize{max-iterations=many}", 14, "takes an integer, not 'many'"),
        ("one-shot-bufferize{unknown-type-conversion=best}", 1, "MLIR does not take"),
        ("cse{top}", 5, "pass 'cse' has no option 'top'; it takes none"),
        ("func.func(one-shot-bufferize)", 11, "runs on 'builtin.module'"),
        ("llvm-request-c-wrappers", 1, "write 'func.func(llvm-request-c-wrappers)'"),
        ("test-mark", 1, "write 'func.func(test-mark)'"),
        ("func.func(test-count{key=a})", 11, "runs on 'builtin.module'"),
        ("func.func(any(test-mark))", 15, "cannot stand in 'any(...)'"),
        ("any(" * 5000 + ")" * 5000, 404, "is nested more than 100 levels deep"),
    ],
)
def test_a_wrong_pipeline_is_refused_with_its_column(
    module: ir.Module, text: str, column: int, message: str
) -> None:
    before = str(module)
    with pytest.raises(PipelineError) as caught:
        run_pipeline(module, text)
    assert message in str(caught.value)
    assert caught.value.offset + 1 == column
    assert str(caught.value).startswith(f"pass pipeline, column {column}: ")
    assert str(module) == before


def test_nothing_runs_before_the_whole_pipeline_is_known_good(module: ir.Module) -> None:
    with pytest.raises(PipelineError):
        run_pipeline(module, "func.func(test-mark),canonicalise")
    assert marks(module) == [None, None, None]


def test_the_bindings_know_every_name_that_is_suggested() -> None:
    assert [name for name in NATIVE_PASSES if not is_native(name)] == []


# Options


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (None, bool, True),
        ("false", bool, False),
        ("1", bool, True),
        ("0x10", int, 16),
        ("-3", int, -3),
        ("1e-3", float, 1e-3),
        ("a,b", str, "a,b"),
        ("", str, ""),
        ("1, 2,3", tuple[int, ...], (1, 2, 3)),
        ("", tuple[int, ...], ()),
        ("none", int | None, None),
        ("7", int | None, 7),
        ("set", Literal["set", "append"], "set"),
    ],
)
def test_option_values(text: str | None, kind: object, value: object) -> None:
    assert parse_value(text, kind) == value
    assert parse_value(format_value(value), kind) == value


def test_options_reach_the_pass(module: ir.Module) -> None:
    run_pipeline(module, "func.func(test-mark{label=a},test-mark{label={b c}}),test-count{key=n}")
    assert marks(module) == ["a+b c", "a+b c", None]
    assert module.operation.attributes["tiny.n"].value == 3


# Running


def test_order_of_ours_and_native_ones(module: ir.Module) -> None:
    recorder = Recorder()
    text = "symbol-dce,func.func(cse,test-mark,canonicalize),test-count{key=n},cse"
    run_pipeline(module, text, instrumentation=recorder)
    started = [event for event in recorder.events if "done" not in event]
    assert started == [
        "builtin.module symbol-dce",
        "builtin.module/func.func cse",
        "builtin.module/func.func test-mark",
        "builtin.module/func.func canonicalize",
        "builtin.module test-count",
        "builtin.module cse",
    ]
    assert module.operation.attributes["tiny.n"].value == 2
    assert str(module).count("arith.addi") == 1


def test_instrumentation_does_not_change_the_result() -> None:
    texts = []
    for recorder in (None, Recorder()):
        context = ir.Context()
        dialects.register(context)
        module = ir.Module.parse(SOURCE, context=context)
        text = "func.func(test-mark,cse),any(canonicalize),builtin.module(func.func(test-any))"
        run_pipeline(module, text, instrumentation=recorder)
        texts.append(str(module))
    assert texts[0] == texts[1]
    assert texts[0].count("tiny.any") == 1


def test_only_operations_directly_inside_are_nested_into(module: ir.Module) -> None:
    run_pipeline(module, "func.func(test-mark)")
    assert "@g() attributes" not in str(module)
    run_pipeline(module, "builtin.module(builtin.module(func.func(test-mark)))")
    assert "@g() attributes" in str(module)


def test_nests_may_be_empty(module: ir.Module) -> None:
    before = str(module)
    run_pipeline(module, "builtin.module(),any(),func.func(any())")
    assert str(module) == before


def test_any_runs_on_every_isolated_operation(module: ir.Module) -> None:
    run_pipeline(module, "any(any(test-any))")
    assert "tiny.any" not in module.operation.attributes
    assert all("tiny.any" in op.attributes for op in module.body.operations)


def test_a_function_can_be_the_root(module: ir.Module) -> None:
    function = module.body.operations[0]
    run_pipeline(function, "func.func(cse,test-mark)")
    assert marks(module) == ["seen", None, None]
    assert str(function).count("arith.addi") == 1


def test_a_failure_names_its_place(module: ir.Module) -> None:
    recorder = Recorder()
    with pytest.raises(PassRunError) as caught:
        run_pipeline(module, "func.func(test-misbehave)", instrumentation=recorder)
    assert str(caught.value) == "-:3:8: not this one (failed in test-misbehave)"
    assert recorder.events[-1] == "failed test-misbehave"


def test_a_failure_goes_to_the_handlers_where_the_context_says_so(module: ir.Module) -> None:
    seen: list[str] = []

    def handle(diagnostic: ir.Diagnostic) -> bool:
        seen.append(f"{position_of(diagnostic.location)}: {diagnostic.message}")
        return True

    module.context.emit_error_diagnostics = True
    module.context.attach_diagnostic_handler(handle)
    with pytest.raises(PassRunError) as caught:
        run_pipeline(module, "func.func(test-misbehave)")
    assert seen == ["-:3:8: not this one"]
    assert caught.value.diagnostics == ()
    assert str(caught.value) == "failed in test-misbehave"


def test_invalid_ir_is_found_after_the_pass_that_left_it(module: ir.Module) -> None:
    with pytest.raises(PassRunError, match="left IR that does not verify, after test-misbehave"):
        run_pipeline(module, "func.func(test-misbehave{how=invalid},cse)")


def test_verification_can_be_off(module: ir.Module) -> None:
    run_pipeline(module, "func.func(test-misbehave{how=invalid})", verify=False)
    with pytest.raises(ir.MLIRError):
        module.operation.verify()


def test_mlir_errors_and_user_errors_inside_a_pass(module: ir.Module) -> None:
    with pytest.raises(PassRunError, match="failed in test-misbehave"):
        run_pipeline(module, "func.func(test-misbehave{how=raise})")
    with pytest.raises(TinymlirError, match="the budget cannot be met"):
        run_pipeline(module, "func.func(test-misbehave{how=budget})")


def test_a_native_pass_that_fails(module: ir.Module) -> None:
    module.context.allow_unregistered_dialects = True
    bad = ir.Module.parse("""
      func.func @f() -> tensor<2xi8> {
        %0 = "other.op"() : () -> tensor<2xi8>
        return %0 : tensor<2xi8>
      }
    """)
    with pytest.raises(PassRunError) as caught:
        run_pipeline(bad, "canonicalize,one-shot-bufferize")
    message = "op was not bufferized (failed in canonicalize, one-shot-bufferize)"
    assert str(caught.value) == f"-:3:14: {message}"


def test_two_passes_cannot_share_a_name() -> None:
    class Other(Pass):
        name: ClassVar[str] = "test-mark"

    with pytest.raises(ValueError, match="'test-mark' is registered already"):
        register_pass(Other)
    assert register_pass(Mark) is Mark


# Other programs' pass managers


def test_add_pass_runs_ours_inside_mlirs_pass_manager(module: ir.Module) -> None:
    manager = passmanager.PassManager("builtin.module")
    manager.add("func.func(cse)")
    add_pass(manager, Mark(label="added"))
    add_pass(manager, Count(key="n"))
    add_pass(manager, Anything())
    manager.add("symbol-dce")
    assert "test-mark,test-count,test-any,symbol-dce" in str(manager)
    manager.run(module.operation)
    assert module.operation.attributes["tiny.n"].value == 3
    assert "tiny.any" in module.operation.attributes
    assert marks(module) == ["added", None]
    assert str(module).count("arith.addi") == 1


def test_a_failure_of_an_added_pass_fails_the_manager(module: ir.Module) -> None:
    manager = passmanager.PassManager("builtin.module")
    add_pass(manager, Misbehave())
    with pytest.raises(ir.MLIRError) as caught:
        manager.run(module.operation)
    (found,) = caught.value.error_diagnostics
    assert found.message == "not this one"
    assert str(position_of(found.location)) == "-:3:8"


def test_an_added_pass_on_the_wrong_operation_fails_the_manager(module: ir.Module) -> None:
    manager = passmanager.PassManager("func.func")
    add_pass(manager, Count(key="n"))
    with pytest.raises(ir.MLIRError, match="test-count runs on builtin"):
        manager.run(module.body.operations[0].operation)


# Locations


@pytest.mark.parametrize(
    ("location", "position"),
    [
        ('loc("a.mlir":3:4)', "a.mlir:3:4"),
        ('loc("conv1"("a.mlir":3:4))', "a.mlir:3:4"),
        ('loc(callsite("g"("a.mlir":1:2) at "b.mlir":3:4))', "a.mlir:1:2"),
        ('loc(fused["conv1", "a.mlir":3:4])', "a.mlir:3:4"),
        ('loc("conv1")', "None"),
        ("loc(unknown)", "None"),
    ],
)
def test_position_inside_a_location(location: str, position: str) -> None:
    context = ir.Context()
    op = ir.Operation.parse(f"module {{}} {location}", context=context)
    assert str(position_of(op.operation.location)) == position
