"""Where the strings an annotator listed are in a segment (pure).

Models copy text with small changes: straight quotes for curly ones, one space for a line break,
three dots for an ellipsis, another Unicode form, another case. Both sides are therefore compared
in a plain view of them, cluster by cluster, and what is found is given in the original's offsets.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import regex

from tessy.records import StyleSpan

_QUOTES = "“”„‟«»‹›‘’‚‛\"'`´′″"
_DASHES = "-‐‑‒–—―−"
_PLAIN = str.maketrans(dict.fromkeys(_QUOTES, "'") | dict.fromkeys(_DASHES, "-"))

_CLUSTER = regex.compile(r"\s+|\X")
_WORD_CHAR = regex.compile(r"[\w\p{M}]")
# Scripts that write no space between words: there every character may begin or end a span.
_NO_SPACES = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
)


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A listed string that has no place in the segment after those before it.

    Attributes:
        string: As it was listed.
        elsewhere: The segment has it, but not there.
    """

    string: str
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class _View:
    """Text in plain form.

    Attributes:
        starts: Where each cluster begins in the original, and where the last one ends, in chars.
        exact: Each cluster in plain form.
        folded: The same without case.
        joined: All of ``folded``.
        offsets: Where each of ``folded`` begins in ``joined``, and where the last one ends.
    """

    starts: list[int]
    exact: list[str]
    folded: list[str]
    joined: str
    offsets: list[int]


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """A place a string fits, in clusters; the least one is the best of several."""

    changes: int  # 0: the same but for quotes, dashes, spaces; 1: another case; 2, 3: unquoted
    start: int
    end: int


def locate(text: str, strings: Sequence[str]) -> tuple[StyleSpan, ...] | Unplaced:
    """Place ``strings`` in ``text``: in order, apart, each at word boundaries.

    An order-keeping placement is found if there is one. Of several, each string from the first on
    takes its earliest place with the fewest changes that leaves the others a place.

    Args:
        text: The segment.
        strings: What is listed; white space around a string, quotes around one that is not in the
            text with them, and empty strings do not count.

    Returns:
        Offsets in chars into ``text``, ascending; or the first string that cannot be placed.
    """
    view = _view(text)
    wanted = [string for string in strings if plain(string).strip(" '")]
    choices = [_places(view, string) for string in wanted]
    latest = _latest_ends(choices, len(view.exact))
    if latest is None:
        return _first_unplaced(wanted, choices)
    spans, position = [], 0
    for places, bound in zip(choices, latest, strict=True):
        best = min(p for p in places if position <= p.start and p.end <= bound)
        spans.append(StyleSpan(start=view.starts[best.start], end=view.starts[best.end]))
        position = best.end
    return tuple(spans)


def plain(text: str) -> str:
    """``text`` with its Unicode form, white space, quotes and dashes levelled."""
    return "".join(_view(text).exact)


def _view(text: str) -> _View:
    clusters = _CLUSTER.findall(text)
    exact = [_exact(cluster) for cluster in clusters]
    folded = [unicodedata.normalize("NFKD", piece.casefold()) for piece in exact]
    return _View(
        starts=list(accumulate(map(len, clusters), initial=0)),
        exact=exact,
        folded=folded,
        joined="".join(folded),
        offsets=list(accumulate(map(len, folded), initial=0)),
    )


def _exact(cluster: str) -> str:
    if cluster.isspace():
        return " "
    # Twice: some quotes fall apart into a space and a mark, others come out of wider forms.
    return unicodedata.normalize("NFKD", cluster.translate(_PLAIN)).translate(_PLAIN)


def _places(view: _View, string: str) -> list[_Place]:
    """Where ``string`` fits; without the quotes around it if it fits nowhere with them."""
    string = string.strip()
    found = _matches(view, string, changes=0)
    levelled = plain(string)
    if not found and len(levelled) > 2 and levelled[0] == levelled[-1] == "'":
        found = _matches(view, string[1:-1].strip(), changes=2)
    return found


def _matches(view: _View, string: str, *, changes: int) -> list[_Place]:
    wanted = _view(string)
    found = []
    at = view.joined.find(wanted.joined)
    while wanted.joined and at >= 0:
        start, end = _index(view, at), _index(view, at + len(wanted.joined))
        if start is not None and end is not None and _whole_words(view, start, end):
            same = "".join(view.exact[start:end]) == "".join(wanted.exact)
            found.append(_Place(changes + (not same), start, end))
        at = view.joined.find(wanted.joined, at + 1)
    return found


def _index(view: _View, offset: int) -> int | None:
    """The cluster that begins at ``offset`` of the joined view; None inside of one."""
    index = bisect_left(view.offsets, offset)
    return index if view.offsets[index] == offset else None


def _whole_words(view: _View, start: int, end: int) -> bool:
    return not (_inside_word(view, start) or _inside_word(view, end))


def _inside_word(view: _View, index: int) -> bool:
    """Whether a word goes on over the beginning of cluster ``index``."""
    around = ["", "", *view.exact, "", ""]
    second_before, before, after, second_after = around[index : index + 4]
    if before == "'":  # don't, l’été
        return _is_word(second_before) and _is_word(after)
    if after == "'":
        return _is_word(before) and _is_word(second_after)
    return _is_word(before) and _is_word(after)


def _is_word(cluster: str) -> bool:
    """Whether ``cluster`` belongs to a word of a script that puts spaces between words."""
    return bool(_WORD_CHAR.match(cluster)) and not _NO_SPACES.fullmatch(cluster)


def _latest_ends(choices: Sequence[Sequence[_Place]], length: int) -> list[int] | None:
    """Up to where each string may reach so that those after it still have a place, if all have."""
    bounds: list[int] = []
    bound = length
    for places in reversed(choices):
        bounds.append(bound)
        starts = [place.start for place in places if place.end <= bound]
        if not starts:
            return None
        bound = max(starts)
    return bounds[::-1]


def _first_unplaced(wanted: Sequence[str], choices: Sequence[Sequence[_Place]]) -> Unplaced:
    position = 0
    for string, places in zip(wanted, choices, strict=True):
        ends = [place.end for place in places if place.start >= position]
        if not ends:
            return Unplaced(string, elsewhere=bool(places))
        position = min(ends)
    raise AssertionError("a placement exists, but was not found")
