"""Detection of looping text (pure).

A loop is a phrase of 3 to 50 words repeated at least 8 times in a row (the paper's rule), or, for
text without spaces, at least 400 characters that repeat a piece of at most 50 characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessy.core.errors import SampleFailed

WINDOW_CHARS = 1000  # a growing text is searched no further back
REPEATS = 8
SHORTEST_WORDS, LONGEST_WORDS = 3, 50
PERIODIC_CHARS = 400
MAX_BLANK_CHARS = 400  # a longer draft of white space only is a loop
_CHECK_CHARS = 100
_LONGEST_PIECE_CHARS = PERIODIC_CHARS // REPEATS
# A sample is taken at every multiple of this length, so that each periodic stretch has a whole one.
_SAMPLE_CHARS = PERIODIC_CHARS // 2
_EDGE_WORDS = 2  # the first and last word of a loop may be joined with adjacent text
# A loop of words contains a multiple of this step where two consecutive words equal the two words
# one phrase earlier.
_STEP_WORDS = SHORTEST_WORDS * (REPEATS - 1) - _EDGE_WORDS - 1


class RepetitionMonitor:
    """Checks a growing text for a loop at its end, every 100 characters.

    ``what`` names the text in messages; ``checked`` is its length at the last check.
    """

    def __init__(self, what: str, checked: int = 0) -> None:
        self.checked = checked
        self._what = what

    def check(self, kept: str, drafted: str = "") -> None:
        """Raise SampleFailed (``repetition``) if ``kept`` + ``drafted`` loops at its end."""
        if len(drafted) > MAX_BLANK_CHARS and drafted.isspace():
            raise SampleFailed("repetition", f"{len(drafted)} characters of white space")
        length = len(kept) + len(drafted)
        if length - self.checked < _CHECK_CHARS:
            return
        self.checked = length
        loop = find_loop(kept[-WINDOW_CHARS:] + drafted)
        if loop is not None:
            raise SampleFailed("repetition", f"the {self._what} repeats {loop[:100]!r}")


def find_loop(text: str) -> str | None:
    """Return the phrase or piece that loops in the last 1,000 characters of ``text``, or None."""
    tail = text[-WINDOW_CHARS:]
    words = tail.split()[:-1]  # the last word may be incomplete
    for size in range(SHORTEST_WORDS, min(LONGEST_WORDS, len(words) // REPEATS) + 1):
        # The text may stop in the middle of the phrase.
        if _periodic_from(words, len(words), size) <= len(words) - size * REPEATS:
            return " ".join(words[-size:])
    if len(tail) >= PERIODIC_CHARS:
        for size in range(1, _LONGEST_PIECE_CHARS + 1):
            if _periodic_from(tail, len(tail), size) <= len(tail) - PERIODIC_CHARS:
                return tail[-size:]
    return None


def find_any_loop(text: str) -> str | None:
    """Return the phrase or piece of a loop anywhere in ``text``, or None.

    Phrases without letters are ignored: rows of a table may consist of zeros.
    """
    return _repeated_phrase(text.split()) or _repeated_piece(text)


def _repeated_phrase(words: Sequence[str]) -> str | None:
    # End of the text checked so far, by phrase size.
    checked = dict.fromkeys(range(SHORTEST_WORDS, LONGEST_WORDS + 1), 0)
    for at in range(0, len(words) - 1, _STEP_WORDS):
        word, following = words[at], words[at + 1]
        for size in range(SHORTEST_WORDS, min(LONGEST_WORDS, at) + 1):
            before = at - size
            if words[before] != word or words[before + 1] != following or at < checked[size]:
                continue
            start = _periodic_from(words, at, size)
            checked[size] = end = _periodic_to(words, at, size)
            phrase = " ".join(words[start : start + size])
            long_enough = end - start >= REPEATS * size - _EDGE_WORDS
            if long_enough and any(char.isalpha() for char in phrase):
                return phrase
    return None


def _repeated_piece(text: str) -> str | None:
    for at in range(0, len(text) - _SAMPLE_CHARS + 1, _SAMPLE_CHARS):
        sample = text[at : at + _SAMPLE_CHARS]
        size = sample.find(sample[:_LONGEST_PIECE_CHARS], 1)
        if 0 < size <= _LONGEST_PIECE_CHARS:
            end = _periodic_to(text, at + size, size)
            if end - _periodic_from(text, at + size, size) >= PERIODIC_CHARS:
                return sample[:size]
    return None


def _periodic_from(items: Sequence[str], end: int, size: int) -> int:
    """Return the start of the stretch with period ``size`` that ends at ``end``."""
    start = end - size
    while start > 0 and items[start - 1] == items[start - 1 + size]:
        start -= 1
    return start


def _periodic_to(items: Sequence[str], start: int, size: int) -> int:
    """Return the end of the repetition of the ``size`` items before ``start``."""
    end = start
    while end < len(items) and items[end] == items[end - size]:
        end += 1
    return end
