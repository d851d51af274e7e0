"""Parser of fenced code blocks (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPENING = re.compile(r"\s*(`{3,}|~{3,})([^`]*)$")


@dataclass(frozen=True, slots=True)
class Fenced:
    """A text split into the code in each closed block, the code in an unclosed one, and prose."""

    blocks: tuple[str, ...]
    open: str | None
    prose: str


def split_fences(text: str) -> Fenced:
    """Split ``text`` at its fences: three or more backticks or tildes at the start of a line.

    A block closes at the next line that ends with the same fence, even after code on that line:
    models write this, and tools that extract code accept it.
    """
    blocks: list[str] = []
    prose: list[str] = []
    fence = ""
    inside: list[str] = []
    for line in text.splitlines():
        if not fence:
            opening = _OPENING.match(line)
            if opening is None:
                prose.append(line)
            else:
                fence, inside = opening[1], []
        elif line.rstrip().endswith(fence):
            inside.append(line.rstrip().rstrip(fence[0]))
            blocks.append("\n".join(inside))
            fence = ""
        else:
            inside.append(line)
    return Fenced(tuple(blocks), "\n".join(inside) if fence else None, "\n".join(prose))
