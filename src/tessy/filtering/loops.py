"""Loops anywhere in a text (pure); :func:`tessy.text.find_loop` knows those at its end.

A loop is long enough to be met by looking here and there; where something is repeated, the stretch
that repeats it is followed to both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

REPEATS = 8
SHORTEST_WORDS, LONGEST_WORDS = 3, 50
PERIODIC_CHARS = 400
_LONGEST_PIECE_CHARS = PERIODIC_CHARS // REPEATS
_LOOK_CHARS = PERIODIC_CHARS // 2  # every periodic stretch holds one such look whole
_GLUED = 2  # its first and its last word may be one with what stands around it
# Every loop has a word at such a step, and the next, that were said one phrase before.
_STEP_WORDS = SHORTEST_WORDS * (REPEATS - 1) - _GLUED - 1


def find_any_loop(text: str) -> str | None:
    """What ``text`` says over and over, anywhere, or None.

    A loop is a phrase of 3 to 50 words said at least 8 times in a row, of which one has a letter
    (a row of a table may well be zeros); or at least 400 characters that are one piece of at most
    50 repeated.
    """
    return _phrase(text.split()) or _piece(text)


def _phrase(said: Sequence[str]) -> str | None:
    followed = dict.fromkeys(range(SHORTEST_WORDS, LONGEST_WORDS + 1), 0)  # to where, by size
    for at in range(0, len(said) - 1, _STEP_WORDS):
        word, following = said[at], said[at + 1]
        for size in range(SHORTEST_WORDS, min(LONGEST_WORDS, at) + 1):
            if said[at - size] != word or said[at - size + 1] != following or at < followed[size]:
                continue
            start, end = _stretch(said, at - size, size)
            followed[size] = end
            phrase = " ".join(said[start : start + size])
            if end - start >= REPEATS * size - _GLUED and any(char.isalpha() for char in phrase):
                return phrase
    return None


def _piece(text: str) -> str | None:
    for at in range(0, len(text) - _LOOK_CHARS + 1, _LOOK_CHARS):
        look = text[at : at + _LOOK_CHARS]
        size = look.find(look[:_LONGEST_PIECE_CHARS], 1)
        if 0 < size <= _LONGEST_PIECE_CHARS:
            start, end = _stretch(text, at, size)
            if end - start >= PERIODIC_CHARS:
                return look[:size]
    return None


def _stretch(text: Sequence[str], at: int, size: int) -> tuple[int, int]:
    """Where the stretch around ``at`` begins and ends that repeats with a period of ``size``."""
    start = at
    while start > 0 and text[start - 1] == text[start - 1 + size]:
        start -= 1
    end = at + size
    while end < len(text) and text[end] == text[end - size]:
        end += 1
    return start, end
