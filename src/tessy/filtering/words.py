"""Words and runs of words, to compare texts by (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import regex

# Scripts without spaces count by the character. Signs of arithmetic are words: without them
# "3 + 4" and "3 * 4" would be the same text; other punctuation is not.
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}]+|[-+*/=<>^%×÷−]"
)


def words(text: str) -> list[str]:
    """The words of ``text``, without case, punctuation and white space."""
    found: list[str] = _WORD.findall(text.casefold())
    return found


def grams(said: Sequence[str], size: int) -> set[str]:
    """Every run of ``size`` words; a text with fewer is one run of all it has."""
    if len(said) <= size:
        return {" ".join(said)} if said else set()
    return {" ".join(said[at : at + size]) for at in range(len(said) - size + 1)}
