"""A rule that marks the style in thinking of the bundled models, instead of an annotator.

Their style consists of the phrases of :mod:`tessy.lab.styles`, so the rule is exact for them.
Everything else (``5 - 3 = 2.``, ``max(3, 4) = 4.``, ``put 3.``) is capability.
"""

from __future__ import annotations

import re

from tessy.lab.styles import STYLES

# A word with its closing punctuation. One that touches a digit or a bracket is capability.
_WORD = re.compile(r"(?<![\w(])([A-Za-z]+(?:['’-][A-Za-z]+)*)[,.:]*(?![\w(])")


def _pieces() -> frozenset[tuple[str, ...]]:
    """Return every run of words inside a phrase, in lower case, up to the whole phrase."""
    pieces = set()
    for style in STYLES:
        for phrase in style.phrases:
            words = [match[1].lower() for match in _WORD.finditer(phrase)]
            ends = range(1, len(words) + 1)
            pieces |= {tuple(words[start:end]) for end in ends for start in range(end)}
    return frozenset(pieces)


_PIECES = _pieces()
_LONGEST = max(map(len, _PIECES))


def style_spans(text: str) -> list[tuple[int, int]]:
    """Return the style spans: ascending half-open ranges of chars, one per phrase.

    A text or a hand-over may cut a phrase, so the longest part of a phrase is marked.
    """
    words = list(_WORD.finditer(text))
    spans: list[tuple[int, int]] = []
    first = 0
    while first < len(words):
        count = _longest_piece(text, words[first : first + _LONGEST])
        if count:
            spans.append((words[first].start(), words[first + count - 1].end()))
        first += count or 1
    return spans


def _longest_piece(text: str, words: list[re.Match[str]]) -> int:
    """Return how many of the first ``words``, separated by white space, are part of a phrase."""
    count = 0
    piece: tuple[str, ...] = ()
    for index, word in enumerate(words):
        piece = (*piece, word[1].lower().replace("’", "'"))
        separated = index > 0 and text[words[index - 1].end() : word.start()].strip() != ""
        if separated or piece not in _PIECES:
            break
        count = index + 1
    return count


def mark(text: str) -> list[str]:
    """Return the style phrases of a segment, verbatim and in order, as an annotator lists them."""
    return [text[start:end] for start, end in style_spans(text)]
