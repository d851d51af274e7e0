"""Programs in the answers of models (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(r"(?P<indent> {0,3})(?P<mark>`{3,}|~{3,})(?P<tag>[^`\n]*)")
_PYTHON = frozenset({"", "py", "python", "python3"})
_MAIN = re.compile(r"\bint\s+main\s*\(")
_INCLUDE = re.compile(r"\s*#\s*include\b")


class CodeBlock(NamedTuple):
    """A closed fenced block of Markdown; ``tag`` is in lower case."""

    tag: str
    code: str


def code_blocks(text: str) -> Iterator[CodeBlock]:
    """Yield the closed fenced blocks of a text in their order."""
    tag, mark, indent = "", "", 0
    lines: list[str] = []
    for line in text.splitlines():
        fence = _FENCE.fullmatch(line.rstrip())
        if not mark:
            if fence:
                tag, mark, lines = fence["tag"].strip().lower(), fence["mark"], []
                indent = len(fence["indent"])
        elif fence and not fence["tag"].strip() and fence["mark"].startswith(mark):
            yield CodeBlock(tag, "\n".join(lines))
            mark = ""
        else:
            space = len(line) - len(line.lstrip(" "))
            lines.append(line[min(space, indent) :])


def python_program(answer: str) -> str | None:
    """Return the last closed block without a tag, or tagged as Python; None without one."""
    found = None
    for block in code_blocks(answer):
        if block.tag in _PYTHON and block.code.strip():
            found = block.code
    return found


def cpp_program(answer: str) -> str | None:
    """Return the C++ program of an answer; None without one.

    It is the last block tagged ``cpp`` with an ``#include``; without such a block, the last
    ``main`` with the lines from the includes before it, up to its closing brace.
    """
    found = None
    for block in code_blocks(answer):
        if block.tag == "cpp" and "#include" in block.code:
            found = block.code
    return found or _bare_program(answer)


def marked_program(answer: str, language: str) -> str:
    """Return the last closed block tagged with the language; the whole answer without one."""
    found = answer
    for block in code_blocks(answer):
        if block.tag == language:
            found = block.code
    return found


def _bare_program(answer: str) -> str | None:
    for match in reversed(list(_MAIN.finditer(answer))):
        end = _closing_brace(answer, match.end())
        if end is None:
            continue
        before = answer[: match.start()].splitlines(keepends=True)
        first = None
        for number in range(len(before) - 1, -1, -1):
            if _INCLUDE.match(before[number]):
                first = number
            elif first is not None:
                break
        if first is not None:
            return answer[sum(map(len, before[:first])) : end].strip()
    return None


def _closing_brace(text: str, start: int) -> int | None:
    """Return the end of the first block in braces after ``start``; None if it is not closed."""
    depth = 0
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth <= 0:
            return start + brace.end() if depth == 0 else None
    return None
