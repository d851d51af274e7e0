"""Locating the strings that an annotator listed in a segment (pure).

Models copy text with small changes: straight quotes for curly ones, one space for a line break,
another Unicode form or case. Both sides are therefore normalized and compared grapheme cluster by
grapheme cluster; unchanged occurrences take precedence.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import regex

from tessy.core.records import StyleSpan

_QUOTES = "“”„‟«»‹›‘’‚‛\"'`´′″"
_DASHES = "-‐‑‒–—―−"
_PLAIN = str.maketrans(dict.fromkeys(_QUOTES, "'") | dict.fromkeys(_DASHES, "-"))

_CLUSTER = regex.compile(r"\s+|\X")
_WORD_CHAR = regex.compile(r"[\w\p{M}]")
# A character of the first kind between two of the second is inside a word: don't, l’été, so-called,
# 3.5.
_JOINS = (
    (regex.compile(f"[{_QUOTES}＇]"), _WORD_CHAR),
    (regex.compile("[-‐‑]"), regex.compile(r"\p{L}")),
    (regex.compile("[.,]"), regex.compile(r"\p{Nd}")),
)
# Scripts without spaces between words: any of their characters may begin or end a span.
_NO_SPACES = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
)


@dataclass(frozen=True, slots=True)
class UnmatchedString:
    """A listed string that does not occur after the strings before it."""

    string: str
    elsewhere: bool  # the segment contains it, but earlier


@dataclass(frozen=True, slots=True)
class _NormalizedText:
    """A text with its normalized form; N grapheme clusters, whose offsets are in chars."""

    clusters: list[str]  # the original clusters (N)
    starts: list[int]  # of each cluster in the original, and the end of the last one (N + 1)
    exact: list[str]  # the normalized clusters (N)
    folded: list[str]  # the normalized clusters without case (N)
    joined: str  # concatenation of `folded`
    offsets: list[int]  # of each cluster in `joined`, and the end of the last one (N + 1)


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """An occurrence of a string; ``start`` and ``end`` count clusters."""

    changes: int  # 0: verbatim; 1: after normalization; 2: in another case; 3 to 5: without quotes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Placement:
    """Occurrences of a string and of all those after it, in order: a linked list."""

    changes: int  # sum over the list
    occurrence: _Occurrence
    rest: _Placement | None


def locate(text: str, strings: Sequence[str]) -> tuple[StyleSpan, ...] | UnmatchedString:
    """Locate ``strings`` in ``text``: in order, without overlap, each at word boundaries.

    Returns the ascending spans of the placement with the fewest changes, and of these the earliest;
    or the first string without a match. White space around a string, and quotes around one that
    does not occur with them, are ignored; so are empty strings. A hyphen between letters and a
    point or comma between digits are inside a word: ``so`` does not occur in ``so-called``, nor
    ``3`` in ``3.5``.
    """
    normalized = _normalize(text)
    wanted = [string for string in strings if normalize(string).strip(" '")]
    choices = [_occurrences(normalized, string) for string in wanted]
    placement = _best_placement(choices, len(normalized.exact))
    if wanted and placement is None:
        return _first_unmatched(wanted, choices)
    spans = []
    while placement is not None:
        occurrence, starts = placement.occurrence, normalized.starts
        spans.append(StyleSpan(start=starts[occurrence.start], end=starts[occurrence.end]))
        placement = placement.rest
    return tuple(spans)


def normalize(text: str) -> str:
    """Return ``text`` with Unicode form, white space, quotes and dashes normalized."""
    return "".join(_normalize(text).exact)


def _normalize(text: str) -> _NormalizedText:
    clusters = _CLUSTER.findall(text)
    exact = [_exact(cluster) for cluster in clusters]
    folded = [unicodedata.normalize("NFKD", piece.casefold()) for piece in exact]
    return _NormalizedText(
        clusters=clusters,
        starts=list(accumulate(map(len, clusters), initial=0)),
        exact=exact,
        folded=folded,
        joined="".join(folded),
        offsets=list(accumulate(map(len, folded), initial=0)),
    )


def _exact(cluster: str) -> str:
    if cluster.isspace():
        return " "
    # Translated twice: some quotes decompose into a space and a mark, others result from NFKD.
    return unicodedata.normalize("NFKD", cluster.translate(_PLAIN)).translate(_PLAIN)


def _occurrences(normalized: _NormalizedText, string: str) -> list[_Occurrence]:
    """Return the occurrences of ``string``; without its quotes if there are none with them."""
    string = string.strip()
    occurrences = _matches(normalized, string, changes=0)
    plain = normalize(string)
    if not occurrences and len(plain) > 2 and plain[0] == plain[-1] == "'":
        occurrences = _matches(normalized, string[1:-1].strip(), changes=3)
    return occurrences


def _matches(normalized: _NormalizedText, string: str, *, changes: int) -> list[_Occurrence]:
    wanted = _normalize(string)
    occurrences = []
    at = normalized.joined.find(wanted.joined)
    while wanted.joined and at >= 0:
        start, end = _boundary(normalized, at), _boundary(normalized, at + len(wanted.joined))
        if start is not None and end is not None:
            total = changes
            if normalized.clusters[start:end] != wanted.clusters:
                verbatim = "".join(normalized.exact[start:end]) == "".join(wanted.exact)
                total += 1 if verbatim else 2
            occurrences.append(_Occurrence(total, start, end))
        at = normalized.joined.find(wanted.joined, at + 1)
    return occurrences


def _boundary(normalized: _NormalizedText, offset: int) -> int | None:
    """Return the cluster that begins at ``offset`` of ``joined``; None inside one, or a word."""
    index = bisect_left(normalized.offsets, offset)
    is_boundary = normalized.offsets[index] == offset and not _inside_word(normalized, index)
    return index if is_boundary else None


def _inside_word(normalized: _NormalizedText, index: int) -> bool:
    """Return whether the start of cluster ``index`` is inside a word."""
    around = ["", "", *normalized.clusters, "", ""]
    second_before, before, after, second_after = around[index : index + 4]
    return (
        (_is_word(before) and _is_word(after))
        or _joined(second_before, before, after)
        or _joined(before, after, second_after)
    )


def _joined(before: str, between: str, after: str) -> bool:
    if not (_is_word(before) and _is_word(after)):
        return False
    return any(
        joint.fullmatch(between) and side.match(before) and side.match(after)
        for joint, side in _JOINS
    )


def _is_word(cluster: str) -> bool:
    """Return whether ``cluster`` belongs to a word of a script with spaces between words."""
    return bool(_WORD_CHAR.match(cluster)) and not _NO_SPACES.fullmatch(cluster)


def _best_placement(choices: Sequence[Sequence[_Occurrence]], length: int) -> _Placement | None:
    """Return the best placement of all strings; None if there is none, or no strings.

    Works from the last string to the first: ``placements`` holds, for each occurrence of a string,
    the best placement that begins there (at ``starts``) or later.
    """
    starts, placements = [length], list[_Placement | None]([None])
    for occurrences in reversed(choices):
        best: _Placement | None = None
        entries: list[tuple[int, _Placement]] = []
        for occurrence in reversed(occurrences):
            at = bisect_left(starts, occurrence.end)
            if at == len(starts):
                continue
            rest = placements[at]
            changes = occurrence.changes + (rest.changes if rest else 0)
            if best is None or changes <= best.changes:
                best = _Placement(changes, occurrence, rest)
            entries.append((occurrence.start, best))
        starts = [start for start, _ in reversed(entries)]
        placements = [placement for _, placement in reversed(entries)]
    return placements[0] if placements else None


def _first_unmatched(
    wanted: Sequence[str], choices: Sequence[Sequence[_Occurrence]]
) -> UnmatchedString:
    position = 0
    for string, occurrences in zip(wanted, choices, strict=True):
        ends = [occurrence.end for occurrence in occurrences if occurrence.start >= position]
        if not ends:
            return UnmatchedString(string, elsewhere=bool(occurrences))
        position = min(ends)
    raise AssertionError("a placement exists, but was not found")
