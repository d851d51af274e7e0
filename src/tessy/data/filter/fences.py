"""Fenced code in a text: what stands in it, what stands around it, and whether it is closed (pure).

A fence is three or more backticks or tildes at the beginning of a line, indented or not. It closes
at the next line that ends with as many, even behind code: answers are written so, and what takes
code out of answers reads them so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPENING = re.compile(r"\s*(`{3,}|~{3,})([^`]*)$")


@dataclass(frozen=True, slots=True)
class Fenced:
    """A text taken apart.

    Attributes:
        blocks: The content of each closed block.
        open: The content of a last block that is not closed; None if all are.
        prose: The lines outside of blocks.
    """

    blocks: tuple[str, ...]
    open: str | None
    prose: str


def split_fences(text: str) -> Fenced:
    """Take ``text`` apart at its fences."""
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
