"""Loops anywhere in a text (pure); :func:`tessy.text.find_loop` knows those at its end.

One pass over the words finds where something may be repeated at all; only there are periods tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

REPEATS = 8
SHORTEST_WORDS, LONGEST_WORDS = 3, 50
PERIODIC_CHARS = 400
_LONGEST_PIECE_CHARS = PERIODIC_CHARS // REPEATS
_LOOK_CHARS = PERIODIC_CHARS // 2  # every periodic stretch holds one such look whole


def find_any_loop(text: str) -> str | None:
    """What ``text`` says over and over, anywhere, or None.

    A loop is a phrase of 3 to 50 words said at least 8 times in a row, of which one has a letter
    (a row of a table may well be zeros); or at least 400 characters that are one piece of at most
    50 repeated.
    """
    return _phrase(text.split()) or _piece(text)


def _phrase(said: Sequence[str]) -> str | None:
    for start, end in _repetitive(said):
        for size in range(SHORTEST_WORDS, LONGEST_WORDS + 1):
            run = 0
            for at in range(start, end):
                run = run + 1 if at >= size and said[at] == said[at - size] else 0
                if run == size * (REPEATS - 1):
                    phrase = " ".join(said[at - size + 1 : at + 1])
                    if any(char.isalpha() for char in phrase):
                        return phrase
    return None


def _repetitive(said: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Stretches in which each word was said within the last 50: all that loops lies in one."""
    last: dict[str, int] = {}
    start = 0
    shortest = SHORTEST_WORDS * (REPEATS - 1)
    for at, word in enumerate(said):
        if at - last.get(word, -LONGEST_WORDS - 1) > LONGEST_WORDS:
            if at - start >= shortest:
                yield start, at
            start = at + 1
        last[word] = at
    if len(said) - start >= shortest:
        yield start, len(said)


def _piece(text: str) -> str | None:
    for at in range(0, len(text) - _LOOK_CHARS + 1, _LOOK_CHARS):
        look = text[at : at + _LOOK_CHARS]
        for size in range(1, _LONGEST_PIECE_CHARS + 1):
            if look.startswith(look[size:]) and _stretch(text, at, size) >= PERIODIC_CHARS:
                return look[:size]
    return None


def _stretch(text: str, at: int, size: int) -> int:
    """How many characters around ``at`` repeat with a period of ``size``."""
    start = at
    while start > 0 and text[start - 1] == text[start - 1 + size]:
        start -= 1
    end = at + size
    while end < len(text) and text[end] == text[end - size]:
        end += 1
    return end - start
