"""Runs pipelines that mix our passes with native ones.

MLIR's own pass manager neither parses the names of Python passes nor nests them, so
the nesting is walked here: our passes are called on each operation that their anchor
names, and each longest run of native passes goes to an MLIR pass manager.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tinymlir.bindings import ir, passmanager
from tinymlir.errors import TinymlirError
from tinymlir.passes import REGISTRY, Pass, PassFailure

from .diagnostics import Diagnostic, PassRunError, position_of
from .native import check_native, native_anchor, wrong_anchor
from .options import build_pass
from .parser import Invocation, Nest, parse_pipeline


@dataclass(frozen=True)
class PassInfo:
    """Which pass: its command-line name, its class (``name`` again for a native
    pass), and the anchors that it is nested in, outermost first."""

    name: str
    title: str
    anchors: tuple[str, ...]


class Instrumentation(Protocol):
    """Called around each pass on each operation that it runs on."""

    def before_pass(self, info: PassInfo, op: ir.Operation) -> None: ...

    def after_pass(self, info: PassInfo, op: ir.Operation, failed: bool) -> None: ...


@dataclass(frozen=True)
class _Ours:
    """One of our passes."""

    instance: Pass
    info: PassInfo


@dataclass(frozen=True)
class _Native:
    """Native passes in a row, as one MLIR pipeline; ``info`` names them."""

    manager: Any
    info: PassInfo


@dataclass(frozen=True)
class _Nested:
    """Steps for each operation called ``anchor`` directly inside."""

    anchor: str
    steps: tuple[_Step, ...]


_Step = _Ours | _Native | _Nested


def run_pipeline(
    module_op: ir.Operation | ir.OpView | ir.Module,
    text: str,
    *,
    instrumentation: Instrumentation | None = None,
    verify: bool = True,
) -> None:
    """Run a pass pipeline, in MLIR's syntax, on an operation and change it in place.

    Args:
        module_op: usually a module.
        text: for example ``builtin.module(tiny-foo{a=1},func.func(canonicalize))``;
            without an anchor, the passes run on ``module_op`` itself.
        instrumentation: told of each pass. Native passes then run one at a time.
        verify: check the IR after each pass.

    Raises:
        PipelineError: the text is wrong; nothing has run then.
        PassRunError: a pass failed or left IR that does not verify.
    """
    root = module_op.operation
    nest = parse_pipeline(text, root.name)
    # At the top `any` can only mean the operation at hand.
    anchors = (root.name,)
    builder = _Builder(text, root.context, verify, one_by_one=instrumentation is not None)
    steps = builder.steps(nest.elements, anchors)
    _Runner(instrumentation, verify).run(steps, root)


def implicit_nesting(name: str, options: str) -> str:
    """The pipeline element that runs a pass somewhere below a module.

    Args:
        name: any pass.
        options: its options, ``a=1 b=2``, with or without braces.
    """
    options = options.strip()
    braced = options if options[:1] in ("", "{") else f"{{{options}}}"
    anchor = REGISTRY[name].anchor if name in REGISTRY else native_anchor(name)
    element = f"{name}{braced}"
    return element if anchor in (None, "any", "builtin.module") else f"{anchor}({element})"


class _Builder:
    """Turns the tree of a pipeline into steps, and rejects what cannot run."""

    def __init__(self, text: str, context: ir.Context, verify: bool, one_by_one: bool) -> None:
        self.text, self.context = text, context
        self.verify, self.one_by_one = verify, one_by_one

    def steps(
        self, elements: tuple[Invocation | Nest, ...], anchors: tuple[str, ...]
    ) -> tuple[_Step, ...]:
        found: list[_Step] = []
        row: list[Invocation | Nest] = []

        def flush() -> None:
            if row:
                found.append(self.native(row, anchors))
                row.clear()

        for element in elements:
            if self.is_native(element):
                self.check(element, anchors[-1])
                row.append(element)
                if self.one_by_one:
                    flush()
                continue
            flush()
            if isinstance(element, Nest):
                inner = (*anchors, element.anchor)
                found.append(_Nested(element.anchor, self.steps(element.elements, inner)))
            else:
                found.append(self.ours(element, anchors))
        flush()
        return tuple(found)

    def is_native(self, element: Invocation | Nest) -> bool:
        """Whether MLIR's pass manager can run all of ``element``."""
        if isinstance(element, Invocation):
            return element.name not in REGISTRY
        # One at a time, nesting is always walked here; MLIR knows no empty one.
        if self.one_by_one or not element.elements:
            return False
        return all(self.is_native(inner) for inner in element.elements)

    def check(self, element: Invocation | Nest, anchor: str) -> None:
        if isinstance(element, Invocation):
            check_native(element, anchor, self.text)
            return
        for inner in element.elements:
            self.check(inner, element.anchor)

    def native(self, row: list[Invocation | Nest], anchors: tuple[str, ...]) -> _Native:
        inner = ",".join(map(str, row))
        manager = passmanager.PassManager.parse(f"{anchors[-1]}({inner})", self.context)
        manager.enable_verifier(self.verify)
        names = [
            element.name if isinstance(element, Invocation) else str(element) for element in row
        ]
        name = ", ".join(names)
        return _Native(manager, PassInfo(name, name, anchors))

    def ours(self, invocation: Invocation, anchors: tuple[str, ...]) -> _Ours:
        cls = REGISTRY[invocation.name]
        if cls.anchor not in ("any", anchors[-1]):
            raise wrong_anchor(cls.name, cls.anchor, anchors[-1], self.text, invocation.offset)
        instance = build_pass(cls, invocation.options, self.text, invocation.offset)
        return _Ours(instance, PassInfo(cls.name, cls.__name__, anchors))


class _Runner:
    def __init__(self, instrumentation: Instrumentation | None, verify: bool) -> None:
        self.instrumentation, self.verify = instrumentation, verify

    def run(self, steps: tuple[_Step, ...], op: ir.Operation) -> None:
        for step in steps:
            if isinstance(step, _Nested):
                for child in children(op, step.anchor):
                    self.run(step.steps, child)
                continue
            if self.instrumentation is None:
                self.execute(step, op)
                continue
            self.instrumentation.before_pass(step.info, op)
            try:
                self.execute(step, op)
            except TinymlirError:
                self.instrumentation.after_pass(step.info, op, failed=True)
                raise
            self.instrumentation.after_pass(step.info, op, failed=False)

    def execute(self, step: _Ours | _Native, op: ir.Operation) -> None:
        if isinstance(step, _Ours):
            run_pass(step.instance, op, verify=self.verify)
        else:
            with _mlir_errors(f"failed in {step.info.name}"):
                step.manager.run(op)


def children(op: ir.Operation, anchor: str) -> list[ir.Operation]:
    """The operations directly inside ``op`` that passes nested in ``anchor(...)`` run on."""
    inside = (
        child.operation for region in op.regions for block in region for child in block.operations
    )
    if anchor == "any":
        return [child for child in inside if child.has_trait(ir.IsIsolatedFromAboveTrait)]
    return [child for child in inside if child.name == anchor]


def run_pass(instance: Pass, op: ir.Operation, *, verify: bool = True) -> None:
    """Run one of our passes on ``op``.

    Raises:
        PassRunError: the pass failed or left IR that does not verify.
    """
    name = instance.name
    with op.context, op.location, _mlir_errors(f"failed in {name}"):
        try:
            instance.run(op)
        except PassFailure as failure:
            raise _reported(failure, op.context, f"failed in {name}") from failure
    if verify:
        with _mlir_errors(f"left IR that does not verify, after {name}"):
            op.verify()


@contextmanager
def _mlir_errors(reason: str) -> Iterator[None]:
    """Turn the bindings' exception into `PassRunError`."""
    try:
        yield
    except ir.MLIRError as error:
        found = tuple(Diagnostic.from_mlir(info) for info in error.error_diagnostics)
        raise PassRunError(reason, found) from error


def _reported(failure: PassFailure, context: ir.Context, reason: str) -> PassRunError:
    """``failure`` as an MLIR error, which goes the way that the context sends errors."""
    if context.emit_error_diagnostics:
        failure.location.emit_error(failure.message)
        return PassRunError(reason, ())
    location = failure.location
    position = position_of(location)
    return PassRunError(reason, (Diagnostic("error", position, str(location), failure.message),))


def add_pass(manager: Any, instance: Pass) -> None:
    """Add one of our passes to a ``PassManager`` of another program's.

    A pass that runs on ``func.func`` may be added to a manager of modules: it then runs
    on each function of the module. Failures are MLIR diagnostics, and the manager fails.

    Args:
        manager: the bindings' ``PassManager``.
        instance: the pass, with its options set.
    """

    def run(op: ir.Operation, external: Any) -> None:
        root = op.operation
        matches = instance.anchor in ("any", root.name)
        if not matches and root.name != "builtin.module":
            root.location.emit_error(f"{instance.name} runs on {instance.anchor}, not {root.name}")
            external.signal_pass_failure()
            return
        targets = [root] if matches else children(root, instance.anchor)
        for target in targets:
            try:
                with target.context, target.location:
                    instance.run(target)
            except PassFailure as failure:
                failure.location.emit_error(failure.message)
                external.signal_pass_failure()
                return

    manager.add(run, name=type(instance).__name__, argument=instance.name)
