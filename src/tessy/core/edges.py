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

# What `regex` takes for white space. Python's own str.isspace has U+001C to U+001F, too.
_BLANK = frozenset(
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
# Searched with concurrent=False: it takes less time than giving the interpreter's lock away.
_FROM_THE_END = regex.compile(r"(?r)(?<=\S) (?=\S)|(?<=\n)(?=[^\s/])")
_WORD = regex.compile(r"(?w)\b(?=\S)(?<=\S)")


class EdgeCursor(NamedTuple):
    """An edge that nothing written later can move, to start looking from.

    Attributes:
        offset: The edge, in chars.
        long: It lies in a stretch already known to be long, so (c) holds right after it.
    """

    offset: int
    long: bool = False


def hard_edges(text: str) -> list[int]:
    """Return edges of the kinds (a) and (b) within ``text``, ascending.

    Predictors do it for every token; without a pattern it takes half of the time.
    """
    found = []
    last = len(text) - 1
    at = text.find(" ", 1)
    while 0 < at < last:
        if text[at - 1] not in _BLANK and text[at + 1] not in _BLANK:
            found.append(at)
        at = text.find(" ", at + 1)
    at = text.find("\n")
    if at < 0:
        return found
    while 0 <= at < last:
        if text[at + 1] not in _BLANK and text[at + 1] != "/":
            found.append(at + 1)
        at = text.find("\n", at + 1)
    return sorted(found)


def edges(text: str, *, long: bool = False, final: bool = True) -> list[int]:
    """Return edges of ``text`` after its start, ascending.

    Args:
        text: Text that starts at an edge.
        long: The text starts inside a stretch that is already known to be long.
        final: Nothing will follow. Then ``len(text)`` is the last edge; otherwise only settled
            edges are given: those that later characters cannot move.
    """
    return _edges(text, long=long, final=final)[0]


def _edges(text: str, *, long: bool, final: bool) -> tuple[list[int], bool]:
    """:func:`edges`, and whether the text after the last one is known to be a long stretch."""
    found: list[int] = []
    start = 0
    for edge in hard_edges(text):
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
        return found, True
    # The next (a) or (b) edge can come no earlier than this, whatever is written next.
    earliest = length - 1 if text.endswith(" ") and not text[-2:-1].isspace() else length
    if earliest - start > LONG_STRETCH_CHARS or long:
        # A boundary is settled once a further one follows it: UAX #29 looks no further ahead.
        inner = _word_edges(text, start, length)[:-1]
        found += inner
        long = long or bool(inner)
    return found, long


def last_unit(text: str) -> int:
    """Return where the last unit of a finished text begins, in chars; reads no more than its end.

    0 for the empty text.
    """
    base = base_before(text, EdgeCursor(0), len(text))
    found = [0, *edges(text[base.offset :], long=base.long)]
    return base.offset + (found[-2] if text else 0)


def settled_edges(
    text: str, base: EdgeCursor, *, final: bool = False
) -> tuple[list[int], EdgeCursor]:
    """Edges behind ``base`` in a growing text, and where to look on when more of it is written.

    Args:
        text: The text from ``base`` on.
        base: The last edge that is known.
        final: Nothing will follow: the end is an edge too.

    Returns:
        Settled edges as offsets into the whole text, and the last of them as a base.
    """
    found, long = _edges(text, long=base.long, final=final)
    if not found:
        return [], base
    return [base.offset + edge for edge in found], EdgeCursor(base.offset + found[-1], long)


def settled_by(piece: str, base: EdgeCursor, end: int, last: str) -> tuple[int, ...] | None:
    """Return edges that one token more settles, where that is plain to see; else None.

    Most tokens are a word with its leading space, or continue a word: no search is needed.

    Args:
        piece: The token's text.
        base: The last edge that is known; :func:`settled_edges` found no other before ``end``.
        end: Where ``piece`` begins, in chars of the whole text; behind ``base``.
        last: The character before it.
    """
    if base.long or end + len(piece) - base.offset > LONG_STRETCH_CHARS:
        return None
    if last in _BLANK or "\n" in piece:
        return None
    space = piece.rfind(" ")
    if space < 0:
        return ()
    if space > 0 or len(piece) == 1 or piece[1] in _BLANK:
        return None
    return (end,)


def units(text: str) -> list[str]:
    """Return the units of a finished text; joined they are the text."""
    bounds = [0, *edges(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def base_before(text: str, base: EdgeCursor, end: int) -> EdgeCursor:
    """Return the last edge after which a reading of ``text[:end]`` + anything may start.

    Its place is fixed by ``text[:end]`` alone, and at least one character lies between it and
    ``end``, so that the edge at ``end`` itself is found again, or seen to be gone.

    Args:
        text: Text from the start of the thinking.
        base: An earlier base of the same text.
        end: Where the text known for good ends, in chars.
    """
    return base_behind(text[base.offset : end], base)


def base_behind(local: str, base: EdgeCursor) -> EdgeCursor:
    """:func:`base_before` the end of a text of which only ``local``, from ``base`` on, is given."""
    best = base
    for match in _FROM_THE_END.finditer(local, concurrent=False):
        if match.start() <= len(local) - 2:
            if match.start() > 0:
                best = EdgeCursor(base.offset + match.start())
            break
    stretch = local[best.offset - base.offset :]
    # One more than needed: an edge one character before `end` may not be visible yet.
    if len(stretch) > LONG_STRETCH_CHARS + 1 or best.long:
        inner = _word_edges(stretch, 0, len(stretch))[:-1]
        if inner:
            best = EdgeCursor(best.offset + inner[-1], long=True)
    return best


def _word_edges(text: str, start: int, end: int) -> list[int]:
    piece = text[start:end]
    found = (match.start() for match in _WORD.finditer(piece, concurrent=False))
    return [start + edge for edge in found if 0 < edge < len(piece)]
