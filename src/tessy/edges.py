"""Where one author may stop and another begin (pure).

The atom of authorship is the *unit*: the text between two consecutive *edges*. Edges are

(a) before a single space between two non-spaces;
(b) after a white-space run that ends in a newline, before a non-space other than ``/``;
(c) inside a stretch of more than 40 characters without (a) or (b), Unicode word boundaries
    (UAX #29) between two non-spaces: Chinese, long LaTeX, minified code.

(a) and (b) are split points of the pre-tokenizers of Qwen, o200k, DeepSeek and Llama-3, so encoding
from one of them gives the ids the whole text would have given. At (c) every party encodes
piecewise. All offsets are code points.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import regex

LONG_STRETCH_CHARS = 40

# Searched with concurrent=False: it takes less time than giving the interpreter's lock away.
HARD_EDGE = regex.compile(r"(?<=\S) (?=\S)|(?<=\n)(?=[^\s/])")
_FROM_THE_END = regex.compile(f"(?r){HARD_EDGE.pattern}")
_WORD = regex.compile(r"(?w)\b(?=\S)(?<=\S)")


class Base(NamedTuple):
    """An edge that nothing written later can move, to start looking from.

    Attributes:
        offset: The edge, in chars.
        long: It lies in a stretch already known to be long, so (c) holds right after it.
    """

    offset: int
    long: bool = False


def edges(text: str, *, long: bool = False, final: bool = True) -> list[int]:
    """Edges of ``text`` after its start, ascending.

    Args:
        text: Text that starts at an edge.
        long: The text starts inside a stretch that is already known to be long.
        final: Nothing will follow. Then ``len(text)`` is the last edge; otherwise only settled
            edges are given: those that later characters cannot move.
    """
    found: list[int] = []
    start = 0
    for match in HARD_EDGE.finditer(text, concurrent=False):
        edge = match.start()
        if edge <= start:
            continue
        if edge - start > LONG_STRETCH_CHARS or long:
            found += _word_edges(text, start, edge)
        found.append(edge)
        start, long = edge, False
    length = len(text)
    if final:
        if start < length:
            if length - start > LONG_STRETCH_CHARS or long:
                found += _word_edges(text, start, length)
            found.append(length)
        return found
    # The next (a) or (b) edge can come no earlier than this, whatever is written next.
    earliest = length - 1 if text.endswith(" ") and not text[-2:-1].isspace() else length
    if earliest - start > LONG_STRETCH_CHARS or long:
        # A boundary is settled once a further one follows it: UAX #29 looks no further ahead.
        found += _word_edges(text, start, length)[:-1]
    return found


def last_unit(text: str) -> int:
    """Where the last unit of a finished text begins, in chars; reads no more than its end.

    0 for the empty text.
    """
    base = base_before(text, Base(0), len(text))
    found = [0, *edges(text[base.offset :], long=base.long)]
    return base.offset + (found[-2] if text else 0)


def settled_edges(text: str, base: Base, *, final: bool = False) -> tuple[list[int], Base]:
    """Edges behind ``base`` in a growing text, and where to look on when more of it is written.

    Args:
        text: The text from ``base`` on.
        base: The last edge that is known.
        final: Nothing will follow: the end is an edge too.

    Returns:
        Settled edges as offsets into the whole text, and the last of them as a base.
    """
    found = edges(text, long=base.long, final=final)
    if not found:
        return [], base
    long = HARD_EDGE.match(text, found[-1], concurrent=False) is None
    return [base.offset + edge for edge in found], Base(base.offset + found[-1], long)


def units(text: str) -> list[str]:
    """The units of a finished text; joined they are the text."""
    bounds = [0, *edges(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def base_before(text: str, base: Base, end: int) -> Base:
    """The last edge after which a reading of ``text[:end]`` + anything may start.

    Its place is fixed by ``text[:end]`` alone, and at least one character lies between it and
    ``end``, so that the edge at ``end`` itself is found again, or seen to be gone.

    Args:
        text: Text from the start of the thinking.
        base: An earlier base of the same text.
        end: Where the text known for good ends, in chars.
    """
    local = text[base.offset : end]
    best = base
    for match in _FROM_THE_END.finditer(local, concurrent=False):
        if match.start() <= len(local) - 2:
            if match.start() > 0:
                best = Base(base.offset + match.start())
            break
    stretch = text[best.offset : end]
    # One more than needed: an edge one character before `end` may not be visible yet.
    if len(stretch) > LONG_STRETCH_CHARS + 1 or best.long:
        inner = _word_edges(stretch, 0, len(stretch))[:-1]
        if inner:
            best = Base(best.offset + inner[-1], long=True)
    return best


def _word_edges(text: str, start: int, end: int) -> list[int]:
    piece = text[start:end]
    found = (match.start() for match in _WORD.finditer(piece, concurrent=False))
    return [start + edge for edge in found if 0 < edge < len(piece)]
