"""Pure string work: loops in a text."""

from __future__ import annotations

LOOP_WINDOW_CHARS = 1000
_REPEATS = 8
_PHRASE_WORDS = range(3, 51)
_PERIODIC_CHARS = 400


def find_loop(text: str) -> str | None:
    """What the end of ``text`` repeats over and over, or None.

    A loop is a phrase of 3 to 50 words said at least 8 times in a row at the end of the last 1,000
    characters (the paper's rule), or, for text without spaces, at least 400 characters at the end
    that are one piece repeated at least 8 times.
    """
    tail = text[-LOOP_WINDOW_CHARS:]
    words = tail.split()[:-1]  # the last one may be only half written
    for size in _PHRASE_WORDS:
        if len(words) < size * _REPEATS:
            break
        if words[-1] != words[-1 - size]:
            continue  # nearly always: the rest is too slow to be done for every size
        said = words[-size * _REPEATS :]
        # Also true where the text stops in the middle of the phrase.
        if all(a == b for a, b in zip(said, said[size:], strict=False)):
            return " ".join(words[-size:])
    letters = tail[-_PERIODIC_CHARS:]
    if len(letters) == _PERIODIC_CHARS:
        for size in range(1, _PERIODIC_CHARS // _REPEATS + 1):
            if letters[-1] == letters[-1 - size] and letters.startswith(letters[size:]):
                return letters[-size:]
    return None
