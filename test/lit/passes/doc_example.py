"""Print the example of a pass's docstring as a test: ``doc_example.py tiny-plan-arena``.

The IR under "Before" comes out as it stands, and the IR under "After" as FileCheck
lines, so the pass must turn the one into the other. There, names of SSA values
are captured at their first occurrence in a function, ``...`` skips output, within a line
or of whole lines, and a line indented further than a region's body continues the
line above.
"""

import inspect
import re
import sys
import textwrap

from tinymlir.passes import REGISTRY

_BODY_INDENT = 2
_NAME = re.compile(r"%[\w.$-]+")


def block(doc: str, heading: str) -> str:
    """The indented block under the line that starts with ``heading`` and ends in ``::``."""
    found = re.search(rf"^{heading}\b.*::\n\n((?:(?: .*)?\n)+)", doc + "\n", re.MULTILINE)
    if found is None:
        raise SystemExit(f"the docstring has no '{heading}::'")
    return textwrap.dedent(found[1]).strip()


def statements(text: str) -> list[str]:
    """One statement, brace or gap each, as MLIR prints them."""
    joined: list[str] = []
    indent = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        here = len(line) - len(line.lstrip())
        if joined and here > indent + _BODY_INDENT:
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line.strip())
            indent = here
    lines: list[str] = []
    for statement in joined:
        inline = re.fullmatch(r"(.*\{) (.*) \}", statement)
        lines += [*inline.groups(), "}"] if inline else [statement]
    return lines


def pattern(statement: str, known: set[str]) -> str:
    """The statement for FileCheck; ``known`` are the names that are captured already."""

    def name(match: re.Match[str]) -> str:
        variable = re.sub(r"\W", "_", match[0][1:]).upper()
        variable = f"V{variable}" if variable[0].isdigit() else variable
        if variable in known:
            return f"%[[{variable}]]"
        known.add(variable)
        return f"%[[{variable}:[-_a-zA-Z0-9#]+]]"

    literal = statement.replace("[[", "{{\\[\\[}}").replace(" ... ", " {{.*}} ")
    return _NAME.sub(name, literal)


def checks(after: str) -> list[str]:
    directive = "CHECK"
    known: set[str] = set()
    lines = []
    for statement in statements(after):
        if statement == "...":
            directive = "CHECK"
            continue
        if statement == "}" and directive == "CHECK":
            continue  # Which of the braces after a gap it is, nothing tells.
        if re.match(r"(llvm\.|func\.)func\b", statement):
            known = set()
        lines.append(f"// {directive}: {pattern(statement, known)}")
        directive = "CHECK-NEXT"
    return lines


if __name__ == "__main__":
    docstring = inspect.getdoc(REGISTRY[sys.argv[1]]) or ""
    print(block(docstring, "Before"))
    print("\n".join(checks(block(docstring, "After"))))
