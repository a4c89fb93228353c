"""The command line of ``tinymlir-opt``: LLVM's conventions, with passes as flags in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tinymlir.errors import TinymlirError
from tinymlir.pipeline import is_pass, nearest, pass_names

EXAMPLES = """\
Examples:
  tinymlir-opt in.mlir --canonicalize --cse
  tinymlir-opt in.mlir --pass-pipeline='builtin.module(func.func(canonicalize),symbol-dce)'
  tinymlir-opt in.mlir --canonicalize='max-iterations=3 top-down=false' -o out.mlir
  tinymlir-opt in.mlir --load-pass-plugin=mine.py --my-pass --mlir-print-ir-after=my-pass
  tinymlir-opt bad.mlir --verify-diagnostics --split-input-file
  tinymlir-opt --dump-irdl > tiny.irdl.mlir && mlir-opt --irdl-file=tiny.irdl.mlir in.mlir
"""


class UsageError(TinymlirError):
    """The command line is wrong."""


@dataclass(frozen=True)
class Flag:
    """One option. ``value`` names what it takes; in brackets if it may be left out."""

    name: str
    help: str
    value: str = ""
    repeated: bool = False

    @property
    def spelling(self) -> str:
        dashes = "-" if len(self.name) == 1 else "--"
        if self.value.startswith("["):
            return f"{dashes}{self.name}[={self.value[1:-1]}]"
        joint = " " if len(self.name) == 1 else "="
        return f"{dashes}{self.name}{joint}{self.value}" if self.value else f"{dashes}{self.name}"


GROUPS: dict[str, tuple[Flag, ...]] = {
    "General": (
        Flag("o", "where the IR goes; '-' is the standard output", "FILE"),
        Flag("pass-pipeline", "the passes to run, in MLIR's pipeline syntax", "TEXT"),
        Flag("load-pass-plugin", "a Python file that registers passes", "FILE.py", repeated=True),
        Flag("allow-unregistered-dialect", "take operations of unknown dialects"),
        Flag("split-input-file", "treat the parts between '// -----' lines alone", "[MARKER]"),
        Flag("verify-diagnostics", "check expected-error@... comments", "[all|only-expected]"),
        Flag("verify-each", "verify the IR after each pass (default: true)", "[BOOL]"),
        Flag("no-verify", "the same as --verify-each=false"),
        Flag("mlir-disable-threading", "accepted and without effect: one thread is used"),
    ),
    "Information": (
        Flag("list-passes", "print the passes of tinymlir, with their options"),
        Flag("json", "print --list-passes as JSON"),
        Flag("dump-irdl", "print the tiny dialect in IRDL"),
        Flag("dump-pass-pipeline", "print the pipeline that runs to the standard error"),
        Flag("version", "print the versions of tinymlir and of the MLIR bindings"),
        Flag("help", "print this text"),
    ),
    "IR between passes (to the standard error)": (
        Flag("mlir-print-ir-before", "print before these passes", "PASS,..", repeated=True),
        Flag("mlir-print-ir-after", "print after these passes", "PASS,..", repeated=True),
        Flag("mlir-print-ir-before-all", "print before each pass"),
        Flag("mlir-print-ir-after-all", "print after each pass"),
        Flag("mlir-print-ir-after-change", "leave out passes that changed nothing"),
        Flag("mlir-print-ir-after-failure", "print after a pass that failed only"),
        Flag("mlir-print-ir-module-scope", "always print the whole module"),
        Flag("mlir-timing", "print the time that each pass took"),
    ),
    "How IR is printed": (
        Flag("mlir-print-op-generic", "in the generic form"),
        Flag("mlir-print-debuginfo", "with locations"),
        Flag("mlir-print-local-scope", "without aliases"),
        Flag("mlir-use-nameloc-as-prefix", "values named by their name locations"),
        Flag("mlir-elide-elementsattrs-if-larger", "elements attributes as '...' above N", "N"),
        Flag("mlir-elide-resource-strings-if-larger", "resources as '...' above N", "N"),
    ),
}
FLAGS = {flag.name: flag for flags in GROUPS.values() for flag in flags}
_TRUTH = {"": True, "true": True, "1": True, "false": False, "0": False}


@dataclass
class Arguments:
    """What the command line says.

    ``values`` maps a flag's name to the texts given for it, '' where none was.
    ``passes`` holds the passes given as flags, ``(name, options)``, in order.
    """

    inputs: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    passes: list[tuple[str, str]] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """The last text given for a flag, None where it was not given."""
        return self.values[name][-1] if name in self.values else None

    def truth(self, name: str, default: bool = False) -> bool:
        """Whether a flag is on.

        Raises:
            UsageError: its value is no truth value.
        """
        given = self.text(name)
        if given is None:
            return default
        if given not in _TRUTH:
            raise UsageError(f"--{name} takes true or false, not '{given}'")
        return _TRUTH[given]

    def number(self, name: str) -> int | None:
        """A flag's value as a count.

        Raises:
            UsageError: it is not one.
        """
        given = self.text(name)
        if given is not None and not given.isdecimal():
            raise UsageError(f"--{name} takes a number, not '{given}'")
        return None if given is None else int(given)

    def names(self, name: str) -> list[str]:
        """The parts of a flag's comma-separated values."""
        return [part for text in self.values.get(name, []) for part in text.split(",") if part]


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Read a command line. One dash does for two; ``-`` alone is the standard input.

    A flag that is not known here is taken for a pass; see `check_passes`.

    Raises:
        UsageError: a value is missing, superfluous or repeated, or there are two inputs.
    """
    arguments = Arguments()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            arguments.inputs += rest
            break
        if word == "-" or not word.startswith("-"):
            arguments.inputs.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = {"h": "help"}.get(name, name)
        flag = FLAGS.get(name)
        if flag is None:
            arguments.passes.append((name, value))
            continue
        if flag.value and not flag.value.startswith("[") and not equals:
            if not rest:
                raise UsageError(f"{flag.spelling} needs a value")
            value = rest.pop(0)
        if name in arguments.values and flag.value and not flag.repeated:
            raise UsageError(f"{flag.spelling} is given twice")
        arguments.values.setdefault(name, []).append(value)
    if len(arguments.inputs) > 1:
        raise UsageError(f"more than one input file: {', '.join(arguments.inputs)}")
    return arguments


def check_passes(arguments: Arguments) -> None:
    """Check each name that the command line uses as a pass's, once plugins are loaded.

    Raises:
        UsageError: there is no such pass or option.
    """
    for name, _ in arguments.passes:
        if not is_pass(name):
            hint = nearest(name, [*FLAGS, *pass_names()])
            hint = hint.replace("'", "'--", 1) if hint else "see --help"
            raise UsageError(f"unknown option or pass '--{name}'", hint=hint)
    for flag in ("mlir-print-ir-before", "mlir-print-ir-after"):
        for name in arguments.names(flag):
            if not is_pass(name):
                raise UsageError(f"--{flag}: no pass '{name}'", hint=nearest(name, pass_names()))


def help_text() -> str:
    """What ``--help`` prints."""
    lines = [
        "tinymlir-opt: run passes of tinymlir and of MLIR on a .mlir file",
        "",
        "Usage: tinymlir-opt [FILE.mlir] [options]      (no file, or '-': the standard input)",
        "",
        "Any pass is also a flag, --NAME or --NAME='key=value ...', run in the order given:",
        "those that --list-passes shows, and every pass that MLIR registers.",
    ]
    for group, flags in GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {flag.spelling:<46} {flag.help}" for flag in flags]
    return "\n".join([*lines, "", EXAMPLES])
