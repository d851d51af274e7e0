"""Where the strings an annotator listed are in a segment (pure).

Models copy text with small changes: straight quotes for curly ones, one space for a line break,
three dots for an ellipsis, another Unicode form, another case. Both sides are therefore compared
in a plain view of them, cluster by cluster, and what is found is given in the original's offsets.
What is there as it was listed goes before what is there with such changes.
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
# What stands between two of the second kind stands inside a word: don't, l’été, so-called, 3.5.
_JOINS = (
    (regex.compile(f"[{_QUOTES}＇]"), _WORD_CHAR),
    (regex.compile("[-‐‑]"), regex.compile(r"\p{L}")),
    (regex.compile("[.,]"), regex.compile(r"\p{Nd}")),
)
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
class _PlainText:
    """Text in plain form.

    Attributes:
        clusters: The text, cluster by cluster.
        starts: Where each cluster begins in the original, and where the last one ends, in chars.
        exact: Each cluster in plain form.
        folded: The same without case.
        joined: All of ``folded``.
        offsets: Where each of ``folded`` begins in ``joined``, and where the last one ends.
    """

    clusters: list[str]
    starts: list[int]
    exact: list[str]
    folded: list[str]
    joined: str
    offsets: list[int]


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """A place a string fits, in clusters."""

    changes: int  # 0: as it was listed; 1: in plain form; 2: in another case; 3 to 5: unquoted
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Chain:
    """Places of a string and of all those after it, in order."""

    changes: int  # of all of them
    place: _Occurrence
    rest: _Chain | None


def locate(text: str, strings: Sequence[str]) -> tuple[StyleSpan, ...] | Unplaced:
    """Place ``strings`` in ``text``: in order, apart, each at word boundaries.

    An order-keeping placement is found if there is one: of several that with the fewest changes,
    and of these the earliest. A hyphen between letters and a point or comma between digits are
    inside a word: ``so`` has no place in ``so-called``, nor ``3`` in ``3.5``.

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
    chain = _best_chain(choices, len(view.exact))
    if wanted and chain is None:
        return _first_unplaced(wanted, choices)
    spans = []
    while chain is not None:
        start, end = view.starts[chain.place.start], view.starts[chain.place.end]
        spans.append(StyleSpan(start=start, end=end))
        chain = chain.rest
    return tuple(spans)


def plain(text: str) -> str:
    """``text`` with its Unicode form, white space, quotes and dashes levelled."""
    return "".join(_view(text).exact)


def _view(text: str) -> _PlainText:
    clusters = _CLUSTER.findall(text)
    exact = [_exact(cluster) for cluster in clusters]
    folded = [unicodedata.normalize("NFKD", piece.casefold()) for piece in exact]
    return _PlainText(
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
    # Twice: some quotes fall apart into a space and a mark, others come out of wider forms.
    return unicodedata.normalize("NFKD", cluster.translate(_PLAIN)).translate(_PLAIN)


def _places(view: _PlainText, string: str) -> list[_Occurrence]:
    """Where ``string`` fits; without the quotes around it if it fits nowhere with them."""
    string = string.strip()
    found = _matches(view, string, changes=0)
    levelled = plain(string)
    if not found and len(levelled) > 2 and levelled[0] == levelled[-1] == "'":
        found = _matches(view, string[1:-1].strip(), changes=3)
    return found


def _matches(view: _PlainText, string: str, *, changes: int) -> list[_Occurrence]:
    wanted = _view(string)
    found = []
    at = view.joined.find(wanted.joined)
    while wanted.joined and at >= 0:
        start, end = _index(view, at), _index(view, at + len(wanted.joined))
        if start is not None and end is not None and _whole_words(view, start, end):
            found.append(_Occurrence(changes + _changes(view, start, end, wanted), start, end))
        at = view.joined.find(wanted.joined, at + 1)
    return found


def _changes(view: _PlainText, start: int, end: int, wanted: _PlainText) -> int:
    if view.clusters[start:end] == wanted.clusters:
        return 0
    return 1 if "".join(view.exact[start:end]) == "".join(wanted.exact) else 2


def _index(view: _PlainText, offset: int) -> int | None:
    """The cluster that begins at ``offset`` of the joined view; None inside of one."""
    index = bisect_left(view.offsets, offset)
    return index if view.offsets[index] == offset else None


def _whole_words(view: _PlainText, start: int, end: int) -> bool:
    return not (_inside_word(view, start) or _inside_word(view, end))


def _inside_word(view: _PlainText, index: int) -> bool:
    """Whether a word goes on over the beginning of cluster ``index``."""
    around = ["", "", *view.clusters, "", ""]
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
    """Whether ``cluster`` belongs to a word of a script that puts spaces between words."""
    return bool(_WORD_CHAR.match(cluster)) and not _NO_SPACES.fullmatch(cluster)


def _best_chain(choices: Sequence[Sequence[_Occurrence]], length: int) -> _Chain | None:
    """A place of each string; None if there are no such places, or no strings.

    From the last string to the first, ``chains`` holds for each place of a string, ascending, the
    best chain that begins there or later, and ``starts`` where these places are.
    """
    starts, chains = [length], list[_Chain | None]([None])
    for places in reversed(choices):
        best: _Chain | None = None
        found: list[tuple[int, _Chain]] = []
        for place in reversed(places):
            at = bisect_left(starts, place.end)
            if at == len(starts):
                continue
            rest = chains[at]
            changes = place.changes + (rest.changes if rest else 0)
            if best is None or changes <= best.changes:
                best = _Chain(changes, place, rest)
            found.append((place.start, best))
        starts = [start for start, _ in reversed(found)]
        chains = [chain for _, chain in reversed(found)]
    return chains[0] if chains else None


def _first_unplaced(wanted: Sequence[str], choices: Sequence[Sequence[_Occurrence]]) -> Unplaced:
    position = 0
    for string, places in zip(wanted, choices, strict=True):
        ends = [place.end for place in places if place.start >= position]
        if not ends:
            return Unplaced(string, elsewhere=bool(places))
        position = min(ends)
    raise AssertionError("a placement exists, but was not found")
