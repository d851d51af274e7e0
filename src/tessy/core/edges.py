"""Edges: the places where authorship may change (pure).

The atom of authorship is the *unit*: the text between two consecutive *edges*. Edges are

(a) before a single space between two non-spaces;
(b) after a white-space run that ends in a newline, before a non-space other than ``/``;
(c) inside a stretch of more than 40 characters without (a) or (b), Unicode word boundaries
    (UAX #29) between two non-spaces: Chinese, long LaTeX, minified code.

(a) and (b) are split points of the pre-tokenizers of Qwen, o200k, DeepSeek and Llama-3, so encoding
from such an edge yields the ids of encoding the whole text. At (c) texts are encoded piecewise. All
offsets are code points.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import regex

LONG_STRETCH_CHARS = 40

# White space as defined by `regex`; str.isspace also includes U+001C to U+001F.
_BLANK = frozenset(
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
# Searched with concurrent=False: a search is shorter than releasing the GIL.
_FROM_THE_END = regex.compile(r"(?r)(?<=\S) (?=\S)|(?<=\n)(?=[^\s/])")
_WORD = regex.compile(r"(?w)\b(?=\S)(?<=\S)")


class EdgeCursor(NamedTuple):
    """A settled edge from which further edges are searched."""

    offset: int  # the edge, in chars
    long: bool = False  # inside a long stretch, so that (c) applies after it


def hard_edges(text: str) -> list[int]:
    """Return edges of the kinds (a) and (b) within ``text``, ascending.

    Predictors call it for every token, so it uses string search, which is faster than a pattern.
    """
    offsets = []
    last = len(text) - 1
    at = text.find(" ", 1)
    while 0 < at < last:
        if text[at - 1] not in _BLANK and text[at + 1] not in _BLANK:
            offsets.append(at)
        at = text.find(" ", at + 1)
    at = text.find("\n")
    if at < 0:
        return offsets
    while 0 <= at < last:
        if text[at + 1] not in _BLANK and text[at + 1] != "/":
            offsets.append(at + 1)
        at = text.find("\n", at + 1)
    return sorted(offsets)


def edges(text: str, *, long: bool = False, final: bool = True) -> list[int]:
    """Return edges of ``text`` after its start, which is an edge, ascending.

    ``long``: the text starts inside a long stretch. If it is ``final``, its end is the last edge;
    otherwise only settled edges are returned: those that later characters cannot move.
    """
    return _edges(text, long=long, final=final)[0]


def _edges(text: str, *, long: bool, final: bool) -> tuple[list[int], bool]:
    """Return :func:`edges` and whether the text after the last edge is in a long stretch."""
    offsets: list[int] = []
    start = 0
    for edge in hard_edges(text):
        if edge <= start:
            continue
        if edge - start > LONG_STRETCH_CHARS or long:
            offsets += _word_edges(text, start, edge)
        offsets.append(edge)
        start, long = edge, False
    length = len(text)
    if final:
        if start < length:
            if length - start > LONG_STRETCH_CHARS or long:
                offsets += _word_edges(text, start, length)
            offsets.append(length)
        return offsets, True
    # Smallest possible offset of the next (a) or (b) edge.
    earliest = length - 1 if text.endswith(" ") and not text[-2:-1].isspace() else length
    if earliest - start > LONG_STRETCH_CHARS or long:
        # A word boundary is settled once another one follows (UAX #29).
        inner = _word_edges(text, start, length)[:-1]
        offsets += inner
        long = long or bool(inner)
    return offsets, long


def last_unit(text: str) -> int:
    """Return the start of the last unit of a finished text, in chars; searches only its end."""
    cursor = cursor_before(text, EdgeCursor(0), len(text))
    offsets = [0, *edges(text[cursor.offset :], long=cursor.long)]
    return cursor.offset + (offsets[-2] if text else 0)


def settled_edges(
    text: str, cursor: EdgeCursor, *, final: bool = False
) -> tuple[list[int], EdgeCursor]:
    """Return the settled edges after ``cursor`` in a growing text, and a cursor at the last one.

    ``text`` begins at ``cursor``; the edges are offsets into the whole text. If it is ``final``,
    its end is an edge too.
    """
    offsets, long = _edges(text, long=cursor.long, final=final)
    if not offsets:
        return [], cursor
    return [cursor.offset + edge for edge in offsets], EdgeCursor(cursor.offset + offsets[-1], long)


def edges_settled_by(piece: str, cursor: EdgeCursor, end: int, last: str) -> tuple[int, ...] | None:
    """Return the edges that ``piece``, one more token, settles, if no search is needed; else None.

    Covers the usual tokens: a word with a leading space, or the continuation of a word. The piece
    starts at ``end`` (chars of the whole text) after the character ``last``; no edge lies between
    ``cursor`` and ``end``.
    """
    if cursor.long or end + len(piece) - cursor.offset > LONG_STRETCH_CHARS:
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
    """Split a finished text into its units."""
    bounds = [0, *edges(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def cursor_before(text: str, cursor: EdgeCursor, end: int) -> EdgeCursor:
    """Return the last edge from which any continuation of ``text[:end]`` can be searched.

    It depends on ``text[:end]`` alone and lies at least one character before ``end``, so that a
    search from it decides again whether ``end`` is an edge. ``cursor`` is an earlier settled edge.
    """
    return advance_cursor(text[cursor.offset : end], cursor)


def advance_cursor(local: str, cursor: EdgeCursor) -> EdgeCursor:
    """Return :func:`cursor_before` the end of a text, given only its part after ``cursor``."""
    best = cursor
    for match in _FROM_THE_END.finditer(local, concurrent=False):
        if match.start() <= len(local) - 2:
            if match.start() > 0:
                best = EdgeCursor(cursor.offset + match.start())
            break
    stretch = local[best.offset - cursor.offset :]
    # One more character: an edge just before the end may not be visible yet.
    if len(stretch) > LONG_STRETCH_CHARS + 1 or best.long:
        inner = _word_edges(stretch, 0, len(stretch))[:-1]
        if inner:
            best = EdgeCursor(best.offset + inner[-1], long=True)
    return best


def _word_edges(text: str, start: int, end: int) -> list[int]:
    piece = text[start:end]
    offsets = (match.start() for match in _WORD.finditer(piece, concurrent=False))
    return [start + edge for edge in offsets if 0 < edge < len(piece)]
