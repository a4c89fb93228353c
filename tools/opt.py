"""``tinymlir-opt``: ``mlir-opt`` for pipelines of our passes and native ones."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tinymlir
from tinymlir import bindings, dialects
from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.files import write_all
from tinymlir.passes import REGISTRY
from tinymlir.pipeline import (
    Chain,
    Diagnostic,
    Expectations,
    Instrumentation,
    IRPrinter,
    PassRunError,
    PipelineError,
    Position,
    Selection,
    Timing,
    implicit_nesting,
    option_specs,
    parse_pipeline,
    run_pipeline,
)

from .opt_arguments import Arguments, UsageError, check_passes, help_text, parse_arguments

#: What the parser of the bindings calls every source.
UNNAMED = "-"
MARKER = "// -----"
_ON_OFF_PRINTING = {
    "mlir-print-op-generic": "print_generic_op_form",
    "mlir-print-debuginfo": "enable_debug_info",
    "mlir-print-local-scope": "use_local_scope",
    "mlir-use-nameloc-as-prefix": "use_name_loc_as_prefix",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    The exit status is 0, 1 on failure, 2 on wrong usage, 130 where interrupted.
    """
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        for plugin in arguments.values.get("load-pass-plugin", []):
            _load_plugin(plugin)
        information = _information(arguments)
        if information is not None:
            sys.stdout.write(information)
            return 0
        check_passes(arguments)
        return _Opt(arguments).run()
    except PipelineError as error:
        hint = f"; {error.hint}" if error.hint else ""
        position = Position("<pass pipeline>", 1, error.offset + 1)
        found = Diagnostic("error", position, "", error.message + hint)
        sys.stderr.write(_rendered(found, [error.text]))
        return 1
    except TinymlirError as error:
        print(f"tinymlir-opt: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # The reader went away; leave nothing for the interpreter to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\ntinymlir-opt: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(
            f"tinymlir-opt: error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr
        )
        return 1


def _information(arguments: Arguments) -> str | None:
    """What a flag that only asks for information prints."""
    if "help" in arguments.values:
        return help_text()
    if "version" in arguments.values:
        return f"tinymlir-opt {tinymlir.__version__}, {bindings.version()}\n"
    if "dump-irdl" in arguments.values:
        return dialects.irdl_text()
    if "list-passes" in arguments.values:
        return _listed_as_json() if arguments.truth("json") else _listed()
    return None


def _summaries() -> Iterator[tuple[Any, str]]:
    """Each pass class, by name, with the first line of its docstring."""
    for _, cls in sorted(REGISTRY.items()):
        yield cls, (cls.__doc__ or "").strip().split("\n")[0]


def _listed() -> str:
    lines = []
    for cls, summary in _summaries():
        options = "".join(f" {spec}" for spec in option_specs(cls))
        lines.append(f"{cls.name} ({cls.anchor}){options} - {summary}\n")
    return "".join(lines)


def _listed_as_json() -> str:
    passes = [
        {
            "name": cls.name,
            "anchor": cls.anchor,
            "description": summary,
            "options": [
                {"name": spec.key, "type": spec.type_name, "default": spec.default}
                for spec in option_specs(cls)
            ],
        }
        for cls, summary in _summaries()
    ]
    return json.dumps(passes, indent=2) + "\n"


def _load_plugin(path: str) -> None:
    """Run a Python file, which registers its passes.

    Raises:
        TinymlirError: the file cannot be read, or raises an exception.
    """
    spec = importlib.util.spec_from_file_location(f"tinymlir_plugin_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise TinymlirError("a pass plugin is a Python file", file=path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        reason = f"the pass plugin does not load: {type(error).__name__}: {error}"
        raise TinymlirError(reason, file=path) from error


def _rendered(diagnostic: Diagnostic, lines: Sequence[str]) -> str:
    """A diagnostic as ``mlir-opt`` prints it: with the source line and a caret."""
    position = diagnostic.position
    if position is None:
        known = "" if diagnostic.location in ("", "loc(unknown)") else f"{diagnostic.location}: "
        return f"<unknown>:0: {diagnostic.severity}: {known}{diagnostic.message}\n"
    text = f"{position}: {diagnostic.severity}: {diagnostic.message}\n"
    if 1 <= position.line <= len(lines):
        line = lines[position.line - 1]
        before = line[: max(0, position.column - 1)]
        indent = "".join("\t" if char == "\t" else " " for char in before)
        text += f"{line}\n{indent}^\n"
    return text


@dataclass(frozen=True)
class _Chunk:
    """A part of the input, which starts at line ``first_line`` (from 1)."""

    text: str
    first_line: int

    @property
    def padded(self) -> str:
        """The text behind as many empty lines as come before it, so that lines are right."""
        return "\n" * (self.first_line - 1) + self.text


def _split(text: str, marker: str | None) -> list[_Chunk]:
    """The input, or the parts of it between lines that hold only ``marker``."""
    if marker is None:
        return [_Chunk(text, 1)]
    chunks = []
    part: list[str] = []
    first = 1
    for number, line in enumerate(text.split("\n"), 1):
        if line.rstrip() == marker:
            chunks.append(_Chunk("\n".join(part), first))
            part, first = [], number + 1
        else:
            part.append(line)
    return [*chunks, _Chunk("\n".join(part), first)]


class _Opt:
    """One run over an input."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        source = (arguments.inputs or ["-"])[0]
        self.file = "<stdin>" if source == "-" else source
        self.pipeline = self._pipeline()
        self.marker = arguments.text("split-input-file")
        if self.marker == "":
            self.marker = MARKER
        self.verify = arguments.truth("verify-each", True) and not arguments.truth("no-verify")
        self.printing = self._printing()
        self.timing = Timing() if arguments.truth("mlir-timing") else None
        self.instrumentation = Chain.of((self.timing, self._ir_printer()))
        self.expectations = self._expectations()
        with self._phase("Input"):
            self.text = _read(source)
        self.lines = self.text.split("\n")

    def _phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        return self.timing.phase(name) if self.timing else contextlib.nullcontext()

    def _pipeline(self) -> str:
        given = self.arguments.text("pass-pipeline")
        if given is None:
            elements = (implicit_nesting(*element) for element in self.arguments.passes)
            return f"builtin.module({','.join(elements)})"
        if self.arguments.passes:
            name = self.arguments.passes[0][0]
            raise UsageError(f"--{name}: passes as flags do not go with --pass-pipeline")
        return given

    def _printing(self) -> dict[str, Any]:
        """Keyword arguments for the bindings' printer."""
        arguments = self.arguments
        options: dict[str, Any] = {
            keyword: arguments.truth(flag) for flag, keyword in _ON_OFF_PRINTING.items()
        }
        options["large_elements_limit"] = arguments.number("mlir-elide-elementsattrs-if-larger")
        # Only its own flag bounds resources; the bindings would take the other's.
        limit = arguments.number("mlir-elide-resource-strings-if-larger")
        options["large_resource_limit"] = sys.maxsize if limit is None else limit
        return options

    def _ir_printer(self) -> Instrumentation | None:
        arguments = self.arguments
        change, failure = (
            arguments.truth(f"mlir-print-ir-after-{what}") for what in ("change", "failure")
        )
        before = Selection(
            arguments.truth("mlir-print-ir-before-all"),
            frozenset(arguments.names("mlir-print-ir-before")),
        )
        after_names = frozenset(arguments.names("mlir-print-ir-after"))
        after_all = arguments.truth("mlir-print-ir-after-all") or (change and not after_names)
        after = Selection(after_all, after_names)
        if not (before or after or failure):
            return None
        module_scope = arguments.truth("mlir-print-ir-module-scope")
        return IRPrinter(
            sys.stderr.write, self._printed, before, after, change, failure, module_scope
        )

    def _expectations(self) -> Expectations | None:
        mode = self.arguments.text("verify-diagnostics")
        if mode is None:
            return None
        if mode not in ("", "all", "only-expected"):
            raise UsageError(f"--verify-diagnostics takes all or only-expected, not '{mode}'")
        return Expectations(self.file, only_expected=mode == "only-expected")

    def run(self) -> int:
        """Process each chunk, then write what came out."""
        if self.arguments.truth("dump-pass-pipeline"):
            print(f"Pass pipeline: {parse_pipeline(self.pipeline)}", file=sys.stderr)
        context = ir.Context()
        context.allow_unregistered_dialects = self.arguments.truth("allow-unregistered-dialect")
        context.emit_error_diagnostics = True
        dialects.register(context)
        context.attach_diagnostic_handler(self._handle)
        outputs = [self._process(chunk, context) for chunk in _split(self.text, self.marker)]
        succeeded = None not in outputs
        if self.expectations:
            complaints = self.expectations.finish()
            for complaint in complaints:
                self._show(complaint)
            succeeded = not complaints
        separator = f"{MARKER}\n"
        with self._phase("Output"):
            self._write(separator.join(output or "" for output in outputs), succeeded)
        if self.timing:
            sys.stderr.write(self.timing.report())
        return 0 if succeeded else 1

    def _process(self, chunk: _Chunk, context: ir.Context) -> str | None:
        """The IR of a chunk once the pipeline has run, or None on failure."""
        if self.expectations:
            self.expectations.read(chunk.text, chunk.first_line)
        try:
            with self._phase("Parser"):
                module = ir.Module.parse(chunk.padded, context=context)
            run_pipeline(
                module, self.pipeline, instrumentation=self.instrumentation, verify=self.verify
            )
        except ir.MLIRError:
            # The handler has seen what is wrong.
            return None
        except PassRunError as error:
            if not self.expectations:
                print(f"tinymlir-opt: error: the pass pipeline {error.reason}", file=sys.stderr)
            return None
        except PipelineError:
            raise
        except TinymlirError as error:
            self._report(Diagnostic("error", None, "", str(error)))
            return None
        with self._phase("Output"):
            return self._printed(module.operation)

    def _printed(self, op: ir.Operation) -> str:
        text = str(op.get_asm(**self.printing)).rstrip("\n") + "\n"
        # Quotes are escaped inside MLIR's strings, so this is always a location.
        return text.replace(f'loc("{UNNAMED}":', f'loc("{self.file}":')

    def _handle(self, found: Any) -> bool:
        """MLIR's diagnostic handler."""
        self._report(Diagnostic.from_mlir(found))
        return True

    def _report(self, diagnostic: Diagnostic) -> None:
        diagnostic = self._named(diagnostic)
        if self.expectations:
            self.expectations.check(diagnostic)
        else:
            self._show(diagnostic)

    def _named(self, diagnostic: Diagnostic) -> Diagnostic:
        """``diagnostic`` with the input's name in its positions."""
        position = diagnostic.position
        if position and position.file == UNNAMED:
            position = replace(position, file=self.file)
        notes = tuple(self._named(note) for note in diagnostic.notes)
        return replace(diagnostic, position=position, notes=notes)

    def _show(self, diagnostic: Diagnostic) -> None:
        here = diagnostic.position is not None and diagnostic.position.file == self.file
        sys.stderr.write(_rendered(diagnostic, self.lines if here else []))
        for note in diagnostic.notes:
            self._show(note)

    def _write(self, text: str, succeeded: bool) -> None:
        target = self.arguments.text("o") or "-"
        if target == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
        elif succeeded:
            _write_file(Path(target), text)


def _read(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode()
    except OSError as error:
        reason = f"cannot open the input file: {error.strerror}"
        raise TinymlirError(reason, file=source) from error
    except UnicodeDecodeError as error:
        raise TinymlirError("the input is not UTF-8 text", file=source) from error


def _write_file(path: Path, text: str) -> None:
    if not path.parent.is_dir() or path.is_dir():
        wrong = "it is a directory" if path.is_dir() else "there is no such directory"
        raise TinymlirError(f"cannot be written: {wrong}", file=str(path))
    if path.exists() and not path.is_file():
        # A device or a pipe cannot be replaced.
        path.write_text(text, encoding="utf-8")
        return
    write_all(path.parent, {path.name: text.encode()})


if __name__ == "__main__":
    sys.exit(main())
