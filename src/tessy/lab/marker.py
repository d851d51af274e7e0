"""A rule that marks the style in thinking of the bundled models, instead of an annotator.

It knows the phrases of :mod:`tessy.lab.styles`, out of which all their style is made, so for them
it is right and costs nothing. It knows no other text: there a strong model has to judge.
Everything else is capability: the steps (``5 - 3 = 2.``, modulo ten included, ``max(3, 4) = 4.``,
``put 3.``), results, and their punctuation.
"""

from __future__ import annotations

import re

from tessy.lab.styles import OTHERS, STUDENT, TEACHER

# A word with its closing punctuation. One that touches a digit or a bracket is capability.
_WORD = re.compile(r"(?<![\w(])([A-Za-z]+(?:['’-][A-Za-z]+)*)[,.:]*(?![\w(])")


def _pieces() -> frozenset[tuple[str, ...]]:
    """Return every run of words inside a phrase, in lower case, up to the whole phrase."""
    found = set()
    for style in (STUDENT, TEACHER, OTHERS):
        for phrase in style.phrases:
            words = [match[1].lower() for match in _WORD.finditer(phrase)]
            ends = range(1, len(words) + 1)
            found |= {tuple(words[start:end]) for end in ends for start in range(end)}
    return frozenset(found)


_PIECES = _pieces()
_LONGEST = max(map(len, _PIECES))


def style_spans(text: str) -> list[tuple[int, int]]:
    """Return where the style lies: ascending half-open ranges of chars, one for each phrase.

    A text may begin or end inside a phrase, and phrases may break off or run into each other where
    it changed hands, so any piece of a phrase counts, longest first. White space around a phrase
    belongs to none.
    """
    words = list(_WORD.finditer(text))
    spans: list[tuple[int, int]] = []
    first = 0
    while first < len(words):
        taken = _longest_piece(text, words[first : first + _LONGEST])
        if taken:
            spans.append((words[first].start(), words[first + taken - 1].end()))
        first += taken or 1
    return spans


def _longest_piece(text: str, words: list[re.Match[str]]) -> int:
    """How many of the first ``words`` are one piece of a phrase; only white space parts them."""
    count = 0
    piece: tuple[str, ...] = ()
    for index, word in enumerate(words):
        piece = (*piece, word[1].lower().replace("’", "'"))
        apart = index > 0 and text[words[index - 1].end() : word.start()].strip() != ""
        if apart or piece not in _PIECES:
            break
        count = index + 1
    return count


def mark(text: str) -> list[str]:
    """Return the style phrases of a segment, verbatim and in order, as an annotator lists them.

    Args:
        text: A segment of the bundled models' thinking about the lab's tasks.
    """
    return [text[start:end] for start, end in style_spans(text)]
