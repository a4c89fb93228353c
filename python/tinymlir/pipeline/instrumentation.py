"""What watches a pipeline run: IR dumps between passes, and wall-clock times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tinymlir.bindings import ir

from .manager import Instrumentation, PassInfo


@dataclass(frozen=True)
class Selection:
    """Which passes to print around: all of them, or those named."""

    everything: bool = False
    names: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return self.everything or name in self.names

    def __bool__(self) -> bool:
        return self.everything or bool(self.names)


@dataclass
class IRPrinter:
    """Prints the IR around passes, under the headers that ``mlir-opt`` prints.

    Args:
        write: takes the text.
        to_text: prints an operation.
        before: passes to print before.
        after: passes to print after.
        after_change: leave out a dump after a pass that changed nothing.
        after_failure: print after any pass that fails, and only then.
        module_scope: print the whole module, whatever the pass runs on.
    """

    write: Callable[[str], object]
    to_text: Callable[[ir.Operation], str]
    before: Selection = Selection()
    after: Selection = Selection()
    after_change: bool = False
    after_failure: bool = False
    module_scope: bool = False
    _entry_texts: list[str] = field(default_factory=list)

    def before_pass(self, info: PassInfo, op: ir.Operation) -> None:
        if self.after_change:
            self._entry_texts.append(str(op))
        if info.name in self.before:
            self._dump("Before", info, op)

    def after_pass(self, info: PassInfo, op: ir.Operation, failed: bool) -> None:
        changed = not self.after_change or self._entry_texts.pop() != str(op)
        if failed:
            if self.after_failure or info.name in self.after:
                self._dump("After", info, op, " Failed")
        elif info.name in self.after and changed and not self.after_failure:
            self._dump("After", info, op)

    def _dump(self, when: str, info: PassInfo, op: ir.Operation, outcome: str = "") -> None:
        header = f"IR Dump {when} {info.title} ({info.name}){outcome}"
        if self.module_scope:
            header += f" ('{op.name}' operation{_symbol(op)})"
            while op.parent is not None:
                op = op.parent.operation
        self.write(f"// -----// {header} //----- //\n{self.to_text(op).rstrip()}\n\n")


def _symbol(op: ir.Operation) -> str:
    return f": @{op.attributes['sym_name'].value}" if "sym_name" in op.attributes else ""


@dataclass
class _Timer:
    seconds: float = 0.0
    inner: dict[str, _Timer] = field(default_factory=dict)

    def child(self, name: str) -> _Timer:
        return self.inner.setdefault(name, _Timer())


@dataclass
class Timing:
    """Wall-clock times of passes and phases, as a tree; `report` prints it."""

    _root: _Timer = field(default_factory=_Timer)
    _started: float = field(default_factory=time.perf_counter)
    _begun: list[float] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase that is not a pass."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._root.child(name).seconds += time.perf_counter() - start

    def before_pass(self, info: PassInfo, op: ir.Operation) -> None:
        self._begun.append(time.perf_counter())

    def after_pass(self, info: PassInfo, op: ir.Operation, failed: bool) -> None:
        elapsed = time.perf_counter() - self._begun.pop()
        timer = self._root
        for anchor in info.anchors[1:]:
            timer = timer.child(f"'{anchor}' Pipeline")
            timer.seconds += elapsed
        timer.child(info.name).seconds += elapsed

    def report(self) -> str:
        """The table of ``mlir-opt --mlir-timing``, in seconds and parts of the total."""
        total = time.perf_counter() - self._started
        rest = max(0.0, total - sum(timer.seconds for timer in self._root.inner.values()))
        bar = f"==={'-' * 73}==="
        lines = [bar, f"{'... Execution time report ...':^79}".rstrip(), bar]
        lines += [f"  Total Execution Time: {total:.4f} seconds", ""]
        lines.append("  ----Wall Time----  ----Name----")
        lines += [*_rows(self._root, total, 0), _row("Rest", rest, total, 0)]
        lines.append(_row("Total", total, total, 0))
        return "\n".join(lines) + "\n"


def _rows(timer: _Timer, total: float, depth: int) -> Iterator[str]:
    for name, inner in timer.inner.items():
        yield _row(name, inner.seconds, total, depth)
        yield from _rows(inner, total, depth + 1)


def _row(name: str, seconds: float, total: float, depth: int) -> str:
    part = 100.0 * seconds / total if total else 0.0
    return f"  {seconds:8.4f} ({part:5.1f}%)  {'  ' * depth}{name}"


@dataclass(frozen=True)
class Chain:
    """Several instrumentations as one; the last one told before is the first told after."""

    links: tuple[Instrumentation, ...]

    @classmethod
    def of(cls, links: Iterable[Instrumentation | None]) -> Instrumentation | None:
        """The chain of those that are not None; None if none is."""
        present = tuple(link for link in links if link is not None)
        return cls(present) if present else None

    def before_pass(self, info: PassInfo, op: ir.Operation) -> None:
        for link in self.links:
            link.before_pass(info, op)

    def after_pass(self, info: PassInfo, op: ir.Operation, failed: bool) -> None:
        for link in reversed(self.links):
            link.after_pass(info, op, failed)
