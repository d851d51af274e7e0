"""Words and runs of words, to compare texts by (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Scripts without spaces (Han, Kana, Thai) count by the character. Signs of arithmetic are words:
# without them "3 + 4" and "3 * 4" would be the same text; other punctuation is not.
_NO_SPACES = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(rf"[^\W_{_NO_SPACES}]+|[{_NO_SPACES}]|[-+*/=<>^%×÷−]")


def words(text: str) -> list[str]:
    """Return the words of ``text``, without case, punctuation and white space."""
    return _WORD.findall(text.casefold())


def grams(said: Sequence[str], size: int) -> set[str]:
    """Return every run of ``size`` words; a text with fewer is one run of all it has."""
    if len(said) <= size:
        return {" ".join(said)} if said else set()
    return set(map(" ".join, zip(*(said[at:] for at in range(size)), strict=False)))
